"""Particles that were picked twice, against brute force and RELION."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree

from cryotorch.data.particle_file import write_tables
from cryotorch.data.star import read_star
from cryotorch.errors import InputError
from cryotorch.jobs.curation.duplicates import SHAPE, centres, find_duplicates

SCALE = {"rlnMicrographOriginalPixelSize": ["1.25"]}


def brute_force(where: np.ndarray, micrograph: np.ndarray, score: np.ndarray, distance: float):
    """Every pair looked at, from the best down."""
    kept: list[int] = []
    for i in sorted(range(len(where)), key=lambda i: (-score[i], i)):
        near = (np.hypot(*(where[i] - where[j])) for j in kept if micrograph[j] == micrograph[i])
        if all(d >= distance for d in near):
            kept.append(i)
    return sorted(kept)


@pytest.mark.parametrize("distance", [20.0, 90.0, 400.0])
def test_as_by_brute_force(make_list, distance: float) -> None:
    some = make_list(300, optics=SCALE)
    micrograph = np.arange(300) // 100  # denser than the list's own
    some = some.with_columns({"rlnMicrographName": np.array([b"m%d" % i for i in micrograph])})
    x, y = (some.numbers(f"rlnCoordinate{c}") * 1.25 for c in "XY")
    where = np.stack([x, y], 1) - some.shift()
    score = np.random.default_rng(0).integers(0, 50, 300).astype(float)
    for given in (score, None):
        ranked = np.zeros(300) if given is None else given
        found = find_duplicates(some, distance, given)
        expected = brute_force(where, micrograph, ranked, distance)
        assert np.flatnonzero(found.stays).tolist() == expected
    assert 0 < len(expected) < 300
    length = np.linalg.norm(where[:, None] - where, axis=2)
    near = (length < distance) & (micrograph[:, None] == micrograph)
    assert len(found.pairs) == np.triu(near, 1).sum()
    half = some.numbers("rlnRandomSubset")
    assert found.across == np.triu(near & (half[:, None] != half), 1).sum()


@pytest.mark.parametrize("distance", [25.0, 60.0, 150.0])
def test_pairs_are_those_of_a_tree_of_each_micrograph(make_list, distance: float) -> None:
    """SciPy's cKDTree of the centres, micrograph by micrograph, with the strict < that min_distance says."""
    some = make_list(400, optics=SCALE)
    micrograph = np.random.default_rng(4).integers(0, 4, 400)  # not in order
    some = some.with_columns({"rlnMicrographName": np.array([b"m%d" % i for i in micrograph])})
    where, expected = centres(some, None), set()
    for number in range(4):
        rows = np.flatnonzero(micrograph == number)
        tree = cKDTree(where[rows])
        near = tree.sparse_distance_matrix(tree, distance, output_type="coo_matrix")
        i, j = rows[near.row], rows[near.col]
        expected |= {
            (a, b) for a, b, d in zip(i, j, near.data, strict=True) if a < b and d < distance
        }
    found = {tuple(sorted(pair)) for pair in find_duplicates(some, distance).pairs.tolist()}
    assert found == expected and len(found) > 3


def test_the_origin_counts_with_its_sign(make_list) -> None:
    """Two boxes 16 Å apart about one particle: it lies 8 Å to the right of the left one's middle, where the origin is -8 Å."""
    shift = dict(rlnOriginXAngst=[-8.0, 8.0], rlnOriginYAngst=[0.0, 0.0])
    place = dict(rlnCoordinateX=[100, 116], rlnCoordinateY=[50, 50])
    some = make_list(2, **shift, **place)
    assert np.allclose(centres(some, 1.0), [[108, 50], [108, 50]])
    assert find_duplicates(some, 1.0, None, 1.0).stays.tolist() == [True, False]
    wrong = some.with_columns({"rlnOriginXAngst": np.array([8.0, -8.0])})
    assert find_duplicates(wrong, 30.0, None, 1.0).stays.all()


def test_positions_of_cryosparc_are_counted_along_the_rows(make_list) -> None:
    """y from below in the file, so that the column made of it counts the other way than the shifts."""
    shift = dict(rlnOriginXAngst=[0.0, 0.0], rlnOriginYAngst=[-8.0, 8.0])
    place = dict(rlnCoordinateX=[10, 10], rlnCoordinateY=[900, 884])
    some = make_list(2, **shift, **place, **{SHAPE: np.array([[1000, 800]] * 2)})
    assert np.allclose(centres(some, 1.0)[:, 1], [108, 108])
    exact = {
        "cs/location/center_x_frac": [0.0125, 0.0131],
        "cs/location/center_y_frac": [0.1, 0.116],
    }
    some = some.with_columns({name: np.array(x) for name, x in exact.items()})
    assert np.allclose(centres(some, 1.0), [[10, 108], [10.48, 108]])


def test_pixels_of_micrographs_come_before_those_of_movies(make_list) -> None:
    """As RELION has them: the one after binning, the other before."""
    both = {"rlnMicrographOriginalPixelSize": ["0.5"], "rlnMicrographPixelSize": ["1.0"]}
    some = make_list(3, optics=both)
    place = np.stack([some.numbers(f"rlnCoordinate{c}") for c in "XY"], 1)
    assert np.allclose(centres(some, None), place - some.shift())
    assert np.allclose(centres(make_list(3, optics=SCALE), None), 1.25 * place - some.shift())


def test_what_is_not_known_is_asked_for(make_list) -> None:
    with pytest.raises(InputError, match="add micrograph_pixel_size="):
        find_duplicates(make_list(), 20.0)
    with pytest.raises(InputError, match="no positions of particles"):
        find_duplicates(make_list(rlnCoordinateX=None), 20.0)
    with pytest.raises(InputError, match="does not name the micrographs"):
        find_duplicates(make_list(rlnMicrographName=None), 20.0)


@pytest.mark.relion
def test_centres_are_those_of_relion(make_list, tmp_path: Path) -> None:
    """Of pairs alone, where the order in which they are looked at does not matter: one of each is left."""
    draw = np.random.default_rng(5)
    shift = draw.normal(0, 12, (20, 2))
    middle = np.repeat(draw.uniform(500, 3000, (10, 2)) + 400 * np.arange(10)[:, None], 2, 0)
    off = np.where(np.arange(20)[:, None] % 4 == 3, 30.0, 0.0)  # of every other pair 42 Å apart
    place = (middle + shift + off) / 1.5
    given = {f"rlnOrigin{c}Angst": shift[:, i] for i, c in enumerate("XY")}
    given |= {f"rlnCoordinate{c}": place[:, i] for i, c in enumerate("XY")}
    name = {"rlnMicrographName": ["m.mrc"] * 20}
    some = make_list(20, optics={"rlnMicrographOriginalPixelSize": ["1.5"]}, **given, **name)
    found = find_duplicates(some, 20.0)
    assert found.stays.sum() == 15
    write_tables(tmp_path / "in.star", some.tables)
    command = "relion_star_handler --i in.star --o out.star --remove_duplicates 20".split()
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    left = read_star(tmp_path / "out.star")["particles"]["rlnImageName"].tolist()
    pair = {name: i // 2 for i, name in enumerate(some.table["rlnImageName"].tolist())}
    ours = np.flatnonzero(found.stays) // 2
    assert sorted(pair[name] for name in left) == sorted(ours.tolist())
