"""The classes of particles at fixed poses: consensus, masks, runs, results."""

from __future__ import annotations

import logging

import torch
from torch import Tensor
from tqdm import tqdm

from cryotorch.findings import Finding
from cryotorch.jobs.classification3d.fixed_inputs import Inputs
from cryotorch.jobs.classification3d.results import Found
from cryotorch.jobs.inputs import damage
from cryotorch.jobs.inputs.maps import looks_inverted
from cryotorch.jobs.stages.bar import StageBar
from cryotorch.ops.masks.soft import density_mask, soft_sphere
from cryotorch.refinement.hetero.classify import Masks, classify, consensus
from cryotorch.refinement.hetero.fixed_poses import pose_images
from cryotorch.refinement.hetero.part import ClassPart
from cryotorch.refinement.runtime.kept import Kept
from cryotorch.refinement.runtime.team import Team

log = logging.getLogger("cryotorch")
# Of a solvent mask made here: density above this part of the high density at this resolution counts, and its surroundings, Å.
THRESHOLD, LOW_PASS, NEAR, FAR = 0.1, 20.0, 12.0, 24.0
SPHERE, EDGE = (
    0.85,
    0.05,
)  # of the box: diameter of the sphere where none is given, and its soft edge


def take_part(inputs: Inputs, team: Team) -> ClassPart:
    """The images of this process, posed, and what ``classify`` asks for."""
    n = len(inputs.particles)
    rows = torch.arange(n)[team.part(n, 1)]
    with tqdm(total=len(rows), unit=" particles", desc="read", disable=None) as bar:
        posed = pose_images(inputs.spectra, rows, inputs.algorithm.limit, bar.update)
    groups = len(inputs.particles.optics)
    team.tasks["damaged"] = lambda: damage.damaged_images(
        inputs.images, inputs.spectra.watch.faults(inputs.images.box, inputs.images.pixel_size)
    )
    return ClassPart(posed, n, groups, inputs.algorithm, team)


def classified(inputs: Inputs, team: Team, kept: Kept) -> tuple[Found, dict[str, str]]:
    """The classes of all particles, on rank 0, and which images are damaged; others ``take_part`` and serve."""
    part = take_part(inputs, team)
    pooled, findings = consensus(part, len(inputs.particles), team), list(inputs.findings)
    if looks_inverted(pooled.cpu()):
        invert = "false" if inputs.settings.invert else "true"
        findings.append(Finding("contrast_inverted", invert=invert))
    masks = Masks(solvent_mask(inputs, pooled), inputs.focus)
    bar = StageBar()
    try:
        made = classify(part, inputs.number, masks, inputs.algorithm, bar, team, kept)
    finally:
        bar.close()
    damaged = {name: why for one in team.ask("damaged") for name, why in one.items()}
    if damaged:
        findings.append(damage.finding(damaged, len(inputs.particles)))
    found = Found(
        halves=made.halves.classes,
        pixel_size=inputs.images.pixel_size,
        share=made.share,
        file=inputs.file,
        particles=inputs.particles,
        known=inputs.known,
        shared=inputs.shared,
        verdict=made.verdict,
        agreements=made.agreement,
        shares=torch.stack([step.shares for step in made.steps]).cpu(),
        changed=torch.tensor([step.changed for step in made.steps]),
        most_passes=inputs.algorithm.most_passes,
        findings=findings,
    )
    return found, damaged


def solvent_mask(inputs: Inputs, pooled: Tensor) -> Tensor:
    """The mask on all maps (d, d, d): the given one, or around the density of the map of all (d, d, d), within a sphere."""
    if inputs.solvent is not None:
        return inputs.solvent
    box, pixel = inputs.images.box, inputs.images.pixel_size
    diameter = inputs.settings.particle_diameter
    radius = SPHERE * box / 2 if diameter is None else diameter / 2 / pixel
    edge = max(2.0, EDGE * box)
    sphere = soft_sphere(box, min(radius, box / 2 - edge), edge, pooled.device)
    try:
        around = density_mask(pooled, pixel, THRESHOLD, NEAR, FAR, LOW_PASS, largest_only=False)
    except ValueError:  # no positive density
        return sphere
    return sphere * around
