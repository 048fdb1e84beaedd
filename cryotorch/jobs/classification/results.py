"""The files of a classification: averages with what they show, the particles with their class, picture, TensorBoard, summary."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cryotorch.data.mrc import write_stack
from cryotorch.data.particle_file import ParticleFile, write_particles
from cryotorch.data.particle_tables import ANGLES, ORIGINS, ORIGINS_PX
from cryotorch.data.star import write_star
from cryotorch.data.table import Table
from cryotorch.jobs.classification.inputs import ClassInput
from cryotorch.jobs.classification.steps import Made
from cryotorch.jobs.inputs import damage
from cryotorch.ops.masks.soft import soft_circle
from cryotorch.report.figures import write_pictures
from cryotorch.report.job_tensorboard import write_tensorboard
from cryotorch.report.sentences import in_summary, line
from cryotorch.report.style import render
from cryotorch.report.summary import provenance, write_json
from cryotorch.report.templates import contact_sheet, shown

log = logging.getLogger("cryotorch")
UNRESOLVED = 999.0  # Å, in STAR files, which know no infinity
SUGGESTED = "cryotorchSuggested"
CONTRAST = 4.0  # standard deviations between black and white


def write(folder: Path, read: ClassInput, made: Made, posed: ParticleFile, seconds: float) -> None:
    """Everything but the selection; ``posed``: the particles ``with_classes``. The summary comes last."""
    grid, averages = read.how.grid, made.found.averages.merged.cpu()
    size = (len(averages), grid.box, grid.pixel_size)
    write_stack(folder / "classes.mrcs", iter([averages]), *size)
    write_star(folder / "classes.star", {"model_classes": class_table(made)})
    for ending in dict.fromkeys(read.settings.write):
        for unseen in write_particles(folder / f"particles.{ending}", posed, posed.particles):
            log.info(line(unseen))
    picture = {"classes": render(_sheet(read, made, averages))}
    write_pictures(picture, folder)
    numbers = {
        f"{name}/class_{k + 1:03d}": value
        for name, values in (("share", made.found.share), ("resolution", _finite(made)))
        for k, value in enumerate(values.tolist())
    }
    curves = {
        f"class_{k + 1:03d}": curve for k, curve in enumerate(made.found.averages.curve.cpu())
    }
    write_tensorboard(folder / "tensorboard", numbers, picture, curves)
    write_json(folder / "summary.json", _summary(read, made, seconds))
    _tell(made)


def class_table(made: Made) -> Table:
    """A row for each class, in the columns of RELION's model files where it has them."""
    found, judged = made.found, made.judged
    numbers = range(1, len(found.mass) + 1)
    return Table(
        {
            "rlnReferenceImage": [f"{number:06d}@classes.mrcs" for number in numbers],
            "rlnClassNumber": np.array(numbers),
            "rlnClassDistribution": found.share.double().numpy(),
            "rlnEstimatedResolution": _finite(made).double().numpy(),
            "cryotorchEffectiveParticles": found.mass.double().numpy(),
            "cryotorchCentreOffset": judged.offset.double().numpy(),
            "cryotorchEdgeVariance": judged.edge.double().numpy(),
            SUGGESTED: judged.suggested.long().numpy(),
        }
    )


def with_classes(read: ClassInput, made: Made) -> ParticleFile:
    """The input with the class, angle and origin of each particle; angles of a 3D pose, which those contradict, are left out."""
    table = read.file.tables["particles"].copy()
    for label in (*ANGLES, *ORIGINS_PX):
        table.pop(label, None)
    shift = made.found.shift_px * read.how.grid.pixel_size
    for label, values in zip(ORIGINS, shift.T, strict=True):
        table[label] = values.double().numpy()
    for label, values in made.columns.items():
        table[label] = values
    particles = read.file.particles.replace(has_pose=False, shift=shift)
    tables = {**read.file.tables, "particles": table}
    return replace(read.file, particles=particles, tables=tables)


def _finite(made: Made) -> Tensor:
    return made.judged.resolution.nan_to_num(posinf=UNRESOLVED)


def told_resolution(resolution: float) -> str:
    """As in the picture: a dash where nothing may be claimed."""
    return f"{resolution:.1f} Å" if math.isfinite(resolution) else "\N{EM DASH} Å"


def _sheet(read: ClassInput, made: Made, averages: Tensor):
    """The averages by their share, each brought to the same mean and deviation inside the mask."""
    grid, few = read.how.grid, shown(len(averages))
    inside = soft_circle(grid.box, read.how.radius, 0) > 0.5
    values = averages[:, inside]
    spread = values.std(1).clamp_min(1e-30)
    levelled = ((averages - values.mean(1)[:, None, None]) / spread[:, None, None]).clamp(
        -CONTRAST / 2, CONTRAST / 2 + 1
    )
    rows = zip(made.found.share.tolist(), made.judged.resolution.tolist(), strict=True)
    captions = [
        f"{number}: {100 * share:.2g} %, {told_resolution(resolution)}"
        for number, (share, resolution) in enumerate(rows, 1)
    ]
    title = f"{len(averages)} classes of {len(read.particles)} particles"
    subtitle = f"number: share, resolution; {int(made.judged.suggested.sum())} classes suggested"
    chosen = [captions[i] for i in few]
    return contact_sheet(levelled[few], chosen, grid.pixel_size, title, subtitle)


def _summary(read: ClassInput, made: Made, seconds: float) -> dict:
    found, judged, how = made.found, made.judged, read.how
    edge = how.grid.box * how.grid.pixel_size
    resolution = [r if math.isfinite(r) else None for r in judged.resolution.tolist()]
    return {
        "particles": len(read.particles),
        "classes": how.n_classes,
        "box": how.grid.box,
        "pixel_size": how.grid.pixel_size,
        "mask_diameter": 2 * how.radius * how.grid.pixel_size,
        "max_resolution": edge / how.last_limit,
        "shared_resolution": edge / how.shared_limit,
        "share": found.share,
        "effective_particles": found.mass,
        "resolution": resolution,
        "suggested": (torch.nonzero(judged.suggested)[:, 0] + 1).tolist(),
        "inverse_temperature": found.inverse_temperature,
        damage.ENTRY: made.damaged,
        **in_summary(made.warnings),
        "device": str(read.device),
        "seed": how.seed,
        "seconds": {"total": round(seconds, 3)},
        **provenance(),
    }


def _tell(made: Made) -> None:
    """The result in a line."""
    judged = made.judged
    known = judged.resolution[judged.resolution.isfinite()]
    if len(known):
        log.info(
            "%d of %d classes resolve something, the best %.1f Å; %d are suggested, with %.0f %% of the particles",
            *(len(known), len(judged.resolution), float(known.min())),
            *(int(judged.suggested.sum()), 100 * float(made.found.share[judged.suggested].sum())),
        )
