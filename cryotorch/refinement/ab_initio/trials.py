"""Starts, and what images that they have not seen say of them: made by all processes in rounds, kept by their numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cryotorch.ops.fourier.filters import low_pass
from cryotorch.ops.geometry.symmetry import symmetrise_volume
from cryotorch.ops.pose.scores import Observation
from cryotorch.refinement.ab_initio.class_maps import RunningSums
from cryotorch.refinement.ab_initio.judge import Judgement, judge, radial_mean
from cryotorch.refinement.ab_initio.settings import AbInitioSettings
from cryotorch.refinement.ab_initio.soft_stage import Course, SoftResult, soft_stage
from cryotorch.refinement.runtime.kept import Kept
from cryotorch.refinement.runtime.team import Team, on

HELD_OUT, MAX_HELD_OUT = 0.15, 300  # of the images, that no start sees
RANDOM_DETAIL = (
    0.5  # of a ball's density: standard deviation of what such a start differs from it by
)
Told = Callable[[str, float], None]


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
class Trial:
    """What a start ends with, and what unseen images say of it."""

    soft: SoftResult
    judgement: Judgement


@dataclass(frozen=True)
class Imposed:
    """What starts with the symmetry imposed begin from: the maps of one without, on the axes; ``shown``: the first start begins with them, the
    others, or all, with balls with random symmetric detail."""

    turned: SoftResult
    shown: bool


class TrialPart:
    """The starts that a process makes, of each round the one of its number: what ``team`` can be asked for as "start" and "judge"."""

    def __init__(self, sets: Sets, settings: AbInitioSettings, team: Team, told: Told) -> None:
        self.sets, self.settings, self.team, self.told = sets, settings, team, told
        self._last: SoftResult | None = None
        team.tasks |= {"start": self.start, "judge": self.judge}

    def start(self, numbers: list[int], most: int, imposed: Imposed | None) -> SoftResult | None:
        """That of the round of these ``numbers``, of ``most`` in all; None where there is none for this process."""
        if self.team.rank >= len(numbers):
            return None
        number, course, begun = numbers[self.team.rank], self._course(imposed), None
        if imposed is not None:
            begun = on(imposed.turned, self.sets.sphere.device)
            if number > 0 or not imposed.shown:
                begun = with_random_detail(begun, self.settings, number, self.sets.sphere)

        def told(step: int) -> None:
            done = numbers[0] + (step + 1) / course.steps * len(numbers)
            self.told(stage_of(imposed), done / most)

        seed = number if imposed is None else -1 - number
        self._last = soft_stage(self.sets.known, self.settings, seed, told, course, begun)
        return self._last

    def judge(self, inverse_temperature: float, imposed: Imposed | None) -> Judgement | None:
        """What unseen images say of the start that was made last."""
        soft, self._last = self._last, None
        if soft is None:
            return None
        about = soft.share, self.settings, inverse_temperature, self.sets.sphere
        return judge(self.sets.hidden, soft.maps.volumes, *about, self._course(imposed))

    def _course(self, imposed: Imposed | None) -> Course:
        course = Course.of_start if imposed is None else Course.with_symmetry
        return course(self.settings)


def stage_of(imposed: Imposed | None) -> str:
    """As progress and checkpoints have it."""
    return "starts" if imposed is None else "symmetry"


@dataclass(frozen=True)
class Trials:
    """``most`` starts at most by their number, on rank 0: those that are not kept are made in rounds of as many as there are processes.

    All are judged at the temperature of the first.
    """

    team: Team
    kept: Kept
    most: int
    imposed: Imposed | None = None

    def __call__(self, number: int) -> Trial:
        """The start of this number, after those before it."""
        if self._name(number) not in self.kept.values:
            self._round(number)
        found = self.kept.find(self._name(number), Trial)
        assert found is not None
        return found

    def _name(self, number: int) -> str:
        return f"{stage_of(self.imposed)}/{number}"

    def _round(self, first: int) -> None:
        numbers = list(range(first, min(first + self.team.world, self.most)))
        softs = self.team.ask("start", numbers, self.most, self.imposed)
        inverse = self(0).soft.inverse_temperature if first else softs[0].inverse_temperature
        judged = self.team.ask("judge", inverse, self.imposed)
        for number, soft, judgement in zip(numbers, softs, judged, strict=False):
            self.kept.put(self._name(number), Trial(soft, judgement))


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
