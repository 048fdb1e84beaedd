"""The classes of a heterogeneous refinement, and what there is to say of every pass."""

from __future__ import annotations

import logging
from typing import Any

import torch
from tqdm import tqdm

from cryotorch.jobs.classification3d.searched_inputs import SearchedInput
from cryotorch.jobs.initial_map.steps import StageBar
from cryotorch.refinement.hetero.pipeline import Refined, refine, take_part
from cryotorch.refinement.hetero.refine import SearchPass
from cryotorch.refinement.runtime.kept import Kept
from cryotorch.refinement.runtime.team import Team

log = logging.getLogger("cryotorch")


def refine_classes(
    inputs: SearchedInput, team: Team | None = None, kept: Kept | None = None
) -> Refined:
    """Classes and poses of all particles; ``team`` and ``kept`` as in ``refine``."""
    team, kept = team or Team(), kept or Kept(device=inputs.task.spectra.device)
    bar, hear = StageBar(), kept.changed

    def changed(name: str, value: Any) -> None:
        hear(name, value)
        if isinstance(value, SearchPass):
            log.info(told(name, value, inputs))

    kept.changed = changed
    try:
        with tqdm(
            total=len(inputs.particles), unit=" particles", desc="read", disable=None
        ) as read:
            parts = take_part(inputs.task, inputs.how, team, read.update)
        return refine(inputs.task, inputs.how, parts, bar, kept)
    finally:
        kept.changed = hear
        bar.close()


def help_refine(inputs: SearchedInput, team: Team) -> None:
    """What other processes than that of rank 0 do in the place of ``refine_classes``."""
    take_part(inputs.task, inputs.how, team, lambda images: None)
    team.serve()


def told(name: str, state: SearchPass, inputs: SearchedInput) -> str:
    """A line on a pass: to which detail, how many changed class, how large the classes are."""
    edge = inputs.images.box * inputs.images.pixel_size
    best = torch.bincount(state.share.argmax(1).cpu(), minlength=state.share.shape[1])
    parts = [f"{float(x):.1%}" for x in best / best.sum()]
    junk = f", junk {parts[state.classes]}" if len(parts) > state.classes else ""
    classes = ", ".join(parts[: state.classes])
    moved = f", {state.changed:.1%} changed class" if state.number > 1 else ""
    return (
        f"{name}, pass {state.number}: next to {edge / state.limit:.3g} Å; particles in classes {classes}{junk}{moved}; "
        f"{state.ess:.2f} classes per particle"
    )
