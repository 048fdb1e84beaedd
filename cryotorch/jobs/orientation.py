"""What half maps and views say about directions: conical FSC, sampling, scores, and how to read them together."""

from __future__ import annotations

import json
import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from tqdm import tqdm

from cryotorch.data.particle_file import read_particles
from cryotorch.errors import InputError
from cryotorch.jobs import fsc_mask
from cryotorch.jobs.fsc_advice import (
    CAUSES,
    FRAME,
    SAME_MAP,
    disagreement,
    nothing_shared,
    same_map,
)
from cryotorch.jobs.fsc_mask import FscMask
from cryotorch.jobs.half_map_advice import frame_advice, masked_advice
from cryotorch.jobs.maps import HalfMaps, symmetry_group
from cryotorch.jobs.sharpening import find_mask
from cryotorch.ops import conical_fsc as cones
from cryotorch.ops.fsc import crossing_shell, resolution, shell_correlation
from cryotorch.ops.rotations import fibonacci_directions
from cryotorch.ops.sampling import Sampling, sampling_compensation, slices_per_point
from cryotorch.refine.half_sets import counted_over

if TYPE_CHECKING:
    from cryotorch.jobs.orientation_diagnostics import OrientationDiagnostics

log = logging.getLogger("cryotorch")
EVEN_CFAR, EVEN_SCF = (
    0.5,
    0.81,
)  # scores below point at anisotropy; 0.81 = 8 / pi^2 is that of side views
SCARCE = 20.0  # slices per point below which chance changes SCF* by more than 5 %
# cFAR and SCF* each good or not -> what that means.
READINGS = {
    (
        True,
        True,
    ): "No orientation bias: the map is resolved and Fourier space sampled alike in all directions.",
    (
        False,
        True,
    ): "The resolution depends on the direction although the views are spread evenly: junk, damaged or wrongly "
    "aligned particles are likely. Classify the particles, then refine again.",
    (
        False,
        False,
    ): "The resolution depends on the direction and Fourier space is sampled unevenly: preferred orientation, "
    "junk particles, or both. Look at the viewing directions; more or tilted views, or other grids, would help.",
    (
        True,
        False,
    ): "Inconclusive: Fourier space is sampled unevenly, but the half maps do not show it. Doubt the poses, or "
    "check that these particles made these half maps.",
    (
        True,
        None,
    ): "The map is resolved alike in all directions. With particles=<STAR or .cs> the sampling can be judged too.",
    (
        False,
        None,
    ): "The resolution depends on the direction. Give particles=<STAR or .cs> to tell preferred orientation "
    "from junk particles.",
}


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
        directions: (n, 3), one of each pair +-u; curves: (n, d//2 + 1); resolutions: (n,) Å.
        empty: (n,) bool, where the masked half maps hold next to no power.
        fsc: (d//2 + 1,) of all directions, with the mask.
        cfar: None where the half maps allow no score.
        views, slices (n,), sampling: None without particles; counted: how many particles were counted.
        reading: what the scores say; warnings: sentences; seconds: phase -> wall seconds.
    """

    mask: FscMask
    mask_file: str | None
    directions: Tensor
    curves: Tensor
    resolutions: Tensor
    empty: Tensor
    fsc: Tensor
    cfar: float | None
    views: Views | None
    slices: Tensor | None
    sampling: Sampling | None
    counted: int
    reading: str
    warnings: list[str]
    seconds: dict[str, float]


def load_views(settings: OrientationDiagnostics) -> Views | None:
    """The particles named, or those of the run folder; None where there are none.

    Raises:
        InputError: the file has no orientations, or the symmetry no meaning.
    """
    folder = None if settings.volume is None else Path(settings.volume)
    names = [] if folder is None else [folder / "particles.star", folder / "particles.cs"]
    path = settings.particles or next((path for path in names if path.is_file()), None)
    symmetry = settings.symmetry or _run_symmetry(folder) or "C1"
    group = symmetry_group(symmetry)
    if path is None:
        return None
    file = read_particles(path, need_images=False, need_half_sets=False)
    for message in file.messages:
        log.info(message)
    particles = file.particles
    if not particles.has_pose:
        raise InputError(
            f"particles={path} has no orientations (rlnAngleRot and the others): give the particles of a refinement"
        )
    log.info("%d particles with poses of %s, symmetry %s", len(particles), path, symmetry)
    for sentence in counted_over(particles, group, symmetry):
        log.info(sentence)
    error = particles.pose_sigma[:, 0].rad2deg()
    return Views(Path(path), particles.rotation[:, 2], error, group, symmetry.upper())


def _run_symmetry(folder: Path | None) -> str | None:
    """The symmetry that the summary of a run names."""
    if folder is None:
        return None
    try:
        named = json.loads((folder / "summary.json").read_text(encoding="utf-8")).get("symmetry")
    except (OSError, ValueError, AttributeError):
        return None
    return named if isinstance(named, str) else None


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
        made, mask_file = fsc_mask.sphere_mask(maps[0]), None  # there is no density to mask
    else:
        bare = resolution(no_mask, box, pixel_size)
        made, mask_file = find_mask(settings, halves, maps.mean(0), bare)
    log.info("Mask: %s", made)
    masked = maps * made.mask
    fsc = shell_correlation(*masked)
    ready = time.perf_counter()
    directions = fibonacci_directions(settings.n_directions)[: settings.n_directions // 2]
    with tqdm(total=cones.coefficients(box), desc="cones", unit_scale=True, disable=None) as bar:
        angle = math.radians(settings.cone_angle)
        held = cones.conical_fsc(*masked, directions, angle, bar.update)
    curves, resolutions = held.curves.cpu(), cones.directional_resolution(held.curves.cpu(), edge)
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
        sampling = sampling_compensation(slices)
    refusal, warnings = _advice(maps, no_mask, fsc, made, pixel_size)
    ratio = cones.area_ratio(curves)
    cfar = None if refusal or math.isnan(ratio) else ratio
    warnings += [] if refusal else _empty(empty)
    warnings += _scarce(sampling, counted)
    return Diagnosis(
        *(made, mask_file, directions, curves, resolutions, empty),
        *(fsc.cpu(), cfar, views, slices, sampling, counted),
        _reading(cfar, sampling),
        warnings,
        {"mask": ready - start, "cones": done - ready, "sampling": time.perf_counter() - done},
    )


def _some(direction: Tensor, most: int, seed: int) -> Tensor:
    if len(direction) <= most:
        return direction
    draw = torch.Generator().manual_seed(seed)
    return direction[torch.randperm(len(direction), generator=draw)[:most]]


def _advice(
    maps: Tensor, no_mask: Tensor, fsc: Tensor, made: FscMask, pixel_size: float
) -> tuple[bool, list[str]]:
    """Whether half maps (2, d, d, d) allow no score, and what there is to say about them."""
    if same_map(no_mask):
        return True, [SAME_MAP]
    masked = masked_advice(maps)
    if masked:
        return False, masked
    wrong = disagreement({"no_mask": no_mask, "corrected": fsc}, len(maps[0]) * pixel_size)
    frame = frame_advice(maps, pixel_size)
    if wrong or frame:
        return True, [*made.warnings, f"{wrong or FRAME}: {frame or CAUSES}"]
    return False, list(made.warnings)


def _empty(empty: Tensor) -> list[str]:
    if not empty.any():
        return []
    return [
        f"In {float(empty.double().mean()):.1%} of the directions (grey dots in the map) the half maps hold less than "
        f"{cones.EMPTY:.0%} of the mean power, as where no particle was seen from the side that shows them: their FSC is what "
        "the mask smears in from other directions, alike in both, and the map is worse there than any of the curves says"
    ]


def _scarce(sampling: Sampling | None, counted: int) -> list[str]:
    if sampling is None or sampling.mean >= SCARCE:
        return []
    return [
        f"{counted} particles make {sampling.mean:.1f} slices per point only, so that chance changes SCF*: compare it with that "
        "of as many particles, or take a smaller sampling_radius"
    ]


def _reading(cfar: float | None, sampling: Sampling | None) -> str:
    if cfar is None:
        return "No score: the half maps do not share enough to compare directions."
    even = None if sampling is None else sampling.scf_star >= EVEN_SCF
    return READINGS[cfar >= EVEN_CFAR, even]
