"""Whether the errors, scales, noise levels and signal-to-noise ratios that a refinement tells are the true ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import mrcfile
import numpy as np
import pytest
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from cryotorch.data.particle_file import read_particles
from cryotorch.ops.geometry.symmetry import point_group
from cryotorch.refinement.runtime.checkpoints import read_checkpoint

SPREAD = 0.3  # of the particles' contrast, relative
# (symmetry, noise, further parameters of job=simulate)
SETS = {
    "C1": ("C1", "clean", dict(scale_sigma=SPREAD)),
    "C4-coloured": ("C4", "coloured", dict(scale_sigma=SPREAD)),
    "D7": ("D7", "clean", {}),
    "O": ("O", "clean", {}),
    "I": ("I", "clean", {}),
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

    @property
    def pixel_size(self) -> float:
        with mrcfile.open(self.folder / "truth.mrc", header_only=True) as file:
            return float(file.voxel_size.x)

    def half_maps(self) -> np.ndarray:
        return np.stack([mrcfile.read(self.folder / "out" / f"map_half_{h}.mrc") for h in "AB"])

    def truth(self) -> np.ndarray:
        volume = mrcfile.read(self.folder / "truth.mrc").astype(np.float64)
        return volume if self.hand > 0 else np.roll(volume[::-1], 1, 0)

    def errors(self) -> Errors:
        """Of the poses, modulo symmetry."""
        true, found = self.particles("truth.star"), self.particles("out/particles.star")
        right = np.array([self.hand, self.hand, 1.0])[:, None] * true.rotation.double().numpy()
        if self.hand < 0:  # the truth is mirrored along z: an inversion and a half turn
            right = right @ np.diag([-1.0, -1.0, 1.0])
        rotation = found.rotation.double().numpy()
        operators = point_group(self.symmetry).double().numpy()
        copies = np.einsum("nij,gjk->ngik", rotation, operators)
        best = np.einsum("nij,ngij->ng", right, copies).argmax(1)
        rotation = copies[np.arange(len(best)), best]
        turn = Rotation.from_matrix(right.transpose(0, 2, 1) @ rotation).as_rotvec()
        free = operators.mean(
            0
        )  # what the symmetry leaves open of a frame: all in C1, about and along z in Cn, else nothing
        frame, offset = free @ np.median(turn, axis=0), (found.shift - true.shift).double().numpy()
        rows = rotation[:, :2]
        move = free @ np.linalg.lstsq(rows.reshape(-1, 3), offset.reshape(-1), rcond=None)[0]
        return Errors(turn - frame, offset - rows @ move, frame, move)


class Errors(NamedTuple):
    """What poses are off: rotation vectors (n, 3) in radians, shifts (n, 2) in Å; the turn (3,) and move (3,) of the frame are taken out."""

    turn: np.ndarray
    move: np.ndarray
    frame: np.ndarray
    frame_move: np.ndarray


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


def moved(volume: np.ndarray, turn: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """v(R x + shift) of a map (d, d, d) in voxels (x, y, z) from d // 2, from cubic splines on a grid three times as fine."""
    d, fine = len(volume), 3 * len(volume)
    spectrum, wide = np.fft.fftshift(np.fft.fftn(volume)), np.zeros((fine,) * 3, complex)
    at = slice(fine // 2 - d // 2, fine // 2 - d // 2 + d)
    wide[at, at, at] = spectrum
    dense = np.fft.ifftn(np.fft.ifftshift(wide)).real * 27
    x = np.stack(np.meshgrid(*[np.arange(d) - d // 2] * 3, indexing="ij")[::-1], -1)
    there = x @ Rotation.from_rotvec(turn).as_matrix().T + shift
    places = 3 * (there[..., ::-1] + d // 2)
    return map_coordinates(dense, np.moveaxis(places, -1, 0), order=3, mode="grid-wrap")


def test_pose_errors_are_those_against_the_truth(request, measured: Measured) -> None:
    """Per axis, from medians, modulo symmetry and the frame, which may be a little off the truth's."""
    if measured.symmetry == "I":
        why = "told 1.5 degrees, true 2.4: so noisy icosahedral particles score alike further than a Gaussian says"
        request.applymarker(pytest.mark.xfail(strict=True, reason=why))
    found = measured.errors()
    # medians of the lengths of Gaussian vectors with three and two axes of one unit
    true = np.array(
        [
            np.median(np.linalg.norm(error, axis=1)) / unit
            for error, unit in ((found.turn, 1.538), (found.move, 1.177))
        ]
    )
    told = np.median(measured.particles("out/particles.star").pose_sigma.double().numpy(), axis=0)
    assert true[0] < np.radians(4), true
    assert ((told / true) > 0.7).all() and ((told / true) < 1.4).all(), (told, true)


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
    """Within 5 % finer than 45 Å: coarser shells hold what of the particle lies outside of the mask too.

    The poses are fitted to the same noise, which takes 1 to 5 % of it away where the signal is, and 7 % where few numbers tell the
    pose, in the shells of large groups that hold any.
    """
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
    least = 0.05 if len(point_group(measured.symmetry)) < 24 else 0.07
    finer = int(box * measured.pixel_size / 45) + 1
    assert np.abs(ratio[finer:] - 1).max() < least, ratio
    assert np.abs(ratio[1:] - 1).max() < 0.5, ratio


def test_the_signal_to_noise_ratio_of_the_fsc_is_that_against_the_truth(
    truth, measured: Measured
) -> None:
    """2 F / (1 - F) of the half maps and C^2 / (1 - C^2) of their mean and the truth, where half maps are independent.

    Each shell within 3 standard errors, of n independent numbers d ln = (1 + F) / (F sqrt(n)) and 2 / (C sqrt(n)), and all together, within
    40 %: errors of poses blur the rim of both half maps alike, 1.4 degrees at 45 Å by 0.7 of the amplitude at 8 Å, and that they agree on.
    """
    a, b = measured.half_maps()
    errors = measured.errors()
    right = moved(measured.truth(), errors.frame, -errors.frame_move / measured.pixel_size)
    half, whole = truth.curve(a, b), truth.curve((a + b) / 2, right)
    box, order = len(a), len(point_group(measured.symmetry))
    edge = box * measured.pixel_size
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
    assert (np.abs(ratio) < 3 * error + np.log(1.4)).all(), np.exp(ratio)
    weight = error**-2
    assert abs((weight * ratio).sum() / weight.sum()) < np.log(1.4), np.exp(ratio)
