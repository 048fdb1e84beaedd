"""The same particles through relion_reconstruct and job=reconstruct: the same map, with and without beam tilt."""

from __future__ import annotations

import subprocess
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch

from cryotorch.data.mrc import read_volume
from cryotorch.data.star import read_star, write_star
from cryotorch.jobs import reconstruct, simulate
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.ops.masks.soft import soft_sphere
from cryotorch.ops.resolution.fsc import shell_correlation

pytestmark = pytest.mark.relion


def for_relion(star: Path, stack: Path, folder: Path) -> Path:
    """The particles of a STAR file beside a float32 copy of their stack: RELION 3.1 reads no float16."""
    with mrcfile.open(stack, permissive=True) as file, mrcfile.new(folder / "p.mrcs") as copy:
        copy.set_data(file.data.astype(np.float32))
    tables = read_star(star)
    names = tables["particles"]["rlnImageName"]
    tables["particles"]["rlnImageName"] = [f"{name.partition('@')[0]}@p.mrcs" for name in names]
    write_star(folder / "particles.star", tables)
    return folder / "particles.star"


def relion(star: Path, *options: str) -> torch.Tensor:
    """The map of ``relion_reconstruct --ctf``, which is zero outside of a sphere as wide as the box."""
    command = ["relion_reconstruct", "--i", star.name, "--o", "relion.mrc", "--ctf", *options]
    subprocess.run(command, cwd=star.parent, check=True, capture_output=True, timeout=300)
    return read_volume(star.parent / "relion.mrc")[0]


def ours(star: Path, out: Path, **changes: object) -> Path:
    """All that the images hold, as RELION's program gives it."""
    settings = make_settings(
        "reconstruct",
        particles=str(star),
        out=str(out),
        regularize=False,
        device="cpu",
        **changes,
    )
    return reconstruct.run(settings)


def agreement(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """FSC up to 0.9 Nyquist within RELION's sphere, shells 1 on."""
    sphere = soft_sphere(len(a), len(a) / 2 - 1, 3)
    return shell_correlation(a * sphere, b * sphere)[1 : int(0.45 * len(a)) + 1]


def test_the_same_map(shared_data: Path, tmp_path: Path) -> None:
    """Of all particles, and in the mean of the half maps (with the little prior that these have)."""
    data = shared_data / "relion_c1"
    star = for_relion(data / "truth" / "truth.star", data / "particles.mrcs", tmp_path)
    out = ours(star, tmp_path / "out")
    assert float(agreement(read_volume(out / "map.mrc")[0], relion(star)).min()) > 0.99
    write_star(star, read_star(out / "particles.star"))  # with the half sets
    tables = read_star(star)
    names = tables["particles"]["rlnImageName"]
    tables["particles"]["rlnImageName"] = [f"{name.partition('@')[0]}@p.mrcs" for name in names]
    write_star(star, tables)
    theirs = sum(relion(star, "--subset", half) for half in "12") / 2
    mean = sum(read_volume(out / f"map_half_{half}.mrc")[0] for half in "AB") / 2
    assert float(agreement(mean, theirs).min()) > 0.98


@pytest.mark.slow
def test_the_same_map_with_beam_tilt(shared_data: Path, tmp_path: Path) -> None:
    """Ignored, the tilt spoils what lies beyond half of Nyquist, against RELION and against the truth."""
    data = shared_data / "relion_beamtilt"
    star = for_relion(data / "truth" / "truth.star", data / "particles.mrcs", tmp_path)
    theirs = relion(star)
    truth = read_volume(data / "truth" / "truth.mrc.gz")[0]
    near = soft_sphere(len(truth), 50, 10)
    curves, against_truth = {}, {}
    for ignored in (False, True):
        out = ours(star, tmp_path / f"ignored_{ignored}", ignore_tilt=ignored)
        found = read_volume(out / "map.mrc")[0]
        curves[ignored] = agreement(found, theirs)
        against_truth[ignored] = shell_correlation(found * near, truth * near)
    assert float(curves[False].min()) > 0.98
    assert float(curves[True][-1]) < 0.4
    lost = against_truth[False] - against_truth[True]
    assert float(lost[40:58].mean()) > 0.1


SMALL = {"box_size": 48, "pixel_size": 2.0, "n_particles": 250, "snr": None, "shift_sigma": 3}
STRONG = {
    "beam_tilt": [3, -2],
    "odd_zernike": [3, -4, 200, 0, 0, -150],
    "even_zernike": [0.5, 9, -12, 9, 400, -200, 150, 200, 400],
    "magnification": [[1.04, 0.02], [-0.01, 0.96]],
}


def simulated(folder: Path, **aberrations: object) -> tuple[Path, torch.Tensor]:
    """truth.star of noise-free images, and the molecule."""
    out = simulate.run(make_settings("simulate", out=str(folder), **SMALL, **aberrations))
    return out / "truth.star", read_volume(out / "truth.mrc")[0]


def recovered(found: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """FSC with the molecule, shells 1 to 20 of 24."""
    sphere = soft_sphere(48, 19, 3)
    return shell_correlation(found * sphere, truth * sphere)[1:21]


def changed(star: Path, **columns: np.ndarray) -> Path:
    """The same particles with other columns in the optics table."""
    tables = read_star(star)
    for label, values in columns.items():
        tables["optics"][label] = values
    write_star(star.with_name("changed.star"), tables)
    return star.with_name("changed.star")


def test_aberrations_have_relions_signs(tmp_path: Path) -> None:
    """Tilt, odd and even terms and magnification together, each strong enough to spoil the map with the other sign."""
    star, truth = simulated(tmp_path / "set", **STRONG)
    assert float(recovered(relion(star), truth).min()) > 0.99
    found = read_volume(ours(star, tmp_path / "out") / "map.mrc")[0]
    assert float(recovered(found, truth).min()) > 0.99
    optics = read_star(star)["optics"]
    for label in ("rlnOddZernike", "rlnEvenZernike", "rlnBeamTiltX", "rlnBeamTiltY"):
        values = (optics.vectors if "Zernike" in label else optics.floats)(label)
        assert float(recovered(relion(changed(star, **{label: -values})), truth)[-1]) < 0.98, label


def test_relion_puts_beam_tilt_in_the_place_of_two_odd_terms(tmp_path: Path) -> None:
    """(-1, 3) and (1, 3) have RELION's sign too, but count for it only where the file has no beam tilt, be it zero.

    Files of RELION hold zeros there. Here such terms add to the tilt.
    """
    odd = [3, -4, 200, 120, -90, -150]
    star, truth = simulated(tmp_path / "odd", odd_zernike=odd)
    assert float(recovered(relion(star), truth).min()) > 0.99
    none = np.zeros(1)
    with_zero = changed(star, rlnBeamTiltX=none, rlnBeamTiltY=none)
    assert float(recovered(relion(with_zero), truth)[-1]) < 0.5
    found = read_volume(ours(with_zero, tmp_path / "out") / "map.mrc")[0]
    # a little is lost to the tails of images without noise, some of which pass for outliers
    assert float(recovered(found, truth).min()) > 0.98
