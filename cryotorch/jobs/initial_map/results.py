"""The files of an ab-initio job: maps, particles, figures, summary."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch

from cryotorch.data.half_sets import SHARED_RESOLUTION
from cryotorch.data.mrc import write_volume
from cryotorch.data.particle_file import write_particles
from cryotorch.jobs.initial_map import begin
from cryotorch.jobs.initial_map.inputs import Inputs
from cryotorch.jobs.initial_map.steps import Made
from cryotorch.jobs.inputs import damage
from cryotorch.jobs.inputs.particles import rows_of
from cryotorch.ops.geometry.placement import flip_hand
from cryotorch.particles import Particles
from cryotorch.refinement.ab_initio.pipeline import Start
from cryotorch.refinement.class_shares import effective_size, of_images
from cryotorch.report.figures import write_pictures
from cryotorch.report.job_tensorboard import write_tensorboard
from cryotorch.report.maps import central_slices, image_figure, projections
from cryotorch.report.page.headline import REASON
from cryotorch.report.poses import viewing_figure
from cryotorch.report.sentences import in_summary, line
from cryotorch.report.sphere import viewing_directions
from cryotorch.report.style import Picture, render
from cryotorch.report.summary import provenance, write_json

log = logging.getLogger("cryotorch")
SHOWN = 5  # classes and starts in a figure, at most


def write(folder: Path, inputs: Inputs, made: Made, seconds: dict[str, float]) -> None:
    """Everything into ``folder``; the summary last."""
    pixel_size, maps = inputs.images.pixel_size, made.maps.cpu()
    write_volume(folder / "map.mrc", maps[0], pixel_size)
    write_volume(folder / "map_other_hand.mrc", flip_hand(maps[0]), pixel_size)
    if len(maps) > 1:
        for number, volume in enumerate(maps, 1):
            write_volume(folder / f"map_class_{number}.mrc", volume, pixel_size)
    write_lists(folder, inputs, made)
    pictures = draw(inputs, made)
    write_pictures(pictures, folder)
    scores = {f"starts/{s.number + 1}": s.judgement.score for s in made.result.starts}
    imposed = made.result.symmetric
    scores |= {f"symmetric_starts/{s.number + 1}": s.judgement.score for s in imposed}
    shares = {f"share/class_{k}": float(x) for k, x in enumerate(_shares(made), 1)}
    write_tensorboard(folder / "tensorboard", {**scores, **shares}, pictures, {})
    write_json(folder / "summary.json", summary(inputs, made, seconds))


def write_lists(folder: Path, inputs: Inputs, made: Made) -> None:
    """``particles`` with class and pose, and one list per class where there are several."""
    particles, best = posed(inputs, made), made.found.best
    extra = {
        "rlnClassNumber": (best + 1).numpy(),
        "rlnMaxValueProbDistribution": made.found.share.amax(1).double().numpy(),
        "cryotorchCorrelation": made.found.correlation.double().numpy(),
        # all particles were aligned to one map
        SHARED_RESOLUTION: np.full(len(best), round(_finest(inputs), 4)),
    }
    out = Path(str(inputs.settings.out))
    for ending in dict.fromkeys(inputs.settings.write):
        name = f"particles.{ending}"
        for message in write_particles(folder / name, inputs.file, particles, extra):
            log.info(line(message.plus(file=str(out / name))))
        for number in range(made.found.share.shape[1] if made.found.share.shape[1] > 1 else 0):
            rows = torch.nonzero(best == number)[:, 0]
            if len(rows):
                some = {label: values[rows.numpy()] for label, values in extra.items()}
                part = folder / f"particles_class_{number + 1}.{ending}"
                write_particles(part, rows_of(inputs.file, rows), particles[rows], some)


def _finest(inputs: Inputs) -> float:
    """The resolution in Å up to which poses were found."""
    return inputs.images.box * inputs.images.pixel_size / inputs.algorithm.last_limit


def posed(inputs: Inputs, made: Made) -> Particles:
    """All particles with the poses that were found, in Å."""
    found, pixel_size = made.found, inputs.images.pixel_size
    scale = found.sigma.new_tensor([1.0, pixel_size])
    return inputs.particles.replace(
        rotation=found.rotation,
        shift=found.shift_px * pixel_size,
        pose_sigma=found.sigma * scale,
        has_pose=True,
    )


def _shares(made: Made) -> list[float]:
    """Part of all particles that is most probably in each class."""
    return of_images(made.found.share).tolist()


def _sizes(made: Made) -> list[float]:
    """Effective number of particles of each class."""
    return effective_size(made.found.share).tolist()


def draw(inputs: Inputs, made: Made) -> dict[str, Picture]:
    """The maps of the classes, the starts, and the views."""
    edge = inputs.images.box * inputs.images.pixel_size
    rows = {}
    for number, (volume, share) in enumerate(
        zip(made.maps.cpu()[:SHOWN], _shares(made), strict=False), 1
    ):
        name = f"Class {number}, {share:.0%}" if len(made.maps) > 1 else "Map"
        rows[f"{name}, slices"] = central_slices(volume)
        rows[f"{name}, projections"] = projections(volume)
    final = inputs.settings.final_resolution
    title = f"Ab-initio map{'s' if len(made.maps) > 1 else ''}, used to {final:g} Å"
    subtitle = f"{len(inputs.rows):,} particles, {inputs.images.box} px of {inputs.images.pixel_size:.4g} Å"
    starts, agreements = {}, []
    for series, kind in (
        (made.result.starts[:SHOWN], "Start"),
        (made.result.symmetric, "Symmetric start"),
    ):
        for start in series:
            name = f"{kind} {start.number + 1}, score {start.judgement.score:.4g}"
            starts[name] = projections(start.soft.maps.volumes[0].cpu())
        if series:
            agreements.append(", ".join(f"{start.agreement:.2f}" for start in series))
    below = f"first class; agreement with the best: {'; with symmetry '.join(agreements)}"
    particles = posed(inputs, made)
    direction = viewing_directions(particles.rotation.numpy())
    error = np.degrees(particles.pose_sigma[:, 0].numpy())
    figures = {
        "maps": image_figure(rows, edge, title, subtitle),
        "starts": image_figure(starts, edge, "Random starts", below),
        "orientations": viewing_figure(direction, error, inputs.algorithm.group.numpy()),
    }
    return {name: render(figure) for name, figure in figures.items()}


def _starts(starts: list[Start]) -> list[dict[str, object]]:
    """Starts as entries of the summary."""
    return [
        {
            "number": start.number + 1,
            "score": start.judgement.score,
            "lead_standard_errors": start.judgement.lead,
            "agreement_with_best": start.agreement,
        }
        for start in starts
    ]


def summary(inputs: Inputs, made: Made, seconds: dict[str, float]) -> dict[str, object]:
    """``summary.json``. No resolution is claimed, of no class: the halves of its particles were aligned to one map, to all that it shows."""
    settings, result = inputs.settings, made.result
    axes = result.axes and {
        "correlation": result.axes.correlation,
        "runner_up": result.axes.runner_up,
        "by_chance": result.axes.chance,
    }
    return {
        "particles": len(inputs.particles),
        "particles_in_maps": len(inputs.rows),
        "box": inputs.images.box,
        "pixel_size": inputs.images.pixel_size,
        "symmetry": settings.symmetry,
        "symmetry_axes": axes,
        "initial_resolution": settings.initial_resolution,
        "final_resolution": settings.final_resolution,
        begin.ENTRY: begin.asked(made.findings),
        "resolution": None,
        REASON: "the half sets of these particles were aligned to one map, to all that it shows; job=homo_refine judges",
        "classes": [
            {"class": k, "share": share, "effective_particles": size}
            for k, (share, size) in enumerate(zip(_shares(made), _sizes(made), strict=True), 1)
        ],
        # 1: each particle in one class; the number of classes: all as likely
        "classes_per_particle": float((1 / made.found.share.square().sum(1)).mean()),
        "starts": _starts(result.starts),
        "best_start": result.best + 1,
        "symmetric_starts": _starts(result.symmetric),
        "like": settings.like,
        "model": settings.model,
        "fit": made.fit,
        "seed": settings.seed,
        **in_summary(f for f in made.findings if f.serious),
        damage.ENTRY: made.damaged,
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        **provenance(),
    }
