"""The steps one after the other, each with its count."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cryotorch.errors import InputError
from cryotorch.findings import codes
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.curation.steps import Course, change_particles, choose_particles, read_all


def course(tmp_path: Path, **changes) -> Course:
    given = {"particles": str(tmp_path / "a.star"), "out": str(tmp_path / "out"), **changes}
    settings = make_settings("particles", **given)
    made = read_all(settings, lambda step: None)
    choose_particles(made, settings)
    change_particles(made, settings)
    return made


def counts(made: Course) -> dict[str, int]:
    return {step.name: step.after for step in made.steps}


def test_steps_in_their_order(make_list, tmp_path: Path) -> None:
    """Each of what the one before left, re-computed."""
    value = np.random.default_rng(0).permutation(100).astype(float)
    some = make_list(100, rlnScore=value)
    made = course(
        tmp_path,
        **dict(where="rlnScore >= 20", micrographs=[f"m{i}.mrc" for i in range(8)]),
        **dict(best="50%", score="rlnScore", random=10, expand_symmetry="C3"),
    )
    rows = np.flatnonzero((value >= 20) & (np.arange(100) < 80))
    most = round(len(rows) / 2)
    expected = {"particles": 100, "where": 80, "micrographs": len(rows), "best": most}
    assert counts(made) == expected | {"random": 10, "expand_symmetry": 30}
    best = np.sort(rows[np.argsort(-value[rows])][:most])
    assert np.isin(made.rows, best).all() and len(made.rows) == 10
    assert np.array_equal(made.particles.numbers("rlnScore")[::3], value[made.rows])
    assert list(made.values) == ["rlnScore"] and len(made.values["rlnScore"]) == 100
    assert [step.before for step in made.steps[1:]] == [s.after for s in made.steps[:-1]]
    assert np.array_equal(made.start.numbers("rlnScore"), some.numbers("rlnScore"))


def test_every_step_as_pandas_has_it(make_list, tmp_path: Path) -> None:
    """A list with several rows of an image: conditions over columns, lists of names, joins, ranks, groups, another programmer's way."""
    pandas = pytest.importorskip("pandas")
    draw = np.random.default_rng(6)
    image = draw.integers(0, 60, 200)
    make_list(80, "b.star", rlnImageName=[f"{i + 1:06d}@s.mrcs" for i in range(20, 100)])
    some = make_list(
        200,
        rlnImageName=[f"{i + 1:06d}@s.mrcs" for i in image],
        rlnScore=draw.normal(size=200).round(4),
        rlnClassNumber=draw.integers(1, 5, 200),
    )
    table = pandas.DataFrame({label: some.table[label] for label in some.table})
    numbers = [x for x in table if x.startswith(("rlnDef", "rlnSc", "rlnCl", "rlnCo", "rlnOrigin"))]
    table[numbers] = table[numbers].astype(float)
    other = {f"{i + 1:06d}@s.mrcs" for i in range(20, 100)}
    in_other = table.rlnImageName.isin(other)
    where = "abs(rlnDefocusU - rlnDefocusV) < 9000 and rlnClassNumber in [1, 3] or rlnScore > 1"
    micrographs = [f"m{i}.mrc" for i in (1, 4, 5, 17)]
    best = table.rlnScore.rank(ascending=False, method="first") <= 50
    kept = {
        "where": ((table.rlnDefocusU - table.rlnDefocusV).abs() < 9000)
        & table.rlnClassNumber.isin([1, 3])
        | (table.rlnScore > 1),
        "micrographs": table.rlnMicrographName.str.split("/").str[-1].isin(micrographs),
        "intersect": in_other,
        "subtract": ~in_other,
        "best": best,
        "one_per_image": table.index.isin(table.groupby("rlnImageName").rlnScore.idxmax()),
    }
    given = dict(where=where, micrographs=micrographs, best=50, one_per_image=True)
    given |= dict.fromkeys(("intersect", "subtract"), str(tmp_path / "b.star"))
    for name, rows in kept.items():
        score = dict(score="rlnScore") if name in ("best", "one_per_image") else {}
        made = course(tmp_path, **{name: given[name]}, **score)
        assert made.rows.tolist() == np.flatnonzero(rows).tolist(), name
        assert 10 < len(made.rows) < 190
    place = table[["rlnImageName", "rlnScore"]].iloc[made.rows]
    assert made.particles.numbers("rlnScore").tolist() == place.rlnScore.tolist()


def test_both_and_the_difference(make_list, tmp_path: Path) -> None:
    make_list(12, "b.star")
    make_list(30)
    other = str(tmp_path / "b.star")
    assert counts(course(tmp_path, intersect=other))["intersect"] == 12
    assert counts(course(tmp_path, subtract=other))["subtract"] == 18
    make_list(12, "b.star", rlnImageName=[f"{i + 1}@x.mrcs" for i in range(12)])
    made = course(tmp_path, subtract=other)
    assert counts(made)["subtract"] == 30 and codes(made.told)[-1] == "nothing_in_common"


def test_a_mixture(make_list, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    low = np.arange(400) % 4 == 0
    make_list(400, cryotorchScale=np.where(low, 0.4, 1.0) + draw.normal(0, 0.05, 400))
    made = course(tmp_path, mixture__column="cryotorchScale")
    assert counts(made)["mixture"] == 300 and "mixture_not_seen" not in codes(made.told)
    assert np.array_equal(made.rows, np.flatnonzero(~low))
    other = course(tmp_path, mixture={"column": "cryotorchScale", "keep": [1]})
    assert np.array_equal(other.rows, np.flatnonzero(low))
    plain = course(
        tmp_path, mixture={"column": "rlnOriginXAngst", "components": 3, "keep": [1, 2, 3]}
    )
    assert "mixture_not_seen" in codes(plain.told) and counts(plain)["mixture"] == 400


def test_duplicates_and_views_and_their_score(make_list, tmp_path: Path) -> None:
    place = {f"rlnCoordinate{c}": np.repeat(np.arange(20) * 100, 2) for c in "XY"}
    none = {f"rlnOrigin{c}Angst": np.zeros(40) for c in "XY"}
    make_list(40, rlnScore=np.arange(40)[::-1], **place, **none)
    apart = dict(min_distance=30, micrograph_pixel_size=1.0)
    made = course(tmp_path, **apart, score="-rlnScore")
    assert np.array_equal(made.rows, np.arange(1, 40, 2))
    assert codes(made.told)[-1] == "halves_shared" and made.told[-1]["pairs"] == 20
    assert np.array_equal(course(tmp_path, **apart).rows, np.arange(0, 40, 2))
    assert "movie_pixels" not in codes(made.told)
    make_list(40, optics={"rlnMicrographOriginalPixelSize": ["1"]}, **place, **none)
    assert "movie_pixels" in codes(course(tmp_path, min_distance=30).told)
    make_list(40, rlnScore=np.arange(40)[::-1], **place, **none)
    made = course(tmp_path, views={"most": 1, "spacing": 60}, score="rlnScore")
    assert 0 in made.rows and 5 < len(made.rows) <= 11


def test_back_from_an_expansion_with_rows_of_the_start(make_list, tmp_path: Path) -> None:
    from cryotorch.data.particle_file import write_tables
    from cryotorch.jobs.curation.poses import expanded

    some = make_list(10)
    write_tables(tmp_path / "many.star", expanded(some, "C4").tables)
    given = dict(particles=str(tmp_path / "many.star"), where="cryotorchSymmetryOperator > 1")
    made = course(tmp_path, **given, one_per_image=True, random=4)
    assert counts(made) == {"particles": 40, "where": 30, "one_per_image": 10, "random": 4}
    assert (made.rows % 4 == 1).all()
    again = some.taken(made.rows // 4)
    assert np.abs((made.particles.rotation() - again.rotation()).numpy()).max() < 1e-6


def test_names_that_nothing_begins_with(make_list, tmp_path: Path) -> None:
    make_list()
    with pytest.raises(InputError, match=r"no image file begins with /old, Extract/m0.mrcs is one"):
        course(tmp_path, move_paths=["/old", "/new"])
    made = course(tmp_path, move_paths=["Extract", "/new"])
    assert made.particles.table["rlnImageName"][0] == "000001@/new/m0.mrcs"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            dict(where="rlnDefocusU > 1e9"),
            r"where leaves none of 30 particles \(.*30 after particles\)",
        ),
        (dict(where="rlnNope > 1"), "has no column rlnNope"),
        (dict(micrographs=["x.mrc"]), "micrographs leaves none"),
        (dict(best="10%", score="rlnNope"), "score=rlnNope cannot"),
        (dict(mixture__column="rlnImageName"), "mixture.column=rlnImageName cannot"),
        (dict(mixture__column="rlnVoltage"), "1 different values for 2"),
        (dict(min_distance=20), "add micrograph_pixel_size"),
        (dict(recenter=["100px", 0, 0]), "outside of the images"),
        (dict(optics_from_names="(x"), "no regular expression"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(make_list, tmp_path: Path, changes, said) -> None:
    make_list()
    with pytest.raises(InputError, match=said):
        course(tmp_path, **changes)
