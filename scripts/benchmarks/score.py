"""Maps, poses and classes against the truth. Refined maps are not aligned: drift is an error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cryotorch.data.mrc import read_volume
from cryotorch.data.particle_file import ParticleFile, read_particles
from cryotorch.errors import InputError
from cryotorch.ops.fourier.filters import low_pass
from cryotorch.ops.fourier.slices import extract_slices, projector
from cryotorch.ops.fourier.transforms import half_plane, resize_volume, shift_phase
from cryotorch.ops.geometry.map_fit import fit_map
from cryotorch.ops.geometry.rotations import euler_to_matrix, rotation_angle, to_rotation_vector
from cryotorch.ops.geometry.symmetry import move_volume, point_group
from cryotorch.ops.masks.soft import soft_mask, soft_sphere
from cryotorch.ops.resolution.fsc import crossing_shell, resolution, shell_correlation
from cryotorch.particles import Particles

DETAIL = 15.0  # Å, that images of a class are compared at
EDGE = 5  # pixels, of the soft sphere
TIGHT = dict(low_pass=8.0, threshold=0.1, near=6.0, far=14.0)  # Å; fraction of the maximum


def score_map(path: Path, truth_path: Path, radius: float | None = None) -> dict[str, float]:
    """Resolutions in Å where the FSC of map and truth falls below 0.5, linear between shells.

    Masks: a soft sphere of ``radius`` Å (default: 0.42 of the box edge), and within it a tight one
    made of the truth.
    """
    volume, truth, pixel_size = _on_one_grid(path, truth_path)
    sphere = _sphere(len(volume), pixel_size, radius)
    smooth = low_pass(truth, pixel_size, TIGHT["low_pass"])
    dense = smooth > TIGHT["threshold"] * smooth.max()
    tight = sphere * soft_mask(dense, TIGHT["near"] / pixel_size, TIGHT["far"] / pixel_size)
    masks = {"sphere": sphere, "tight": tight}
    return {name: agreement(volume, truth, mask, pixel_size) for name, mask in masks.items()}


def score_fitted(path: Path, truth_path: Path, radius: float | None = None) -> dict[str, float]:
    """A map from nothing, fitted onto the truth in its better hand.

    Correlation to 15 Å, all shells alike, and the resolution in Å where the FSC in a soft sphere
    falls below 0.5, not finer than two pixels of the map.
    """
    (volume, own), (truth, size) = (read_volume(p) for p in (path, truth_path))
    if own is None or size is None:
        raise InputError(f"{path} and {truth_path} must state their pixel sizes in the header")
    fit = fit_map(volume, truth, size, moving_pixel_size=own)
    matrix = -fit.rotation if fit.mirrored else fit.rotation
    placed = move_volume(volume, own, matrix, fit.shift, len(truth), size)
    reached = agreement(placed, truth, _sphere(len(truth), size, radius), size)
    return {"correlation": fit.correlation, "FSC 0.5, Å": max(reached, 2 * own)}


def score_classes(path: Path, truth: Particles, real: Tensor, truth_map: Path) -> dict[str, float]:
    """2D classes of a file beside true poses, in its order, of images of which some are ``real``.

    Likeness is the correlation to 15 Å of what an image shows with the mean of the others of its
    class: projections of the true map at true poses, brought into the frame of the class by the
    angle and origin found.
    """
    found = read_particles(path, need_images=False)
    row = found.particles.address[:, 1].argsort()
    table = found.tables["particles"]
    label = torch.from_numpy(table.integers("rlnClassNumber").copy())[row]
    psi = torch.deg2rad(torch.from_numpy(table.floats("rlnAnglePsi").copy()))[row]
    columns = [table.floats(f"rlnOrigin{axis}Angst") for axis in "XY"]
    off = truth.shift - torch.from_numpy(np.stack(columns, 1)).float()[row]
    volume, pixel_size = read_volume(truth_map)
    if pixel_size is None:
        raise InputError(f"{truth_map} does not state its pixel size: set it in the header")
    lost, kept = 0, 0
    for k in label.unique():
        mine = real[label == k]
        of_particles = 2 * int(mine.sum()) > len(mine)
        lost += 0 if of_particles else int(mine.sum())
        kept += int((~mine).sum()) if of_particles else 0
    shown = (label[real], psi[real].float(), truth.rotation[real], off[real] / pixel_size)
    edge = len(volume) * pixel_size
    sizes = torch.bincount(label)
    return {
        "likeness in a class": likeness(*shown, volume, edge / DETAIL),
        "by chance": likeness(
            *(v.roll(1, 0) for v in shown[:2]), *shown[2:], volume, edge / DETAIL
        ),
        "particles in classes of junk, %": 100 * lost / max(1, int(real.sum())),
        "junk in classes of particles, %": 100 * kept / max(1, int((~real).sum())),
        "largest class, %": 100 * int(sizes.max()) / len(label),
        "classes above 1 %": int((sizes > 0.01 * len(label)).sum()),
    }


def likeness(
    label: Tensor, psi: Tensor, rotation: Tensor, off_px: Tensor, volume: Tensor, limit: float
) -> float:
    """Mean correlation of projections with the mean of the others of their class, up to a limit.

    label (n,); psi (n,) radians found; rotation (n, 3, 3) true; off_px (n, 2) origin, true - found.
    """
    zero = torch.zeros_like(psi)
    turn = euler_to_matrix(zero, zero, psi)
    at = half_plane(len(volume)).frequency
    at = at[: half_plane(len(volume)).count(limit)]
    values = extract_slices(projector(volume, limit), turn.mT @ rotation, at)
    moved = (turn[:, :2, :2].mT @ off_px[:, :, None])[:, :, 0]
    values = values * shift_phase(moved, len(volume), len(at))
    total = values.new_zeros(int(label.max()) + 1, len(at)).index_add_(0, label, values)
    others = total[label] - values
    size = (others.norm(dim=1) * values.norm(dim=1)).clamp_min(1e-30)
    return float(((others.conj() * values).real.sum(1) / size).mean())


def sphere_curve(
    path: Path, truth_path: Path, radius: float | None = None
) -> tuple[Tensor, int, float]:
    """FSC (d/2 + 1,) of map and truth in the soft sphere, the map's box and pixel size in Å."""
    volume, truth, pixel_size = _on_one_grid(path, truth_path)
    sphere = _sphere(len(volume), pixel_size, radius)
    return shell_correlation(volume * sphere, truth * sphere), len(volume), pixel_size


def _on_one_grid(path: Path, truth_path: Path) -> tuple[Tensor, Tensor, float]:
    """The map, the truth cropped to its box, and its pixel size in Å."""
    volume, pixel_size = read_volume(path)
    truth, _ = read_volume(truth_path)
    if pixel_size is None:
        raise InputError(f"{path} does not state its pixel size: set it in the header")
    return volume, resize_volume(truth, len(volume)), pixel_size


def _sphere(box: int, pixel_size: float, radius: float | None) -> Tensor:
    return soft_sphere(box, radius / pixel_size if radius else 0.42 * box, EDGE)


def agreement(volume: Tensor, truth: Tensor, mask: Tensor, pixel_size: float) -> float:
    """The resolution in Å at which the FSC of two masked maps falls below 0.5."""
    curve = shell_correlation(volume * mask, truth * mask)
    return resolution(curve, volume.shape[-1], pixel_size, threshold=0.5, interpolate=True)


def own_mask_shell(out: Path, truth_path: Path) -> int:
    """The last shell before map and truth fall below 0.5 in the run's own FSC mask."""
    volume, truth, _ = _on_one_grid(out / "map.mrc", truth_path)
    mask = read_volume(out / "mask_fsc.mrc")[0]
    return int(crossing_shell(shell_correlation(volume * mask, truth * mask), 0.5))


def score_poses(path: Path, truth_path: Path, symmetry: str = "C1") -> dict[str, float]:
    """Median errors of rotation (degrees, modulo symmetry) and shift (Å) of all particles."""
    found, rotation, shift = _paired(path, truth_path)
    return pose_errors(found, rotation, shift, symmetry)


def error_ratios(path: Path, truth_path: Path, symmetry: str = "C1") -> dict[str, float]:
    """True errors of poses per axis, by medians, and what is reported of them.

    The truth is taken in the frame of the map, which may be a little turned and moved.
    """
    found, rotation, shift = _paired(path, truth_path)
    turns = torch.stack(
        [
            to_rotation_vector((rotation @ g).mT @ found.rotation)
            for g in point_group(symmetry).float()
        ]
    )
    best = turns.norm(dim=-1).argmin(0)
    turn = turns[best, torch.arange(len(best))]
    turn = (turn - turn.median(0).values).norm(dim=1)
    rows, offset = found.rotation[:, :2], found.shift - shift
    frame = torch.linalg.lstsq(rows.flatten(0, 1), offset.reshape(-1, 1)).solution[:, 0]
    move = (offset - rows @ frame).norm(dim=1)
    # medians of the lengths of Gaussian vectors with three axes and two of one unit
    true = torch.stack([turn.median() / 1.538, move.median() / 1.177])
    ratio = (found.pose_sigma.median(0).values / true).tolist()
    return {
        "rotation, true, degrees": float(torch.rad2deg(true[0])),
        "rotation, reported / true": ratio[0],
        "shift, true, Å": float(true[1]),
        "shift, reported / true": ratio[1],
    }


def _paired(path: Path, truth_path: Path) -> tuple[Particles, Tensor, Tensor]:
    """The particles of a file, and their true rotations (n, 3, 3) and shifts (n, 2) Å."""
    found, truth = (read_particles(p, need_images=False) for p in (path, truth_path))
    row = {key: i for i, key in enumerate(_keys(truth))}
    lacking = sum(key not in row for key in _keys(found))
    if lacking:
        raise InputError(f"{truth_path} lacks {lacking} particles of {path}: name their truth")
    rows = torch.tensor([row[key] for key in _keys(found)])
    return found.particles, truth.particles.rotation[rows], truth.particles.shift[rows]


def pose_errors(
    found: Particles, rotation: Tensor, shift: Tensor, symmetry: str
) -> dict[str, float]:
    """The same for particles whose true poses (n, 3, 3), (n, 2) Å are given row by row."""
    angle = torch.full((len(rotation),), torch.pi)
    for g in point_group(symmetry).float():
        angle = torch.minimum(angle, rotation_angle(found.rotation, rotation @ g))
    off = (found.shift - shift).norm(dim=1)
    return {
        "rotation": float(torch.rad2deg(angle).median()),
        "shift": float(off.median()),
    }


def _keys(file: ParticleFile) -> list[tuple[str, int]]:
    """Stack name and index of every particle.

    Folders differ between truth and result, and so may the name of a lone stack.
    """
    alone = len(file.stacks) == 1
    names = ["" if alone else path.name for path in file.stacks]
    return [(names[stack], index) for stack, index in file.particles.address.tolist()]
