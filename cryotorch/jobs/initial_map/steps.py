"""The maps of an ab-initio job, and class and pose of all its particles."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from torch import Tensor

from cryotorch.findings import Finding
from cryotorch.jobs.initial_map.inputs import Inputs
from cryotorch.jobs.initial_map.others import OthersPart, find_others
from cryotorch.jobs.inputs import damage
from cryotorch.jobs.inputs.maps import looks_inverted
from cryotorch.jobs.stages.bar import StageBar
from cryotorch.refinement.ab_initio.pipeline import AbInitio, reconstruct, take_part
from cryotorch.refinement.class_search import Found
from cryotorch.refinement.runtime.kept import Kept
from cryotorch.refinement.runtime.team import Team
from cryotorch.report.sentences import line

log = logging.getLogger("cryotorch")


@dataclass(frozen=True)
class Made:
    """What the job found.

    Attributes:
        result: of the algorithm; maps: (k, d, d, d) in the hand that is written as map.mrc.
        found: class and pose of all particles, in file order, shifts in pixels.
        findings: all that there is to say; damaged: name of an image -> what is wrong with it.
        fit: correlation with ``like`` or ``model`` of this hand and of the other, None without it.
    """

    result: AbInitio
    maps: Tensor
    found: Found
    findings: list[Finding]
    damaged: dict[str, str]
    fit: tuple[float, float | None] | None = None


def make_maps(inputs: Inputs, team: Team | None = None, kept: Kept | None = None) -> Made:
    """Maps from the chosen particles, and class and pose of all; ``team`` and ``kept`` as in ``reconstruct``."""
    settings, device = inputs.settings, inputs.spectra.device
    team, kept = team or Team(), kept or Kept(device=device)
    bar, starts = StageBar(), settings.n_starts
    try:
        result = reconstruct(
            inputs.seen,
            inputs.particles.optics_group[inputs.rows].to(device),
            inputs.algorithm,
            None if starts == "auto" else starts,
            bar,
            team,
            kept,
        )
    finally:
        bar.close()
    found, damaged = find_others(inputs, result, team, kept)
    findings = list(result.findings)
    if looks_inverted(result.maps[0]):
        findings.append(Finding("contrast_inverted", invert="false" if settings.invert else "true"))
    if damaged:
        findings.append(damage.finding(damaged, len(inputs.particles)))
    for series, starts_of in (("start", result.starts), ("symmetric start", result.symmetric)):
        for start in starts_of:
            log.info(
                "%s %d: score %.4g, agrees to %.2f with the best, unseen images prefer it to shapeless maps by %.1f standard errors",
                *(series, start.number + 1, start.judgement.score),
                *(start.agreement, start.judgement.lead),
            )
    for finding in findings:
        log.info(line(finding))
    return Made(result, result.maps, found, findings, damaged)


def help_make_maps(inputs: Inputs, team: Team) -> None:
    """What other processes than that of rank 0 do in the place of ``make_maps``."""
    group = inputs.particles.optics_group[inputs.rows].to(inputs.spectra.device)
    take_part(inputs.seen, group, inputs.algorithm, lambda stage, done: None, team)
    OthersPart(inputs, team)
    team.serve()


def told(finding: Finding) -> Finding:
    """A finding that is in the log now."""
    log.info(line(finding))
    return finding
