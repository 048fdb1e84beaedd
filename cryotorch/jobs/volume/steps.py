"""The steps of volume tools, in their order; each is one of ``ops`` and a sentence in the log."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cryotorch.errors import InputError
from cryotorch.findings import Finding
from cryotorch.jobs.config.parse import in_angstrom, shown
from cryotorch.jobs.config.units import parse_length
from cryotorch.jobs.files.memory import require_room
from cryotorch.jobs.inputs.map_grid import Grid, apart, between, bring, how
from cryotorch.jobs.inputs.masks import load_mask
from cryotorch.jobs.inputs.symmetry import symmetry_group
from cryotorch.jobs.volume.coordinates import cut_spheres, in_voxels, misplaced, within_the_box
from cryotorch.jobs.volume.inputs import Work, like_grid
from cryotorch.jobs.volume.settings import VolumeTools, rows
from cryotorch.ops.fourier.filters import high_pass, low_pass
from cryotorch.ops.fourier.resample import resample_volume
from cryotorch.ops.geometry import placement
from cryotorch.ops.geometry.rotations import euler_to_matrix
from cryotorch.ops.geometry.symmetry import rotate_volume, symmetrise_volume
from cryotorch.ops.masks import morphology
from cryotorch.ops.masks.segment import (
    connected_components,
    labels_at,
    segment_table,
    select_segments,
    watershed,
)
from cryotorch.ops.masks.soft import grow_in_box, high_percentile

COMBINE = {
    "unite": morphology.unite,
    "intersect": morphology.intersect,
    "subtract": morphology.subtract,
}
HALF = 0.5  # where a soft mask ends
CLOSE = 0.25  # of the growth and edge asked for: less room than that is spoken of


def edit(work: Work, settings: VolumeTools) -> Work:
    """All that was asked for, in order.

    Raises:
        InputError: a step cannot be done, or leaves nothing.
    """
    grid = like_grid(settings.like, settings.pixel_size) if settings.like else None
    # lengths in px are voxels of the result
    final = grid.pixel_size if grid else settings.new_pixel_size or work.pixel_size
    settings = in_angstrom(settings, final)
    if grid and work.kind != "model":
        _onto(work, grid)
    _filter(work, settings)
    if work.kind != "model":
        _new_grid(work, settings)
    _orient(work, settings)
    if work.kind == "mask":  # interpolation and filters ring
        work.volume = work.volume.clamp(0, 1)
    cut_spheres(work, settings)
    _outline(work, settings)
    if settings.invert:
        _needs_mask(work, settings, "invert")
        assert work.mask is not None
        work.mask = 1 - work.mask
        work.did("Inverted the mask")
    _combine(work, settings)
    _finish(work, settings)
    return work


def _onto(work: Work, grid: Grid) -> None:
    """The grid of another map, and the place in it that the headers of both say."""
    name, centre, own = f"volume={work.given.volume}", work.given.center, work.grid
    away = apart(own, grid)
    if centre != "auto":
        away = (0.0, 0.0, 0.0) if centre else between(own, grid)
    require_room(grid.box, work.volume.device, f"like={work.given.like}")
    moved = any(away) or not own.samples_like(grid)
    work.volume, warning = bring(
        work.volume, own, grid, away, name, "add center=true to put middle on middle"
    )
    work.corner, work.pixel_size, work.stated = grid.corner, grid.pixel_size, grid.stated
    if moved:
        work.did(f"Like {work.given.like}: {how(own, grid, away)}")
    if warning:
        work.warn(warning)


def _regrid(work: Work, box: int, pixel_size: float, name: str) -> None:
    require_room(box, work.volume.device, f"{name}={shown(getattr(work.given, name))}")
    work.put(resample_volume(work.volume, work.pixel_size, box, pixel_size), pixel_size)
    work.did(f"Resampled to {box} voxels per edge of {pixel_size:.4g} Å, middle on middle")


def _filter(work: Work, settings: VolumeTools) -> None:
    kind, order = settings.filter_type, settings.filter_order
    shape = f"{kind} of order {order}" if kind == "butterworth" else kind
    for name, gain in (("low_pass", low_pass), ("high_pass", high_pass)):
        value = getattr(settings, name)
        if value is not None:
            edge, nyquist = work.box * work.pixel_size, 2 * work.pixel_size
            requirement = f"it must lie between Nyquist, {nyquist:.4g} Å, and the edge of the box, {edge:.4g} Å"
            work.need(0.999 * nyquist <= value <= edge, name, requirement)
            work.volume = gain(work.volume, work.pixel_size, value, kind, order)
            work.did(f"{name.replace('_', '-').capitalize()} at {value:g} Å, {shape}")


def _new_grid(work: Work, settings: VolumeTools) -> None:
    size, box = settings.new_pixel_size, settings.box_size
    if size is not None and abs(size / work.pixel_size - 1) > 1e-6:
        # the same edge, and odd boxes stay odd
        same = 2 * round((work.box * work.pixel_size / size - work.box % 2) / 2) + work.box % 2
        work.need(same >= 8, "new_pixel_size", f"it leaves {same} voxels per edge")
        _regrid(work, box or same, size, "box_size" if box else "new_pixel_size")
    elif box is not None and box != work.box:
        old = work.box
        require_room(box, work.volume.device, f"box_size={box}")
        work.put(placement.crop_or_pad(work.volume, box), work.pixel_size)
        work.did(f"{'Cropped' if box < old else 'Padded'} from {old} to {box} voxels per edge")


def _orient(work: Work, settings: VolumeTools) -> None:
    before = len(work.steps)
    if settings.flip_hand:
        work.volume = placement.flip_hand(work.volume)
        work.did("Flipped the hand: x, y and z to -x, -y and -z about the middle of the box")
    if settings.rotate is not None:
        angles = (
            torch.tensor(math.radians(angle), dtype=torch.float64) for angle in settings.rotate
        )
        work.volume = rotate_volume(work.volume, euler_to_matrix(*angles))
        work.did("Turned by rot {:g}, tilt {:g}, psi {:g} degrees".format(*settings.rotate))
    if settings.shift is not None:
        shift = [parse_length(value, work.pixel_size, "shift") for value in settings.shift]
        work.volume = placement.shift_volume(work.volume, torch.tensor(shift) / work.pixel_size)
        work.did("Moved by ({:.4g}, {:.4g}, {:.4g}) Å".format(*shift))
    group = symmetry_group(settings.symmetry)
    if len(group) > 1:
        work.volume = symmetrise_volume(work.volume, group)
        work.did(f"Averaged over the {len(group)} rotations of {settings.symmetry}")
    if settings.normalize:
        work.volume = placement.normalize(work.volume)
        work.did("Brought to mean 0 and standard deviation 1")
    if len(work.steps) > before:
        work.background = None  # it lies elsewhere now


def _outline(work: Work, settings: VolumeTools) -> None:
    """From density to a mask: threshold, segments, holes, pieces, growth, soft edge."""
    if settings.threshold is not None:
        work.region = _above(work, settings)
        _segment(work, settings)
    elif work.kind == "mask":
        work.mask = work.volume
        if not settings.outlines:
            return
        work.region = work.volume > HALF
        work.did(f"Outline of the mask where it passes {HALF:g}: {int(work.region.sum())} voxels")
    if work.region is None:
        for name in settings.outlines:
            _needs_mask(work, settings, name)
        return
    region = work.region
    if settings.fill_holes:
        region = morphology.fill_holes(region)
        work.did(f"Filled holes of {int(region.sum() - work.region.sum())} voxels")
    if settings.keep_largest:
        pieces = connected_components(region)
        region = pieces == 1
        work.did(f"Kept the largest of {int(pieces.max())} pieces")
    work.region = region
    work.mask = _grown(work, region, settings)


def _grown(work: Work, region: Tensor, settings: VolumeTools) -> Tensor:
    grow, edge = settings.dilate / work.pixel_size, settings.soften / work.pixel_size
    within_the_box(work, "dilate", max(grow, 0.0))
    within_the_box(work, "soften", edge)
    if grow:
        work.did(f"{'Grew' if grow > 0 else 'Shrank'} by {abs(grow):.4g} voxels")
    if grow < 0:
        region = morphology.dilate(region, grow)
        requirement = "nothing is left of the mask, shrink it less"
        work.need(bool(region.any()), "dilate", requirement)
    # growth and edge by one distance: the edge then follows the true outline, not its staircase
    near = max(grow, 0.0)
    if near + edge == 0:
        return region.float()
    mask, room = grow_in_box(region, near, near + edge)
    narrow = room < near + edge
    where = (
        f", narrower where the box ends {room * work.pixel_size:.3g} Å from it" if narrow else ""
    )
    if edge:
        work.did(f"Soft edge of {edge:.4g} voxels, {settings.soften:.4g} Å{where}")
    if room < CLOSE * (near + edge):
        work.warn(Finding("mask_near_border", distance=room * work.pixel_size))
    return mask


def _above(work: Work, settings: VolumeTools) -> Tensor:
    assert settings.threshold is not None  # without one there is no mask to make
    relative, high = settings.relative_threshold, float(high_percentile(work.volume))
    if work.kind == "mask":
        high = 1.0
    level = settings.threshold * high if relative else settings.threshold
    lowest, highest = float(work.volume.min()), float(work.volume.max())
    region = work.volume > level
    if not bool(region.any()):
        of = f", which is {level:.3g}," if relative else ""
        raise InputError(
            f"threshold={settings.threshold:g}{of} leaves an empty mask: the map's values go from {lowest:.3g} to "
            f"{highest:.3g}, 99.99% of them below {high:.3g}; lower it"
        )
    said = f"{settings.threshold:g} of the high density {high:.4g}" if relative else "a density"
    work.did(f"Threshold at {level:.4g} ({said}): {int(region.sum())} voxels")
    if bool(region.all()):
        raise InputError(
            f"threshold={settings.threshold:g} leaves no background: the map's values go from {lowest:.3g} to "
            f"{highest:.3g}; raise it"
        )
    return region


def _segment(work: Work, settings: VolumeTools) -> None:
    wanted = settings.segment
    if wanted.method == "none":
        return
    if wanted.method == "components":
        work.labels = connected_components(work.region)
    else:
        work.labels = watershed(work.volume, work.region, wanted.scale / work.pixel_size)
    work.segments = segment_table(work.labels, work.volume)
    chosen = _chosen(work, settings)
    voxel = work.pixel_size**3
    least = wanted.min_volume or 0.0
    work.kept = [n for n in chosen if work.segments[n - 1].voxels * voxel >= least]
    if not work.kept:
        most = max((work.segments[n - 1].voxels * voxel for n in chosen), default=0.0)
        raise InputError(
            f"segment.min_volume={least:g} leaves nothing: the largest segment chosen has {most:.4g} Å³, lower it"
        )
    work.region = select_segments(work.labels, work.kept)
    what = "connected pieces" if wanted.method == "components" else "segments of a watershed"
    work.did(f"Kept {len(work.kept)} of {len(work.segments)} {what}")


def _chosen(work: Work, settings: VolumeTools) -> list[int]:
    """Labels of the segments that were asked for by number or by a point in them; all where nothing was."""
    wanted = settings.segment
    if wanted.labels is None and wanted.points is None:
        return [segment.label for segment in work.segments]
    labels = [wanted.labels] if isinstance(wanted.labels, int) else list(wanted.labels or [])
    try:
        select_segments(work.labels, labels)
    except ValueError as error:
        raise InputError(f"segment.labels={shown(wanted.labels)} cannot be used: {error}") from None
    try:
        labels += labels_at(work.labels, in_voxels(work, rows(wanted.points)))
    except ValueError as error:
        raise misplaced(work, "segment.points", wanted.points, error) from None
    return sorted(set(labels))


def _combine(work: Work, settings: VolumeTools) -> None:
    for name, path in settings.others:
        _needs_mask(work, settings, name)
        other, found = load_mask(path, work.grid, name)
        work.mask = COMBINE[name](work.mask, other.to(work.mask.device))
        work.did(f"{name.capitalize()}: {path}")
        for finding in found:
            work.warn(finding)
        if not bool((work.mask > HALF).any()):
            raise InputError(
                f"{name}={path} leaves nothing of the mask: check that both lie in the same frame"
            )


def _needs_mask(work: Work, settings: VolumeTools, name: str) -> None:
    """Refuses a step on masks where there is none."""
    requirement = f"it works on masks and volume={settings.volume} is a {work.kind}, add threshold=0.3 for example"
    work.need(work.mask is not None, name, requirement)


def _finish(work: Work, settings: VolumeTools) -> None:
    requirement = "no mask is made, add threshold=0.3 for example"
    work.need(work.mask is not None or settings.write != "mask", "write", requirement)
    if work.mask is None:
        return
    inside = work.mask > HALF
    if bool(inside[1:-1, 1:-1, 1:-1].all()):  # a grown one ends on the faces
        raise InputError(
            "The mask fills the whole box after all steps: raise threshold, or make dilate smaller"
        )
    if not bool(inside.any()):
        raise InputError(
            "The mask is empty after all steps: lower threshold, or leave invert or dilate out"
        )
