"""Online EM over the classes of a set of images: batches with running sums while the posteriors narrow, then passes over all.

Each image belongs to one of two half sets for good. Both see the same averages up to a shared limit, so that a class is the same class in
both, and their own beyond, so that agreement there is no noise that both were aligned to. The posteriors are annealed: their effective
size falls from a part of all hypotheses to next to one, or else the random beginning decides everything.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cryotorch.ops.fourier.planes import Turns, planes, reach_of, turn_back, turned, turns
from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.ops.geometry.rotations import euler_to_matrix
from cryotorch.ops.pose.bank import SAMPLE_IMAGES, Assignment, Bank, assign, find_temperature
from cryotorch.ops.pose.scores import templates
from cryotorch.refinement.ab_initio.soft_stage import KEPT, LEAST_SIZE, NARROWEST, WIDEST
from cryotorch.refinement.class2d.averages import Averages, Sums, recentre_, solve
from cryotorch.refinement.class2d.settings import ClassSettings
from cryotorch.refinement.class2d.work import (
    COARSE_LIMIT,
    GROWTH,
    limit_of,
    share_of_last,
    shifts_of,
    work,
)
from cryotorch.refinement.pose_search.search import shift_grid
from cryotorch.refinement.runtime.kept import Kept
from cryotorch.refinement.runtime.team import Team, on
from cryotorch.refinement.spectra import Spectra

DEAD = 0.2  # of an equal share: a class below is re-seeded


@dataclass(frozen=True)
class Classified:
    """What became of n images and k classes, the largest first.

    Attributes:
        averages, sums: of the last pass, not shared between the half sets beyond the shared limit.
        share: (k,) of the images, posterior-weighted; mass: (k,) their number.
        label: (n,) class of the best hypothesis, from 0, the last for blank images; psi: (n,) radians; shift_px: (n, 2).
        posterior: (n,) of that class, 0 for blank images.
        evidence: (n,) logarithm, for the classes against an image of noise alone.
        inverse_temperature: of the last pass, 1 = posteriors as the noise says.
    """

    averages: Averages
    sums: Sums
    mass: Tensor
    label: Tensor
    psi: Tensor
    shift_px: Tensor
    posterior: Tensor
    evidence: Tensor
    inverse_temperature: float

    @property
    def share(self) -> Tensor:
        """(k,) part of the images, posterior-weighted."""
        return self.mass / self.mass.sum()


@dataclass(frozen=True)
class _Round:
    """What all images of an iteration are compared with: banks of both half sets, turns, shifts (t, 2), limit.

    ``coarse``: the same up to a lower limit, with all shifts, where the shifts here are only those around the best of its.
    """

    banks: list[Bank]
    at: Turns
    shift_px: Tensor
    limit: float
    coarse: _Round | None = None

    def shifts(self, spectra: Spectra, rows: Tensor, which: int) -> Tensor:
        """The shifts (b, t, 2) that are tried for images of a half set, ``rows`` (b,)."""
        if self.coarse is None:
            return self.shift_px.expand(len(rows), -1, -1)
        rough = self.coarse
        images, around = spectra.of(rows, rough.limit), rough.shifts(spectra, rows, which)
        return assign(images, around, rough.banks[which]).shift_px[:, None] + self.shift_px


@dataclass(frozen=True)
class Course:
    """Where a classification is, after so many iterations and passes over all images.

    Attributes:
        sums: of the classes; inverse_temperature: of the last iteration.
        left: (rows,) of both half sets that no batch held since all were; random: (bytes,) state of the generator.
    """

    sums: Sums
    inverse_temperature: float
    left: list[Tensor]
    random: Tensor
    iterations: int = 0
    passes: int = 0


def classify(
    spectra: Spectra,
    half: Tensor,
    settings: ClassSettings,
    tell: Callable[[float], None] = lambda count: None,
    team: Team | None = None,
    kept: Kept | None = None,
) -> Classified:
    """Classify all images; half (n,): 0 or 1.

    Args:
        tell: hears what was done, in the units of ``work``, which says of how much.
        team: with others that have a ``ClassPart``; kept: an earlier run's course, and where this one's goes after each iteration and pass.
    """
    team, kept = team or Team(), kept or Kept(device=spectra.device)
    part = ClassPart(spectra, half, settings, team, tell)
    generator = torch.Generator().manual_seed(settings.seed)
    order, course = _Order(half, generator), kept.find("course", Course)
    if course is None:
        sums = _random_sums(spectra, half, order.next(settings.batch), settings, generator)
        course = Course(sums, 1.0, order.left, generator.get_state())
    tell(work(len(spectra), settings, course.iterations, course.passes))
    generator.set_state(course.random.cpu())
    order.left = [rows.cpu() for rows in course.left]
    while course.iterations < settings.iterations:
        sums, inverse = _iterate(part, order, course)
        done = dict(iterations=course.iterations + 1, left=order.left, random=generator.get_state())
        course = replace(course, sums=sums, inverse_temperature=inverse, **done)
        kept.put("course", course)
    everything = torch.arange(len(spectra))
    while True:
        averages = solve(course.sums, settings)
        now = part.prepare(averages, settings.last_limit)
        inverse = _temperature(spectra, half, everything, now, 1.0)
        sums, found = part.expect_all(averages, now.limit, everything, inverse)
        passes = course.passes + 1
        course = replace(course, sums=sums, inverse_temperature=inverse, passes=passes)
        if passes >= settings.passes:
            return _sorted(solve(sums, settings), sums, found, now, inverse)
        kept.put("course", course)


def _iterate(part: ClassPart, order: _Order, course: Course) -> tuple[Sums, float]:
    """The sums after a batch, and its inverse temperature."""
    settings, spectra, half = part.settings, part.spectra, part.half
    averages, sums = solve(course.sums, settings), course.sums
    done = course.iterations / max(1, settings.iterations - 1)
    now = part.prepare(averages, limit_of(course.iterations, settings))
    rows = order.next(settings.batch)
    inverse = _temperature(spectra, half, rows, now, done)
    latest, found = part.expect_all(averages, now.limit, rows, inverse)
    sums.add_(latest, KEPT)
    if done < GROWTH:
        _reseed_(sums, spectra, half, _worst(found, settings), settings, order.generator)
    if settings.recentre:
        recentre_(sums, solve(sums, settings).merged, settings)
    return sums, inverse


class ClassPart:
    """The part of the images of an iteration that a process compares with the classes: what ``team`` can be asked for as "expect"."""

    def __init__(
        self,
        spectra: Spectra,
        half: Tensor,
        settings: ClassSettings,
        team: Team,
        tell: Callable[[float], None] = lambda count: None,
    ) -> None:
        self.spectra, self.half, self.settings, self.team = spectra, half, settings, team
        self.tell = lambda count: tell(count * team.world)
        self.sums: Sums | None = None
        self._prepared: tuple[Averages, _Round] | None = None
        team.tasks["expect"] = self.expect

    def prepare(self, averages: Averages, limit: float) -> _Round:
        """What images are compared with; it is kept until there are other averages."""
        if self._prepared is None or self._prepared[0] is not averages:
            self._prepared = averages, _prepare(averages, limit, self.settings)
        return self._prepared[1]

    def expect(
        self, averages: Averages, limit: float, rows: Tensor, inverse: float
    ) -> list[tuple[Tensor, Assignment]]:
        """What is known of this process's part of images ``rows`` (n,); the sums of all processes are in ``sums`` then."""
        if self.team.rank > 0:
            averages = on(averages, self.spectra.device)
        now = self.prepare(averages, limit)
        parts = [rows[self.half[rows] == which] for which in (0, 1)]
        mine = torch.cat([some[self.team.part(len(some), 1)] for some in parts])
        part = share_of_last(limit, self.settings)
        sums, found = _expect(
            self.spectra, self.half, mine, now, inverse, self.settings.at_once,
            lambda count: self.tell(count * part),
        )  # fmt: skip
        for values in (torch.view_as_real(sums.numerator), sums.weight, sums.mass):
            self.team.sum_(values)
        self.sums = sums
        return found

    def expect_all(
        self, averages: Averages, limit: float, rows: Tensor, inverse: float
    ) -> tuple[Sums, list[tuple[Tensor, Assignment]]]:
        """The sums of images ``rows`` (n,), and what is known of each; on rank 0."""
        found = self.team.ask("expect", averages, limit, rows, inverse)
        assert self.sums is not None
        return self.sums, [one for part in on(found, self.spectra.device) for one in part]


class _Order:
    """Batches of rows, as many of either half set (n,), each row once before any comes again."""

    def __init__(self, half: Tensor, generator: torch.Generator) -> None:
        self.generator = generator
        self.members = [torch.nonzero(half == which)[:, 0] for which in (0, 1)]
        self.left = [torch.empty(0, dtype=torch.int64)] * 2

    def next(self, size: int) -> Tensor:
        """The next rows, at most all."""
        taken = []
        for which, members in enumerate(self.members):
            left, wanted = self.left[which], min(size // 2, len(members))
            if len(left) < wanted:
                fresh = members[torch.randperm(len(members), generator=self.generator)]
                left = torch.cat([left, fresh[~torch.isin(fresh, left)]])
            taken.append(left[:wanted])
            self.left[which] = left[wanted:]
        return torch.cat(taken)


def _turns(limit: float, settings: ClassSettings, device: torch.device) -> Turns:
    """Evenly spaced turns in half a circle, none of them along the grid, where nothing would be interpolated."""
    box, n = settings.grid.box, settings.angles(limit)
    angle = (torch.arange(n, device=device) + 0.5) * (math.pi / n)
    return turns(angle, half_plane(box).count(limit), box, reach_of(settings.last_limit, box))


def _random_sums(
    spectra: Spectra,
    half: Tensor,
    rows: Tensor,
    settings: ClassSettings,
    generator: torch.Generator,
) -> Sums:
    """Images in random classes, at random turns."""
    device, limit, k = spectra.device, settings.first_limit, settings.n_classes
    at = _turns(limit, settings, device)
    a = len(at.angle)
    sums = Sums.empty(k, at.cells, device)
    for which in (0, 1):
        mine = rows[half[rows] == which]
        images = spectra.of(mine, limit)
        place = torch.randint(k * a, (len(mine),), generator=generator).to(device)
        weight = images.gain * images.precision
        for values, into in (
            (weight * images.spectrum, sums.numerator),
            (weight * images.gain, sums.weight),
        ):
            slices = values.new_zeros(k * a, values.shape[1]).index_add_(0, place, values)
            into[which] = turn_back(slices.unflatten(0, (k, a)), at)
        sums.mass[which] = torch.bincount(place // a, minlength=k).float()
    return sums


def _prepare(averages: Averages, limit: float, settings: ClassSettings) -> _Round:
    """The banks of both half sets up to a limit. All classes are as likely: shares as a prior would let the largest swallow the rest."""
    device, k = averages.halves.device, settings.n_classes
    at = _turns(limit, settings, device)
    zero = torch.zeros_like(at.angle)
    rotation = euler_to_matrix(zero, zero, at.angle).repeat(k, 1, 1)
    alike = torch.full((k,), -math.log(k), device=device)
    banks = []
    for half in averages.halves.unbind(0):
        slices = turned(planes(half, at.reach), at).flatten(0, 1)
        banks.append(Bank(templates(slices, rotation), k, alike))
    extent, step, twice = shifts_of(limit, settings)
    coarse = _prepare(averages, COARSE_LIMIT, settings) if twice else None
    return _Round(banks, at, shift_grid(extent, step, device), limit, coarse)


def _temperature(spectra: Spectra, half: Tensor, rows: Tensor, now: _Round, done: float) -> float:
    """The inverse temperature at which posteriors have the effective size of this part of the run."""
    rows = rows[half[rows] == 0]
    rows = rows[torch.linspace(0, len(rows) - 1, min(SAMPLE_IMAGES, len(rows))).long()]
    everything = 2 * len(now.at.angle) * now.banks[0].n_classes * len(now.shift_px)
    size = max(LEAST_SIZE, everything * WIDEST * (NARROWEST / WIDEST) ** done)
    shifts = now.shifts(spectra, rows, 0)
    return find_temperature(spectra.of(rows, now.limit), shifts, now.banks[0], size)


def _expect(
    spectra: Spectra,
    half: Tensor,
    rows: Tensor,
    now: _Round,
    inverse: float,
    at_once: int,
    tell: Callable[[int], None],
) -> tuple[Sums, list[tuple[Tensor, Assignment]]]:
    """The sums of some images, and what is known of each: rows of the images and their assignments, without the sums.

    Blank images, which any class would take, have a share of none.
    """
    k, a = now.banks[0].n_classes, len(now.at.angle)
    sums = Sums.empty(k, now.at.cells, spectra.device)
    found, nothing = [], torch.empty(0, device=spectra.device)
    for which in (0, 1):
        total: list[Tensor] = []
        for some in rows[half[rows] == which].split(at_once):
            images = spectra.of(some, now.limit)
            made = assign(images, now.shifts(spectra, some, which), now.banks[which], inverse)
            if total:
                total[0] += made.numerator
                total[1] += made.weight
            else:
                total = [made.numerator, made.weight]
            blank = spectra.watch.blank[some].to(spectra.device)
            share = made.share.masked_fill(blank[:, None], 0)
            sums.mass[which] += share.sum(0)
            found.append((some, replace(made, share=share, numerator=nothing, weight=nothing)))
            tell(len(some))
        if total:
            sums.numerator[which], sums.weight[which] = (
                turn_back(values.unflatten(0, (k, a)), now.at) for values in total
            )
    return sums, found


def _worst(found: list[tuple[Tensor, Assignment]], settings: ClassSettings) -> Tensor:
    """Rows of the images that the classes explain least, as many as a class has on average, from the worst on."""
    rows = torch.cat([some for some, _ in found])
    evidence = torch.cat([made.evidence for _, made in found]).cpu()
    blank = torch.cat([made.share.sum(1) == 0 for _, made in found]).cpu()
    evidence = evidence.masked_fill(blank, torch.inf)
    return rows[evidence.argsort()[: max(8, len(rows) // settings.n_classes)]]


def _reseed_(
    sums: Sums,
    spectra: Spectra,
    half: Tensor,
    worst: Tensor,
    settings: ClassSettings,
    generator: torch.Generator,
) -> None:
    """The smallest class begins anew with images that the others do not explain, if it is next to empty."""
    mass = sums.mass.sum(0)
    smallest = int(mass.argmin())
    if float(mass[smallest]) > DEAD * float(mass.mean()):
        return
    alone = replace(settings, n_classes=1)
    sums.put_(smallest, _random_sums(spectra, half, worst, alone, generator))


def _sorted(
    averages: Averages,
    sums: Sums,
    found: list[tuple[Tensor, Assignment]],
    now: _Round,
    inverse: float,
) -> Classified:
    """The classes by their size, and the images in the order of the file."""
    mass = sums.mass.sum(0)
    order = mass.argsort(descending=True, stable=True)
    rank = order.argsort()
    a = len(now.at.angle)
    r = a * len(order)
    at = torch.cat([rows for rows, _ in found]).argsort()
    best, shift, share, evidence = (
        torch.cat([getattr(made, name) for _, made in found])[at.to(mass.device)]
        for name in ("best", "shift_px", "share", "evidence")
    )
    label = (best % r // a).masked_fill(share.sum(1) == 0, order[-1])
    psi = now.at.angle[best % a] + math.pi * (best >= r)
    posterior = share.gather(1, label[:, None])[:, 0]
    averages = Averages(
        averages.halves[:, order],
        *(values[order] for values in (averages.merged, averages.curve, averages.support)),
    )
    mass, label, psi, shift, posterior, evidence = (
        values.cpu() for values in (mass[order], rank[label], psi, shift, posterior, evidence)
    )
    poses = dict(label=label, psi=psi, shift_px=shift, posterior=posterior, evidence=evidence)
    return Classified(averages, sums.taken(order), mass, **poses, inverse_temperature=inverse)
