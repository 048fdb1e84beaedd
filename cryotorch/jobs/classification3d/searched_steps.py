"""The classes of a heterogeneous refinement, and what there is to say of every pass."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from tqdm import tqdm

from cryotorch.findings import Finding
from cryotorch.jobs.classification3d import results
from cryotorch.jobs.classification3d.results import Found
from cryotorch.jobs.classification3d.searched_inputs import SearchedInput
from cryotorch.jobs.inputs import damage
from cryotorch.jobs.stages.bar import StageBar
from cryotorch.ops.resolution.claims import Background
from cryotorch.particles import Particles
from cryotorch.refinement.hetero.pipeline import Divider, Refined, refine, take_part
from cryotorch.refinement.hetero.refine import SearchPass
from cryotorch.refinement.hetero.searched import SearchedPart
from cryotorch.refinement.runtime.kept import Kept
from cryotorch.refinement.runtime.team import Team

log = logging.getLogger("cryotorch")
MOST_JUNK = 0.5  # of the particles, from which on something else is wrong


def refine_classes(
    inputs: SearchedInput, team: Team | None = None, kept: Kept | None = None
) -> tuple[Found, dict[str, str]]:
    """Classes and poses of all particles, on rank 0, and which images are damaged; ``team`` and ``kept`` as in ``refine``."""
    team, kept = team or Team(), kept or Kept(device=inputs.task.spectra.device)
    bar, hear = StageBar(), kept.changed

    def changed(name: str, value: Any) -> None:
        hear(name, value)
        if isinstance(value, SearchPass):
            log.info(told(name, value, inputs))

    parts = _parts(inputs, team)
    kept.changed = changed
    try:
        made = refine(inputs.task, inputs.how, parts, bar, kept)
    finally:
        kept.changed = hear
        bar.close()
    damaged = {name: why for one in team.ask("damaged") for name, why in one.items()}
    return found(inputs, made, damaged), damaged


def help_refine(inputs: SearchedInput, team: Team) -> None:
    """What other processes than that of rank 0 do in the place of ``refine_classes``."""
    _parts(inputs, team)
    team.serve()


def _parts(inputs: SearchedInput, team: Team) -> tuple[SearchedPart, Divider]:
    spectra, images, n = inputs.task.spectra, inputs.images, len(inputs.particles)
    with tqdm(total=n, unit=" particles", desc="read", disable=None) as bar:
        parts = take_part(inputs.task, inputs.how, team, bar.update)

    def faults() -> dict[str, str]:
        loud = spectra.watch.faults(images.box, images.pixel_size)
        return damage.damaged_images(images, loud)

    team.tasks["damaged"] = faults
    return parts


def found(inputs: SearchedInput, made: Refined, damaged: Mapping[str, str]) -> Found:
    """The classes as they are judged and written."""
    images, how, state = inputs.images, inputs.how, made.last
    findings = [damage.finding(dict(damaged), len(inputs.particles))] if damaged else []
    junk = float(state.shares[-1, -1])
    if junk > MOST_JUNK:
        findings.append(Finding("junk_most", share=junk))
    edge = images.box * images.pixel_size
    symmetry = inputs.settings.symmetry.upper()
    return Found(
        halves=made.halves.classes,
        pixel_size=images.pixel_size,
        share=made.share,
        file=inputs.file,
        particles=posed(inputs, made),
        known=Background(how.group, edge / inputs.shared, how.limit, symmetry),
        shared=inputs.shared,
        verdict=made.verdict,
        agreements=made.agreement,
        shares=state.shares[:, : made.share.shape[1]].cpu(),
        changed=state.changes.cpu(),
        most_passes=how.most_passes,
        columns={"cryotorchCorrelation": made.found.correlation.double().cpu().numpy()},
        findings=findings,
    )


def posed(inputs: SearchedInput, made: Refined) -> Particles:
    """All particles with the poses that were found, in Å."""
    pose, pixel = made.found.cpu(), inputs.images.pixel_size
    return inputs.particles.replace(
        rotation=pose.rotation,
        shift=pose.shift_px * pixel,
        pose_sigma=pose.sigma * pose.sigma.new_tensor([1.0, pixel]),
        has_pose=True,
    )


def extras(
    inputs: SearchedInput, damaged: Mapping[str, str], seconds: Mapping[str, float]
) -> dict[str, object]:
    """Entries of the summary that this job adds."""
    more = {"initial_maps": inputs.maps}
    return {**more, **results.extras(inputs.settings, damaged, seconds)}


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
