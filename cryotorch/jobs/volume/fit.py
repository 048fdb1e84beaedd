"""Inputs put in place by their density: a map or an atomic model fitted onto another map."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from cryotorch.data.atoms import Atoms, density, read_atoms
from cryotorch.errors import InputError
from cryotorch.findings import Finding
from cryotorch.jobs.config.parse import require
from cryotorch.jobs.files.memory import require_room
from cryotorch.jobs.inputs.map_grid import COARSE_BOX, CUT_SHARE, STRONG_DENSITY, Grid
from cryotorch.jobs.inputs.maps import load_map, looks_inverted
from cryotorch.jobs.volume import inputs
from cryotorch.jobs.volume.fitted import Fitted
from cryotorch.jobs.volume.inputs import Work, box_for, is_model, like_grid
from cryotorch.jobs.volume.settings import VolumeTools, listed
from cryotorch.ops.fourier.transforms import resize_volume
from cryotorch.ops.geometry.map_fit import MapFit, fit_map, strong_density
from cryotorch.ops.geometry.rotations import rotation_angle
from cryotorch.ops.geometry.symmetry import move_volume
from cryotorch.ops.masks.soft import high_percentile
from cryotorch.ops.resolution.fsc import crossing_shell, resolution, shell_correlation

MODEL_PIXEL = 3.0  # Å, of the density of a model to be fitted, unless a finer one is compared


def load(settings: VolumeTools, device: torch.device) -> Work:
    """The input, see ``inputs.load``, in its place on the map that it is fitted onto, where there is one.

    Raises:
        InputError: one of the two cannot be read or fitted, or parameters for another kind of input were given.
    """
    if settings.fit is None:
        return inputs.load(settings, device)
    grid = like_grid(settings.fit, settings.pixel_size, "fit")
    _check(settings, grid)
    require_room(grid.box, device, f"fit={settings.fit}")
    reference = load_map(settings.fit, "fit", grid.pixel_size)[0].to(device)
    if is_model(Path(settings.volume)):
        work = _model(settings, reference, grid)
    else:
        work = _map(inputs.load(settings, device), settings, reference, grid)
    work.background = reference.cpu()
    for name, volume in (("fit", reference), ("volume", work.volume)):
        if looks_inverted(volume):
            work.warn(Finding("fit_inverted", file=f"{name}={getattr(settings, name)}"))
    assert work.fitted is not None
    for said in work.fitted.lines:
        work.did(said)
    for doubt in work.fitted.doubts:
        work.warn(doubt)
    return work


def _check(settings: VolumeTools, grid: Grid) -> None:
    model, wanted = is_model(Path(settings.volume)), settings.fit_resolution
    requirement = f"{settings.volume} is an atomic model, whose hand is known: use auto or same"
    require(not model or settings.fit_hand != "mirror", "fit_hand", "mirror", requirement)
    nyquist = 2 * grid.pixel_size
    requirement = f"it must be at least two pixels of fit={settings.fit}, {nyquist:.4g} Å"
    require(wanted == "auto" or wanted >= 0.999 * nyquist, "fit_resolution", wanted, requirement)


def _map(work: Work, settings: VolumeTools, reference: Tensor, grid: Grid) -> Work:
    """A map or mask, moved."""
    own, source = work.grid, f"volume={settings.volume}"
    found = _fit(settings, work.volume, own.pixel_size, reference, grid, settings.fit_hand)
    matrix = -found.rotation if found.mirrored else found.rotation
    part = _outside(work, matrix, found.shift, grid)
    sampling = grid.box, grid.pixel_size
    work.volume = move_volume(work.volume, own.pixel_size, matrix, found.shift, *sampling)
    work.corner, work.pixel_size, work.stated = grid.corner, grid.pixel_size, grid.stated
    half = _fsc_half(work.volume, reference, grid.pixel_size, 2 * own.pixel_size)
    translation = found.shift + _point(grid.middle) - matrix @ _point(own.middle)
    names = settings.volume, settings.fit
    work.fitted = Fitted(*names, found, matrix, translation, found.other_hand, half)
    hand = ", in its other hand" if found.mirrored else ""
    work.did(f"Fitted onto {settings.fit}{hand}: {_moved(found.rotation, translation, work)}")
    if part > CUT_SHARE:
        work.warn(Finding("density_cut", part=part, file=source))
    return work


def _model(settings: VolumeTools, reference: Tensor, grid: Grid) -> Work:
    """An atomic model, moved, as its density."""
    path = Path(settings.volume)
    new, requirement = settings.new_pixel_size, "the map of a model has the grid of fit"
    require(new is None, "new_pixel_size", new, requirement)
    atoms = read_atoms(path, settings.assembly, centre=False, select=listed(settings.select))
    centre = atoms.centre_of_mass()
    wanted = settings.fit_resolution
    finest = MODEL_PIXEL if wanted == "auto" else min(MODEL_PIXEL, wanted / 2.5)
    step = max(finest, 1.0)
    box = box_for(atoms, step) + 2 * math.ceil(10 / step)
    require_room(box, reference.device, f"volume={settings.volume}")
    blurred = _density(
        Atoms(atoms.position - centre, *_rest(atoms)), box, step, 2 * step, reference
    )
    found = _fit(settings, blurred, step, reference, grid, "same")
    mirror = None
    if settings.fit_hand == "auto":
        mirror = _fit(settings, blurred, step, reference, grid, "mirror").correlation
    middle, turn = _point(grid.middle), found.rotation
    translation = found.shift + middle - turn @ centre.double()
    place = atoms.position.double() @ turn.T + translation - middle
    moved = Atoms(place.float(), *_rest(atoms))
    fine = settings.resolution or 2 * grid.pixel_size
    volume = _density(moved, grid.box, grid.pixel_size, fine, reference)
    work = Work(settings, volume, grid.pixel_size, "model", grid.corner, grid.stated)
    half = _fsc_half(volume, reference, grid.pixel_size)
    names = settings.volume, settings.fit
    work.fitted = Fitted(*names, found, turn, translation, mirror, half, True)
    work.did(
        f"Fitted {len(atoms)} atoms of {path} onto {settings.fit}: {_moved(turn, translation, work)}"
    )
    beyond = (place / grid.pixel_size).abs().amax(1) > grid.box / 2
    part = float(atoms.weight[beyond].sum() / atoms.weight.sum())
    if part > CUT_SHARE:
        cure = "use a map in a larger box"
        work.warn(
            Finding("atoms_cut", part=part, file=str(path), box=f"fit={settings.fit}", cure=cure)
        )
    return work


def _fit(
    settings: VolumeTools,
    volume: Tensor,
    pixel_size: float,
    reference: Tensor,
    grid: Grid,
    hand: str,
) -> MapFit:
    wanted = None if settings.fit_resolution == "auto" else settings.fit_resolution
    try:
        return fit_map(volume, reference, grid.pixel_size, wanted, hand, pixel_size)
    except ValueError as error:
        raise InputError(
            f"fit={settings.fit} cannot be used with volume={settings.volume}: {error}"
        ) from None


def _rest(atoms: Atoms) -> tuple[Tensor, Tensor]:
    return atoms.weight, atoms.bfactor


def _density(atoms: Atoms, box: int, pixel_size: float, fine: float, like: Tensor) -> Tensor:
    on = Atoms(*(values.to(like.device) for values in (atoms.position, *_rest(atoms))))
    return density(on, box, pixel_size, fine)


def _outside(work: Work, matrix: Tensor, shift: Tensor, grid: Grid) -> float:
    """The part of the strong density that comes to lie outside the other box."""
    box = min(work.box, COARSE_BOX)
    coarse = resize_volume(work.volume, box).cpu()
    strong = coarse > STRONG_DENSITY * high_percentile(coarse)
    step = work.box * work.pixel_size / box
    place = (torch.nonzero(strong).flip(1).double() - box // 2) * step @ matrix.T + shift
    index = place / grid.pixel_size + grid.box // 2
    beyond = ((index < -0.5) | (index > grid.box - 0.5)).any(1)
    weight = coarse[strong].double()
    return float(weight[beyond].sum() / weight.sum().clamp_min(1e-30))


def _point(place: tuple[float, ...]) -> Tensor:
    return torch.tensor(place, dtype=torch.float64)


def _moved(turn: Tensor, translation: Tensor, work: Work) -> str:
    angle = math.degrees(float(rotation_angle(turn, torch.eye(3, dtype=torch.float64))))
    step = ", ".join(f"{v:.2f}" for v in translation.tolist())
    grid = f"{work.box} voxels per edge of {work.pixel_size:.4g} Å"
    return f"turned by {angle:.1f}°, then moved by ({step}) Å; on its grid, {grid}"


def _fsc_half(
    volume: Tensor, reference: Tensor, pixel_size: float, finest: float = 0.0
) -> float | None:
    """Where the FSC falls below 0.5, Å, in the outline of what was moved; not beyond the ``finest`` that it holds.

    Beyond that the outline alone, which both are multiplied by, would correlate.
    """
    box = len(reference)
    outline = resize_volume(strong_density(volume, pixel_size).mask, box)
    curve = shell_correlation(volume * outline, reference * outline)
    if crossing_shell(curve, 0.5) <= 1 and float(curve[1]) < 0.5:
        return None
    return max(resolution(curve, box, pixel_size, 0.5, interpolate=True), finest)
