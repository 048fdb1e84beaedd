"""Where the symmetry axes of a map lie that was reconstructed without symmetry, in any orientation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from cryotorch.ops.fourier.slices import extract_slices, projector
from cryotorch.ops.fourier.transforms import resize_volume
from cryotorch.ops.geometry.placement import centre_of_mass, shift_volume
from cryotorch.ops.geometry.rotations import (
    euler_to_matrix,
    fibonacci_directions,
    from_rotation_vector,
    random_rotations,
    rotation_grid,
)
from cryotorch.ops.geometry.symmetry import in_asymmetric_unit
from cryotorch.ops.geometry.symmetry_frame import mates
from cryotorch.ops.masks.soft import soft_sphere

MAX_LIMIT = 12.0  # Fourier pixels: finer detail places axes better than anybody needs
MIN_LIMIT = 4.0  # Fourier pixels: less tells nothing
MIN_UNITS = 12  # points of a shell in the asymmetric unit at least, for its mean
STEP = 0.4  # of the grid of frames, in Fourier pixels at the limit times the particle's radius in parts of the box
CLIMBS = 12  # frames of the grid that are climbed from
APART = math.radians(15)  # frames closer than this are one answer
RANDOM_FRAMES = 200  # that tell how well a wrong frame correlates by chance
FIRST_TURN, FIRST_MOVE = 0.06, 0.6  # radians and pixels of the coarse box
LAST_SIZE, ROUNDS = 0.05, 20  # of those, and steps at most
SHARES = (0.5, 1.0, 1.5)  # of a Newton step that are tried
AT_ONCE = 200_000  # values held at once
HIGH_DENSITY = 2.0  # standard deviations above which density counts for the centre of mass


@dataclass(frozen=True)
class Axes:
    """How a map is brought onto the axes of a point group, and how well it shows them.

    ``rotate_volume(shift_volume(volume, shift_px), rotation)`` lies on them. Correlations are of the map with itself turned by the
    operators, over what differs from a ball, all shells between a third of the limit and the limit alike: 1 for a map with the
    symmetry and without noise, signal / (signal + noise) with noise, about 0 for a map without it.

    Attributes:
        rotation: (3, 3) float64. About z it is free for Cn, and one of the normaliser's (``symmetry_frame.mates``) for all groups.
        shift_px: (3,) float64, pixels (x, y, z) before the rotation. Along the axis of Cn to the centre of mass.
        correlation: the mean over the operators but the identity, the largest of all frames.
        by_operator: (g,) float64, of each operator.
        runner_up: the mean in the best frame that has clearly other axes. As high as ``correlation`` where the map has a higher
            symmetry or, like a rod, nearly one; NaN where there is no other.
        chance, spread: mean and standard deviation of the mean over the operators in random frames. A scale, no test: the best of
            all frames lies 2 to 11 spreads above it in maps without the symmetry, too. ``lowest`` tells more: simulated maps without
            it reached 0.54, with it at an FSC of 0.5 at the limit 0.62 and more, but those that are nearly balls (icosahedral) 0.05.
    """

    rotation: Tensor
    shift_px: Tensor
    correlation: float
    by_operator: Tensor
    runner_up: float
    chance: float
    spread: float

    @property
    def lowest(self) -> float:
        """Of the operators the one that fits worst."""
        return float(self.by_operator.min())


def find_axes(volume: Tensor, group: Tensor, limit: float, radius: float) -> Axes:
    """The frame in which a map correlates best with its copies turned by the operators of a point group.

    Args:
        volume: (d, d, d), density positive, anywhere within some pixels of the middle.
        group: (g, 3, 3), not C1.
        limit: Fourier pixels up to which the map means something; more than 12 are not used.
        radius: of the sphere that holds the particle, as a part of the box.

    Raises ValueError for C1, for a limit below 4, and where there is no density.
    """
    if len(group) < 2:
        raise ValueError("C1 has no axes.")
    if limit < MIN_LIMIT:
        raise ValueError(f"Axes need a map up to {MIN_LIMIT:g} Fourier pixels, got {limit:g}.")
    look = _Look(
        volume, group.double().cpu(), min(limit, MAX_LIMIT, volume.shape[-1] / 2 - 1), radius
    )
    frames = look.grid()
    start = frames[look.best(frames, look(frames, frames.new_zeros(len(frames), 3)))]
    top, rotation, shift = look.climb(start)
    i = int(top.argmax())
    others = top[look.apart(rotation[i], rotation) > APART]
    random = random_rotations(RANDOM_FRAMES, torch.Generator().manual_seed(0)).double()
    by_chance = look(random, shift[i].expand(RANDOM_FRAMES, 3))
    return Axes(
        rotation[i],
        look.centre + shift[i] * look.scale,
        float(top[i]),
        look.by_operator(rotation[i], shift[i]),
        float(others.max()) if len(others) else math.nan,
        float(by_chance.mean()),
        float(by_chance.std()),
    )


class _Look:
    """A map's transform at points that come in whole orbits of a group, in any frame.

    In a frame R about a centre s, F(k) = transform of the shifted map at R^T k, and P(k) its mean over the orbit of k. With m the
    mean of a shell, which says nothing,

        rho = sum h (|P|^2 - m^2) / sum h (|F|^2 - m^2)

    is the share of the power that is symmetric: (1 + (g - 1) c) / g for a mean correlation c over the operators but the identity.
    """

    def __init__(self, volume: Tensor, group: Tensor, limit: float, radius: float) -> None:
        self.group, self.limit = group, limit
        self.normaliser = torch.cat([group, *(mate @ group for mate in mates(group))])
        self.free = bool((group.mean(0)[2, 2] - 1).abs() < 1e-6)  # Cn
        box = 2 * (math.ceil(limit) + 2)
        self.scale = volume.shape[-1] / box
        small = resize_volume(volume.float().cpu(), box)
        sphere = soft_sphere(box, min(radius, 0.48) * box, 1.5)
        shift = _to_centre(small, sphere)
        self.centre = shift * self.scale
        self.table = projector(shift_volume(small, shift) * sphere, limit + 1)
        self.step = STEP / (limit * radius)
        self.box = box
        self._place_points(limit)
        power = self._values(torch.eye(3)[None], torch.zeros(1, 3))[0].abs().square()
        mean = torch.zeros(len(self.count)).index_add(0, self.shell, power.mean(1))
        self.weight = (self.shell_size / mean.clamp_min(1e-30))[self.shell]

    def _place_points(self, limit: float) -> None:
        """One point of each orbit under the group and k -> -k, shell by shell, and the whole orbits: (u, g, 3)."""
        low, laue = max(2, int(limit) // 3), torch.cat([self.group, -self.group])
        points, shell, size = [], [], []
        for i, k in enumerate(range(low, int(limit) + 1)):
            n = max(math.ceil(4 * math.pi * k * k), MIN_UNITS * len(laue))
            direction = fibonacci_directions(n)
            unit = k * direction[in_asymmetric_unit(direction, laue)]
            points.append(unit)
            shell += [i] * len(unit)
            size.append(k * k / len(unit))
        self.shell, self.shell_size = torch.tensor(shell), torch.tensor(size)
        self.count = torch.bincount(self.shell).float()
        self.point = torch.einsum("gij,uj->ugi", self.group, torch.cat(points)).float()

    def _values(self, rotation: Tensor, shift: Tensor) -> Tensor:
        """The transform (b, u, g) of the map moved by shifts (b, 3), in frames (b, 3, 3); pixels of the coarse box."""
        points = self.point.flatten(0, 1)
        values = extract_slices(self.table, rotation.float(), points)
        if bool(shift.any()):
            moved = (rotation @ shift[..., None])[..., 0].float()
            turn = moved @ points.T * (-2 * math.pi / self.box)
            values = values * torch.polar(torch.ones_like(turn), turn)
        return values.unflatten(1, self.point.shape[:2])

    def _less_mean(self, product: Tensor, mean: Tensor) -> Tensor:
        """Products (b, u) summed over all points, less the squared mean of their shell; mean (b, u)."""
        of_shell = (
            torch.zeros(len(mean), len(self.count)).index_add(1, self.shell, mean) / self.count
        )
        return ((product - of_shell[:, self.shell].square()) * self.weight).sum(1)

    def __call__(self, rotation: Tensor, shift: Tensor) -> Tensor:
        """The mean correlation (b,) over the operators in frames (b, 3, 3), of the map moved by shifts (b, 3) first."""
        found, rows = [], max(1, AT_ONCE // self.point[..., 0].numel())
        for part in zip(rotation.split(rows), shift.split(rows), strict=True):
            values = self._values(*part)
            mean = values.mean(2)
            shared = self._less_mean(mean.abs().square(), mean.real)
            power = self._less_mean(values.abs().square().mean(2), mean.real)
            found.append(shared / power.clamp_min(1e-30))
        g = len(self.group)
        return (g * torch.cat(found) - 1) / (g - 1)

    def by_operator(self, rotation: Tensor, shift: Tensor) -> Tensor:
        """The correlation (g,) float64 with the map turned by each operator, in a frame (3, 3) and moved by a shift (3,)."""
        values = self._values(self.group.mT @ rotation, shift.expand(len(self.group), 3))
        mean = values[:1].mean(2).real
        product = (values * values[:1].conj()).real.mean(2)
        shared = self._less_mean(product, mean.expand(len(product), -1))
        return (shared / shared[0]).double()

    def grid(self) -> Tensor:
        """Frames (f, 3, 3) float64 that stand for all others, one of each of those with the same axes."""
        if self.free:
            z = fibonacci_directions(round(4 * math.pi / self.step**2))
            z = z[z[:, 2] >= 0]
            rot, tilt = torch.atan2(z[:, 1], z[:, 0]), torch.acos(z[:, 2].clamp(-1, 1))
            return euler_to_matrix(rot, tilt, torch.zeros_like(rot))
        grid = rotation_grid(self.step, lambda u: in_asymmetric_unit(u, self.normaliser))
        return grid.double().mT

    def apart(self, rotation: Tensor, others: Tensor) -> Tensor:
        """The angle (f,) in radians between the axes of a frame (3, 3) and of others (f, 3, 3)."""
        if self.free:
            return torch.acos((others[:, 2] @ rotation[2]).abs().clamp(max=1))
        trace = torch.einsum("nij,jk,fik->fn", self.normaliser, rotation, others).amax(1)
        return torch.acos(((trace - 1) / 2).clamp(-1, 1))

    def best(self, frames: Tensor, scores: Tensor) -> list[int]:
        """The highest of frames (f, 3, 3) with other axes each."""
        scores, found = scores.clone(), []
        while len(found) < CLIMBS and float(scores.max()) > -math.inf:
            found.append(int(scores.argmax()))
            scores[self.apart(frames[found[-1]], frames) < APART] = -math.inf
        return found

    def climb(self, rotation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """From frames (c, 3, 3) to the tops of their hills: correlations (c,), frames (c, 3, 3) and shifts (c, 3).

        Newton's method without mixed derivatives, from differences, beside single steps; the best of all is taken, all hills at
        once, as a small evaluation costs as much as many.
        """
        axes = torch.eye(3, dtype=torch.float64)[: 2 if self.free else 3]
        none = torch.zeros_like(axes)
        unit = torch.cat(
            [torch.cat([FIRST_TURN * axes, none], 1), torch.cat([none, FIRST_MOVE * axes], 1)]
        )
        singles = torch.cat([unit, -unit])
        shift = torch.zeros(len(rotation), 3, dtype=torch.float64)
        top, size = self(rotation, shift).double(), torch.ones(len(rotation), dtype=torch.float64)
        for _ in range(ROUNDS):
            step = size[:, None, None] * singles
            tried = self._after(rotation, shift, step)
            ahead, behind = tried.chunk(2, 1)
            slope, bend = (ahead - behind) / 2, ahead + behind - 2 * top[:, None]
            jump = torch.where(bend < 0, -slope / bend, 2 * slope.sign()).clamp(-2, 2)
            newton = (size[:, None] * jump) @ unit
            step = torch.cat(
                [step, newton[:, None] * torch.tensor(SHARES, dtype=torch.float64)[:, None]], 1
            )
            tried = torch.cat([tried, self._after(rotation, shift, step[:, len(singles) :])], 1)
            best, which = tried.max(1)
            taken = step[torch.arange(len(step)), which] * (best > top)[:, None]
            shift = shift + (rotation.mT @ taken[:, 3:, None])[..., 0]
            rotation = from_rotation_vector(taken[:, :3]) @ rotation
            near = (jump.abs().amax(1) < 0.5) | (best <= top)
            top, size = torch.maximum(best, top), torch.where(near, size / 2, size)
            if float(size.max()) < LAST_SIZE:
                break
        return top, rotation, shift

    def _after(self, rotation: Tensor, shift: Tensor, step: Tensor) -> Tensor:
        """The correlations (c, t) of frames (c, 3, 3) and shifts (c, 3) after steps (c, t, 6) along their axes: turn, then move."""
        turned = from_rotation_vector(step[..., :3]) @ rotation[:, None]
        moved = shift[:, None] + (rotation.mT[:, None] @ step[..., 3:, None])[..., 0]
        return self(turned.flatten(0, 1), moved.flatten(0, 1)).double().view(step.shape[:2])


def _to_centre(volume: Tensor, sphere: Tensor) -> Tensor:
    """The shift (3,) float64 in pixels that brings the centre of mass of a map (d, d, d) to the middle."""
    box, shift = volume.shape[-1], torch.zeros(3, dtype=torch.float64)
    least = HIGH_DENSITY * float(volume.std())
    for _ in range(3):
        inside = shift_volume(volume, shift) * sphere
        shift = shift + box // 2 - centre_of_mass((inside - least).clamp_min(0))
    return shift
