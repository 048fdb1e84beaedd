"""Classes with a pose search: passes over all images, from several maps, or from one whose classes images with known poses begin.

1. One map for several classes: passes with this one map find poses; images at these poses make classes (``classify``).
2. Passes: every image is searched against all maps of its half set, everywhere until its pose is stable; the posterior is held wide at first;
   the limit follows the best FSC of all classes.
3. In the end all images make the maps, also those that were left out until then, which tell whether several states are seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cryotorch.ops.resolution.fsc import THRESHOLD, crossing_shell
from cryotorch.refinement.class_search import Before
from cryotorch.refinement.hetero.class_sums import ClassHalves
from cryotorch.refinement.hetero.posterior import annealed_ess, class_ess, log_shares, tempered
from cryotorch.refinement.hetero.references import References, make_references
from cryotorch.refinement.hetero.searched import Compared, SearchedPart, Wanted, measured_part
from cryotorch.refinement.hetero.settings import HeteroSettings
from cryotorch.refinement.noise_factors import noise_factors
from cryotorch.refinement.pose_search.stable_poses import stable_poses, update_stability
from cryotorch.refinement.runtime.kept import Kept
from cryotorch.refinement.runtime.team import on

ANNEALED = 4  # passes over which the similarity falls to none
JUNK_FROM = 2  # passes after which junk competes: maps must first be those of the images
# Part of the images that change class at the end; where junk is one, which has few, and these leave the maps one by one; and shells that the
# limit moves.
CALM, CALM_WITH_JUNK, MOVED = 0.05, 0.005, 1.0
GROWTH = 1.6  # of the limit in a pass, at most
# Images are inserted up to so many times the limit and so many shells more, so that the FSC there is known.
BEYOND = 1.3, 2.0
FIRST_JUNK, LEAST_JUNK = 0.1, 0.02  # share of junk when it begins, and at least
Told = Callable[[str, float], None]


@dataclass(frozen=True)
class SearchPass:
    """Where a run is.

    Attributes:
        volumes: (2, k, d, d, d) for the next search, to ``limit`` Fourier pixels; influence: (2, k, d // 2 + 1), diluted: (d // 2 + 1,), see ``Wanted``.
        share: (n, k or k + 1) posteriors; noise: (groups, d // 2 + 1) how many times the noise is what it was assumed to be.
        before: last poses, None before the first pass; stable: (n,) passes that left no doubt of the pose.
        number: of passes; ess: mean effective number of classes of an image; inverse: temperature of the posteriors, 1 / T.
        changed: part of the images that changed class; moved: shells that the limit moved; flow: (j, j) images from class to class.
        fsc: (k, d // 2 + 1) between the halves of each class, under the mask.
        shares: (p, k + 1) of the classes after each pass, junk last; changes: (p,) what ``changed`` was.
    """

    volumes: Tensor
    limit: float
    influence: Tensor
    diluted: Tensor
    share: Tensor
    noise: Tensor
    before: Before | None
    stable: Tensor
    number: int
    ess: float
    inverse: float
    changed: float
    moved: float
    flow: Tensor
    fsc: Tensor
    shares: Tensor
    changes: Tensor

    @property
    def classes(self) -> int:
        """k, without junk."""
        return self.volumes.shape[1]


@dataclass(frozen=True)
class Refiner:
    """What passes are made with, on rank 0.

    Attributes:
        part: of all processes; unseen: (n,) images that are in no map until the end.
        mask: gives the mask (d, d, d) of maps (k, d, d, d), with the resolution that they have, in Fourier pixels.
        one_frame: whether the maps are states of one particle, that lie in one frame; junk: whether images may show no particle.
        annealed: whether posteriors are held wide at first.
    """

    part: SearchedPart
    settings: HeteroSettings
    image: Tensor
    unseen: Tensor
    mask: Callable[[Tensor, float], Tensor]
    one_frame: bool
    junk: bool = False
    annealed: bool = False

    def begun(self, maps: Tensor, limit: float) -> SearchPass:
        """Before the first pass, from maps (k, d, d, d) of the images' grey scale."""
        k, n, shells = len(maps), len(self.unseen), maps.shape[-1] // 2 + 1
        device = maps.device
        nothing = torch.zeros(2, k, shells, device=device)
        return SearchPass(
            maps.expand(2, -1, -1, -1, -1).clone(),
            *(limit, nothing, nothing[0, 0], torch.zeros(n, k, device=device)),
            *(torch.ones(self.part.groups, shells, device=device), None),
            *(torch.zeros(n, dtype=torch.int64, device=device), 0, float(k), 1.0, 1.0, 0.0),
            *(torch.zeros(k, k, dtype=torch.float64), nothing[0].double()),
            *(torch.zeros(0, k + 1), torch.zeros(0)),
        )

    def wanted(self, state: SearchPass) -> Wanted:
        """What the next search of a pass is made with."""
        junk = self.junk and state.number >= JUNK_FROM
        near = stable_poses(state.stable.cpu(), state.number).to(state.stable.device)
        return Wanted(
            *(state.volumes, state.limit, self.seen(state.share), state.influence, state.diluted),
            *(state.noise, junk, state.before, near),
        )

    def searched(self, state: SearchPass) -> Compared:
        """All images beside the maps of a pass."""
        parts = on(self.part.team.ask("search classes", self.wanted(state)), self.part.device)
        return Compared.joined(parts)

    def next_pass(self, state: SearchPass, target: float) -> SearchPass:
        """One pass; ``target``: least mean effective number of classes of an image."""
        found, k = self.searched(state), state.classes
        share, inverse = posterior(found, state.share, target, k)
        beyond = min(BEYOND[0] * state.limit + BEYOND[1], self.settings.limit)
        power, count, halves = self.inserted(self.seen(share)[:, :k], state.noise, beyond)
        references = self.references(halves, state.limit)
        shell = float(max(crossing_shell(curve, THRESHOLD) for curve in references.fsc))
        most = min(GROWTH * state.limit, self.settings.limit, beyond)
        limit = min(max(shell, self.settings.first_limit), most)
        old, new = state.share.argmax(1), share.argmax(1)
        j = share.shape[1]
        flow = torch.bincount((old * j + new).cpu(), minlength=j * j).view(j, j).double()
        changed = 1.0 if state.number == 0 else float((old != new).double().mean())
        noise = state.noise * noise_factors(power, count, self.settings.grid.box)
        # of what states of one frame differ by, all comes back as far as is known: in the map of all classes each finds as much of itself
        part = measured_part(found) if self.apart(k) else torch.ones_like(state.diluted)
        stable = update_stability(state.stable, found.turn, found.move, found.certain)
        return SearchPass(
            *(references.volumes, limit, references.influence, part),
            *(share, noise, found.before, stable, state.number + 1, class_ess(share), inverse),
            *(changed, limit - state.limit, flow, references.fsc),
            torch.cat([state.shares, sizes(share, k)[None].to(state.shares)]),
            torch.cat([state.changes, state.changes.new_tensor([changed])]),
        )

    def inserted(
        self, share: Tensor, noise: Tensor, limit: float
    ) -> tuple[Tensor, Tensor, ClassHalves]:
        """Residual power, number of images (see ``SearchedPart.insert``) and half maps of images with shares (n, k)."""
        parts = on(self.part.team.ask("insert classes", share, noise, limit), self.part.device)
        power, count = (torch.stack(values).sum(0) for values in zip(*parts, strict=True))
        assert self.part.sums is not None
        return power, count, self.part.sums.halves()

    def references(self, halves: ClassHalves, limit: float) -> References:
        """What images are compared with next."""
        mask = self.mask(halves.joint, limit)
        split = self.settings.split
        if not self.apart(halves.classes.shape[1]):
            return make_references(halves, split, mask)
        apart = torch.zeros_like
        halves = replace(
            halves, pooled=apart(halves.pooled), joint_pooled=apart(halves.joint_pooled)
        )
        return make_references(halves, split, mask, lenient=True)

    def apart(self, classes: int) -> bool:
        """Whether each of so many maps is filtered by itself, and not by what it differs by from the map of all."""
        return classes == 1 or not self.one_frame

    def seen(self, share: Tensor) -> Tensor:
        """The same shares (n, j), 0 for images that are in no map until the end."""
        return torch.where(self.unseen[:, None], 0.0, share)

    def finished(self, state: SearchPass) -> bool:
        """Whether nobody changes class any more, or enough passes were made."""
        made = len(state.changes)  # in this stage
        if made >= self.settings.most_passes:
            return True
        calm = CALM if not self.junk else CALM_WITH_JUNK
        settled = state.changed < calm and abs(state.moved) <= MOVED
        least = ANNEALED if self.annealed else 1
        return settled and made > least + (JUNK_FROM if self.junk else 0)


def posterior(found: Compared, before: Tensor, target: float, classes: int) -> tuple[Tensor, float]:
    """Posteriors (n, j) with shares of the classes as in those before (n, j or fewer), and their inverse temperature.

    Junk is not held wide: ``target`` is of the k classes.
    """
    evidence = found.evidence.double()
    prior = log_prior(before if bool(before.any()) else evidence[:, :classes].softmax(1), classes)
    share, inverse = tempered(evidence[:, :classes] + prior[:classes], target)
    if evidence.shape[1] == classes:
        return share, inverse
    if len(prior) == classes:  # junk begins
        prior = torch.cat([prior + math.log(1 - FIRST_JUNK), prior.new_tensor([FIRST_JUNK]).log()])
    every = evidence + prior
    particle = (every[:, :classes].logsumexp(1) - every.logsumexp(1)).exp()[:, None]
    return torch.cat([share * particle, 1 - particle], 1).float(), inverse


def sizes(share: Tensor, classes: int) -> Tensor:
    """(k + 1,) part of the images that are most probably in each of k classes, by posteriors (n, j), and in junk."""
    return torch.bincount(share.argmax(1), minlength=classes + 1).double() / len(share)


def log_prior(share: Tensor, classes: int) -> Tensor:
    """Logarithms (j,) of the shares of k classes, and of junk, by posteriors (n, j)."""
    prior = log_shares(share[share.sum(1) > 0][:, :classes])
    if share.shape[1] == classes:
        return prior
    junk = share[:, classes].double().mean().clamp(LEAST_JUNK, 1 - LEAST_JUNK)
    return torch.cat([prior + (1 - junk).log(), junk.log()[None]])


def passes(refiner: Refiner, state: SearchPass, name: str, told: Told, kept: Kept) -> SearchPass:
    """Passes until nobody changes class; each is kept by this ``name``."""
    state = kept.find(name, SearchPass) or state
    settings = refiner.settings
    while not refiner.finished(state):
        target = 1.0
        if refiner.annealed:
            target = annealed_ess(state.number + 1, ANNEALED, settings.ess, state.classes)
        state = refiner.next_pass(state, target)
        kept.put(name, state)
        told(name, len(state.changes) / settings.most_passes)
    told(name, 1.0)
    return state
