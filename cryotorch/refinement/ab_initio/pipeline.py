"""From images to maps: random starts, the best of them, its symmetry axes, and the passes that refine it.

1. Starts: the soft stage from several random maps, in C1 whatever the symmetry, each judged by images that none of them has seen.
2. Axes: where a symmetry is asked for, the best start's maps are turned onto its axes.
3. Narrow stage: all images, the symmetry imposed, up to the last resolution.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from cryotorch.findings import Finding, remark
from cryotorch.ops.geometry.map_fit import fit_map
from cryotorch.ops.geometry.placement import shift_volume
from cryotorch.ops.geometry.symmetry import rotate_volume, symmetrise_volume
from cryotorch.ops.geometry.symmetry_axes import Axes, find_axes
from cryotorch.ops.pose.scores import Observation
from cryotorch.refinement.ab_initio.class_maps import RunningSums
from cryotorch.refinement.ab_initio.judge import Judgement, judge
from cryotorch.refinement.ab_initio.narrow_stage import (
    Found,
    NarrowSearch,
    limit_of,
    narrow_stage,
    search_all,
    with_noise,
)
from cryotorch.refinement.ab_initio.settings import AbInitioSettings
from cryotorch.refinement.ab_initio.soft_stage import SoftResult, soft_stage

HELD_OUT, MAX_HELD_OUT = 0.15, 300  # of the images, that no start sees
AGREE = 0.88  # correlation of two starts after a fit from which on they are one answer
SCORE_ERRORS = 3.0  # standard errors within which scores of starts are alike
MIN_STARTS = 2
# Least correlation of a map with any of its turned copies, at which it shows its symmetry: phantoms without it reach 0.54 (C2), with it 0.62.
AXES_SHOWN = 0.58


@dataclass(frozen=True)
class Start:
    """One random start: its maps, what unseen images say of them, and how it agrees with the best (correlation after a fit)."""

    number: int
    soft: SoftResult
    judgement: Judgement
    agreement: float = math.nan


@dataclass(frozen=True)
class AbInitio:
    """What came of it.

    Attributes:
        maps: (K, d, d, d), largest class first; share: (K,).
        found: class and pose of every image; axes: of the symmetry, None for C1.
        starts: all of them; best: number of the one that went on.
        noise: (groups, d // 2 + 1) how many times the noise is what it was assumed to be.
        findings: what there is to say about it.
    """

    maps: Tensor
    share: Tensor
    found: Found
    axes: Axes | None
    starts: list[Start]
    best: int
    noise: Tensor
    findings: list[Finding] = field(default_factory=list)


Told = Callable[[str, float], None]


def reconstruct(
    images: Observation,
    optics_group: Tensor,
    settings: AbInitioSettings,
    starts: int | None,
    told: Told = lambda stage, done: None,
) -> AbInitio:
    """Maps and poses of n images up to the last limit; optics_group (n,).

    ``starts``: how many; None = until two agree with the best, ``settings.n_starts`` at most. ``told`` stage and part of it that is done.
    """
    tried, best = run_starts(images, settings, starts, told)
    findings = judge_starts(tried, best)
    maps, share = best.soft.maps.volumes, best.judgement.share.clamp_min(1e-3)
    axes = None
    if len(settings.group) > 1:
        maps, axes, finding = onto_axes(maps, settings)
        findings.append(finding)
    n, done = len(images.spectrum), 0

    def searched(count: int) -> None:
        nonlocal done
        done += count
        told("poses", done / (n * (settings.passes + 1)))

    group = settings.group
    narrow = narrow_stage(
        images, optics_group, maps, share / share.sum(), settings, group, searched
    )
    limit = limit_of(settings, settings.passes - 1)
    search = NarrowSearch(narrow.maps.volumes, narrow.share, limit, settings, group)
    found, _, _ = search_all(search, narrow.images, narrow.before, told=searched)
    order = found.share.mean(0).argsort(descending=True)
    found = replace(found, share=found.share[:, order])
    return AbInitio(
        narrow.maps.volumes[order],
        found.share.mean(0),
        found,
        axes,
        tried,
        best.number,
        narrow.noise,
        findings,
    )


def search_others(
    images: Observation, optics_group: Tensor, made: AbInitio, settings: AbInitioSettings
) -> Found:
    """Class and pose of images that the maps were not made of; optics_group (n,)."""
    limit = limit_of(settings, settings.passes - 1)
    group, share = settings.group, made.share.clamp_min(1e-3)
    search = NarrowSearch(made.maps, share / share.sum(), limit, settings, group)
    return search_all(search, with_noise(images, made.noise, optics_group))[0]


def run_starts(
    images: Observation, settings: AbInitioSettings, starts: int | None, told: Told
) -> tuple[list[Start], Start]:
    """The starts, and the one that unseen images like best."""
    n, device = len(images.spectrum), images.spectrum.device
    order = torch.randperm(n, generator=settings.generator(-1))
    held = min(MAX_HELD_OUT, max(1, round(HELD_OUT * n)))
    unseen, seen = order[:held].sort().values.to(device), order[held:].sort().values.to(device)
    known, hidden = images.of(seen), images.of(unseen)
    sphere = RunningSums(settings, device).sphere
    most = settings.n_starts if starts is None else starts
    steps = settings.soft_steps
    tried: list[Start] = []
    for number in range(most):
        soft = soft_stage(
            known,
            settings,
            number,
            lambda step, at=number: told("starts", (at + (step + 1) / steps) / most),
        )
        inverse = tried[0].soft.inverse_temperature if tried else soft.inverse_temperature
        found = judge(hidden, soft.maps.volumes, soft.share, settings, inverse, sphere)
        tried.append(Start(number, soft, found))
        best = max(tried, key=lambda start: start.judgement.score)
        tried = [replace(start, agreement=agreement(start, best, settings)) for start in tried]
        alike = sum(start.agreement >= AGREE for start in tried)
        if starts is None and len(tried) >= MIN_STARTS and alike >= MIN_STARTS:
            break
    told("starts", 1.0)
    return tried, next(start for start in tried if start.number == best.number)


def agreement(start: Start, best: Start, settings: AbInitioSettings) -> float:
    """The correlation of a start's map with the best one's after a fit, either hand; of several classes the mean over those of the best."""
    if start.number == best.number:
        return 1.0
    # in pixels of the soft limit's resolution
    resolution = settings.grid.box / settings.soft_limit * settings.grid.pixel_size
    values = []
    for wanted in best.soft.maps.volumes:
        fits = [
            fit_map(volume, wanted, settings.grid.pixel_size, resolution).correlation
            for volume in start.soft.maps.volumes
        ]
        values.append(max(fits))
    return sum(values) / len(values)


def judge_starts(tried: list[Start], best: Start) -> list[Finding]:
    """What the starts say together."""
    alike = sum(start.agreement >= AGREE for start in tried)
    scores = [start.judgement.score for start in tried]
    findings = [
        remark(
            "starts",
            starts=len(tried),
            best=best.number + 1,
            alike=alike,
            low=min(scores),
            high=max(scores),
        )
    ]
    if not best.judgement.shows_structure:
        findings.append(Finding("no_structure", lead=best.judgement.lead))
    elif alike < MIN_STARTS <= len(tried):
        findings.append(Finding("starts_disagree", starts=len(tried)))
    return findings


def onto_axes(maps: Tensor, settings: AbInitioSettings) -> tuple[Tensor, Axes, Finding]:
    """Maps (K, d, d, d) turned onto the axes of the group and symmetrised; the axes of the first, and what there is to say of them."""
    turned, first = [], None
    radius = settings.diameter / 2 / settings.grid.box
    for volume in maps:
        axes = find_axes(volume, settings.group, settings.soft_limit, radius)
        first = first or axes
        moved = rotate_volume(shift_volume(volume, axes.shift_px), axes.rotation)
        turned.append(symmetrise_volume(moved, settings.group))
    assert first is not None
    shown = first.lowest > AXES_SHOWN
    values = dict(correlation=first.correlation, lowest=first.lowest, chance=first.chance)
    finding = remark("axes_found", **values) if shown else Finding("axes_not_shown", **values)
    return torch.stack(turned), first, finding
