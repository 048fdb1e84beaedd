"""What comes of classes of 3D maps, whichever job found them: what each may claim, what is said of them, and the files."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from cryotorch.data.half_sets import SHARED_RESOLUTION
from cryotorch.data.mrc import write_volume
from cryotorch.data.particle_file import ParticleFile, write_particles
from cryotorch.errors import InputError
from cryotorch.findings import Finding, remark
from cryotorch.jobs.classification3d.other_causes import goes_with, lacking, move_between
from cryotorch.jobs.fsc.claim import claim
from cryotorch.jobs.inputs import damage
from cryotorch.jobs.inputs.half_maps import HalfMaps
from cryotorch.jobs.inputs.particles import rows_of
from cryotorch.ops.fourier.filters import filter_shells, fsc_weight
from cryotorch.ops.resolution.claims import ENDED, Background
from cryotorch.ops.resolution.fsc import resolution, shell_correlation
from cryotorch.particles import Particles
from cryotorch.refinement.class_shares import EMPTY, Agreement, effective_size, of_images
from cryotorch.refinement.hetero.posterior import class_ess
from cryotorch.refinement.hetero.verdict import Verdict
from cryotorch.report.class_flow import flow_figure
from cryotorch.report.figures import write_pictures
from cryotorch.report.fsc_files import write_fsc_text
from cryotorch.report.job_tensorboard import write_tensorboard
from cryotorch.report.maps import central_slices, image_figure, projections
from cryotorch.report.sentences import in_summary, line, say
from cryotorch.report.style import Picture, render
from cryotorch.report.summary import provenance, write_json
from cryotorch.results import told

log = logging.getLogger("cryotorch")
POSTERIOR = "cryotorchClassPosterior"
MASK_SHAPE = (0.5, 6.0, 12.0)  # threshold, near and far (Å) of FSC masks
SHOWN = 5  # classes in a figure, at most
SAME = 0.02  # FSC that two maps may lack of what their halves promise, and be one
UNSETTLED = 0.03  # part of the particles that changed class in the last pass, by which it was not the last they need
REPEATED = 0.5  # agreement of two runs beyond chance from which on they found the same classes


@dataclass(frozen=True)
class Found:
    """Classes of n rows, before they are judged.

    Attributes:
        halves: (2, k, d, d, d) half maps of each class, unfiltered; pixel_size: Å.
        share: (n, k) posteriors, or with junk (n, k + 1).
        file: the rows as they came; particles: as they are written, with poses and half sets.
        known: what half maps have in common; shared: Å up to which the half sets had the same maps, by classes or poses.
        verdict: of images that are in no map; agreements: with other runs; None and [] where there is none.
        shares: (p, k) of the classes after each pass; changed: (p,) part of the rows that changed class in it; most_passes: that end it.
        columns: (n,) more of the particles, by label; findings: what else is to be said.
    """

    halves: Tensor
    pixel_size: float
    share: Tensor
    file: ParticleFile
    particles: Particles
    known: Background
    shared: float
    verdict: Verdict | None
    agreements: list[Agreement]
    shares: Tensor
    changed: Tensor
    most_passes: int
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def junk(self) -> bool:
        """Whether images that show no particle have a class of their own, without a map: the last."""
        return self.share.shape[1] > self.halves.shape[1]

    @property
    def names(self) -> list[str]:
        """Of the columns of ``share``."""
        maps = [f"class {number}" for number in range(1, 1 + self.halves.shape[1])]
        return [*maps, *(["junk"] if self.junk else [])]

    @property
    def several(self) -> bool:
        """Whether more than one state is seen, or nobody has asked."""
        return self.verdict is None or self.verdict.seen


class Judged(NamedTuple):
    """A class of its own.

    Attributes:
        map: (d, d, d) of both halves, filtered by their FSC.
        resolution: Å that may be claimed, NaN where nothing can be, with the ``reason``; curves: name -> (d // 2 + 1,) FSC.
        ended_by: what ends it, see ``ops.resolution.claims.ended_by``; "" where nothing can be claimed.
    """

    map: Tensor
    resolution: float
    curves: Mapping[str, Tensor]
    ended_by: str = ""
    reason: Finding | None = None


@dataclass(frozen=True)
class Result:
    """Classes, judged: what they were found as, each of them, the FSC between them (k, k) -> Å where it falls below 0.5, and all findings."""

    found: Found
    classes: list[Judged]
    between: Tensor
    findings: list[Finding]


def judge_classes(found: Found, device: torch.device, seed: int) -> Result:
    """Judge every class by its halves, compare them, and say in the log what there is to say."""
    classes, findings = [], list(found.findings)
    k = found.halves.shape[1]
    shares, sizes = of_images(found.share).tolist(), effective_size(found.share).tolist()
    for number, halves in enumerate(found.halves.unbind(1), 1):
        log.info("Class %d:", number)
        judged, warning = _judged(halves, found, device, seed, number)
        classes.append(judged)
        findings += [] if warning is None else [warning]
    if found.junk:
        findings.append(remark("junk_class", share=shares.pop(), particles=len(found.share)))
    for number, (share, size, judged) in enumerate(zip(shares, sizes[:k], classes, strict=True), 1):
        about = dict(number=number, share=share, size=size, resolution=judged.resolution)
        about |= dict(ended_by=judged.ended_by, reason=judged.reason)
        findings.append(remark("class_3d", **about))
    filled = [number for number, share in enumerate(shares) if share >= EMPTY]
    if len(filled) < len(shares):
        empty = len(shares) - len(filled)
        findings.append(Finding("classes_empty", empty=empty, classes=len(shares)))
    changed = float(found.changed[-1]) if len(shares) > 1 and len(found.changed) else 0.0
    if changed > UNSETTLED and len(found.changed) >= found.most_passes:
        findings.append(Finding("classes_unsettled", changed=changed, passes=len(found.changed)))
    findings += said_of_all(found, classes, filled, seed)
    for finding in findings:
        log.info(line(finding))
    return Result(found, classes, _between(classes, found.pixel_size), findings)


def said_of_all(
    found: Found, classes: list[Judged], filled: list[int], seed: int = 0
) -> list[Finding]:
    """Whether there is more than one state, whether it may be something else, and whether another run finds the same."""
    k, findings = len(classes), []
    if found.several:
        for at, first in enumerate(filled):
            for second in filled[at + 1 :]:
                pair = dict(first=first + 1, second=second + 1)
                both = (found.halves[:, first].cpu(), found.halves[:, second].cpu())
                if alike(*both):
                    findings.append(Finding("maps_alike", **pair, classes=k))
                elif move := move_between(*both, found.pixel_size):
                    findings.append(Finding("maps_moved", **pair, **move._asdict()))
        findings += goes_with(found.share.argmax(1), found.file, seed)
        for other in found.agreements:
            values = dict(share=other.share, kappa=other.beyond_chance)
            same = other.beyond_chance >= REPEATED
            findings.append(
                remark("classes_repeat", **values) if same else Finding("classes_differ", **values)
            )
    if found.verdict is not None:
        seen = found.verdict
        values = dict(classes=k, lead=seen.lead, gain=seen.gain, images=seen.images)
        if seen.seen:
            findings.append(remark("second_state", **values))
        else:
            del values["gain"]
            findings.append(Finding("no_second_state", **values))
    return findings


def alike(first: Tensor, second: Tensor) -> bool:
    """Whether two maps, given as halves (2, d, d, d) each, differ no more than their halves do."""
    missing = lacking(first, second)
    return len(missing) == 0 or float(missing.max()) < SAME


def _judged(
    halves: Tensor, found: Found, device: torch.device, seed: int, number: int
) -> tuple[Judged, Finding | None]:
    pair = HalfMaps(halves.cpu(), found.pixel_size, known=found.known)
    try:
        claimed = claim(pair, device, None, False, MASK_SHAPE, seed)
    except InputError as refused:
        mean = halves.mean(0).cpu()
        curves = {"no_mask": shell_correlation(*halves).cpu()}
        warning = Finding("class_unjudged", number=number, reason=str(refused))
        return Judged(mean, math.nan, curves, reason=warning), warning
    curves = {name: curve.cpu() for name, curve in claimed.judged.curves.items()}
    weight = fsc_weight(curves["corrected"]).to(claimed.mean)
    reason = None if claimed.claims or not claimed.warnings else claimed.warnings[-1]
    filtered = filter_shells(claimed.mean, weight).cpu()
    return Judged(filtered, claimed.resolution, curves, claimed.ended_by, reason), None


def _between(classes: list[Judged], pixel_size: float) -> Tensor:
    """Å (k, k) at which the FSC of each two maps falls below 0.5."""
    box = classes[0].map.shape[-1]
    rows = [
        [resolution(shell_correlation(a.map, b.map), box, pixel_size, 0.5) for b in classes]
        for a in classes
    ]
    return torch.tensor(rows)


def write(folder: Path, out: Path, result: Result, formats: list[str], extras: Mapping) -> None:
    """Everything into ``folder``, which is to be found at ``out``; the summary, with ``extras``, last."""
    found = result.found
    for number, judged in enumerate(result.classes, 1):
        write_volume(folder / f"map_class_{number}.mrc", judged.map, found.pixel_size)
        for name, half in zip("ab", found.halves[:, number - 1].cpu(), strict=True):
            write_volume(folder / f"half_{name}_class_{number}.mrc", half, found.pixel_size)
        write_fsc_text(folder / f"fsc_class_{number}.txt", judged.curves)
    write_lists(folder, out, found, formats)
    pictures = draw(result)
    write_pictures(pictures, folder)
    shares = zip(found.names, of_images(found.share).tolist(), strict=True)
    scalars = {f"share/{name.replace(' ', '_')}": share for name, share in shares}
    write_tensorboard(folder / "tensorboard", scalars, pictures, {})
    write_json(folder / "summary.json", summary(result, extras))


def write_lists(folder: Path, out: Path, found: Found, formats: list[str]) -> None:
    """``particles`` with class and posteriors, and a list of each class."""
    best, n = found.share.argmax(1).cpu(), len(found.share)
    columns = {
        "rlnClassNumber": (best + 1).numpy(),
        POSTERIOR: found.share.amax(1).double().cpu().numpy(),
        **{
            f"{POSTERIOR}{number}": values.double().cpu().numpy()
            for number, values in enumerate(found.share.unbind(1), 1)
        },
        **found.columns,
        SHARED_RESOLUTION: np.full(n, round(found.shared, 4)),
    }
    for ending in dict.fromkeys(formats):
        name = f"particles.{ending}"
        for message in write_particles(folder / name, found.file, found.particles, columns):
            log.info(line(message.plus(file=str(out / name))))
        for number in range(found.share.shape[1]):
            rows = torch.nonzero(best == number)[:, 0]
            if len(rows):
                some = {label: values[rows.numpy()] for label, values in columns.items()}
                junk = number == found.halves.shape[1]
                part = folder / f"particles_{'junk' if junk else f'class_{number + 1}'}.{ending}"
                write_particles(part, rows_of(found.file, rows), found.particles[rows], some)


def draw(result: Result) -> dict[str, Picture]:
    """The maps side by side with what they differ by, and how images changed class."""
    found, rows = result.found, {}
    maps = torch.stack([judged.map for judged in result.classes])
    shares = of_images(found.share)[: len(maps)]
    mean = (maps * (shares / shares.sum())[:, None, None, None].to(maps)).sum(0)
    order = shares.argsort(descending=True)[:SHOWN].sort().values.tolist()
    through = _most_different(maps)
    for number in order:
        name = (
            f"{number + 1}: {float(shares[number]):.0%}, {told(result.classes[number].resolution)}"
        )
        rows[name] = central_slices(maps[number], through)
        rows[f"{number + 1} minus all"] = central_slices(maps[number] - mean, through)
    for number in order:
        rows[f"{number + 1}, projections"] = projections(maps[number])
    said = "Classes" if found.several else "No second state is seen"
    edge = maps.shape[-1] * found.pixel_size
    title = f"{said}: {len(maps)} of {len(found.share):,} particles"
    x, y, z = through
    subtitle = f"slices through voxel ({x}, {y}, {z}), where they differ most; each row has its own grey scale"
    return {
        "classes": render(image_figure(rows, edge, title, subtitle)),
        "class_flow": render(flow_figure(found.shares, found.changed, found.names)),
    }


def _most_different(maps: Tensor) -> tuple[int, int, int]:
    """The voxel (x, y, z) where maps (k, d, d, d) vary most."""
    box = maps.shape[-1]
    z, y, x = np.unravel_index(int(maps.var(0, correction=0).argmax()), (box, box, box))
    return int(x), int(y), int(z)


def extras(settings: Any, damaged: Mapping[str, str], seconds: Mapping[str, float]) -> dict:
    """Entries of the summary that a job adds, ``settings`` its own."""
    names = ("initial_resolution", "final_resolution", "assignment", "similarity", "mask", "seed")
    return {
        **{name: getattr(settings, name) for name in names},
        damage.ENTRY: damaged,
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
    }


def summary(result: Result, extras: Mapping) -> dict[str, object]:
    """``summary.json``."""
    found = result.found
    seen, sizes = found.verdict, effective_size(found.share).tolist()
    k, shares = len(result.classes), of_images(found.share).tolist()
    classes = [
        {
            "class": number,
            "share": share,
            "effective_particles": size,
            "resolution": judged.resolution if math.isfinite(judged.resolution) else None,
            "ended_by": judged.ended_by or None,
            "bounded_by": ENDED.get(judged.ended_by),
            "no_resolution": judged.reason and say(judged.reason),
        }
        for number, (share, size, judged) in enumerate(
            zip(shares[:k], sizes[:k], result.classes, strict=True), 1
        )
    ]
    agreed = [
        {"share": a.share, "beyond_chance": a.beyond_chance, "table": a.table.long().tolist()}
        for a in found.agreements
    ]
    return {
        "particles": len(found.share),
        "second_state": None if seen is None else seen.seen,
        "lead_standard_errors": None if seen is None else seen.lead,
        "gain_per_image": None if seen is None else seen.gain,
        "unseen_images": None if seen is None else seen.images,
        "classes": classes,
        "junk": shares[k] if found.junk else None,
        # 1: each particle in one class; the number of classes: all as likely
        "classes_per_particle": class_ess(found.share),
        "fsc_between_below_half": result.between.tolist(),
        "other_runs": agreed,
        "passes": len(found.changed),
        "changed_in_last_pass": float(found.changed[-1]) if len(found.changed) else None,
        "shared_resolution": found.shared,
        "shells": {"shared": found.known.shared, "inserted": found.known.inserted},
        "symmetry": found.known.symmetry,
        "box": found.halves.shape[-1],
        "pixel_size": found.pixel_size,
        **in_summary(finding for finding in result.findings if finding.serious),
        **extras,
        **provenance(),
    }
