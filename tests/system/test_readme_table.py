"""The table of the README says what the refinements of today reach."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from cryotorch.data.mrc import read_volume, write_volume
from cryotorch.data.particle_file import read_particles, write_particles
from cryotorch.data.star import read_star, write_star
from cryotorch.jobs import homo_refine, reconstruct, simulate
from cryotorch.jobs.config.catalog import make_settings

pytestmark = [pytest.mark.slow, pytest.mark.data]

# The start of a row -> point group, and a folder of ../shared/data or parameters of job=simulate.
SETS: dict[str, tuple[str, str | dict[str, object]]] = {
    "2,000 x 64 px, C1": ("C1", "relion_c1"),
    "800 x 64 px, C4": ("C4", "relion_c4"),
    "600 x 64 px, I": ("I", dict(n_particles=600, box_size=64, pixel_size=3.0, snr=0.05, seed=1)),
}
RADIUS = 90.0  # Å, of the sphere
WITHIN = 0.02


@pytest.fixture(autouse=True)
def scripts_on_path(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(repository / "scripts"))


def stated(readme: Path, start: str) -> list[tuple[float, float]]:
    """The numbers of a row but for the seconds, and half a unit of the last digit of each."""
    line = next(row for row in readme.read_text().splitlines() if row.startswith(f"| {start}"))
    cells = [re.match(r"[\d.]+", cell.strip())[0] for cell in line.split("|")[3:-1]]
    return [(float(cell), 0.5 * 10 ** -len(cell.partition(".")[2])) for cell in cells]


def from_shared(data: Path, folder: Path) -> tuple[Path, Path, Path, Path]:
    """Particles, initial map, true map and true poses, whose images lie in the folder above there."""
    tables = read_star(data / "truth" / "truth.star")
    names = tables["particles"]["rlnImageName"]
    tables["particles"]["rlnImageName"] = [name.replace("@", f"@{data}/") for name in names]
    write_star(folder / "truth.star", tables)
    truth = data / "truth" / "truth.mrc.gz"
    return data / "particles.star", data / "init.mrc", truth, folder / "truth.star"


def from_simulation(symmetry: str, given: dict, folder: Path) -> tuple[Path, Path, Path, Path]:
    simulate.run(make_settings("simulate", symmetry=symmetry, out=str(folder), **given))
    return tuple(
        folder / name for name in ("particles.star", "initial.mrc", "truth.mrc", "truth.star")
    )


def mirrored(truth_map: Path, truth_star: Path, folder: Path) -> tuple[Path, Path]:
    """The other hand: V(x, y, -z), whose projection at S R S is that of V at R, S = diag(1, 1, -1)."""
    volume, pixel_size = read_volume(truth_map)
    write_volume(folder / "mirror.mrc", volume.flip(0).roll(1, 0), pixel_size)
    file = read_particles(truth_star)
    sign = torch.tensor([1.0, 1.0, -1.0])
    turned = file.particles.replace(rotation=sign[:, None] * file.particles.rotation * sign)
    write_particles(folder / "mirror.star", file, turned)
    return folder / "mirror.mrc", folder / "mirror.star"


@pytest.mark.parametrize("start", SETS)
def test_a_row(start: str, repository: Path, shared_data: Path, tmp_path: Path) -> None:
    from benchmarks.score import score_map, score_poses

    symmetry, source = SETS[start]
    if isinstance(source, str):
        files = from_shared(shared_data / source, tmp_path)
    else:
        files = from_simulation(symmetry, source, tmp_path)
    particles, initial, *truth = files
    out, poses = tmp_path / "out", tmp_path / "true_poses"
    given = dict(particles=str(particles), volume=str(initial), out=str(out))
    homo_refine.run(make_settings("homo_refine", symmetry=symmetry, **given))
    given = dict(particles=str(truth[1]), out=str(poses))
    reconstruct.run(make_settings("reconstruct", symmetry=symmetry, **given))
    # the initial map of an icosahedral particle does not tell its hand
    hands = [truth, mirrored(*truth, tmp_path)] if symmetry == "I" else [truth]
    reached, (_, star) = min(
        (score_map(out / "map.mrc", hand[0], RADIUS)["sphere"], hand) for hand in hands
    )
    errors = score_poses(out / "particles.star", star, symmetry)
    with_true_poses = score_map(poses / "map.mrc", truth[0], RADIUS)["sphere"]
    found = [reached, with_true_poses, errors["rotation"], errors["shift"]]
    for value, (number, digit) in zip(found, stated(repository / "README.md", start), strict=True):
        assert value == pytest.approx(number, abs=WITHIN * number + digit), found
