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
        stable: (b,) bool, poses that have come back to themselves and are not searched anew; None = none has.
    """

    rotation: Tensor | None
    shift_px: Tensor
    prior: PosePrior | None
    stable: Tensor | None


class Climb:
    """Candidates of a coarse grid, each climbed to its peak."""

    def __init__(self, settings: SearchSettings, clock: Clock) -> None:
        self.settings, self.clock = settings, clock
        self.reference: Reference | None = None

    def use(self, reference: Reference) -> None:
        """Search against this reference from now on."""
        self.reference = reference

    def __call__(self, images: Observation, start: Start) -> tuple[Poses, None]:
        """The best pose of every image."""
        reference, settings = self.reference, self.settings
        assert reference is not None  # ``use`` comes first
        if start.stable is not None:
            return self._with_stable(images, start, start.stable), None
        where = start.rotation, start.shift_px
        with self.clock.phase("coarse"):
            if start.prior is not None:
                assert start.rotation is not None  # a local search starts from poses
                here = start.rotation, start.shift_px
                candidates = local_candidates(reference, images, *here, start.prior, settings)
            else:
                candidates = coarse_candidates(
                    reference, images, *where, shift_extent(start, settings), settings
                )
        with self.clock.phase("polish"):
            return polish(reference, images, *candidates, settings, start.prior), None

    def _with_stable(self, images: Observation, start: Start, stable: Tensor) -> Poses:
        """A global search for those that need one; stable poses climb on from where they are."""
        reference, settings = self.reference, self.settings
        assert reference is not None
        assert start.rotation is not None  # stable poses are known
        moving_rows, stable_rows = (torch.nonzero(x)[:, 0] for x in (~stable, stable))
        found = []
        if len(moving_rows):
            some = images.of(moving_rows)
            where = start.rotation[moving_rows], start.shift_px[moving_rows]
            with self.clock.phase("coarse"):
                candidates = coarse_candidates(reference, some, *where, RELOCATE, settings)
            with self.clock.phase("polish"):
                found.append(polish(reference, some, *candidates, settings))
        if len(stable_rows):
            with self.clock.phase("polish"):
                image = torch.arange(len(stable_rows), device=stable_rows.device)
                here = image, start.rotation[stable_rows], start.shift_px[stable_rows]
                limit = max(reference.coarse_limit, reference.limit / 2)
                found.append(
                    polish(reference, images.of(stable_rows), *here, settings, first=limit)
                )
        if len(found) == 1:
            return found[0]
        return found[0].joined(found[1], torch.cat([moving_rows, stable_rows]))


class Bound:
    """Branch and bound, see that module; ``extent``: of a local search."""

    def __init__(self, settings: SearchSettings, clock: Clock, extent: SearchExtent | None) -> None:
        self.settings, self.clock, self.extent = settings, clock, extent
        self.reference: Reference | None = None
        self.table: PowerTable | None = None

    def use(self, reference: Reference) -> None:
        """Search against this reference from now on."""
        self.reference = reference
        self.table = power_table(reference, self.settings, self.extent)

    def __call__(self, images: Observation, start: Start) -> tuple[Poses, Pruning]:
        """The best pose of every image, and what was discarded on the way."""
        settings = self.settings
        where = start.rotation, start.shift_px, shift_extent(start, settings), start.prior
        with self.clock.phase("bound"):
            assert self.reference is not None and self.table is not None  # ``use`` comes first
            return bounded_search(self.reference, self.table, images, *where, settings)


def shift_extent(start: Start, settings: SearchSettings) -> float:
    """Pixels around ``start.shift_px`` in which shifts are looked for."""
    return settings.shift_extent if start.rotation is None else RELOCATE
