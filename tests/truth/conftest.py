"""Sets whose truth is known, clean and dirty, and the score of a map against that truth in numpy alone.

The molecules, poses, CTFs and noise-free images are those of ``job=simulate``; what real sets have besides is added here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from cryotorch.data.mrc import write_stack
from cryotorch.jobs import homo_refine, reconstruct, simulate
from cryotorch.jobs.config.catalog import make_settings

Images = np.ndarray  # (n, d, d)
SEED = 1
# More images than the 200 that a job may look at before it decides what to do with all of them.
N = 240
FAR = dict(box_size=96, pixel_size=2.0, bfactor=600)
NYQUIST = dict(box_size=40, pixel_size=4.0)
# Signal-to-noise ratios far from Nyquist, where the resolution ends near half of it, and at Nyquist.
SNR = {
    "C1": (0.06, 0.3),
    "C4": (0.03, 0.15),
    "D7": (0.015, 0.08),
    "O": (0.018, 0.06),
    "I": (0.015, 0.06),
}
# The copies of a larger map would take most of the time: fewer voxels for much the same edge.
SMALLER = dict(box_size=72, pixel_size=2.6)


@dataclass(frozen=True)
class Cell:
    """A set of the family: point group, where its resolution ends, what is wrong with it."""

    symmetry: str
    reach: str  # far = the resolution ends well before Nyquist; nyquist = there
    fault: str  # clean, junk, damaged or coloured

    @property
    def settings(self) -> dict[str, object]:
        """Parameters of job=simulate but for the noise."""
        sizes = FAR if self.reach == "far" else NYQUIST
        if self.reach == "far" and self.symmetry in ("O", "I"):
            sizes = sizes | SMALLER
        return dict(symmetry=self.symmetry, n_particles=N, seed=SEED, **sizes)

    @property
    def snr(self) -> float:
        return SNR[self.symmetry][self.reach == "nyquist"]

    def __str__(self) -> str:
        return f"{self.symmetry}-{self.reach}-{self.fault}"


@dataclass(frozen=True)
class Outcome:
    """What a refinement claims and what its map is, in Fourier shells; None where nothing is claimed.

    Attributes:
        reached: the last shell at which map and truth agree, FSC 0.5, in the mask of the claim.
        nearly: the same at FSC 0.4: a half-map FSC of few coefficients is uncertain by a tenth.
        in_sphere: as reached, in a soft sphere around the molecule.
        course: the claims of all iterations.
    """

    claimed: int | None
    reached: int
    nearly: int
    in_sphere: int
    course: list[int | None]
    warnings: list[str]
    folder: Path


def white(n: int, box: int, pixel_size: float, draw: np.random.Generator) -> Images:
    """Noise of variance 1."""
    return draw.normal(size=(n, box, box)).astype(np.float32)


def coloured(n: int, box: int, pixel_size: float, draw: np.random.Generator) -> Images:
    """Noise of variance 1 whose power falls with the frequency, 13-fold from 100 Å to 4 Å, as ice and detectors have it."""
    k = np.hypot(np.fft.fftfreq(box, pixel_size)[:, None], np.fft.rfftfreq(box, pixel_size))
    spectra = np.fft.rfft2(white(n, box, pixel_size, draw)) / np.sqrt(k + 1 / 100)
    noise = np.fft.irfft2(spectra, s=(box, box))
    return (noise / noise.std()).astype(np.float32)


def with_junk(signal: Images, other: Images, draw: np.random.Generator) -> Images:
    """Every tenth image is none of the particle: nothing, another molecule, or two particles, in turn."""
    signal, box = signal.copy(), signal.shape[-1]
    rows = np.arange(5, len(signal), 10)
    signal[rows[0::3]] = 0
    signal[rows[1::3]] = other[rows[1::3]]
    aside = np.roll(signal[rows[2::3] - 1], round(0.35 * box), axis=-1)
    signal[rows[2::3]] += aside
    return signal


def left_out_row(n: int, sampled: int = 200) -> int:
    """A row that so many evenly spaced ones do not include."""
    seen = set(np.linspace(0, n - 1, sampled).astype(int))
    return next(row for row in range(n // 2, n) if row not in seen)


def damaged(images: Images, kind: int) -> Images:
    """One image is a thousand times as strong, has a hot pixel, or holds a bead."""
    images, box, row = images.copy(), images.shape[-1], left_out_row(len(images))
    if kind == 0:
        images[row] *= 1000
    elif kind == 1:
        images[row, box // 2 - 2, box // 2 + 3] = 1000
    else:
        y, x = np.mgrid[:box, :box] - box // 2
        images[row] += 100 * np.exp(-((x - 4) ** 2 + (y + 3) ** 2) / 2 / (0.03 * box) ** 2)
    return images


def noise_free(folder: Path, **settings: object) -> Images:
    """The images of job=simulate without noise, of variance 1; its other files stay in ``folder``."""
    simulate.run(make_settings("simulate", out=str(folder), snr=None, **settings))
    return mrcfile.read(folder / "particles.mrcs")


def make(cell: Cell, folder: Path, **changes: object) -> Path:
    """The particles of a cell with noise of variance 1, in a folder as job=simulate leaves it; ``changes`` are for that job."""
    settings, draw = cell.settings | changes, np.random.default_rng(SEED)
    signal = noise_free(folder, **settings)
    if cell.fault == "junk":
        other = noise_free(folder / "other", **settings | dict(symmetry="C1", phantom_seed=7))
        signal = with_junk(signal, other, draw)
    grid = N, signal.shape[-1], settings["pixel_size"]
    noise = (coloured if cell.fault == "coloured" else white)(*grid, draw)
    images = np.sqrt(cell.snr) * signal + noise
    if cell.fault == "damaged":
        kind = list(SNR).index(cell.symmetry) + (cell.reach == "far")
        images = damaged(images, kind % 3)
    write_stack(folder / "particles.mrcs", [images], *grid)
    return folder


def noise_of(cell: Cell, **changes: object) -> Images:
    """The noise that ``make`` adds to the particles of a cell that holds no junk."""
    settings = cell.settings | changes
    drawn = coloured if cell.fault == "coloured" else white
    grid = N, settings["box_size"], settings["pixel_size"]
    return drawn(*grid, np.random.default_rng(SEED))


def change(folder: Path, edit: Callable[[Images], Images]) -> Path:
    """The same particles with other images."""
    path = folder / "particles.mrcs"
    with mrcfile.open(path) as file:
        images, pixel_size = file.data.copy(), float(file.voxel_size.x)
    images = edit(images).astype(np.float32)
    write_stack(path, [images], len(images), images.shape[-1], pixel_size)
    return folder


def make_noise(symmetry: str, folder: Path, box: int = 72, **changes: object) -> Path:
    """White noise with the CTFs and the initial map of a molecule."""
    sizes = FAR | SMALLER | dict(box_size=box) | changes
    noise_free(folder, symmetry=symmetry, n_particles=N, seed=SEED, **sizes)
    grid = N, sizes["box_size"], sizes["pixel_size"]
    noise = white(*grid, np.random.default_rng(SEED))
    write_stack(folder / "particles.mrcs", [noise], *grid)
    return folder


def refine(folder: Path, symmetry: str, **changes: object) -> Outcome:
    """A refinement of the particles in a folder with the defaults, scored."""
    out = folder / "out"
    given = dict(particles=folder / "particles.star", volume=folder / "initial.mrc", out=out)
    paths = {name: str(path) for name, path in given.items()}
    homo_refine.run(make_settings("homo_refine", symmetry=symmetry, **(paths | changes)))
    summary = json.loads((out / "summary.json").read_text())
    edge = summary["box"] * summary["pixel_size"]
    mask, volume = read(out / "mask_fsc.mrc"), whole(out)
    course = [in_shells(row["resolution"], edge) for row in summary["history"]]
    truth = hands(read(folder / "truth.mrc"))
    around = ball(len(mask))
    return Outcome(
        in_shells(summary["resolution"], edge),
        max(agreement(volume, hand, mask) for hand in truth),
        max(agreement(volume, hand, mask, 0.4) for hand in truth),
        max(agreement(volume, hand, around) for hand in truth),
        course,
        list(summary.get("warnings") or []),
        out,
    )


def from_true_poses(folder: Path, symmetry: str) -> int:
    """The shell up to which a reconstruction at the true poses agrees with the truth, in the mask of the claim."""
    out = folder / "true_poses"
    given = dict(particles=str(folder / "truth.star"), out=str(out), symmetry=symmetry)
    reconstruct.run(make_settings("reconstruct", **given))
    mask = read(folder / "out" / "mask_fsc.mrc")
    return agreement(whole(out), read(folder / "truth.mrc"), mask)


def reconstructed(folder: Path, symmetry: str) -> int | None:
    """The shell that a reconstruction claims at the poses of a refinement in a folder, None for nothing."""
    out = folder / "again"
    given = dict(particles=str(folder / "out" / "particles.star"), out=str(out), symmetry=symmetry)
    reconstruct.run(make_settings("reconstruct", **given))
    summary = json.loads((out / "summary.json").read_text())
    return in_shells(summary["resolution"], summary["box"] * summary["pixel_size"])


def ball(d: int) -> np.ndarray:
    """A soft sphere around the molecule in a box of d voxels."""
    return soft_sphere(d, 0.36 * d)


def in_ball(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The FSC of maps in a soft sphere around the molecule; shell 0 is nan."""
    curve = shell_correlation(a * ball(len(a)), b * ball(len(a)))
    curve[0] = np.nan
    return curve


def read(path: Path) -> np.ndarray:
    return mrcfile.read(path).astype(np.float64)


def whole(folder: Path) -> np.ndarray:
    """The mean of the half maps, as no filter has touched it."""
    return np.mean([read(folder / f"map_half_{half}.mrc") for half in "AB"], axis=0)


def in_shells(resolution: float | None, edge: float) -> int | None:
    return None if resolution is None else round(edge / resolution)


def hands(volume: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The map (d, d, d) and its mirror image along z: projections cannot tell them apart."""
    return volume, np.roll(volume[::-1], 1, 0)


def agreement(
    volume: np.ndarray, truth: np.ndarray, mask: np.ndarray, threshold: float = 0.5
) -> int:
    """The last shell before the FSC of a map and the truth in a mask falls below a threshold.

    What the mask makes of the strong low shells is taken off as with half maps, by phases made random beyond FSC 0.8
    (Chen et al. 2013, doi:10.1016/j.ultramic.2013.06.004): the truth of a blurred molecule has little else far out.
    """
    masked = shell_correlation(volume * mask, truth * mask)
    onset = first_below(shell_correlation(volume, truth), 0.8)
    draw = np.random.default_rng(0)
    random = [[randomised(v, onset, draw) * mask for v in (volume, truth)] for _ in range(4)]
    leaked = np.mean([shell_correlation(*pair) for pair in random], 0)
    leaked[: onset + 2] = 0
    return first_below((masked - leaked) / (1 - leaked), threshold) - 1


def first_below(curve: np.ndarray, threshold: float) -> int:
    """The first shell from 1 on that lies below a threshold, one beyond the last when there is none."""
    return 1 + int(np.argmax(np.append(curve[1:] < threshold, True)))


def randomised(volume: np.ndarray, onset: int, draw: np.random.Generator) -> np.ndarray:
    """The map with random phases from a shell on."""
    spectrum = np.fft.fftn(volume)
    phases = np.exp(1j * np.angle(np.fft.fftn(draw.normal(size=volume.shape))))
    far = shells(len(volume)) >= onset
    spectrum[far] = np.abs(spectrum[far]) * phases[far]
    return np.fft.ifftn(spectrum).real


def shell_correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """sum A B* / sqrt(sum |A|^2 sum |B|^2) over the shells round(|k|) = 0 ... d/2."""
    shell, fa, fb = shells(len(a)).ravel(), np.fft.fftn(a).ravel(), np.fft.fftn(b).ravel()

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(shell, values)[: len(a) // 2 + 1]

    power = total(np.abs(fa) ** 2) * total(np.abs(fb) ** 2)
    return total((fa * fb.conj()).real) / np.sqrt(power + 1e-30)


def shells(d: int) -> np.ndarray:
    """round(|k|) of the transform of a map (d, d, d)."""
    k = np.fft.fftfreq(d, 1 / d)
    return np.rint(np.sqrt(k[:, None, None] ** 2 + k[:, None] ** 2 + k**2)).astype(int)


def soft_sphere(d: int, radius: float, edge: float = 5) -> np.ndarray:
    """1 within the radius in voxels, falling to 0 over the edge as half a cosine."""
    x = np.arange(d) - d // 2
    distance = np.sqrt(x[:, None, None] ** 2 + x[:, None] ** 2 + x**2)
    return 0.5 + 0.5 * np.cos(np.pi * np.clip((distance - radius) / edge, 0, 1))


@dataclass(frozen=True)
class Truth:
    """What the tests of this folder call."""

    cell: Callable[..., Cell] = Cell
    make: Callable[..., Path] = make
    make_noise: Callable[..., Path] = make_noise
    noise_of: Callable[..., Images] = noise_of
    change: Callable[..., Path] = change
    damaged: Callable[..., Images] = damaged
    refine: Callable[..., Outcome] = refine
    from_true_poses: Callable[..., int] = from_true_poses
    reconstructed: Callable[..., int | None] = reconstructed
    curve: Callable[..., np.ndarray] = in_ball
    ball: Callable[[int], np.ndarray] = ball


@pytest.fixture(scope="session")
def truth() -> Truth:
    """Makes sets, refines and scores them."""
    return Truth()
