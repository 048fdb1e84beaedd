"""The steps of a classification: noise, EM, judgement."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
import torch
from tqdm import tqdm

from cryotorch.findings import Finding
from cryotorch.jobs.classification.inputs import ClassInput
from cryotorch.jobs.inputs import damage
from cryotorch.jobs.stages.bar import BAR
from cryotorch.jobs.stages.pace import Pace
from cryotorch.refinement.backproject import noise_sample
from cryotorch.refinement.class2d.classify import (
    Classified,
    ClassPart,
    classify,
)
from cryotorch.refinement.class2d.judge import NEXT_TO_SHARED, Judged, judge
from cryotorch.refinement.class2d.work import work
from cryotorch.refinement.em.initialise import initial_noise
from cryotorch.refinement.runtime.kept import Kept
from cryotorch.refinement.runtime.team import Team
from cryotorch.refinement.spectra import Spectra
from cryotorch.report.sentences import line

log = logging.getLogger("cryotorch")


@dataclass(frozen=True)
class Made:
    """Classes, what they show, and what the user should look at; damaged: row -> what is wrong with an image."""

    found: Classified
    judged: Judged
    warnings: list[Finding]
    damaged: dict

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """Columns (n,) of the particles: class from 1, degrees, and the posterior of the class."""
        found = self.found
        return {
            "rlnClassNumber": (found.label + 1).numpy(),
            "rlnAnglePsi": (torch.rad2deg(found.psi.double()) + 180).remainder(360).numpy() - 180,
            "rlnMaxValueProbDistribution": found.posterior.double().numpy(),
            "cryotorchLogEvidence": found.evidence.double().numpy(),
        }


def classified(read: ClassInput, team: Team | None = None, kept: Kept | None = None) -> Made:
    """The classes of all particles, judged; ``team`` and ``kept`` as in ``classify``."""
    how, particles = read.how, read.particles
    team = team or Team()
    whole = work(len(particles), how)
    with torch.no_grad(), tqdm(total=whole, desc="classes", bar_format=BAR, disable=None) as bar:
        spectra = _spectra(read, team)
        tell = Pace(bar.update, whole, ends=read.settings.dry_run)
        found = classify(spectra, particles.half, how, tell, team, kept)
    found = replace(found, shift_px=spectra.in_images(found.shift_px))
    judged = judge(found, how)
    edge = how.grid.box * how.grid.pixel_size
    warnings = []
    if how.last_limit < how.shared_limit + NEXT_TO_SHARED:
        needed = edge / (how.shared_limit + NEXT_TO_SHARED)
        warnings.append(Finding("classes_not_judged", resolution=needed))
    elif not bool(judged.resolution.isfinite().any()):
        shared = edge / how.shared_limit
        warnings.append(Finding("classes_unresolved", classes=how.n_classes, resolution=shared))
    damaged = {name: why for part in team.ask("damaged") for name, why in part.items()}
    if damaged:
        warnings.append(damage.finding(damaged, len(particles)))
    for warning in warnings:
        log.warning(line(warning))
    return Made(found, judged, warnings, damaged)


def help_classify(read: ClassInput, team: Team) -> None:
    """What other processes than that of rank 0 do in the place of ``classified``."""
    with torch.no_grad():
        ClassPart(_spectra(read, team), read.particles.half, read.how, team)
        team.serve()


def _spectra(read: ClassInput, team: Team) -> Spectra:
    """The images to be classified; which of those that a process has read are damaged, ``team`` can ask for."""
    how, images, particles = read.how, read.images, read.particles
    noise, most, _ = initial_noise(
        particles, noise_sample(images, particles), how.grid, read.device
    )
    spectra = Spectra(images, particles, how.grid, noise[0], most, how.last_limit)
    team.tasks["damaged"] = lambda: damage.damaged_images(
        images, spectra.watch.faults(how.grid.box, how.grid.pixel_size)
    )
    return spectra
