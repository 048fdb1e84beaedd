"""What a reconstruction's sums become: half maps, their FSC, the filtered and the sharpened map, and the files."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from cryotorch.data.mrc import write_volume
from cryotorch.errors import InputError
from cryotorch.findings import Finding, remark
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.fsc import results
from cryotorch.jobs.fsc.advice import SHARED_FSC
from cryotorch.jobs.fsc.mask import INVERTED, MASK_LOW_PASS
from cryotorch.jobs.fsc.settings import ValidationFsc
from cryotorch.jobs.fsc.validate import Validation, validate
from cryotorch.jobs.inputs.half_maps import HalfMaps
from cryotorch.jobs.inputs.maps import looks_inverted
from cryotorch.jobs.inputs.source_run import doubts
from cryotorch.jobs.inputs.symmetry import symmetry_group
from cryotorch.ops.fourier.reconstruct import Sums, solve, solve_lightly
from cryotorch.ops.resolution.claims import Background
from cryotorch.ops.resolution.fsc import resolution, shell_correlation
from cryotorch.ops.resolution.local_wiener import local_wiener, signal_share
from cryotorch.ops.resolution.shared_density import holding_mask
from cryotorch.ops.resolution.sharpening import sharpened
from cryotorch.particles import Particles
from cryotorch.report.curves import guinier_figure
from cryotorch.report.figures import write_pictures
from cryotorch.report.job_tensorboard import write_tensorboard
from cryotorch.report.maps import central_slices, image_figure, projections, sharp_name
from cryotorch.report.poses import viewing_figure
from cryotorch.report.sentences import line, say
from cryotorch.report.sphere import viewing_directions
from cryotorch.report.style import render
from cryotorch.results import Guinier, told

if TYPE_CHECKING:
    from cryotorch.jobs.reconstruction.settings import Reconstruct

log = logging.getLogger("cryotorch")
# Of density compensation. Measured on 400 images of 128 px: from 4 on maps agree with relion_reconstruct to an FSC above
# 0.98 up to 0.9 Nyquist (a division: 0.73); more of them only add noise.
ROUNDS = 4


@dataclass(frozen=True)
class Found:
    """Maps (d, d, d) on the CPU and what is known of them.

    Attributes:
        halves: the half maps, unfiltered; judged: their FSC, with the settings it was made with.
        map: of all particles, filtered by the FSC; sharp: sharpened; guinier: the fit and what was applied.
    """

    halves: HalfMaps
    judged: Validation
    judge: ValidationFsc
    map: Tensor
    sharp: Tensor
    guinier: Guinier


def judge(
    settings: Reconstruct,
    sums: list[Sums],
    pixel_size: float,
    device: torch.device,
    shared: float | None = None,
    warnings: Sequence[Finding] = (),
) -> Found:
    """Half maps from the sums of both half sets, judged as job=validation_fsc does, and the maps that follow from it.

    Args:
        sums: of both half sets; afterwards the list is empty, for the memory.
        shared: Å up to which the half sets were aligned to one map, None = presumably not at all.
        warnings: what was said before, to stand with the others.
    """
    maps = [solve_lightly(half, rounds=ROUNDS) for half in sums]
    merged = sums.pop(0)
    merged += sums.pop(0)
    known = Background(symmetry_group(settings.symmetry), symmetry=settings.symmetry.upper())
    known = known._replace(earlier=tuple(doubts(settings.particles)))
    if shared is not None:
        known = known._replace(shared=len(maps[0]) * pixel_size / shared)
    halves = HalfMaps(torch.stack(maps), pixel_size, known=known)
    chosen = make_settings("validation_fsc", mask=settings.mask, seed=settings.seed)
    no_mask = shell_correlation(*halves.maps)
    if chosen.mask is None:
        chosen = replace(chosen, threshold=mask_threshold(chosen, halves, no_mask))
    judged = _judged(chosen, halves, device, no_mask)
    for row in results.table(judged):
        log.info(row)
    other = "invert=false" if settings.invert else "invert=true"
    contrast = Finding("map_inverted", cure=other)
    own = [contrast if w == INVERTED else w for w in judged.warnings]
    judged = replace(judged, warnings=[*warnings, *own])
    for warning in judged.warnings:
        log.info(line(warning))
    curve = judged.curves["corrected" if judged.claims else "no_mask"].to(device)
    if not settings.regularize:
        full = solve(merged, torch.zeros_like(curve), rounds=ROUNDS)
    else:
        full = solve_lightly(merged, rounds=ROUNDS)
        inside = judged.mask.mask if judged.claims else torch.ones_like(full)
        share = signal_share(halves.maps, pixel_size, curve, inside.to(full))
        full = local_wiener(full, curve, share, n_halves=2)
    reached = len(full) * pixel_size / judged.last
    about = judged.mask.mask, curve, reached, settings.bfactor
    sharp, fit = sharpened(halves.maps, pixel_size, *about, claims=judged.claims)
    if settings.bfactor is None and fit.bfactor is None:
        log.info(say(remark("map_not_sharpened", reason=fit.reason)))
    halves = replace(halves, maps=halves.maps.cpu())
    return Found(halves, judged, chosen, full.cpu(), sharp.cpu(), fit.cpu())


def _judged(
    chosen: ValidationFsc, halves: HalfMaps, device: torch.device, no_mask: Tensor
) -> Validation:
    try:
        return validate(chosen, halves, device, adjustable=False, no_mask=no_mask)
    except InputError as refused:
        if chosen.mask is not None:
            raise
        log.info(line(Finding("no_mask_made", reason=str(refused))))
        chosen = replace(chosen, generate_mask=False)
        return validate(chosen, halves, device, adjustable=False, no_mask=no_mask)


def mask_threshold(chosen: ValidationFsc, halves: HalfMaps, no_mask: Tensor) -> float:
    """The highest threshold whose mask holds what both half maps share; the usual one where none does.

    Parts of a particle that are thin or apart are lost at the usual threshold, which nobody can lower here. ``no_mask``: (d // 2 + 1,) their FSC
    without a mask.
    """
    maps, pixel_size = halves.maps, halves.pixel_size
    coarse = resolution(no_mask, maps.shape[-1], pixel_size, SHARED_FSC)
    if looks_inverted(maps.mean(0)):
        return chosen.threshold
    lengths = chosen.mask_near, chosen.mask_far, MASK_LOW_PASS
    try:
        return holding_mask(maps, pixel_size, coarse, *lengths)[1]
    except ValueError:
        return chosen.threshold


def write(
    folder: Path,
    out: Path,
    found: Found,
    particles: Particles,
    group: Tensor,
    extras: Mapping[str, object],
) -> None:
    """Maps, curves, figures and the summary into ``folder``; ``out`` is where they will be."""
    halves, pixel_size = found.halves, found.halves.pixel_size
    names = ("map_half_A.mrc", "map_half_B.mrc")
    volumes = dict(zip(names, halves.maps, strict=True))
    volumes |= {"map.mrc": found.map, "map_sharp.mrc": found.sharp}
    for name, volume in volumes.items():
        write_volume(folder / name, volume, pixel_size)
    here, there = (
        replace(halves, paths=tuple(at / name for name in names)) for at in (folder, out)
    )
    results.write(folder, found.judged, here, relabelled=False)
    rows = {
        "Map, slices": central_slices(found.map),
        sharp_name(found.guinier.applied): central_slices(found.sharp),
        "Map, projections": projections(found.map),
    }
    box = found.map.shape[-1]
    title = f"The map, {told(found.judged.resolution)}"
    subtitle = f"{len(particles):,} particles, {box} px of {pixel_size:.4g} Å"
    direction = viewing_directions(particles.rotation.numpy())
    error = np.degrees(particles.pose_sigma[:, 0].numpy())
    figures = {
        "slices": image_figure(rows, box * pixel_size, title, subtitle),
        "guinier": guinier_figure(found.guinier),
        "orientations": viewing_figure(direction, error, group.numpy()),
    }
    pictures = {name: render(figure) for name, figure in figures.items()}
    write_pictures(pictures, folder)
    write_tensorboard(folder / "tensorboard", {}, pictures, {})
    about = {
        "bfactor": found.guinier.applied,
        "bfactor_fitted": found.guinier.bfactor,
        "bfactor_error": found.guinier.error,
        "bfactor_refused": found.guinier.reason and say(found.guinier.reason),
    }
    results.write_summary(folder, found.judged, there, found.judge, {**about, **extras})
