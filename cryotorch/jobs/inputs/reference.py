"""Maps and masks that a refinement starts from, brought onto the grid of its particles."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from cryotorch.data.images import ParticleImages
from cryotorch.data.mrc import read_header, read_volume
from cryotorch.data.particle_file import ParticleFile
from cryotorch.errors import InputError
from cryotorch.findings import Finding, remark
from cryotorch.jobs.config.parse import MIN_DIAMETER
from cryotorch.jobs.inputs.half_maps import half_paths
from cryotorch.jobs.inputs.map_grid import (
    BELIEVED,
    DOUBTED,
    Grid,
    apart,
    believable,
    bring,
    grid_of,
    how,
)
from cryotorch.jobs.inputs.maps import check_blank, looks_inverted
from cryotorch.jobs.inputs.masks import HARD, SOFT, check_mask
from cryotorch.ops.fourier.transforms import resize_volume
from cryotorch.ops.masks.soft import edge_width
from cryotorch.ops.resolution.fsc import resolution, shell_correlation
from cryotorch.ops.resolution.shared_density import left_out, shared_density
from cryotorch.report.sentences import line

log = logging.getLogger("cryotorch")
PER_KDA = 1210.0  # Å³: protein has 1.35 g / cm³ (doi:10.1110/ps.04688204)
KEEPS_ALL = 0.95  # of the density, from which on a mask on a part keeps all
MIN_KDA = 10.0  # smaller regions are not known to be refined
CALIBRATION_ERROR = (
    0.01  # a pixel size of the same box that differs by less is that of the particles
)


def load_reference(
    path: str | Path, what: str, file: ParticleFile, images: ParticleImages, tell: bool = True
) -> Tensor:
    """A map (d, d, d) for the refinement box; one of another box or pixel size is resampled, and said so (``tell``).

    Its header's origin counts as in ``map_grid.apart``: a map that was cut out of one in the particles' box lies there.

    Raises:
        InputError: it cannot be read, is blank, has another box without a pixel size, or lies outside the box.
    """
    return _load(path, what, file, images, Grid(images.box, images.pixel_size), tell=tell)


def load_references(
    path: str | Path, file: ParticleFile, images: ParticleImages
) -> tuple[Tensor, Finding]:
    """A map for each half set (2, d, d, d), and where they come from.

    Half maps of a run folder, or one map twice.
    """
    if Path(path).is_dir():
        (a, b), _ = half_paths(str(path), None, None)
        halves = [
            load_reference(half, "volume", file, images, tell)
            for half, tell in ((a, True), (b, False))
        ]
        names = dict(first=a.name, second=b.name)
        return torch.stack(halves), remark("from_half_maps", **names, compared=False)
    volume = load_reference(path, "volume", file, images)
    source = remark("from_map", file=str(path), compared=False)
    return volume.expand(2, -1, -1, -1).clone(), source


def load_box_mask(
    path: str | Path, reference: str | Path, file: ParticleFile, images: ParticleImages
) -> Tensor:
    """A mask (d, d, d) from 0 to 1 for the refinement box, placed against the ``reference`` (a map or run folder) by
    the headers of both; resampled where need be.

    Raises:
        InputError: values that are those of no mask, or so few voxels that noise would be aligned to them.
    """
    frame = _frame(reference, file, images)
    mask = _load(path, "mask", file, images, frame, check_mask).clamp(0, 1)
    voxels, least = float(mask.sum()), math.pi / 6 * MIN_DIAMETER**3
    if voxels < least:
        raise InputError(
            f"mask={path} holds {voxels:.3g} voxels of the refinement's box, and noise that is aligned to so few looks like signal: "
            f"give one of at least {least:.0f}"
        )
    weight = voxels * images.pixel_size**3 / PER_KDA
    if weight < MIN_KDA:
        log.warning(line(Finding("mask_light", file=str(path), mass=weight)))
    return mask


def _frame(reference: str | Path, file: ParticleFile, images: ParticleImages) -> Grid:
    """The refinement box, placed in the coordinates of models by the reference's header."""
    bare = Grid(images.box, images.pixel_size)
    if Path(reference).is_dir():
        reference = half_paths(str(reference), None, None)[0][0]
    own = _grid(reference, "volume", file, images, tell=False)
    middle = [m - a for m, a in zip(own.middle, apart(own, bare), strict=True)]
    return _around(middle, bare, own.stated)


def _around(middle: list[float], like: Grid, stated: bool) -> Grid:
    half = like.box // 2 * like.pixel_size
    return Grid(like.box, like.pixel_size, tuple(m - half for m in middle), stated)


def _load(
    path: str | Path,
    what: str,
    file: ParticleFile,
    images: ParticleImages,
    frame: Grid,
    check: Callable[[Tensor, str], None] = check_blank,
    tell: bool = True,
) -> Tensor:
    volume, _ = read_volume(path, pad=True)
    check(volume, f"{what}={path}")
    own = _grid(path, what, file, images, tell)
    volume = resize_volume(volume, own.box)  # as extracted and as refined
    away = apart(own, frame)
    if tell and (any(away) or not own.samples_like(frame)):
        log.info("%s=%s: %s", what, path, how(own, frame, away))
    volume, warning = bring(volume, own, frame, away, f"{what}={path}")
    if tell and warning:
        log.warning(line(warning))
    return volume


def _grid(
    path: str | Path, what: str, file: ParticleFile, images: ParticleImages, tell: bool
) -> Grid:
    """The sampling of a map; that of the refinement box where it has the one of the images as extracted."""
    header, grids = read_header(path), {file.box: file.pixel_size, images.box: images.pixel_size}
    box, stated = max(header.size), header.pixel_size[0]
    expected = grids.get(box)
    doubted = stated == DOUBTED and abs(images.pixel_size - 1) > CALIBRATION_ERROR
    # 0 and 1 are what programs write that do not know it; of another box the 1 is all that tells
    plausible = expected is None and believable(box, file.box * file.pixel_size)
    meant = stated > 0 and (plausible or not doubted)
    if not meant and expected is None:
        raise InputError(
            f"{what}={path} has {box} voxels per edge but the particles have {file.box} pixels, and its header "
            f"{'says 1 Å per voxel, as of programs that do not know it' if stated else 'does not state its pixel size'}: bring it onto a grid of theirs with job=volume_tools pixel_size=<its Å per voxel> like=<map>, or "
            f"new_pixel_size={file.pixel_size:.4g} box_size={file.box}"
        )
    if meant and doubted and tell:
        log.info(BELIEVED, f"{what}={path}")
    if not meant and tell:
        reason = "does not state its pixel size"
        if doubted:
            reason = "states 1 Å per voxel, which some programs write without knowing it"
        log.info("%s=%s %s; %.4g Å is assumed, as its box is theirs", what, path, reason, expected)
    fits = expected is not None and (not meant or abs(stated / expected - 1) <= CALIBRATION_ERROR)
    own = grid_of(path, expected if fits else stated)
    refined = Grid(images.box, images.pixel_size)
    return _around(list(own.middle), refined, own.stated) if fits else own


def mask_keeps(maps: Tensor, mask: Tensor, pixel_size: float) -> Finding:
    """The part of the density shared by maps of both half sets (2, d, d, d) that a mask on a part (d, d, d) keeps."""
    coarse = resolution(shell_correlation(*maps), maps.shape[-1], pixel_size, 0.5)
    share = 1 - left_out(shared_density(maps, pixel_size, coarse), mask)
    return remark("mask_keeps", share=share, all=share >= KEEPS_ALL)


def warn_if_inverted(volume: Tensor, path: str | Path) -> None:
    """Masks need positive densities."""
    if looks_inverted(volume):
        log.warning(line(Finding("volume_inverted", file=str(path))))


def warn_if_hard(mask: Tensor, path: str | Path) -> None:
    """A hard edge rings in Fourier space."""
    width = edge_width(mask)
    if width < HARD:
        log.warning(line(Finding("given_mask_hard", file=str(path), soften=SOFT)))
