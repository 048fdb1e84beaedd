"""What half maps and views say about directions: conical FSC, sampling, scores, and how to read them together."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from tqdm import tqdm

from cryotorch.errors import InputError
from cryotorch.findings import Finding, remark
from cryotorch.jobs.config.parse import require
from cryotorch.jobs.files.manifest import summary_of
from cryotorch.jobs.fsc.advice import advice, nothing_shared
from cryotorch.jobs.fsc.half_map_advice import masked_advice
from cryotorch.jobs.fsc.mask import FscMask, find_mask, sphere_mask
from cryotorch.jobs.inputs.half_maps import HalfMaps
from cryotorch.jobs.inputs.particles import load_particles
from cryotorch.jobs.inputs.source_run import doubts
from cryotorch.jobs.inputs.symmetry import symmetry_group
from cryotorch.ops.geometry.rotations import fibonacci_directions
from cryotorch.ops.resolution import conical_fsc as cones
from cryotorch.ops.resolution.claims import judge
from cryotorch.ops.resolution.fsc import crossing_shell, resolution, shell_correlation
from cryotorch.ops.resolution.sampling import Sampling, sampling_compensation, slices_per_point
from cryotorch.ops.resolution.significance import independent_numbers, noise_profile
from cryotorch.refinement.half_sets import counted_over
from cryotorch.report.sentences import line

if TYPE_CHECKING:
    from cryotorch.jobs.orientation.settings import OrientationDiagnostics

log = logging.getLogger("cryotorch")
EVEN_CFAR, EVEN_SCF = (
    0.5,
    0.81,
)  # scores below point at anisotropy; 0.81 = 8 / pi^2 is that of side views
ALIKE_CFAR = (
    0.8  # below, directions differ by more than chance makes of a map that is resolved alike
)
SCARCE = 20.0  # slices per point below which chance changes SCF* by more than 5 %


@dataclass(frozen=True)
class Views:
    """Where the particles were seen from.

    Attributes:
        path: of the file; direction: (n, 3) unit vectors in the reference frame; error: (n,) degrees, 0 = not known.
        group: (g, 3, 3) rotations; symmetry: their name.
    """

    path: Path
    direction: Tensor
    error: Tensor
    group: Tensor
    symmetry: str


@dataclass(frozen=True)
class Diagnosis:
    """What was found.

    Attributes:
        mask: behind all curves; mask_file: where it was read, or None.
        directions: (n, 3), one of each pair +-u; curves: (n, d//2 + 1); band: the same, what noise in a cone stays below.
        resolutions: (n,) Å, NaN where a curve never leaves the noise, and of all where nothing can be claimed.
        empty: (n,) bool, where the masked half maps hold next to no power.
        fsc: (d//2 + 1,) of all directions, with the mask and not corrected for it, as ``curves`` are; together: Å that it reaches, ended
            as those of directions are, NaN where it never leaves the noise.
        resolution: Å that may be claimed by the corrected one, as job=validation_fsc says, else NaN; ended_by: what ends that, or "".
        cfar: None where the half maps allow no score.
        views, slices (n,), sampling: None without particles; counted: how many particles were counted.
        reading: what the scores say; warnings: what is wrong; seconds: phase -> wall seconds.
    """

    mask: FscMask
    mask_file: str | None
    directions: Tensor
    curves: Tensor
    band: Tensor
    resolutions: Tensor
    empty: Tensor
    fsc: Tensor
    together: float
    resolution: float
    ended_by: str
    cfar: float | None
    views: Views | None
    slices: Tensor | None
    sampling: Sampling | None
    counted: int
    reading: Finding
    warnings: list[Finding]
    seconds: dict[str, float]

    @property
    def claims(self) -> bool:
        """Whether a resolution can be claimed, of the whole and so of any direction."""
        return math.isfinite(self.resolution)


def load_views(settings: OrientationDiagnostics) -> Views | None:
    """The particles named, or those of the run folder; None where there are none.

    Raises:
        InputError: the file has no orientations, or the symmetry no meaning.
    """
    folder = None if settings.volume is None else Path(settings.volume)
    names = [] if folder is None else [folder / "particles.star", folder / "particles.cs"]
    path = settings.particles or next((path for path in names if path.is_file()), None)
    symmetry = settings.symmetry or summary_of(folder).get("symmetry") or "C1"
    group = symmetry_group(symmetry)
    if path is None:
        return None
    file = load_particles(path, settings.class_, need_images=False, need_half_sets=False)
    particles = file.particles
    if not particles.has_pose:
        raise InputError(
            f"particles={path} has no orientations (rlnAngleRot and the others): give the particles of a refinement"
        )
    log.info("%d particles with poses of %s, symmetry %s", len(particles), path, symmetry)
    for finding in counted_over(particles, group, symmetry):
        log.info(line(finding))
    error = particles.pose_sigma[:, 0].rad2deg()
    return Views(Path(path), particles.rotation[:, 2], error, group, symmetry.upper())


def diagnose(
    settings: OrientationDiagnostics, halves: HalfMaps, views: Views | None, device: torch.device
) -> Diagnosis:
    """Mask, curves, sampling and scores; lengths in ``settings`` in Å.

    Raises:
        InputError: the mask cannot be used, or the density makes none.
    """
    start = time.perf_counter()
    maps, pixel_size = halves.maps.to(device), halves.pixel_size
    box, edge = maps.shape[-1], maps.shape[-1] * pixel_size
    no_mask = shell_correlation(*maps)
    if nothing_shared(no_mask) and settings.mask is None:
        made, mask_file = sphere_mask(maps[0]), None  # there is no density to mask
    else:
        bare = resolution(no_mask, box, pixel_size)
        shape = settings.threshold, settings.mask_near, settings.mask_far
        trusted = settings.pixel_size is not None
        made, mask_file = find_mask(halves, maps.mean(0), bare, settings.mask, trusted, shape)
    log.info("Mask: %s", made)
    masked = maps * made.mask
    judged = judge(maps, pixel_size, made.mask, None, halves.known, no_mask=no_mask)
    fsc = judged.curves["tight"]
    ready = time.perf_counter()
    directions = fibonacci_directions(settings.n_directions)[: settings.n_directions // 2]
    with tqdm(total=cones.coefficients(box), desc="cones", unit_scale=True, disable=None) as bar:
        angle = math.radians(settings.cone_angle)
        held = cones.conical_fsc(masked[0], masked[1], directions, angle, bar.update)
    curves = held.curves.cpu()
    numbers = independent_numbers(made.mask, None, noise_profile(maps))
    band = cones.cone_band(numbers, directions, angle, halves.known.group)
    resolutions = cones.directional_resolution(curves, edge, band)
    together = cones.directional_resolution(fsc[None].cpu(), edge, judged.band.cpu()[None])
    empty = cones.empty_directions(held.power.cpu(), int(crossing_shell(fsc)))
    done = time.perf_counter()
    slices = sampling = None
    counted = 0
    if views is not None:
        chosen = _some(views.direction, settings.max_particles, settings.seed)
        counted, copies = len(chosen), len(views.group)
        with tqdm(total=counted * copies, desc="sampling", unit=" views", disable=None) as bar:
            slices = slices_per_point(
                directions, chosen, settings.sampling_radius, views.group, bar.update
            )
        requirement = f"no slice of the {counted} particles passes any of the directions there, take a smaller one"
        require(bool(slices.any()), "sampling_radius", settings.sampling_radius, requirement)
        sampling = sampling_compensation(slices)
    seen = doubts(views.path) if views is not None else ()
    known = halves.known._replace(earlier=tuple(dict.fromkeys([*halves.known.earlier, *seen])))
    said = advice(maps, judged, made, pixel_size, known)
    masked_before = bool(masked_advice(maps))  # directions can be compared all the same
    refusal = not said.claims and not masked_before
    warnings = list(said.warnings)  # the mask that flatters the whole shells flatters the cones too
    ratio = cones.area_ratio(curves, cones.limits(band))
    cfar = None if refusal or math.isnan(ratio) else ratio
    warnings += [] if refusal else _empty(empty)
    warnings += _scarce(sampling, counted)
    return Diagnosis(
        made,
        mask_file,
        directions,
        curves,
        band,
        resolutions if said.claims else torch.full_like(resolutions, math.nan),
        empty,
        fsc.cpu(),
        float(together) if said.claims else math.nan,
        judged.resolution if said.claims else math.nan,
        judged.ended_by if said.claims else "",
        cfar,
        views,
        slices,
        sampling,
        counted,
        _reading(cfar, sampling),
        warnings,
        {"mask": ready - start, "cones": done - ready, "sampling": time.perf_counter() - done},
    )


def _some(direction: Tensor, most: int, seed: int) -> Tensor:
    if len(direction) <= most:
        return direction
    draw = torch.Generator().manual_seed(seed)
    return direction[torch.randperm(len(direction), generator=draw)[:most]]


def _empty(empty: Tensor) -> list[Finding]:
    if not empty.any():
        return []
    share = float(empty.double().mean())
    return [Finding("empty_directions", share=share, level=cones.EMPTY_POWER)]


def _scarce(sampling: Sampling | None, counted: int) -> list[Finding]:
    if sampling is None or sampling.mean >= SCARCE:
        return []
    return [Finding("few_slices", particles=counted, slices=float(sampling.mean))]


def _reading(cfar: float | None, sampling: Sampling | None) -> Finding:
    if cfar is None:
        return remark("directions_untold")
    even = None if sampling is None else sampling.scf_star >= EVEN_SCF
    alike, resolved = cfar >= ALIKE_CFAR, cfar >= EVEN_CFAR
    return remark("directions", cfar=cfar, resolved=resolved, alike=alike, sampled=even)
