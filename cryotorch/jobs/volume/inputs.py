"""What volume tools start from: a map, a mask or an atomic model, and the grid of another map."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from cryotorch.data.atoms import Atoms, density, read_atoms
from cryotorch.data.mrc import read_header, read_volume
from cryotorch.errors import InputError
from cryotorch.findings import Finding
from cryotorch.jobs.config.parse import require
from cryotorch.jobs.files.memory import require_room
from cryotorch.jobs.inputs.map_grid import BELIEVED, DOUBTED, Grid, Point, grid_of, point_text
from cryotorch.jobs.inputs.maps import load_map
from cryotorch.jobs.volume.fitted import Fitted
from cryotorch.jobs.volume.settings import VolumeTools, listed
from cryotorch.ops.masks.segment import Segment
from cryotorch.report.sentences import line

log = logging.getLogger("cryotorch")
MODELS = (".pdb", ".ent", ".cif", ".mmcif")
NEAR = 0.01  # how closely the values of a mask reach 0 and 1, after another program's interpolation
# Part of a model's scattering that may lie outside the box without a word, and with a warning.
OUTSIDE_SHARE, ELSEWHERE_SHARE = 0.01, 0.1


@dataclass
class Work:
    """The volume being edited, and what has been done to it.

    Attributes:
        given: the settings as they were typed.
        volume: (d, d, d).
        pixel_size: Å.
        corner: (x, y, z) Å, where voxel 0 lies in the coordinates of atomic models; stated: whether a header said so.
        kind: map, mask or model: what it was read as.
        mask: (d, d, d) from 0 to 1 once there is one.
        region: voxels above the threshold that were kept, before the mask grew around them.
        labels, segments: the segmentation, where there is one, and its table.
        kept: labels of the segments that were kept.
        background: the map whose grid an atomic model was put on, or that the input was fitted onto, to be looked at.
        fitted: the fit, where there was one.
        steps: sentences; warnings: what the user should look at.
    """

    given: VolumeTools
    volume: Tensor
    pixel_size: float
    kind: str
    corner: Point = (0.0, 0.0, 0.0)
    stated: bool = False
    mask: Tensor | None = None
    region: Tensor | None = None
    labels: Tensor | None = None
    segments: list[Segment] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    background: Tensor | None = None
    fitted: Fitted | None = None
    steps: list[str] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)

    @property
    def box(self) -> int:
        return self.volume.shape[-1]

    @property
    def grid(self) -> Grid:
        return Grid(self.box, self.pixel_size, self.corner, self.stated)

    def put(self, volume: Tensor, pixel_size: float) -> None:
        """Take a volume on another grid, with its middle where that of the old one is."""
        half = volume.shape[-1] // 2 * pixel_size
        # rounded: a corner that comes back to 0 is 0
        x, y, z = (round(c - half, 4) + 0.0 for c in self.grid.middle)
        self.corner = x, y, z
        self.volume, self.pixel_size = volume, pixel_size

    def need(self, condition: bool, name: str, requirement: str) -> None:
        """Refuses a parameter, as it was typed, unless the condition holds."""
        require(condition, name, getattr(self.given, name), requirement)

    def did(self, sentence: str) -> None:
        """Note a step."""
        self.steps.append(sentence)
        log.info("%s", sentence)

    def warn(self, finding: Finding) -> None:
        """Note what the user should look at."""
        self.warnings.append(finding)
        log.info(line(finding))


def load(settings: VolumeTools, device: torch.device) -> Work:
    """The input on its own grid; an atomic model on the one it was given.

    Raises:
        InputError: it cannot be read, or parameters for another kind of input were given.
    """
    path = Path(settings.volume)
    if is_model(path):
        return _from_model(path, settings, device)
    for name in ("select", "assembly"):
        value = getattr(settings, name)
        require(
            value is None, name, value, f"it is for atomic models, and volume={path} is not one"
        )
    centre, requirement = settings.center, "it is for atomic models and for like=<map>"
    require(centre == "auto" or settings.like is not None, "center", centre, requirement)
    header = read_header(path)
    require_room(max(header.size), device, f"volume={path}")
    volume, pixel_size = load_map(path, "volume", settings.pixel_size, pad=True)
    grid = grid_of(path, pixel_size)
    # filtered or normalised it is no mask any more; and who wants a map has one
    maps_only = settings.normalize or settings.high_pass or settings.write == "map"
    low, high = float(volume.min()), float(volume.max())
    is_mask = abs(low) <= NEAR and abs(high - 1) <= NEAR and not maps_only
    work = Work(
        settings,
        volume.to(device),
        pixel_size,
        "mask" if is_mask else "map",
        grid.corner,
        grid.stated,
    )
    values = f"values {low:.4g} to {high:.4g}" + (", taken as a mask" if is_mask else "")
    if any(grid.corner):
        values += f", corner at {point_text(grid.corner)} Å"
    size = f"{work.box} voxels per edge"
    if len(set(header.size)) > 1:
        size = " x ".join(map(str, header.size)) + f" voxels, padded with zeros to {size}"
    work.did(f"Read {path}: {size}, {pixel_size:.4g} Å per voxel, {values}")
    return work


def is_model(path: Path) -> bool:
    """Whether a file name is that of an atomic model."""
    plain = path.with_suffix("") if path.suffix.lower() in (".gz", ".bz2") else path
    return plain.suffix.lower() in MODELS


def like_grid(path: str, pixel_size: float | None, name: str = "like") -> Grid:
    """The grid of the map ``like``, or of another parameter; ``pixel_size`` takes the place of one that its header lacks."""
    if is_model(Path(path)):
        raise InputError(f"{name}={path} is an atomic model, which has no grid: name a map")
    header = read_header(path)
    if len(set(header.size)) != 1:
        size = " x ".join(map(str, header.size))
        raise InputError(
            f"{name}={path} is {size} voxels, not a cube: pad it to one with job=volume_tools volume={path} first"
        )
    x, y, z = header.pixel_size
    if min(x, y, z) > 0 and max(x, y, z) > 1.01 * min(x, y, z):
        raise InputError(
            f"{name}={path} has voxels of {x:.4g} x {y:.4g} x {z:.4g} Å: name a map with cubic ones"
        )
    size = x or pixel_size
    if size is None:
        raise InputError(
            f"{name}={path} does not state its pixel size: add pixel_size=<Å> if the input has the same one, else "
            "write it into the header with job=volume_tools first"
        )
    if size == DOUBTED and pixel_size != DOUBTED:
        log.info(BELIEVED, f"{name}={path}")
    return grid_of(path, size)


def _from_model(path: Path, settings: VolumeTools, device: torch.device) -> Work:
    """Density of an atomic model: in the frame of ``like``, or centred."""
    new, requirement = (
        settings.new_pixel_size,
        "the map of a model is made with pixel_size, give that",
    )
    require(new is None, "new_pixel_size", new, requirement)
    auto, resolution = settings.center == "auto", settings.resolution
    fitted = settings.like is not None if auto else not settings.center
    requirement = f"the density of {path} needs one, add resolution=6 for example"
    require(resolution is not None, "resolution", None, requirement)
    atoms = read_atoms(path, settings.assembly, centre=False, select=listed(settings.select))
    grid = _model_grid(path, settings, atoms)
    finest = 2 * grid.pixel_size
    requirement = f"it must be at least two pixels, {finest:.4g} Å"
    require(resolution >= 0.999 * finest, "resolution", resolution, requirement)
    if fitted:
        middle = torch.tensor(grid.middle)
    else:  # parts keep their place in the whole, so that their masks fit together
        whole = read_atoms(path, settings.assembly, centre=False) if settings.select else atoms
        middle = whole.centre_of_mass()
    atoms = Atoms(atoms.position - middle, atoms.weight, atoms.bfactor)
    asks = f"like={settings.like}" if settings.like else f"box_size={grid.box}"
    require_room(grid.box, device, asks)
    warning = _outside(path, settings, atoms, grid)
    moved = Atoms(*(value.to(device) for value in (atoms.position, atoms.weight, atoms.bfactor)))
    volume = density(moved, grid.box, grid.pixel_size, resolution)
    work = Work(settings, volume, grid.pixel_size, "model", grid.corner, grid.stated)
    if settings.like is not None:
        work.background = read_volume(settings.like)[0]
    where = "at its coordinates" if fitted else "the centre of mass of the whole in the middle"
    corner = f", corner at {point_text(grid.corner)} Å" if any(grid.corner) else ""
    work.did(
        f"Density of {len(atoms)} atoms of {path} at {resolution:g} Å, {grid.box} voxels per edge of "
        f"{grid.pixel_size:.4g} Å, {where}{corner}"
    )
    if warning:
        work.warn(warning)
    return work


def _model_grid(path: Path, settings: VolumeTools, atoms: Atoms) -> Grid:
    if settings.like is not None:
        return like_grid(settings.like, settings.pixel_size)
    pixel_size, box = settings.pixel_size, settings.box_size
    requirement = f"the density of {path} needs a grid, add like=<map>, or pixel_size=<Å> and box_size=<voxels>"
    require(pixel_size is not None, "pixel_size", None, requirement)
    need = box_for(atoms, pixel_size)
    require(box is not None, "box_size", None, f"{requirement}, {need} for example")
    return Grid(box, pixel_size, (0.0, 0.0, 0.0))


def box_for(atoms: Atoms, pixel_size: float) -> int:
    """A box with a margin around centred atoms, even."""
    reach = float((atoms.position - atoms.centre_of_mass()).norm(dim=1).max())
    return 2 * math.ceil(1.2 * reach / pixel_size)


def _outside(path: Path, settings: VolumeTools, atoms: Atoms, grid: Grid) -> Finding | None:
    """Whether atoms lie outside the box; InputError where that cannot be meant."""
    beyond = (atoms.position / grid.pixel_size).abs().amax(1) > grid.box / 2
    part = float(atoms.weight[beyond].sum() / atoms.weight.sum())
    if part <= OUTSIDE_SHARE:
        return None
    into = f"like={settings.like}" if settings.like else f"box_size={grid.box}"
    centred = settings.center is True or (settings.like is None and settings.center == "auto")
    need = box_for(atoms, grid.pixel_size)
    if centred and settings.like is None:
        raise InputError(
            f"{into} at pixel_size={grid.pixel_size:g} is too small for {path}, of which {part:.0%} lies "
            f"outside: use box_size={need}"
        )
    if centred:
        requirement = f"pad that map with job=volume_tools box_size={need} and name the padded one"
    elif settings.like:
        requirement = "fit it into that map, or add center=true to put it into the middle"
    else:
        requirement = "add center=true to put it into the middle, or use a larger box_size"
    if part > ELSEWHERE_SHARE:
        raise InputError(f"{part:.0%} of {path} lies outside {into}: {requirement}")
    return Finding("atoms_cut", part=part, file=str(path), box=into, cure=requirement)
