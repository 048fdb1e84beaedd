"""The second stage: few poses per image, found by the refinements' search against each class's map, up to the last resolution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cryotorch.ops.fourier.slices import Accumulator, merge_
from cryotorch.ops.pose.scores import Observation
from cryotorch.refinement.ab_initio.class_maps import RunningSums
from cryotorch.refinement.ab_initio.settings import AbInitioSettings
from cryotorch.refinement.class_search import AT_ONCE, Before, ClassSearch, Found
from cryotorch.refinement.noise_factors import noise_factors, noise_power, with_noise
from cryotorch.refinement.runtime.team import Team, on

LEAST_SHARE = 1e-3  # of the images, that a class counts as having


def search_all(
    search: ClassSearch,
    share: Tensor,
    images: Observation,
    before: Before | None = None,
    sums: list[list[Accumulator]] | None = None,
    told: Callable[[int], None] = lambda images: None,
) -> tuple[Found, Before, Tensor]:
    """Search n images of classes with a share (k,), and insert them where there are sums, every other one into each half.

    Returns what was found, the poses against each class, and the residual power (n, m), m up to the limit.
    """
    found, every, residuals = [], [], []
    n, device = len(images.spectrum), images.spectrum.device
    for rows in torch.arange(n, device=device).split(AT_ONCE):
        some = images.of(rows)
        poses, evidence = search(some, before and before.of(rows))
        posterior = (evidence + share.log()).softmax(1).float()
        every.append(Before.of_poses(poses))
        if sums is not None:
            search.insert(some, poses, posterior, rows % 2, sums)
        residuals.append(search.residual(some, poses, posterior.argmax(1)))
        found.append(Found.of_best(poses, posterior, some, search.limit))
        told(len(rows))
    return Found.joined(found), Before.joined(every), torch.cat(residuals)


@dataclass(frozen=True)
class Narrow:
    """Where the narrow stage is.

    Attributes:
        maps: (k, d, d, d); share: (k,); before: the last poses against each class.
        noise: (groups, d // 2 + 1) how many times the noise is what it was assumed to be.
        passes: that were made.
    """

    maps: Tensor
    share: Tensor
    noise: Tensor
    before: Before | None = None
    passes: int = 0

    @classmethod
    def begun(cls, maps: Tensor, share: Tensor, groups: int) -> Narrow:
        """Before the first pass, from maps (k, d, d, d) with share (k,), for images of so many optics groups."""
        share = share.clamp_min(LEAST_SHARE)
        return cls(maps, share / share.sum(), maps.new_ones(groups, maps.shape[-1] // 2 + 1))


@dataclass(frozen=True)
class Searched:
    """What a process found of its part of the images; power: (groups, m) residual over assumed, count: (groups,) of images."""

    found: Found
    before: Before
    power: Tensor
    count: Tensor


class NarrowPart:
    """The part of the images that a process searches in every pass: what ``team`` can be asked for as "search".

    Args:
        optics_group: (n,), each with a noise level of its own.
        told: hears which part of all passes and the last search is done.
    """

    def __init__(
        self,
        images: Observation,
        optics_group: Tensor,
        settings: AbInitioSettings,
        team: Team,
        told: Callable[[float], None] = lambda done: None,
    ) -> None:
        self.settings, self.team, self.told = settings, team, told
        self.running = RunningSums(settings, images.spectrum.device)
        self.groups = int(optics_group.max()) + 1
        self.rows = team.part(len(optics_group), 2)  # every other one is of one half
        self.images, self.optics_group = images.of(self.rows), optics_group[self.rows]
        self.sums: list[list[Accumulator]] = []
        team.tasks["search"] = self.search

    def search(self, state: Narrow, insert: bool) -> Searched:
        """Search them, and add them to ``sums``, which hold those of all processes then."""
        settings, device = self.settings, self.images.spectrum.device
        state = on(state, device)
        images = with_noise(self.images, state.noise, self.optics_group)
        limit = limit_of(settings, min(state.passes, settings.passes - 1))
        search = ClassSearch(state.maps, limit, settings.group, settings.shift_extent)
        self.sums = [[self.running.new(), self.running.new()] for _ in state.maps if insert]
        before, done = state.before and state.before.of(self.rows), 0

        def told(count: int) -> None:
            nonlocal done
            done += count
            self.told((state.passes + done / len(self.optics_group)) / (settings.passes + 1))

        found, before, residual = search_all(
            search, state.share, images, before, self.sums or None, told
        )
        for halves in self.sums:
            for half in halves:
                self.team.sum_(merge_(half))
        power = noise_power(images, residual, self.optics_group, self.groups)
        count = torch.bincount(self.optics_group, minlength=self.groups)
        return Searched(found, before, power, count)


def next_pass(part: NarrowPart, state: Narrow) -> Narrow:
    """One pass of all processes over all images, on rank 0."""
    settings = part.settings
    every = on(part.team.ask("search", state, True), part.images.spectrum.device)
    limit = limit_of(settings, state.passes)
    for k, halves in enumerate(part.sums):
        for half, inserted in enumerate(halves):
            part.running.add(k, half, inserted, limit, 0.0)
    share = torch.cat([one.found.share for one in every]).mean(0).clamp_min(LEAST_SHARE)
    power = torch.stack([one.power for one in every]).sum(0)
    count = torch.stack([one.count for one in every]).sum(0)
    return Narrow(
        part.running.maps(settings.group).volumes,
        share / share.sum(),
        state.noise * noise_factors(power, count, settings.grid.box),
        Before.joined([one.before for one in every]),
        state.passes + 1,
    )


def limit_of(settings: AbInitioSettings, number: int) -> float:
    """Fourier pixels, in a pass."""
    first, last = settings.soft_limit, settings.last_limit
    return first * (last / first) ** (number / max(1, settings.passes - 1))
