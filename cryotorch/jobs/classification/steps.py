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
from cryotorch.refinement.backproject import noise_sample
from cryotorch.refinement.class2d.classify import Classified, classify, images_to_do
from cryotorch.refinement.class2d.judge import NEXT_TO_SHARED, Judged, judge
from cryotorch.refinement.em.initialise import initial_noise
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


def classified(read: ClassInput) -> Made:
    """The classes of all particles, judged."""
    how, particles, images = read.how, read.particles, read.images
    with torch.no_grad(), tqdm(unit=" particles", disable=None) as bar:
        bar.total = images_to_do(len(particles), how)
        noise, most, _ = initial_noise(
            particles, noise_sample(images, particles), how.grid, read.device
        )
        spectra = Spectra(images, particles, how.grid, noise[0], most, how.last_limit)
        found = classify(spectra, particles.half, how, bar.update)
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
    loud = spectra.watch.faults(how.grid.box, how.grid.pixel_size)
    damaged = damage.damaged_images(images, loud)
    if damaged:
        warnings.append(damage.finding(damaged, len(particles)))
    for warning in warnings:
        log.warning(line(warning))
    return Made(found, judged, warnings, damaged)
