"""Classes of images whose poses are known: starts, passes until nobody changes class, and the verdict of images that were left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from cryotorch.ops.fourier.resample import resample_volume
from cryotorch.ops.resolution.fsc import THRESHOLD, crossing_shell
from cryotorch.refinement.class_shares import Agreement, agreement, of_images
from cryotorch.refinement.hetero.class_sums import ClassHalves
from cryotorch.refinement.hetero.part import ClassPart, Compared
from cryotorch.refinement.hetero.posterior import (
    annealed_ess,
    class_ess,
    log_shares,
    tempered,
)
from cryotorch.refinement.hetero.references import References, make_references
from cryotorch.refinement.hetero.settings import HeteroSettings
from cryotorch.refinement.hetero.starts import random_start
from cryotorch.refinement.hetero.verdict import Verdict, one_shape, verdict
from cryotorch.refinement.noise_factors import noise_factors
from cryotorch.refinement.runtime.kept import Kept
from cryotorch.refinement.runtime.team import Team, on

HELD_OUT = 0.2  # of the images
START_PASSES, STEADY = (
    10,
    0.01,
)  # at most; part of the images that change class where a start has ended
ANNEALED = 4  # passes over which the similarity falls to none
CALM, MOVED = (
    0.05,
    1,
)  # part of the images that change class, and shells that the resolution moves, at the end
LOUDEST = 1e4  # inverse temperature of a start, whose maps differ little at first

Told = Callable[[str, float], None]


class Masks(NamedTuple):
    """Masks of maps.

    Attributes:
        solvent: (d, d, d) on all of them.
        focus: (d, d, d) where classes may differ, None = everywhere.
    """

    solvent: Tensor
    focus: Tensor | None = None

    def resampled(self, box: int) -> Masks:
        """The same for maps of another box of the same edge."""
        size = box / len(self.solvent)
        both = [m if m is None else resample_volume(m, size, box, 1.0).clamp(0, 1) for m in self]
        return Masks(*both)  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True)
class Step:
    """What a pass did.

    Attributes:
        ess: mean effective number of classes of an image, at the temperature of the pass.
        changed: part of the images that changed class; shell: that the best FSC of the classes reaches.
        shares: (k,) of the images that are most probably in each class.
    """

    ess: float
    changed: float
    shell: float
    shares: Tensor


@dataclass(frozen=True)
class Pass:
    """Where a run is.

    Attributes:
        share: (n, k) posteriors; noise: (groups, d // 2 + 1) how many times the noise is what it was assumed to be.
        steps: the passes that were made.
    """

    share: Tensor
    noise: Tensor
    steps: list[Step]

    @property
    def number(self) -> int:
        """Of passes that were made."""
        return len(self.steps)


@dataclass(frozen=True)
class Start:
    """What a start ends with.

    Attributes:
        share: (n, k) posteriors; score: mean log-likelihood of unseen images.
    """

    share: Tensor
    score: float


@dataclass(frozen=True)
class Run:
    """One whole run.

    Attributes:
        last: its last pass; score: mean log-likelihood of unseen images; verdict: of them.
        starts: the scores of its starts.
    """

    last: Pass
    score: float
    verdict: Verdict
    starts: list[float]


@dataclass(frozen=True)
class Classified:
    """What came of it.

    Attributes:
        share: (n, k) posteriors of all images, the class of most images first; halves: half maps of all images.
        steps: of the best run; verdict: on it; agreement: of it with each other run.
    """

    share: Tensor
    halves: ClassHalves
    steps: list[Step]
    verdict: Verdict
    agreement: list[Agreement]


def classify(
    part: ClassPart,
    image: Tensor,
    masks: Masks,
    settings: HeteroSettings,
    told: Told = lambda stage, done: None,
    team: Team | None = None,
    kept: Kept | None = None,
) -> Classified:
    """Classes of n rows, on rank 0; other processes make a part of their own and ``team.serve``.

    image (n,): number of the recorded image that a row shows.
    """
    team, kept = team or Team(), kept or Kept(device=part.device)
    work = _Work(part, image.to(part.device), masks, settings, team)
    runs = []
    for repeat in range(settings.n_repeats):
        found = kept.find(f"runs/{repeat}", Run)
        if found is None:
            found = _run(work, repeat, told, kept)
            kept.put(f"runs/{repeat}", found)
        runs.append(found)
    runs.sort(key=lambda run: -run.score)
    best, *others = runs
    order = of_images(best.last.share).argsort(descending=True)
    share = final = best.last.share[:, order]
    steps = [replace(step, shares=step.shares[order]) for step in best.last.steps]
    mine, k = share.argmax(1), settings.n_classes
    agreed = [agreement(mine, other.last.share.argmax(1), k) for other in others]
    told("maps", 0.0)
    if settings.hard:
        final = torch.nn.functional.one_hot(mine, k).float()
    halves = work.maps(final, best.last.noise, True)
    told("maps", 1.0)
    return Classified(share, halves, steps, best.verdict, agreed)


def consensus(part: ClassPart, n: int, team: Team) -> Tensor:
    """The map (d, d, d) of all n rows together, unfiltered, on rank 0."""
    k = part.settings.n_classes
    share = torch.full((n, k), 1 / k, device=part.device)
    noise = share.new_ones(part.groups, part.settings.grid.box // 2 + 1)
    team.ask("insert", share, noise, True)
    return part.sums[True].halves().joint_pooled


class _Work:
    """What all processes do together, asked for on rank 0."""

    def __init__(
        self, part: ClassPart, image: Tensor, masks: Masks, settings: HeteroSettings, team: Team
    ) -> None:
        self.part, self.image, self.settings, self.team = part, image, settings, team
        self.unseen = held_out(image, settings)
        self.masks = {True: masks, False: masks.resampled(part.sums[False].box)}

    def maps(self, share: Tensor, noise: Tensor, fine: bool) -> ClassHalves:
        """The half maps of images with these shares (n, k)."""
        self.team.ask("insert", share, noise, fine)
        return self.part.sums[fine].halves()

    def references(self, halves: ClassHalves, fine: bool, lenient: bool = False) -> References:
        """What images are compared with."""
        mask, focus = self.masks[fine]
        return make_references(halves, self.settings.split, mask, focus, lenient)

    def compared(
        self, references: References, share: Tensor, noise: Tensor, fine: bool
    ) -> Compared:
        """All images beside the references."""
        given = references.volumes, references.influence, share, noise, fine
        every = on(self.team.ask("compare", *given), self.part.device)
        return Compared.joined(every)

    def judged(self, volumes: Tensor, noise: Tensor, fine: bool, free: bool) -> Tensor:
        """Log-likelihoods (h, k) of the unseen images under maps (k, d, d, d), of any scale where they are ``free``."""
        rows = torch.nonzero(self.unseen)[:, 0]
        parts = self.team.ask("judge", volumes, noise, rows, fine, free)
        return torch.cat(on(parts, self.part.device))


def held_out(image: Tensor, settings: HeteroSettings) -> Tensor:
    """Which rows (n,) bool are in no map until the end: all those of a fifth of the images, image (n,)."""
    numbers, place = image.cpu().unique(return_inverse=True)
    order = torch.randperm(len(numbers), generator=settings.generator(-1))
    return (order < round(HELD_OUT * len(numbers)))[place].to(image.device)


def _run(work: _Work, repeat: int, told: Told, kept: Kept) -> Run:
    settings = work.settings
    starts = []
    for number in range(settings.n_starts):
        name = f"starts/{repeat}.{number}"
        start = kept.find(name, Start)
        if start is None:
            said = f"run {repeat + 1}, start {number + 1}"
            start = _start(work, repeat, number, lambda done, said=said: told(said, done))
            kept.put(name, start)
        starts.append(start)
    best = max(starts, key=lambda start: start.score)
    name = f"passes/{repeat}"
    state = kept.find(name, Pass)
    if state is None:
        state = first_pass(best.share, work.part.groups, settings)
    while not finished(state, settings):
        state, _ = next_pass(work, state, True, _target(state.number, settings))
        kept.put(name, state)
        told(f"run {repeat + 1}", state.number / settings.most_passes)
    told(f"run {repeat + 1}", 1.0)
    for number in range(settings.n_starts):
        kept.drop(f"starts/{repeat}.{number}")
    score, judged = _judged(work, state)
    return Run(state, score, judged, [start.score for start in starts])


def _target(number: int, settings: HeteroSettings) -> float:
    return annealed_ess(number + 1, ANNEALED, settings.ess, settings.n_classes)


def first_pass(share: Tensor, groups: int, settings: HeteroSettings) -> Pass:
    """Before the first pass, from posteriors (n, k) of images of so many optics groups."""
    return Pass(share, share.new_ones(groups, settings.grid.box // 2 + 1), [])


def finished(state: Pass, settings: HeteroSettings) -> bool:
    """Whether few change class any more and the resolution stays, or enough passes were made."""
    steps = state.steps
    if len(steps) >= settings.most_passes:
        return True
    calm = len(steps) > ANNEALED and steps[-1].changed < CALM
    return calm and abs(steps[-1].shell - steps[-2].shell) <= MOVED


def next_pass(
    work: _Work, before: Pass, fine: bool, target: float, hottest: float = 1.0
) -> tuple[Pass, References]:
    """One pass over all images: maps of those that are seen, then all images against the maps.

    ``target``: least mean effective number of classes of an image; ``hottest``: largest inverse temperature that may bring it about.
    """
    settings = work.settings
    seen = torch.where(work.unseen[:, None], 0.0, before.share)
    halves = work.maps(seen, before.noise, fine)
    references = work.references(halves, fine, lenient=hottest > 1)
    found = work.compared(references, seen, before.noise, fine)
    evidence = found.evidence.double() * hottest + log_shares(before.share)
    share, _ = tempered(evidence, target)
    old, new = before.share.argmax(1), share.argmax(1)
    noise = before.noise
    if fine:
        noise = noise * noise_factors(found.power, found.count, settings.grid.box)
    shell = float(max(crossing_shell(curve, THRESHOLD) for curve in references.fsc))
    changed = float((old != new).double().mean())
    step = Step(class_ess(share), changed, shell, of_images(share))
    made = Pass(share, noise, [*before.steps, step])
    return made, references


def _start(work: _Work, repeat: int, number: int, told: Callable[[float], None]) -> Start:
    settings = work.settings
    draw = settings.generator(repeat, number)
    share = random_start(work.image, work.unseen, settings, draw)
    state, references = first_pass(share, work.part.groups, settings), None
    target, changed = settings.ess * settings.n_classes, 1.0
    while state.number < START_PASSES and changed > STEADY:
        state, references = next_pass(work, state, False, max(1.0, target), LOUDEST)
        changed = state.steps[-1].changed
        told(state.number / START_PASSES)
    told(1.0)
    assert references is not None
    share = log_shares(state.share)
    found = work.judged(references.merged, state.noise, False, free=False)
    return Start(state.share, float((found.double() + share).logsumexp(1).mean()))


def _judged(work: _Work, state: Pass) -> tuple[float, Verdict]:
    """The score of a run, and the verdict on it."""
    seen = torch.where(work.unseen[:, None], 0.0, state.share)
    halves = work.maps(seen, state.noise, True)
    references = work.references(halves, True)
    shares = log_shares(state.share)
    plain = work.judged(references.merged, state.noise, True, free=False)
    score = float((plain.double() + shares).logsumexp(1).mean())
    several = work.judged(references.merged, state.noise, True, True)
    # images of nothing spoil the map of all: that of a class may be the better one map
    singles = (references.merged_pooled, *references.merged)
    verdicts = []
    for one in singles:
        single = work.judged(one_shape(references.merged, one), state.noise, True, True)
        verdicts.append(verdict(several, single, shares, work.image[work.unseen]))
    return score, min(verdicts, key=lambda found: found.gain)
