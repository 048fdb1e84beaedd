"""Whether the errors, scales, noise levels and signal-to-noise ratios that a refinement tells are the true ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from cryotorch.data.particle_file import read_particles
from cryotorch.ops.symmetry import point_group
from cryotorch.refine.checkpoints import read_checkpoint

SPREAD = 0.3  # of the particles' contrast, relative
# (symmetry, noise, further parameters of job=simulate)
SETS = {
    "C1": ("C1", "clean", dict(scale_sigma=SPREAD)),
    "C4-coloured": ("C4", "coloured", dict(scale_sigma=SPREAD)),
    "D7": ("D7", "clean", {}),
    "O": ("O", "clean", {}),
    "I": ("I", "clean", dict(scale_sigma=SPREAD)),
    "C1-64px": ("C1", "clean", dict(box_size=64, pixel_size=3.0)),
}
FAST = ("C1", "C4-coloured")


@dataclass(frozen=True)
class Measured:
    """A refinement with its truth.

    Attributes:
        folder: with truth.star, truth.mrc and, in out, the results; symmetry: of both.
        noise: (n, d, d), what was added to the images.
        hand: 1, or -1 where the map is the mirror image of the truth.
    """

    folder: Path
    symmetry: str
    noise: np.ndarray
    hand: int

    def particles(self, name: str):
        return read_particles(self.folder / name).particles

    def half_maps(self) -> np.ndarray:
        return np.stack([mrcfile.read(self.folder / "out" / f"map_half_{h}.mrc") for h in "AB"])

    def truth(self) -> np.ndarray:
        volume = mrcfile.read(self.folder / "truth.mrc")
        return volume if self.hand > 0 else np.roll(volume[::-1], 1, 0)


@pytest.fixture(
    scope="module",
    params=[pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in SETS],
)
def measured(request, truth, tmp_path_factory) -> Measured:
    symmetry, fault, changes = SETS[request.param]
    cell, folder = truth.cell(symmetry, "nyquist", fault), tmp_path_factory.mktemp("set")
    truth.refine(truth.make(cell, folder, **changes), symmetry)
    found = Measured(folder, symmetry, truth.noise_of(cell, **changes), 1)
    mean = found.half_maps().mean(0)
    mirrored = Measured(folder, symmetry, found.noise, -1)
    agree = [np.nansum(truth.curve(mean, m.truth())) for m in (found, mirrored)]
    return found if agree[0] >= agree[1] else mirrored


def rotation_vectors(turn: np.ndarray) -> np.ndarray:
    """(n, 3) radians of rotations (n, 3, 3) by less than a half turn."""
    axis = np.stack([turn[:, i, j] - turn[:, j, i] for i, j in ((2, 1), (0, 2), (1, 0))], 1)
    angle = np.arccos(np.clip((np.trace(turn, axis1=1, axis2=2) - 1) / 2, -1, 1))
    return axis * (angle / np.maximum(2 * np.sin(angle), 1e-9))[:, None]


def test_pose_errors_are_those_against_the_truth(measured: Measured) -> None:
    """Per axis, from medians, modulo symmetry and the frame, which may be a little off the truth's."""
    true, found = measured.particles("truth.star"), measured.particles("out/particles.star")
    operators = point_group(measured.symmetry).double().numpy()
    mirror = np.array([measured.hand, measured.hand, 1.0])
    right = mirror[:, None] * true.rotation.double().numpy()
    if measured.hand < 0:  # the truth is mirrored along z, which is an inversion and a half turn
        right = right @ np.diag([-1.0, -1.0, 1.0])
    rotation = found.rotation.double().numpy()
    trace = np.einsum(
        "nij,nik,gkj->ng", right, rotation, operators.transpose(0, 2, 1), optimize=True
    )
    copies = rotation @ operators[trace.argmax(1)].transpose(0, 2, 1)
    turn = rotation_vectors(right.transpose(0, 2, 1) @ copies)
    turn = np.linalg.norm(turn - np.median(turn, axis=0), axis=1)
    rows, offset = copies[:, :2], (found.shift - true.shift).double().numpy()
    frame = np.linalg.lstsq(rows.reshape(-1, 3), offset.reshape(-1), rcond=None)[0]
    move = np.linalg.norm(offset - rows @ frame, axis=1)
    # medians of the lengths of Gaussian vectors with three and two axes of one unit
    errors = np.median(turn) / 1.538, np.median(move) / 1.177
    told = np.median(found.pose_sigma.double().numpy(), axis=0)
    assert errors[0] < np.radians(4), errors
    assert ((told / errors) > 0.7).all() and ((told / errors) < 1.4).all(), (told, errors)


def test_scales_are_those_of_the_particles(measured: Measured) -> None:
    true, found = (
        measured.particles(name).scale.double().numpy()
        for name in ("truth.star", "out/particles.star")
    )
    if true.std() < SPREAD / 3:
        assert found.std() < 0.1  # noise does not make particles differ that do not
        return
    assert np.corrcoef(true, found)[0, 1] > 0.8
    slope = np.polyfit(true, found, 1)[0]
    assert 0.7 < slope < 1.1  # shrunk towards 1, as what is uncertain should be


def test_noise_levels_are_those_of_the_noise(measured: Measured) -> None:
    """Within 5 %, but for the first two shells, which hold what of the particle lies outside of the mask, and Nyquist."""
    path = sorted((measured.folder / "out" / "checkpoints").glob("*.ckpt"))[-1]
    told = read_checkpoint(path)["refinement"]["noise"].double().numpy().mean((0, 1))
    box = measured.noise.shape[-1]
    y, x = np.mgrid[:box, :box] - box // 2
    inner, outer = 0.85 * box / 2, 0.99 * box / 2
    edge = np.clip((np.hypot(x, y) - inner) / (outer - inner), 0, 1)
    spectra = np.fft.fft2(measured.noise * (0.5 + 0.5 * np.cos(np.pi * edge))) / box
    k = np.fft.fftfreq(box, 1 / box)
    shell = np.rint(np.hypot(k[:, None], k)).astype(int).ravel()
    power = np.bincount(shell, (np.abs(spectra) ** 2).mean(0).ravel()) / np.bincount(shell)
    ratio = told / power[: box // 2 + 1]
    assert np.abs(ratio[3:-1] - 1).max() < 0.05, ratio
    assert np.abs(ratio[1:] - 1).max() < 0.25, ratio


def test_the_signal_to_noise_ratio_of_the_fsc_is_that_against_the_truth(
    truth, measured: Measured
) -> None:
    """2 F / (1 - F) of the half maps and C^2 / (1 - C^2) of their mean and the truth, where half maps are independent.

    Each shell within 3 standard errors, of n independent numbers d ln = (1 + F) / (F sqrt(n)) and 2 / (C sqrt(n)), and 20 % for what
    both half maps have in common: turned frame, blur by pose errors. All together within 25 %.
    """
    a, b = measured.half_maps()
    half, whole = truth.curve(a, b), truth.curve((a + b) / 2, measured.truth())
    box, order = len(a), len(point_group(measured.symmetry))
    edge = box * float(mrcfile.open(measured.folder / "truth.mrc", header_only=True).voxel_size.x)
    shell = np.arange(box // 2 + 1)
    used = (shell > edge / 20 + 1) & (half > 0.2) & (half < 0.9) & (shell < box // 2)
    assert used.sum() >= 4, half
    f, c = half[used], whole[used]
    ball = truth.ball(box)
    part = (ball**2).mean() ** 2 / (
        ball**4
    ).mean()  # of the noise's independent numbers that the sphere leaves
    numbers = 4 * np.pi * shell[used] ** 2 * part / order
    error = np.hypot((1 + f) / f, 2 / c) / np.sqrt(numbers)
    ratio = np.log(2 * f / (1 - f)) - np.log(c**2 / (1 - c**2))
    assert (np.abs(ratio) < 3 * error + np.log(1.2)).all(), np.exp(ratio)
    weight = error**-2
    assert abs((weight * ratio).sum() / weight.sum()) < np.log(1.25), np.exp(ratio)
