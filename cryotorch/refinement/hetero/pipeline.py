"""Several maps from images whose poses and classes are searched: from one map or several, to half maps of each class and what unseen images say."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cryotorch.ops.resolution.fsc import crossing_shell
from cryotorch.refinement.class_search import Before, Found
from cryotorch.refinement.class_shares import Agreement
from cryotorch.refinement.hetero.class_sums import ClassHalves
from cryotorch.refinement.hetero.classify import Masks, classify, held_out
from cryotorch.refinement.hetero.fixed_poses import pose_images
from cryotorch.refinement.hetero.part import ClassPart
from cryotorch.refinement.hetero.refine import (
    Refiner,
    SearchPass,
    Told,
    log_prior,
    passes,
    posterior,
    sizes,
)
from cryotorch.refinement.hetero.searched import SearchedPart
from cryotorch.refinement.hetero.settings import HeteroSettings
from cryotorch.refinement.hetero.verdict import Verdict, one_shape, verdict
from cryotorch.refinement.runtime.kept import Kept
from cryotorch.refinement.runtime.team import Team, on
from cryotorch.refinement.spectra import Spectra

ONE_FRAME = 0.7  # correlation of initial maps from which on they are states of one particle
MORE_SHELLS = 3  # than one map has in common (FSC 0.5), that classes are divided by


@dataclass(frozen=True)
class Refined:
    """What came of it.

    Attributes:
        share: (n, k or k + 1) posterior of the classes, of junk last; found: pose of every image against its best class.
        halves: half maps of all images; last: the last pass.
        verdict: of the images that were in no map; None for one class.
        agreement: of independent runs that divided one map, empty where it began with several.
    """

    share: Tensor
    found: Found
    halves: ClassHalves
    last: SearchPass
    verdict: Verdict | None
    agreement: list[Agreement]


@dataclass(frozen=True)
class Task:
    """What is to be divided.

    Attributes:
        spectra: of all particles, with half sets; image: (n,) number of the recorded image that a row shows.
        maps: (1 or k, d, d, d) initial maps on the grey scale of the images.
        mask: see ``Refiner``; junk: whether images may show no particle; shift_extent: pixels.
    """

    spectra: Spectra
    image: Tensor
    maps: Tensor
    mask: Callable[[Tensor, float], Tensor]
    shift_extent: float
    junk: bool = False


class Divider:
    """Makes the process's part of images at known poses, when these are known: what ``team`` can be asked for as "pose"."""

    def __init__(self, task: Task, settings: HeteroSettings, team: Team) -> None:
        self.task, self.settings, self.team = task, settings, team
        self.part: ClassPart | None = None
        team.tasks["pose"] = self.pose

    def pose(self, rotation: Tensor, shift_px: Tensor, rows: Tensor, limit: float) -> None:
        """At poses of all images (n, 3, 3), (n, 2), up to a limit in Fourier pixels; those of ``rows`` (r,) are divided."""
        spectra, n = copy.copy(self.task.spectra), len(rows)
        shift = shift_px.cpu() * spectra.grid.pixel_size
        rotation = rotation.cpu()
        spectra.particles = spectra.particles.replace(rotation=rotation, shift=shift)
        images = pose_images(spectra, rows[self.team.part(n, 1)], limit)
        settings = replace(self.settings, limit=limit)
        groups = int(spectra.particles.optics_group.max()) + 1
        self.part = ClassPart(images, n, groups, settings, self.team)


def take_part(
    task: Task, settings: HeteroSettings, team: Team, tell: Callable[[int], object]
) -> tuple[SearchedPart, Divider]:
    """Teach a process what ``refine`` asks all for: on other ranks it comes before ``team.serve``; ``tell`` hears how many images were read."""
    particles, device = task.spectra.particles, task.spectra.device
    images = task.spectra.together(torch.arange(len(particles)), tell)
    about = particles.half.to(device), particles.optics_group.to(device)
    part = SearchedPart(images, *about, settings, task.shift_extent, team)
    return part, Divider(task, settings, team)


def refine(
    task: Task,
    settings: HeteroSettings,
    parts: tuple[SearchedPart, Divider],
    told: Told,
    kept: Kept,
) -> Refined:
    """Classes of all images, on rank 0; ``parts``: of ``take_part``."""
    part, divider = parts
    unseen = held_out(task.image.to(part.device), settings)
    k, maps, agreed = settings.n_classes, task.maps, []
    frame = len(maps) == 1 or in_one_frame(maps)
    refiner = Refiner(part, settings, task.image, unseen, task.mask, frame, task.junk)
    if len(maps) == 1:
        first = passes(refiner, refiner.begun(maps, settings.first_limit), "one map", told, kept)
        state = first
        if k > 1:
            state, agreed = divided(refiner, divider, first, told, kept)
    else:
        refiner = replace(refiner, annealed=True)
        state = refiner.begun(maps, settings.first_limit)
    state = passes(refiner, state, "passes", told, kept)
    return finish(refiner, state, agreed, told)


def in_one_frame(maps: Tensor) -> bool:
    """Whether maps (k, d, d, d) are much the same as they lie."""
    flat = maps.flatten(1) - maps.flatten(1).mean(1, keepdim=True)
    unit = flat / flat.norm(dim=1, keepdim=True).clamp_min(1e-30)
    return float((unit @ unit.T).min()) > ONE_FRAME


def divided(
    refiner: Refiner, divider: Divider, first: SearchPass, told: Told, kept: Kept
) -> tuple[SearchPass, list[Agreement]]:
    """Before the first pass with k maps, from the last with one: images at the poses that it found choose among classes of random beginnings.

    Only images that are in maps, and show a particle, choose.
    """
    settings, part, k = refiner.settings, refiner.part, refiner.settings.n_classes
    assert first.before is not None
    reached = float(crossing_shell(first.fsc[0], 0.5)) + MORE_SHELLS
    limit = min(max(reached, settings.first_limit + 1), settings.limit)
    rotation, shift = first.before.rotation[:, 0], first.before.shift_px[:, 0]
    rows = torch.nonzero(~refiner.unseen & (first.share[:, 0] > 0.5))[:, 0].cpu()
    part.team.ask("pose", rotation, shift, rows, limit)
    assert divider.part is not None
    mask = refiner.mask(first.volumes.mean(0), first.limit)
    own = replace(settings, limit=limit, hard=False)
    image = divider.task.image[rows]
    found = classify(divider.part, image, Masks(mask, None), own, told, part.team, kept)
    references = refiner.references(found.halves, limit)
    share = first.share.new_zeros(len(first.share), first.share.shape[1] - 1 + k)
    share[:, k:] = first.share[:, 1:]
    share[rows, :k] = found.share.to(share) * first.share[rows, :1]
    before = Before(rotation[:, None].repeat(1, k, 1, 1), shift[:, None].repeat(1, k, 1))
    state = replace(
        first,
        volumes=references.volumes,
        limit=max(limit, settings.first_limit),
        influence=references.influence,
        share=share,
        before=before,
        changed=1.0,
        fsc=references.fsc,
        shares=sizes(share, k)[None].to(first.shares),
        changes=first.changes[:0].new_ones(1),
    )
    return state, found.agreement


def finish(refiner: Refiner, state: SearchPass, agreed: list[Agreement], told: Told) -> Refined:
    """Maps of all images, after those that were in none have told what they see."""
    k, limit = state.classes, refiner.settings.limit
    told("maps", 0.0)
    found = refiner.searched(state)
    share, _ = posterior(found, state.share, 1.0, k)
    judged = None
    if k > 1:
        _, _, halves = refiner.inserted(refiner.seen(share)[:, :k], state.noise, limit)
        judged = judge(refiner, replace(state, before=found.before), share, halves)
    told("maps", 0.5)
    into = share[:, :k]
    if refiner.settings.hard:
        into = torch.nn.functional.one_hot(share.argmax(1), share.shape[1])[:, :k].float()
    _, _, halves = refiner.inserted(into, state.noise, limit)
    told("maps", 1.0)
    posed = replace(found.found, share=share)
    return Refined(share, posed, halves, state, judged, agreed)


def judge(refiner: Refiner, state: SearchPass, share: Tensor, halves: ClassHalves) -> Verdict:
    """What unseen images say of the classes, beside one map of any strength: that of all classes, or of one, whichever is best.

    share (n, j): posteriors; ``halves``: maps without the unseen.
    """
    k, part = state.classes, refiner.part
    references = refiner.references(halves, state.limit)
    rows, wanted = torch.nonzero(refiner.unseen)[:, 0], refiner.wanted(state)
    merged = references.merged
    # images of nothing spoil the map of all: that of a class may be the better one map
    singles = [references.merged_pooled, *merged] if refiner.one_frame else []
    maps = torch.cat([merged, *(one_shape(merged, one) for one in singles)])
    like = torch.arange(k).repeat(1 + len(singles))
    parts = part.team.ask("judge classes", maps, like, wanted, rows.cpu())
    found = torch.cat(on(parts, part.device))
    several, junk = found[:, :k], found[:, len(maps) :]
    alone = list(found[:, k : len(maps)].split(k, 1)) if refiner.one_frame else []
    alone = alone or [several[:, j, None].expand(-1, k) for j in range(k)]
    prior = log_prior(share, k)[: k + junk.shape[1]]
    image = refiner.image[refiner.unseen]

    def beside(one: Tensor) -> Verdict:
        return verdict(torch.cat([several, junk], 1), torch.cat([one, junk], 1), prior, image)

    return min(map(beside, alone), key=lambda said: said.gain)
