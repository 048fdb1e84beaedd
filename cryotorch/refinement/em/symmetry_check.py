"""Do the particles show the symmetry that they are given, about these axes? What the sums before symmetrising say."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from cryotorch.findings import Finding
from cryotorch.ops.fourier.coarse import coarse_sums
from cryotorch.ops.fourier.reconstruct import Halves
from cryotorch.ops.geometry.symmetry import point_group
from cryotorch.ops.geometry.symmetry_fit import Fit, SymmetryFit, box_for
from cryotorch.ops.geometry.symmetry_frame import (
    OtherAxes,
    conjugate,
    largest_group,
    other_axes,
    same_group,
    turn,
    z_alone,
    z_fold,
)
from cryotorch.refinement.runtime.ranks import Ranks
from cryotorch.refinement.settings import EMSettings
from cryotorch.refinement.state import State

CHECKED_AFTER = (
    0,
    1,
    3,
)  # iterations done: later the poses have adapted to the symmetry, right or wrong


@dataclass(frozen=True)
class Verdict:
    """What the sums say of a point group.

    Attributes:
        fits: False where they contradict it; None where they say too little.
        fit: of its operators but the identity; resolution: Å, of the half maps without symmetry; None where nothing is resolved.
        turn: (3, 3) that brings the map onto the axes of the group, where one does; words: that turn.
        warning: that they contradict it, and what would fit; None where they do not.
    """

    fits: bool | None
    fit: Fit | None = None
    resolution: float | None = None
    turn: Tensor | None = None
    words: str = ""
    warning: Finding | None = None


def judge_symmetry(look: SymmetryFit, group: Tensor, name: str, edge: float) -> Verdict:
    """Whether half maps show a point group (g, 3, 3) called ``name``; ``edge`` of the box in Å."""
    if len(group) == 1 or not look.resolves:
        return Verdict(None)
    group, resolution = group.double().cpu(), edge / look.high
    fit = look(group[1:])
    if not fit.wrong.any():
        return Verdict(True if fit.right.all() else None, fit, resolution)
    axes = _fitting(look, group)
    other = largest_group(group, lambda operators: bool(look(operators).right.all()))
    larger = other is not None and len(other[1]) > len(group)
    remedies = []
    if other is not None and (larger or axes is None):
        remedies.append(Finding("other_symmetry_fits", symmetry=other[0]))
    if axes is not None:
        also = next((n for n in ("I1", "I2", "I3", "I4") if _is(axes.group, n)), "")
        remedies.append(Finding("turn_fits", turn=axes.words, symmetry=also))
    lowest, highest = _range(fit)
    warning = Finding(
        "symmetry_not_shown",
        symmetry=name,
        resolution=resolution,
        lowest=lowest,
        highest=highest,
        remedies=tuple(remedies),
    )
    turned = (axes.turn, axes.words) if axes is not None else (None, "")
    return Verdict(False, fit, resolution, *turned, warning)


def check_symmetry(
    state: State, halves: Halves, settings: EMSettings, insertion_limit: float, ranks: Ranks
) -> list[Finding]:
    """In early iterations of a refinement: a warning where the sums (not symmetrised) contradict the symmetry.

    They do so only where it is far from true, as poses that are found against a symmetric reference adapt to it.

    Args:
        insertion_limit: the last shell that was inserted.
    """
    if (
        not settings.symmetry
        or state.iteration not in CHECKED_AFTER
        or len(settings.group) == 1
        or settings.local is not None
    ):
        return []
    radius = min(
        settings.particle_radius or math.inf, state.mask_radius or math.inf, 0.42 * settings.box
    )
    limit = min(insertion_limit, settings.box / 2) - 1
    coarse = [lambda h=h: coarse_sums(halves[h], box_for(limit)) for h in (0, 1)]
    look = SymmetryFit(ranks.each(coarse, ranks.owners), limit, radius / settings.box)
    verdict = judge_symmetry(
        look, settings.group, settings.symmetry, settings.box * settings.pixel_size
    )
    return [verdict.warning] if verdict.warning else []


def _range(fit: Fit) -> tuple[float, float]:
    """The lowest and the highest score, from 0 to 1."""
    known = fit.score[~fit.score.isnan()].clamp(0, 1)
    return float(known.min()), float(known.max())


def _is(group: Tensor, name: str) -> bool:
    return same_group(group, point_group(name))


def _fitting(look: SymmetryFit, group: Tensor) -> OtherAxes | None:
    """The other axes about which the half maps show the group, if there are any."""
    tried = [(look(axes.group[1:]), axes) for axes in other_axes(group)]
    good = [(float(f.score.nanmean()), a) for f, a in tried if f.right.any() and not f.wrong.any()]
    if good:
        return max(good, key=lambda pair: pair[0])[1]
    return _turned_about_z(look, group)


def _turned_about_z(look: SymmetryFit, group: Tensor) -> OtherAxes | None:
    """Dn whose 2-folds lie at any angle about z."""
    fold = z_fold(group)
    if not z_alone(group) or len(group) != 2 * fold or fold == 1:
        return None
    half = 0.35 * 180 / (math.pi * look.high)  # degrees, within which the last shell looks the same
    at, step = 0.0, 180 / fold
    for spacing in (2 * half, half / 4):
        angles = torch.arange(at - step / 2, at + step / 2, spacing).tolist()
        axes = [(math.cos(math.radians(a)), math.sin(math.radians(a)), 0.0) for a in angles]
        score = look(torch.stack([turn(axis, 180) for axis in axes])).score.nan_to_num(-1)
        at, step = angles[int(score.argmax())], 4 * half
    back = turn((0, 0, 1), -at)
    theirs = conjugate(group, back.mT)
    if not look(theirs[1:]).right.all():
        return None
    return OtherAxes(back, theirs, f"a turn by {-at:.3g}° about z")
