"""Images searched against the maps of their own half set: evidence of each class without what an image finds of itself, and insertion.

An image that is in a map finds a part h of its own noise there, and the more the finer the shell: a class would keep whatever it holds. With r
the residual against a class in a coefficient, that against the map without the image is r / (1 - h)^2, see ``fixed_poses.compare``. As images go
into a map over the posterior of their pose, less of them comes back than at a known pose; how much less is measured, shell by shell, by images
that are in no map (``measured_part``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from cryotorch.ops.fourier.image_model import predict
from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.ops.geometry.rotations import rotation_angle
from cryotorch.ops.pose.scores import Observation, residual_power
from cryotorch.refinement.class_search import AT_ONCE, Before, ClassSearch, Found
from cryotorch.refinement.hetero.class_sums import ClassSums, merge_all
from cryotorch.refinement.hetero.fixed_poses import MOST_OF_ITSELF
from cryotorch.refinement.hetero.junk import junk_evidence, mean_power
from cryotorch.refinement.hetero.settings import HeteroSettings
from cryotorch.refinement.noise_factors import noise_power, with_noise
from cryotorch.refinement.pose_search.search import Poses
from cryotorch.refinement.runtime.team import Team, on


@dataclass(frozen=True)
class Compared:
    """What a process found of its images, classes k and one more where junk has one.

    Attributes:
        evidence: (n, k or k + 1); before: the poses against each class; found: with the share that evidence alone gives.
        certain: (n,) bool, whether the search had no second candidate; turn: (n,) radians, modulo the group, and move: (n,) pixels from the
            last pose, infinite for none, all of the best class.
        own: (2, s) residual over assumed power, sums over images that are in maps, and over those that are in none; number: (2, s) of
            coefficients; expected: (s,) sum over coefficients of images in maps of the part h that they would find of themselves at a known pose.
    """

    evidence: Tensor
    before: Before
    found: Found
    certain: Tensor
    turn: Tensor
    move: Tensor
    own: Tensor
    number: Tensor
    expected: Tensor

    @classmethod
    def joined(cls, parts: Sequence[Compared]) -> Compared:
        """Those of parts of the images, one after the other."""
        made = {}
        for field in fields(cls):
            values = [getattr(part, field.name) for part in parts]
            if isinstance(values[0], Before | Found):
                made[field.name] = type(values[0]).joined(values)
            elif field.name in ("own", "number", "expected"):
                made[field.name] = torch.stack(values).sum(0)
            else:
                made[field.name] = torch.cat(values)
        return cls(**made)


@dataclass(frozen=True)
class Wanted:
    """What a search is to be made with.

    Attributes:
        volumes: (2, k, d, d, d) of half sets and classes; limit: Fourier pixels.
        share: (n, k or k + 1) with which images are in the maps, 0 in none; influence: (2, k, s) of ``References``; diluted: (s,) part of it.
        noise: (groups, s) factors; junk: whether there is such a class.
        before: last poses of all images, or None; near: (n,) bool, those that are climbed from.
    """

    volumes: Tensor
    limit: float
    share: Tensor
    influence: Tensor
    diluted: Tensor
    noise: Tensor
    junk: bool
    before: Before | None = None
    near: Tensor | None = None


class SearchedPart:
    """The part of the images that a process searches in every pass: what ``team`` can be asked for as "search classes",
    "insert classes" and "judge classes".

    Args:
        images: all n; half, group: (n,) half set and optics group.
        shift_extent: pixels.
    """

    def __init__(
        self,
        images: Observation,
        half: Tensor,
        group: Tensor,
        settings: HeteroSettings,
        shift_extent: float,
        team: Team,
    ) -> None:
        self.settings, self.shift_extent, self.team = settings, shift_extent, team
        self.rows, self.groups = team.part(len(half), 1), int(group.max()) + 1
        self.images = images.of(self.rows)
        self.half, self.group = half[self.rows], group[self.rows]
        self.searches: list[ClassSearch] = []
        self.poses: list[tuple[Tensor, list[Poses]]] = []
        self.sums: ClassSums | None = None
        team.tasks["search classes"] = self.search
        team.tasks["insert classes"] = self.insert
        team.tasks["judge classes"] = self.judge

    @property
    def device(self) -> torch.device:
        """Where the images are."""
        return self.images.gain.device

    def search(self, wanted: Wanted) -> Compared:
        """Search this process's images, each against the maps of its half set; the poses are kept for ``insert``."""
        wanted = on(wanted, self.device)
        about = wanted.limit, self.settings.group, self.shift_extent
        self.searches = [ClassSearch(maps, *about) for maps in wanted.volumes]
        self.poses, parts, order = [], [], []
        every = torch.arange(len(self.half), device=self.device)
        for h in (0, 1):
            for rows in every[self.half == h].split(AT_ONCE):
                parts.append(self._search(wanted, h, rows))
                order.append(rows)
        found = Compared.joined(parts)
        return _in_order(found, torch.cat(order).argsort())

    def _search(self, wanted: Wanted, h: int, rows: Tensor) -> Compared:
        """What was found of some of this process's images, ``rows`` (b,), of half set h."""
        search, at = self.searches[h], rows + self.rows.start
        images = with_noise(self.images.of(rows), wanted.noise, self.group[rows])
        before = wanted.before and wanted.before.of(at)
        near = None if wanted.near is None else wanted.near[at]
        poses, evidence = search(images, before, near)
        self.poses.append((rows, poses))
        if wanted.junk:
            alone = _junk(search, images, wanted.limit)
            evidence = torch.cat([evidence, alone], 1)
        share = wanted.share[at]
        if share.shape[1] < evidence.shape[1]:  # junk begins
            share = torch.cat([share, torch.zeros_like(share[:, :1])], 1)
        seen = (share.sum(1) > 0)[:, None]
        by = torch.where(seen, share, evidence.softmax(1).float())
        added, tallies = _without_itself(search, images, poses, by, seen, wanted, h)
        evidence[:, : len(poses)] += added
        found = Found.of_best(poses, evidence.softmax(1).float(), images, wanted.limit)
        best = evidence[:, : len(poses)].argmax(1)
        certain = torch.stack([p.certain for p in poses], 1)
        certain = torch.take_along_dim(certain, best[:, None], 1)[:, 0]
        far = torch.full((len(rows),), torch.inf, device=rows.device)
        turn = move = far
        if before is not None:
            one = torch.arange(len(best), device=best.device)
            last = before.rotation[one, best]
            for g in self.settings.group.to(last):
                turn = torch.minimum(turn, rotation_angle(found.rotation, last @ g))
            move = (found.shift_px - before.shift_px[one, best]).norm(dim=1)
        return Compared(evidence, Before.of_poses(poses), found, certain, turn, move, *tallies)

    def insert(self, share: Tensor, noise: Tensor, limit: float) -> tuple[Tensor, Tensor]:
        """Make the sums ``sums``, those of all processes, of images with shares (n, k) in the classes, at the poses that were found last.

        Returns residual power over assumed (groups, m), up to the limit of the search, of the most probable classes, and the number (groups,) of images.
        """
        share, noise = share.to(self.device)[self.rows], noise.to(self.device)
        settings, k = self.settings, len(self.searches[0].references)
        self.sums = ClassSums(settings.grid.box, k, limit, settings.group, settings.padding)
        inserted = self.sums.new(self.device)
        power, count = None, torch.zeros(self.groups, dtype=torch.int64, device=self.device)
        for rows, poses in self.poses:
            h = int(self.half[rows[0]])
            group = self.group[rows]
            images = with_noise(self.images.of(rows), noise, group)
            sums = [[halves[number] for halves in inserted] for number in range(k)]
            self.searches[h].insert(images, poses, share[rows], self.half[rows], sums, limit)
            mine = torch.nonzero(share[rows].sum(1) > 0.5)[:, 0]
            some = [poses_of.of(mine) for poses_of in poses]
            residual = self.searches[h].residual(images.of(mine), some, share[rows][mine].argmax(1))
            of_group = noise_power(images.of(mine), residual, group[mine], self.groups)
            power = of_group if power is None else power + of_group
            count += torch.bincount(group[mine], minlength=self.groups)
        merge_all(inserted, self.team.sum_)
        self.sums.take(inserted)
        assert power is not None
        return power, count

    def judge(self, maps: Tensor, like: Tensor, wanted: Wanted, rows: Tensor) -> Tensor:
        """Evidence (h, j) of this process's images among ``rows`` of all for maps (j, d, d, d), at any scale, 0 or more, climbed from the last poses.

        like (j,): class of ``wanted.before`` whose pose an image is climbed from for each map. One more column where junk has a class.
        """
        wanted, maps = on(wanted, self.device), maps.to(self.device)
        mine = (rows >= self.rows.start) & (rows < self.rows.stop)
        rows = (rows[mine] - self.rows.start).to(self.device)
        search = ClassSearch(maps, wanted.limit, self.settings.group, self.shift_extent)
        out = [maps.new_zeros(0, len(maps) + wanted.junk, dtype=torch.float64)]
        for some in rows.split(AT_ONCE):
            images = with_noise(self.images.of(some), wanted.noise, self.group[some])
            assert wanted.before is not None
            before = wanted.before.of(some + self.rows.start)
            before = Before(before.rotation[:, like], before.shift_px[:, like])
            near = torch.ones(len(some), dtype=torch.bool, device=self.device)
            poses, evidence = search(images, before, near)
            for number, found in enumerate(poses):
                cross, power = found.terms.cross.clamp_min(0), found.terms.power.clamp_min(1e-30)
                evidence[:, number] += (cross.square() / power - 2 * found.terms.score).double()
            if wanted.junk:
                evidence = torch.cat([evidence, _junk(search, images, wanted.limit)], 1)
            out.append(evidence)
        return torch.cat(out)


def _junk(search: ClassSearch, images: Observation, limit: float) -> Tensor:
    """Evidence (b, 1) of junk of the mean power of the maps."""
    powers = [mean_power(one.slices, limit) for one in search.references]
    return junk_evidence(images, torch.stack(powers).mean(0))[:, None]


def _without_itself(
    search: ClassSearch,
    images: Observation,
    poses: list[Poses],
    share: Tensor,
    seen: Tensor,
    wanted: Wanted,
    h: int,
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """What is to be added to the evidence (b, k) for each image's own part in the maps, and what ``measured_part`` takes.

    share (b, k): with which an image is in the maps, where it is ``seen`` (b, 1); of others the posterior.
    """
    plane, box = half_plane(images.box, share.device), images.box
    count = plane.count(wanted.limit)
    shell, shells = plane.shell[:count], box // 2 + 1
    y, gain, precision = (v[:, :count] for v in (images.spectrum, images.gain, images.precision))
    weight, added = gain.square() * precision, []
    own, number = torch.zeros(2, 2, shells, dtype=torch.float64, device=share.device)
    expected = own.new_zeros(shells)
    for k, found in enumerate(poses):
        slices, stretch = search.references[k].slices, images.magnification
        f = predict(slices, found.rotation, found.shift_px, gain, magnification=stretch)
        residual = residual_power(y, f) * precision
        mine = share[:, k, None] * seen
        known = weight * wanted.influence[h, k][shell] * mine
        part = (known * wanted.diluted[shell]).clamp_max(MOST_OF_ITSELF)
        added.append((residual * (1 - (1 - part).square().reciprocal())).sum(1))
        for which, by in enumerate((mine, share[:, k, None] * ~seen)):
            by = by[:, 0].double()
            own[which].index_add_(0, shell, by @ residual.double())
            number[which].index_add_(0, shell, by.sum().expand(count))
        expected.index_add_(0, shell, mine[:, 0].double() @ known.double())
    return torch.stack(added, 1), (own, number, expected)


def measured_part(found: Compared) -> Tensor:
    """(s,) how much of what images would find of themselves at known poses they do find, 0 to 1, by images that are in no map.

    Their residuals are 1 / (1 - h)^2 of those of images that are; where too few tell, half of it.
    """
    seen, unseen = found.own / found.number.clamp_min(1)
    h = 1 - (seen / unseen.clamp_min(1e-30)).sqrt()
    known = found.expected / found.number[0].clamp_min(1)
    part = h / known.clamp_min(1e-12)
    # a mean of n residuals has a standard error of n^(-1/2), and h half of its
    error = 0.5 * (1 / found.number.clamp_min(1)).sum(0).sqrt() / known.clamp_min(1e-12)
    weight = 1 / (1 + error.square())
    told = torch.where(found.number.amin(0) > 0, weight * part + (1 - weight) * 0.5, 0.5)
    return told.clamp(0, 1).float()


def _in_order(found: Compared, order: Tensor) -> Compared:
    """The images in another order (n,)."""
    n, made = len(order), {}
    for field in fields(found):
        value = getattr(found, field.name)
        if isinstance(value, Before | Found):
            made[field.name] = value.of(order)
        elif field.name in ("own", "number", "expected"):
            made[field.name] = value
        else:
            assert len(value) == n
            made[field.name] = value[order]
    return Compared(**made)
