"""The table of the README says what the refinements of today reach."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cryotorch.data.star import read_star, write_star
from cryotorch.jobs import homo_refine, reconstruct, simulate
from cryotorch.jobs.catalog import make_settings

pytestmark = [pytest.mark.slow, pytest.mark.data]

# The start of a row -> what is refined: a folder of ../shared/data, or parameters of job=simulate.
SETS: dict[str, tuple[str, str | dict[str, object]]] = {
    "2,000 x 64 px, C1": ("C1", "relion_c1"),
    "800 x 64 px, C4": ("C4", "relion_c4"),
    "600 x 64 px, I": ("I", dict(n_particles=600, box_size=64, pixel_size=3.0, snr=0.05, seed=1)),
}
WITHIN = 0.02


@pytest.fixture(autouse=True)
def scripts_on_path(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(repository / "scripts"))


def printed(readme: Path, start: str) -> list[tuple[float, float]]:
    """The numbers of a row but for the seconds, and half a unit of the last digit of each."""
    line = next(row for row in readme.read_text().splitlines() if row.startswith(f"| {start}"))
    cells = [re.match(r"[\d.]+", cell.strip())[0] for cell in line.split("|")[3:-1]]
    return [(float(cell), 0.5 * 10 ** -len(cell.partition(".")[2])) for cell in cells]


@pytest.mark.parametrize("start", SETS)
def test_a_row(start: str, repository: Path, shared_data: Path, tmp_path: Path) -> None:
    from benchmarks.score import score_map, score_poses

    symmetry, source = SETS[start]
    if isinstance(source, str):
        data = shared_data / source
        initial = data / "init.mrc"
        truth_map, truth_star = data / "truth" / "truth.mrc.gz", tmp_path / "truth.star"
        tables = read_star(data / "truth" / "truth.star")
        tables["particles"]["rlnImageName"] = [  # there relative to the folder above
            name.replace("@", f"@{data}/") for name in tables["particles"]["rlnImageName"]
        ]
        write_star(truth_star, tables)
    else:
        given = dict(out=str(tmp_path / "data"), symmetry=symmetry)
        data = simulate.run(make_settings("simulate", **source, **given))
        initial, truth_map, truth_star = (
            data / name for name in ("initial.mrc", "truth.mrc", "truth.star")
        )
    out, poses = tmp_path / "out", tmp_path / "true_poses"
    files = dict(particles=str(data / "particles.star"), volume=str(initial), out=str(out))
    homo_refine.run(make_settings("homo_refine", symmetry=symmetry, **files))
    files = dict(particles=str(truth_star), out=str(poses))
    reconstruct.run(make_settings("reconstruct", symmetry=symmetry, **files))
    errors = score_poses(out / "particles.star", truth_star, symmetry)
    found = [score_map(folder / "map.mrc", truth_map)["sphere"] for folder in (out, poses)]
    found += [errors["rotation"], errors["shift"]]
    for value, (stated, digit) in zip(found, printed(repository / "README.md", start), strict=True):
        assert value == pytest.approx(stated, abs=WITHIN * stated + digit), found
