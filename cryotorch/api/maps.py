"""What maps hold: FSC, sharpening, anisotropy, masks."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cryotorch.api.calls import checked
from cryotorch.api.inputs import (
    HalvesLike,
    MapLike,
    ParticlesLike,
    Saved,
    WithHalfMaps,
    files_of,
    is_map,
    length,
    path_of,
    saver,
    settings_of,
)
from cryotorch.errors import InputError
from cryotorch.jobs.config.parse import in_angstrom, require
from cryotorch.report.sentences import said, say

if TYPE_CHECKING:
    from cryotorch.jobs.fsc.validate import Validation
    from cryotorch.jobs.inputs.half_maps import HalfMaps
    from cryotorch.jobs.orientation.diagnose import Diagnosis
    from cryotorch.jobs.resolution_map.measure import LocalResult
    from cryotorch.jobs.sharpening.sharpen_maps import Sharpened

OTHER_MAPS = {
    "like",
    "fit",
    "unite",
    "intersect",
    "subtract",
}  # parameters of volume_tools that name one


@dataclass(frozen=True, eq=False)
class FscResult(Saved):
    """What two half maps agree on; ``found`` holds masks and numbers.

    Attributes:
        resolution: Å that may be claimed, NaN where nothing can be.
        curves: name -> (d // 2 + 1,) FSC per shell; band: the same, what noise in the mask stays below.
        mask: (d, d, d) behind the tight and the corrected curve.
        warnings: what is wrong with half maps, mask and curves, and what to do about it.
    """

    resolution: float
    curves: dict[str, Tensor]
    band: Tensor
    mask: Tensor
    warnings: list[str]
    found: Validation


@checked
def fsc(
    half_map_a: HalvesLike,
    half_map_b: MapLike | None = None,
    pixel_size: float | None = None,
    mask: MapLike | None = None,
    **settings: Any,
) -> FscResult:
    """Fourier shell correlation of two half maps and the resolution that they support: ``job=validation_fsc``.

    What half maps were made with in common is no resolution. A result of ``refine`` or ``reconstruct``, or its folder, in the place of both
    half maps knows it; of others, give ``symmetry``, and ``shared_resolution`` in Å up to which both were aligned to one reference.

    Raises:
        InputError: a parameter or a map cannot be used, or the density makes no mask.
    """
    from cryotorch.jobs import validation_fsc as job
    from cryotorch.jobs.fsc.results import write, write_summary
    from cryotorch.jobs.fsc.validate import validate

    given, halves, found = _of_half_maps(
        "validation_fsc",
        (half_map_a, half_map_b, mask),
        pixel_size,
        settings,
        validate,
    )

    def write_all(given: Any, folder: Path) -> None:
        write(folder, found, halves, relabelled=True)
        write_summary(folder, found, halves, given, {"seed": given.seed})

    parts = found.resolution, found.curves, found.band, found.mask.mask.cpu(), said(found.warnings)
    return FscResult(*parts, found, _save=saver(given, job.FILES, write_all))


@dataclass(frozen=True, eq=False)
class SharpenResult(Saved):
    """Sharpened maps; ``found`` holds the fit, mask and curves.

    Attributes:
        map: (d, d, d), sharpened with the first of the B-factors; bfactor: Å², that one; maps: B-factor -> (d, d, d), all of them.
        resolution: Å that may be claimed, NaN where nothing can be; local: (d, d, d) Å, the local resolution, 0 outside the mask, or None.
        warnings: what to look at.
    """

    map: Tensor
    bfactor: float
    maps: dict[float, Tensor]
    resolution: float
    local: Tensor | None
    warnings: list[str]
    found: Sharpened


@checked
def sharpen(
    half_map_a: HalvesLike,
    half_map_b: MapLike | None = None,
    pixel_size: float | None = None,
    mask: MapLike | None = None,
    **settings: Any,
) -> SharpenResult:
    """A sharpened map from two half maps: ``job=sharpen``; errors as for ``fsc``."""
    from cryotorch.jobs import sharpen as job
    from cryotorch.jobs.sharpening.results import write, write_summary
    from cryotorch.jobs.sharpening.sharpen_maps import sharpen_half_maps

    given, halves, found = _of_half_maps(
        "sharpen", (half_map_a, half_map_b, mask), pixel_size, settings, sharpen_half_maps
    )

    def write_all(given: Any, folder: Path) -> None:
        write(folder, found, halves, given.guinier_map)
        write_summary(folder, given, found, halves, {})

    bfactor, volume = next(iter(found.maps.items()))
    local = None if found.local is None else found.local.resolution
    parts = volume, bfactor, found.maps, found.resolution, local, said(found.warnings)
    return SharpenResult(*parts, found, _save=saver(given, job.FILES, write_all))


@dataclass(frozen=True, eq=False)
class LocalResolutionResult(Saved):
    """The resolution around each voxel; ``found`` holds mask, curves and the parts of the mask that are at an end of the scale.

    Attributes:
        local: (d, d, d) Å, 0 where nothing is said, as outside the mask; filtered: (d, d, d) the map, low-passed by it.
        resolution: Å that may be claimed of the whole, the finest value anywhere; median: Å within the mask, NaN without any value.
        warnings: what to look at.
    """

    local: Tensor
    filtered: Tensor
    resolution: float
    median: float
    warnings: list[str]
    found: LocalResult


@checked
def local_resolution(
    half_map_a: HalvesLike,
    half_map_b: MapLike | None = None,
    pixel_size: float | None = None,
    mask: MapLike | None = None,
    **settings: Any,
) -> LocalResolutionResult:
    """The resolution around each voxel of two half maps, and a map low-passed by it: ``job=local_resolution``.

    ``map`` is the one to filter, as a file or in memory; without it the mean of the half maps, or the sharpened map of a run folder.

    Raises:
        InputError: as for ``fsc``, and where no resolution can be claimed.
    """
    from cryotorch.jobs import local_resolution as job
    from cryotorch.jobs.resolution_map.measure import local_result
    from cryotorch.jobs.resolution_map.results import write, write_summary

    given, halves, found = _of_half_maps(
        "local_resolution", (half_map_a, half_map_b, mask), pixel_size, settings, local_result
    )

    def write_all(given: Any, folder: Path) -> None:
        write(folder, found, halves, given)
        write_summary(folder, given, found, halves, {})

    local = found.local
    parts = local.resolution, found.filtered, found.claim.resolution, local.percentiles["50"]
    save = saver(given, job.FILES, write_all)
    return LocalResolutionResult(*parts, said(found.warnings), found, _save=save)


@dataclass(frozen=True, eq=False)
class OrientationResult(Saved):
    """How a map's resolution depends on the direction; ``found`` holds all of it.

    Attributes:
        directions: (n, 3) unit vectors, one of each pair; resolutions: (n,) Å, NaN where a curve never leaves the noise.
        cfar: conical FSC area ratio, 1 for a map resolved alike everywhere; None where the half maps allow no score.
        scf_star: sampling compensation factor of the views; None without particles.
        reading: what the scores say; warnings: what to look at.
    """

    directions: Tensor
    resolutions: Tensor
    cfar: float | None
    scf_star: float | None
    reading: str
    warnings: list[str]
    found: Diagnosis


@checked
def diagnose_orientations(
    half_map_a: HalvesLike,
    half_map_b: MapLike | None = None,
    pixel_size: float | None = None,
    particles: ParticlesLike | None = None,
    mask: MapLike | None = None,
    **settings: Any,
) -> OrientationResult:
    """Conical FSC of two half maps, and how the particles' views sample Fourier space: ``job=orientation_diagnostics``; errors as for ``fsc``."""
    from cryotorch.jobs import orientation_diagnostics as job
    from cryotorch.jobs.orientation.diagnose import diagnose, load_views
    from cryotorch.jobs.orientation.results import write, write_summary

    settings["particles"] = None if particles is None else path_of(particles)
    given, halves, found = _of_half_maps(
        "orientation_diagnostics",
        (half_map_a, half_map_b, mask),
        pixel_size,
        settings,
        lambda s, halves, device: diagnose(s, halves, load_views(s), device),
    )

    def write_all(given: Any, folder: Path) -> None:
        write(folder, found, halves, given)
        write_summary(folder, found, halves, given, {"seed": given.seed})

    scf_star = None if found.sampling is None else found.sampling.scf_star
    parts = (
        found.directions,
        found.resolutions,
        found.cfar,
        scf_star,
        say(found.reading),
        said(found.warnings),
    )
    return OrientationResult(*parts, found, _save=saver(given, job.FILES, write_all))


@checked
def make_mask(
    volume: MapLike, pixel_size: float | None = None, threshold: float = 0.2, **settings: Any
) -> Tensor:
    """A mask (d, d, d) from 0 to 1 around the density of a map: ``job=volume_tools``.

    Args:
        threshold: fraction of the density's 99.99th percentile, or a density with ``relative_threshold=False``.
        settings: ``low_pass``, ``keep_largest``, ``fill_holes``, ``dilate``, ``soften`` and the others of that job.

    Raises:
        InputError: a parameter or the map cannot be used, or nothing lies above the threshold.
    """
    from cryotorch.jobs.inputs.device import pick_device
    from cryotorch.jobs.volume.fit import load
    from cryotorch.jobs.volume.steps import edit

    settings = {"relative_threshold": True} | settings | {"threshold": threshold}
    with files_of(pixel_size) as named:
        named_volume = named("volume", volume)
        size = None if named.made else named.pixel_size
        for name in settings.keys() & OTHER_MAPS:
            if is_map(settings[name]):
                settings[name] = named(name, settings[name])
        given = settings_of("volume_tools", settings | {"volume": named_volume, "pixel_size": size})
        require(given.volume is not None, "volume", None, "give a map to make a mask of")
        work = edit(load(given, pick_device(given.device)), given)
    if work.mask is None:
        raise InputError("threshold=None makes no mask: give a threshold")
    return work.mask.cpu()


def _of_half_maps(
    job: str,
    maps: tuple[HalvesLike, MapLike | None, MapLike | None],
    pixel_size: float | None,
    settings: dict[str, Any],
    work: Callable[[Any, HalfMaps, torch.device], Any],
) -> tuple[Any, HalfMaps, Any]:
    """Settings to be saved, half maps and what ``work`` finds in them."""
    from cryotorch.jobs.inputs.device import pick_device
    from cryotorch.jobs.inputs.half_maps import load_half_maps

    a, b, mask = maps
    if "volume" in settings:
        raise InputError("volume cannot be used here: give the folder in the place of half_map_a")
    shared = length("shared_resolution", settings.pop("shared_resolution", None))
    known, folder = None, None
    if isinstance(a, WithHalfMaps):
        if b is not None:
            raise InputError("half_map_b cannot be used: half_map_a is a result that has both")
        a, b, known = a.halves
    elif b is None and isinstance(a, str | os.PathLike) and Path(a).is_dir():
        a, folder = None, str(a)
    with files_of(pixel_size) as named:
        paths = {"half_map_a": named("half_map_a", a), "half_map_b": named("half_map_b", b)}
        paths |= {"mask": named("mask", mask), "volume": folder}
        paths |= {name: named(name, value) for name, value in settings.items() if is_map(value)}
        size = named.pixel_size
        given = settings_of(job, settings | paths | {"pixel_size": size})
        device = pick_device(given.device)
        halves = load_half_maps(folder, given.half_map_a, given.half_map_b, size, given.symmetry)
        known = halves.known if known is None else known
        if shared is not None:
            edge = halves.maps.shape[-1] * halves.pixel_size
            known = known._replace(shared=max(known.shared, edge / shared))
        halves = replace(halves, known=known)
        found = work(in_angstrom(given, halves.pixel_size), halves, device)
    if named.made:
        halves = replace(halves, paths=None)
    found = replace(found, warnings=named.in_findings(found.warnings))
    return named.forget(given), halves, found
