"""The ways to find the poses of a batch, alike to call: climbing from a coarse grid, and branch and bound."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from cryotorch.ops.pose.scores import Observation
from cryotorch.refinement.pose_search.branch_and_bound import (
    PowerTable,
    Pruning,
    bounded_search,
    power_table,
)
from cryotorch.refinement.pose_search.local import local_candidates
from cryotorch.refinement.pose_search.pose_prior import PosePrior
from cryotorch.refinement.pose_search.search import Poses, Reference, coarse_candidates, polish
from cryotorch.refinement.runtime.timing import Clock
from cryotorch.refinement.settings import SearchExtent, SearchSettings

RELOCATE = 2.0  # pixels around the last centre that later coarse searches look at


class Start(NamedTuple):
    """What is known of the poses of b images before they are searched.

    Attributes:
        rotation: (b, 3, 3) of the last iteration; None = nothing is known.
        shift_px: (b, 2) around which shifts are searched.
        prior: that ties them, in a local search; else None.
        settled: (b,) bool, poses that have come back to themselves and are not searched anew; None = none has.
    """

    rotation: Tensor | None
    shift_px: Tensor
    prior: PosePrior | None
    settled: Tensor | None


class Climb:
    """Candidates of a coarse grid, each climbed to its peak."""

    def __init__(self, settings: SearchSettings, clock: Clock) -> None:
        self.settings, self.clock = settings, clock
        self.reference: Reference | None = None

    def use(self, reference: Reference) -> None:
        """Search against this reference from now on."""
        self.reference = reference

    def __call__(self, seen: Observation, start: Start) -> tuple[Poses, None]:
        """The best pose of every image."""
        reference, s = self.reference, self.settings
        assert reference is not None  # ``use`` comes first
        if start.settled is not None:
            return self._unsettled(seen, start, start.settled), None
        where = start.rotation, start.shift_px
        with self.clock.phase("coarse"):
            if start.prior is not None:
                assert start.rotation is not None  # a local search starts from poses
                here = start.rotation, start.shift_px
                candidates = local_candidates(reference, seen, *here, start.prior, s)
            else:
                candidates = coarse_candidates(reference, seen, *where, extent(start, s), s)
        with self.clock.phase("polish"):
            return polish(reference, seen, *candidates, s, start.prior), None

    def _unsettled(self, seen: Observation, start: Start, settled: Tensor) -> Poses:
        """A global search for those that need one; settled poses climb on from where they are."""
        reference, s = self.reference, self.settings
        assert reference is not None
        assert start.rotation is not None  # settled poses are known
        moving, resting = (torch.nonzero(x)[:, 0] for x in (~settled, settled))
        found = []
        if len(moving):
            some = seen.of(moving)
            where = start.rotation[moving], start.shift_px[moving]
            with self.clock.phase("coarse"):
                candidates = coarse_candidates(reference, some, *where, RELOCATE, s)
            with self.clock.phase("polish"):
                found.append(polish(reference, some, *candidates, s))
        if len(resting):
            with self.clock.phase("polish"):
                image = torch.arange(len(resting), device=resting.device)
                here = image, start.rotation[resting], start.shift_px[resting]
                limit = max(reference.coarse_limit, reference.limit / 2)
                found.append(polish(reference, seen.of(resting), *here, s, first=limit))
        if len(found) == 1:
            return found[0]
        return found[0].joined(found[1], torch.cat([moving, resting]))


class Bound:
    """Branch and bound, see that module; ``reach``: of a local search."""

    def __init__(self, settings: SearchSettings, clock: Clock, reach: SearchExtent | None) -> None:
        self.settings, self.clock, self.reach = settings, clock, reach
        self.reference: Reference | None = None
        self.table: PowerTable | None = None

    def use(self, reference: Reference) -> None:
        """Search against this reference from now on."""
        self.reference = reference
        self.table = power_table(reference, self.settings, self.reach)

    def __call__(self, seen: Observation, start: Start) -> tuple[Poses, Pruning]:
        """The best pose of every image, and what was discarded on the way."""
        s = self.settings
        where = start.rotation, start.shift_px, extent(start, s), start.prior
        with self.clock.phase("bound"):
            assert self.reference is not None and self.table is not None  # ``use`` comes first
            return bounded_search(self.reference, self.table, seen, *where, s)


def extent(start: Start, settings: SearchSettings) -> float:
    """Pixels around ``start.shift_px`` in which shifts are looked for."""
    return settings.shift_extent if start.rotation is None else RELOCATE
