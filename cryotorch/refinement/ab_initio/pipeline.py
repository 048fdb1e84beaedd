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
from cryotorch.ops.geometry.placement import shift_volume
from cryotorch.ops.geometry.symmetry import rotate_volume, symmetrise_volume
from cryotorch.ops.geometry.symmetry_axes import Axes, find_axes
from cryotorch.ops.pose.scores import Observation
from cryotorch.refinement.ab_initio.classes import class_findings, correspondence, likeness
from cryotorch.refinement.ab_initio.judge import Judgement
from cryotorch.refinement.ab_initio.narrow_stage import (
    Narrow,
    NarrowPart,
    limit_of,
    next_pass,
    search_all,
)
from cryotorch.refinement.ab_initio.settings import AbInitioSettings
from cryotorch.refinement.ab_initio.soft_stage import Course, SoftResult
from cryotorch.refinement.ab_initio.trials import Imposed, Told, TrialPart, Trials, split
from cryotorch.refinement.class_search import ClassSearch, Found
from cryotorch.refinement.noise_factors import with_noise
from cryotorch.refinement.runtime.kept import Kept
from cryotorch.refinement.runtime.team import Team, on

AGREE = 0.88  # correlation of two starts after a fit from which on they are one answer
MIN_STARTS = 2
LEAST_LEFT = 2.0  # standard errors that a map with structure leads by once its symmetry is imposed
SYMMETRIC_STARTS = 3  # where the symmetry is imposed from the beginning
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
        symmetric: starts with the symmetry imposed, one of which went on in its place; [] where there were none.
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
    symmetric: list[Start] = field(default_factory=list)


def reconstruct(
    images: Observation,
    optics_group: Tensor,
    settings: AbInitioSettings,
    starts: int | None,
    told: Told = lambda stage, done: None,
    team: Team | None = None,
    kept: Kept | None = None,
) -> AbInitio:
    """Maps and poses of n images up to the last limit; optics_group (n,).

    Args:
        starts: how many; None = until two agree with the best, ``settings.n_starts`` at most.
        told: stage and part of it that is done.
        team: with others that ``take_part``.
        kept: what an earlier run has made, and what this one makes: starts and passes, and what was found in the end.
    """
    team, kept = team or Team(), kept or Kept(device=images.spectrum.device)
    part = take_part(images, optics_group, settings, told, team)
    trials = Trials(team, kept, settings.n_starts if starts is None else starts)
    tried, best = run_starts(trials, settings, starts is None)
    told("starts", 1.0)
    symmetric = Symmetric(best.soft, best.judgement)
    if len(settings.group) > 1:
        symmetric = impose_symmetry(best, settings, team, kept)
    soft, judgement = symmetric.soft, symmetric.judgement
    findings = [*judge_starts(tried, best, symmetric), *symmetric.findings]
    narrow = kept.find("narrow", Narrow)
    if narrow is None:
        narrow = Narrow.begun(soft.maps.volumes, judgement.share, part.groups)
    while narrow.passes < settings.passes:
        narrow = next_pass(part, narrow)
        kept.put("narrow", narrow)
    found = kept.find("found", Found)
    if found is None:
        parts = on(team.ask("search", narrow, False), images.spectrum.device)
        found = Found.joined([one.found for one in parts])
        kept.put("found", found)
    order = found.share.mean(0).argsort(descending=True)
    found = replace(found, share=found.share[:, order])
    leads = judgement.class_leads[order]
    findings += class_findings(narrow.maps[order], found.share, leads, settings)
    return AbInitio(
        *(narrow.maps[order], found.share.mean(0), found, symmetric.axes),
        *(tried, best.number, narrow.noise, findings, symmetric.starts),
    )


def take_part(
    images: Observation, optics_group: Tensor, settings: AbInitioSettings, told: Told, team: Team
) -> NarrowPart:
    """Teach a process with all n images, optics_group (n,), what ``reconstruct`` asks all for: on other ranks it comes before ``team.serve``."""
    TrialPart(split(images, settings), settings, team, told)
    return NarrowPart(images, optics_group, settings, team, lambda done: told("poses", done))


def search_others(
    maps: Tensor, share: Tensor, noise: Tensor, settings: AbInitioSettings
) -> Callable[[Observation, Tensor], Found]:
    """What finds class and pose of images that maps (k, d, d, d) were not made of, optics_group (n,); the maps are made ready once.

    share (k,) and noise (groups, d // 2 + 1): as in ``AbInitio``.
    """
    limit = limit_of(settings, settings.passes - 1)
    share = share.clamp_min(1e-3)
    share = share / share.sum()
    search = ClassSearch(maps, limit, settings.group, settings.shift_extent)

    def find(images: Observation, optics_group: Tensor) -> Found:
        return search_all(search, share, with_noise(images, noise, optics_group))[0]

    return find


@dataclass(frozen=True)
class Symmetric:
    """A start with the symmetry that was asked for, what unseen images say of it, its axes, and starts with it."""

    soft: SoftResult
    judgement: Judgement
    axes: Axes | None = None
    findings: list[Finding] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)


def impose_symmetry(best: Start, settings: AbInitioSettings, team: Team, kept: Kept) -> Symmetric:
    """The best start on its axes; where it shows no structure, or might show little more than a ball, starts with the symmetry imposed."""
    soft, axes, about_axes = onto_axes(best.soft, settings, kept)
    shown = best.judgement.shows_structure
    if shown and len(settings.group) < POLYHEDRAL:
        return Symmetric(soft, best.judgement, axes, [about_axes])
    trials = Trials(team, kept, SYMMETRIC_STARTS, Imposed(soft, shown))
    tried, best_one, about_starts = symmetric_stage(trials, settings)
    soft, judgement, settled = best_one.soft, best_one.judgement, not about_starts.serious
    if not shown:
        findings = [ball(settings), about_starts]
    elif settled and axes.lowest > AXES_HINTED:
        findings = [about_starts]
    else:
        findings = [about_axes, about_starts]
    return Symmetric(soft, judgement, axes, findings, tried)


def ball(settings: AbInitioSettings) -> Finding:
    """That the starts show a ball, and at which resolution, Å, there is more to see."""
    edge = settings.grid.box * settings.grid.pixel_size
    return remark("axes_of_ball", initial=edge / Course.with_symmetry(settings).limits[1])


def symmetric_stage(
    trials: Trials, settings: AbInitioSettings
) -> tuple[list[Start], Start, Finding]:
    """Starts with the symmetry imposed, the one that unseen images like best, and what there is to say of them."""
    one = [trials(number) for number in range(trials.most)]
    made = [Start(number, x.soft, x.judgement) for number, x in enumerate(one)]
    best = max(made, key=lambda start: start.judgement.score)
    limit = Course.with_symmetry(settings).limits[1]
    volume = best.soft.maps.volumes[0]
    tried = [
        replace(
            start,
            agreement=1.0
            if start is best
            else likeness(start.soft.maps.volumes[0], volume, limit, settings),
        )
        for start in made
    ]
    alike, scores = sum(start.agreement >= AGREE for start in tried), _scores(tried)
    about = dict(starts=len(tried), best=best.number + 1, alike=alike, lead=best.judgement.lead)
    if alike >= MIN_STARTS:
        return tried, best, remark("symmetric_starts", **about, **scores)
    return tried, best, Finding("symmetric_starts", **about, **scores)


def _scores(starts: list[Start]) -> dict[str, float]:
    """The least and the highest, which those of other limits cannot be compared with."""
    scores = [start.judgement.score for start in starts]
    return dict(low=min(scores), high=max(scores))


def run_starts(
    trials: Trials, settings: AbInitioSettings, until_alike: bool
) -> tuple[list[Start], Start]:
    """The starts, all of them or ``until_alike`` until two agree, and the one that unseen images like best."""
    tried: list[Start] = []
    compared = -1  # the start that the others were compared with
    for number in range(trials.most):
        made = trials(number)
        tried.append(Start(number, made.soft, made.judgement))
        best = max(tried, key=lambda start: start.judgement.score)
        tried = [
            replace(start, agreement=_kept_agreement(start, best, settings, trials.kept))
            if start.number == number or best.number != compared
            else start
            for start in tried
        ]
        compared = best.number
        alike = sum(start.agreement >= AGREE for start in tried)
        if until_alike and len(tried) >= MIN_STARTS and alike >= MIN_STARTS:
            break
    return tried, next(start for start in tried if start.number == best.number)


def _kept_agreement(start: Start, best: Start, settings: AbInitioSettings, kept: Kept) -> float:
    name = f"agreement/{start.number}/{best.number}"
    return kept.once(name, float, lambda: agreement(start, best, settings))


def agreement(start: Start, best: Start, settings: AbInitioSettings) -> float:
    """How far a start's maps are those of the best one, see ``correspondence``."""
    if start.number == best.number:
        return 1.0
    limit, weight = settings.soft_limit, best.judgement.worth
    return correspondence(start.soft.maps.volumes, best.soft.maps.volumes, weight, limit, settings)


def judge_starts(tried: list[Start], best: Start, symmetric: Symmetric) -> list[Finding]:
    """What the starts say together, and unseen images of the map that came of the best, or of those with the symmetry imposed."""
    before, after, imposed = best.judgement, symmetric.judgement, bool(symmetric.starts)
    alike = sum(start.agreement >= AGREE for start in tried)
    about = dict(starts=len(tried), best=best.number + 1, alike=alike, imposed=imposed)
    findings = [remark("starts", **about, **_scores(tried))]
    if not before.shows_structure and not after.shows_structure:
        findings.append(Finding("no_structure", lead=after.lead))
    elif after.lead < LEAST_LEFT:
        findings.append(Finding("structure_lost", lead=after.lead, before=before.lead))
    elif alike < MIN_STARTS <= len(tried) and not imposed:
        findings.append(Finding("starts_disagree", starts=len(tried)))
    return findings


def onto_axes(
    soft: SoftResult, settings: AbInitioSettings, kept: Kept
) -> tuple[SoftResult, Axes, Finding]:
    """The maps of a start turned onto the axes of the group and symmetrised; the axes of the first, and what there is to say of them."""
    turned, first = [], None
    radius = settings.diameter / 2 / settings.grid.box
    for number, volume in enumerate(soft.maps.volumes):
        about = volume, settings.group, settings.soft_limit, radius
        axes = kept.once(f"axes/{number}", Axes, lambda about=about: find_axes(*about))
        first = first or axes
        moved = rotate_volume(shift_volume(volume, axes.shift_px), axes.rotation)
        turned.append(symmetrise_volume(moved, settings.group))
    assert first is not None
    shown = first.lowest > AXES_SHOWN
    values = dict(correlation=first.correlation, lowest=first.lowest, chance=first.chance)
    finding = remark("axes_found", **values) if shown else Finding("axes_not_shown", **values)
    maps = replace(soft.maps, volumes=torch.stack(turned))
    return replace(soft, maps=maps), first, finding
