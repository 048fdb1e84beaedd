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
from cryotorch.ops.fourier.filters import low_pass
from cryotorch.ops.geometry.map_fit import fit_map
from cryotorch.ops.geometry.placement import shift_volume
from cryotorch.ops.geometry.symmetry import rotate_volume, symmetrise_volume
from cryotorch.ops.geometry.symmetry_axes import Axes, find_axes
from cryotorch.ops.pose.scores import Observation
from cryotorch.refinement.ab_initio.class_maps import RunningSums
from cryotorch.refinement.ab_initio.classes import class_findings, correspondence
from cryotorch.refinement.ab_initio.judge import Judgement, judge, radial_mean
from cryotorch.refinement.ab_initio.narrow_stage import (
    Found,
    NarrowSearch,
    limit_of,
    narrow_stage,
    search_all,
    with_noise,
)
from cryotorch.refinement.ab_initio.settings import AbInitioSettings
from cryotorch.refinement.ab_initio.soft_stage import Course, SoftResult, soft_stage

HELD_OUT, MAX_HELD_OUT = 0.15, 300  # of the images, that no start sees
AGREE = 0.88  # correlation of two starts after a fit from which on they are one answer
MIN_STARTS = 2
SYMMETRIC_STARTS = 3  # where the symmetry is imposed from the beginning
RANDOM_DETAIL = (
    0.5  # of a ball's density: standard deviation of what such a start differs from it by
)
POLYHEDRAL = 12  # order of a group from which on maps without it may show no more than a ball
# Least correlation of a map with any of its turned copies at which it shows its symmetry: simulated maps without it reach 0.6 (C2).
AXES_SHOWN = 0.65
AXES_HINTED = (
    0.4  # the same where starts with the symmetry imposed agree; a map of C4 taken for O has 0.25
)


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
        maps: (k, d, d, d), largest class first; share: (k,).
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
    sets = split(images, settings)
    tried, best = run_starts(sets, settings, starts, told)
    symmetric = Symmetric(best.soft, best.judgement)
    if len(settings.group) > 1:
        symmetric = impose_symmetry(best, sets, settings, told)
    soft, judgement, axes = symmetric.soft, symmetric.judgement, symmetric.axes
    findings = [*judge_starts(tried, best, judgement, symmetric.settled), *symmetric.findings]
    maps, share = soft.maps.volumes, judgement.share.clamp_min(1e-3)
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
    leads = judgement.class_leads[order]
    findings += class_findings(narrow.maps.volumes[order], found.share, leads, settings)
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
    made: AbInitio, settings: AbInitioSettings
) -> Callable[[Observation, Tensor], Found]:
    """What finds class and pose of images that the maps were not made of, optics_group (n,); the maps are made ready once."""
    limit = limit_of(settings, settings.passes - 1)
    group, share = settings.group, made.share.clamp_min(1e-3)
    search = NarrowSearch(made.maps, share / share.sum(), limit, settings, group)
    return lambda images, optics_group: search_all(
        search, with_noise(images, made.noise, optics_group)
    )[0]


@dataclass(frozen=True)
class Sets:
    """Images that starts see, those that judge them, and the sphere (d, d, d) that maps are kept in."""

    known: Observation
    hidden: Observation
    sphere: Tensor


def split(images: Observation, settings: AbInitioSettings) -> Sets:
    """A random part of the images is held out."""
    n, device = len(images.spectrum), images.spectrum.device
    order = torch.randperm(n, generator=settings.generator(-1))
    held = min(MAX_HELD_OUT, max(1, round(HELD_OUT * n)))
    hidden, known = (rows.sort().values.to(device) for rows in (order[:held], order[held:]))
    return Sets(images.of(known), images.of(hidden), RunningSums(settings, device).sphere)


@dataclass(frozen=True)
class Symmetric:
    """A start with the symmetry that was asked for, what unseen images say of it, its axes, and whether starts with it agree."""

    soft: SoftResult
    judgement: Judgement
    axes: Axes | None = None
    findings: list[Finding] = field(default_factory=list)
    settled: bool = False


def impose_symmetry(best: Start, sets: Sets, settings: AbInitioSettings, told: Told) -> Symmetric:
    """The best start on its axes; where it shows no structure, or might show little more than a ball, starts with the symmetry imposed."""
    soft, axes, about_axes = onto_axes(best.soft, settings)
    shown = best.judgement.shows_structure
    if shown and len(settings.group) < POLYHEDRAL:
        return Symmetric(soft, best.judgement, axes, [about_axes])
    soft, judgement, about_starts = symmetric_stage(sets, soft, shown, settings, told)
    settled = not about_starts.serious
    if not shown:
        findings = [ball(settings), about_starts]
    elif settled and axes.lowest > AXES_HINTED:
        findings = [about_starts]
    else:
        findings = [about_axes, about_starts]
    return Symmetric(soft, judgement, axes, findings, settled)


def ball(settings: AbInitioSettings) -> Finding:
    """That the starts show a ball, and at which resolution, Å, there is more to see."""
    edge = settings.grid.box * settings.grid.pixel_size
    return remark("axes_of_ball", initial=edge / Course.with_symmetry(settings).limits[1])


def symmetric_stage(
    sets: Sets, turned: SoftResult, shown: bool, settings: AbInitioSettings, told: Told
) -> tuple[SoftResult, Judgement, Finding]:
    """Starts with the symmetry imposed, from balls with random symmetric detail; the one that unseen images like best.

    ``turned``: maps of the start without symmetry, on the axes; they take part where they have ``shown`` structure.
    """
    course, tried = Course.with_symmetry(settings), []
    for number in range(SYMMETRIC_STARTS):
        own = shown and number == 0
        begun = turned if own else with_random_detail(turned, settings, number, sets.sphere)
        soft = soft_stage(
            sets.known,
            settings,
            -1 - number,
            lambda step, at=number: told(
                "symmetry", (at + (step + 1) / course.steps) / SYMMETRIC_STARTS
            ),
            course,
            begun,
        )
        inverse = tried[0][0].inverse_temperature if tried else soft.inverse_temperature
        about = soft.share, settings, inverse, sets.sphere, course
        tried.append((soft, judge(sets.hidden, soft.maps.volumes, *about)))
    best = max(tried, key=lambda pair: pair[1].score)
    pixel_size = settings.grid.pixel_size
    resolution = settings.grid.box / course.limits[1] * pixel_size
    volume = best[0].maps.volumes[0]
    alike = sum(
        pair is best
        or fit_map(pair[0].maps.volumes[0], volume, pixel_size, resolution).correlation >= AGREE
        for pair in tried
    )
    count = dict(starts=len(tried), alike=alike)
    if alike >= MIN_STARTS:
        return *best, remark("symmetric_starts", **count)
    return *best, Finding("symmetric_starts", **count)


def with_random_detail(
    soft: SoftResult, settings: AbInitioSettings, number: int, sphere: Tensor
) -> SoftResult:
    """The radial means of maps (k, d, d, d) with random detail that has the symmetry."""
    grid, generator = settings.grid, settings.generator(-4, number)
    resolution = grid.box / settings.soft_limit * grid.pixel_size
    made = []
    for volume in soft.maps.volumes:
        noise = torch.randn(volume.shape, generator=generator).to(volume.device)
        detail = symmetrise_volume(low_pass(noise, grid.pixel_size, resolution), settings.group)
        detail = (detail - radial_mean(detail)) * sphere
        detail *= RANDOM_DETAIL / detail.std().clamp_min(1e-30)
        made.append((radial_mean(volume) * (1 + detail)).clamp_min(0))
    return replace(soft, maps=replace(soft.maps, volumes=torch.stack(made)))


def run_starts(
    sets: Sets, settings: AbInitioSettings, starts: int | None, told: Told
) -> tuple[list[Start], Start]:
    """The starts, and the one that unseen images like best."""
    most = settings.n_starts if starts is None else starts
    steps = settings.soft_steps
    tried: list[Start] = []
    compared = -1  # the start that the others were compared with
    for number in range(most):
        soft = soft_stage(
            sets.known,
            settings,
            number,
            lambda step, at=number: told("starts", (at + (step + 1) / steps) / most),
        )
        inverse = tried[0].soft.inverse_temperature if tried else soft.inverse_temperature
        found = judge(sets.hidden, soft.maps.volumes, soft.share, settings, inverse, sets.sphere)
        tried.append(Start(number, soft, found))
        best = max(tried, key=lambda start: start.judgement.score)
        tried = [
            replace(start, agreement=agreement(start, best, settings))
            if start.number == number or best.number != compared
            else start
            for start in tried
        ]
        compared = best.number
        alike = sum(start.agreement >= AGREE for start in tried)
        if starts is None and len(tried) >= MIN_STARTS and alike >= MIN_STARTS:
            break
    told("starts", 1.0)
    return tried, next(start for start in tried if start.number == best.number)


def agreement(start: Start, best: Start, settings: AbInitioSettings) -> float:
    """How far a start's maps are those of the best one, see ``correspondence``."""
    if start.number == best.number:
        return 1.0
    limit, weight = settings.soft_limit, best.judgement.worth
    return correspondence(start.soft.maps.volumes, best.soft.maps.volumes, weight, limit, settings)


def judge_starts(
    tried: list[Start], best: Start, judgement: Judgement, settled: bool
) -> list[Finding]:
    """What the starts say together, and unseen images of the map that came of the best; ``settled``: later starts agree."""
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
    if not judgement.shows_structure:
        findings.append(Finding("no_structure", lead=judgement.lead))
    elif alike < MIN_STARTS <= len(tried) and not settled:
        findings.append(Finding("starts_disagree", starts=len(tried)))
    return findings


def onto_axes(soft: SoftResult, settings: AbInitioSettings) -> tuple[SoftResult, Axes, Finding]:
    """The maps of a start turned onto the axes of the group and symmetrised; the axes of the first, and what there is to say of them."""
    turned, first = [], None
    radius = settings.diameter / 2 / settings.grid.box
    for volume in soft.maps.volumes:
        axes = find_axes(volume, settings.group, settings.soft_limit, radius)
        first = first or axes
        moved = rotate_volume(shift_volume(volume, axes.shift_px), axes.rotation)
        turned.append(symmetrise_volume(moved, settings.group))
    assert first is not None
    shown = first.lowest > AXES_SHOWN
    values = dict(correlation=first.correlation, lowest=first.lowest, chance=first.chance)
    finding = remark("axes_found", **values) if shown else Finding("axes_not_shown", **values)
    maps = replace(soft.maps, volumes=torch.stack(turned))
    return replace(soft, maps=maps), first, finding
