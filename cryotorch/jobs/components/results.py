"""The files: maps, frames along the components that are real with a script for ChimeraX, coordinates, figures, summary."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import numpy as np

from cryotorch.data.files import replace_file
from cryotorch.data.mrc import write_volume
from cryotorch.data.particle_file import write_particles
from cryotorch.jobs.components.inputs import ComponentInput
from cryotorch.jobs.components.steps import Made, resolution
from cryotorch.jobs.inputs import damage
from cryotorch.ops.masks.soft import high_percentile
from cryotorch.report.components import coordinate_figure, curve_figure, frames_script
from cryotorch.report.figures import write_pictures
from cryotorch.report.job_tensorboard import write_tensorboard
from cryotorch.report.maps import slice_figure
from cryotorch.report.sentences import in_summary, line
from cryotorch.report.style import render
from cryotorch.report.summary import provenance, write_json

log = logging.getLogger("cryotorch")
PERCENTILES = (3.0, 97.0)  # of the coordinates, that frames go from and to
SURFACE = 0.35  # of the mean map's high density, where ChimeraX draws the surface


def write(folder: Path, read: ComponentInput, made: Made, seconds: float) -> None:
    """Everything; the summary comes last."""
    pixel_size, count = read.how.grid.pixel_size, int(made.real.sum())
    write_volume(folder / "mean.mrc", made.mean, pixel_size)
    if read.settings.mask is None:
        write_volume(folder / "mask.mrc", made.mask, pixel_size)
    for number, volume in enumerate(made.components, 1):
        if number <= count:
            write_volume(folder / f"component_{number}.mrc", volume, pixel_size)
            _write_frames(folder, read, made, number)
        elif read.settings.write_unshared:
            write_volume(folder / f"unshared_component_{number}.mrc", volume, pixel_size)
    if count:
        script = frames_script(count, SURFACE * float(high_percentile(made.mean)))
        with replace_file(folder / "components.cxc") as file:
            file.write(script.encode())
    for ending in dict.fromkeys(read.settings.write):
        place = folder / f"particles.{ending}"
        for unseen in write_particles(place, read.file, read.particles, columns(made)):
            log.info(line(unseen))
    pictures = _pictures(read, made)
    write_pictures(pictures, folder)
    numbers = {f"errors/component_{k}": float(e) for k, e in enumerate(made.gain.errors, 1)}
    write_tensorboard(folder / "tensorboard", numbers, pictures, {})
    write_json(folder / "summary.json", summary(read, made, seconds))
    for row in _rows(read, made):
        log.info(row)


def columns(made: Made) -> dict[str, np.ndarray]:
    """Coordinates (n,) along the components that are real, and their standard deviations, by the name of the column."""
    found = {}
    for number in range(int(made.real.sum())):
        found[f"cryotorchComponent{number + 1}"] = made.position[:, number].numpy()
        found[f"cryotorchComponentSigma{number + 1}"] = made.sigma[:, number].numpy()
    return found


def steps_along(made: Made, number: int, frames: int) -> np.ndarray:
    """Coordinates (frames,) of the maps along a component, counted from 1."""
    low, high = np.percentile(made.position[:, number - 1].numpy(), PERCENTILES)
    return np.linspace(low, high, frames)


def _write_frames(folder: Path, read: ComponentInput, made: Made, number: int) -> None:
    place, component = folder / f"frames_{number}", made.components[number - 1]
    place.mkdir()
    for frame, step in enumerate(steps_along(made, number, read.settings.n_frames)):
        volume = made.mean + float(step) * component
        write_volume(place / f"frame_{frame:03d}.mrc", volume, read.how.grid.pixel_size)


def _pictures(read: ComponentInput, made: Made) -> dict:
    count, pixel_size = int(made.real.sum()), read.how.grid.pixel_size
    shown = [k for k in range(len(made.components)) if k < count or read.settings.write_unshared]
    rows = {"Mean": made.mean}
    for k in shown:
        rows[f"Component {k + 1}" if k < count else f"Not real, {k + 1}"] = made.components[k]
    looked = f"{len(made.real)} looked for"
    title = (
        f"{count} component{'s' if count != 1 else ''} of variability"
        if count
        else "No component is real"
    )
    size = f"{looked}, {len(made.mean)} px of {pixel_size:.4g} Å, detail to {read.edge / made.limit:.3g} Å"
    pictures = {
        "components": slice_figure(rows, pixel_size, title, size),
        "fsc": curve_figure(made.curve, made.real, read.edge, made.limit),
    }
    if count:
        pictures["coordinates"] = coordinate_figure(
            made.position[:, :count].numpy(), made.sigma[:, :count].numpy()
        )
    return {name: render(figure) for name, figure in pictures.items()}


def summary(read: ComponentInput, made: Made, seconds: float) -> dict[str, object]:
    """What ``summary.json`` holds."""
    k, edge = len(made.real), read.edge
    components = [
        {
            "real": bool(made.real[j]),
            "gain": float(made.gain.mean[j]),
            "errors": float(made.gain.errors[j]),
            "variance": float(made.variance[j]),
            "relative_power": float(made.variance[j] / (made.mean * made.mask).square().sum()),
            "resolution": _finite(resolution(made, j, edge)) if made.real[j] else None,
            "by_faults": float(made.by_faults[j]),
            "mean_sigma": float(made.sigma[:, j].mean()),
        }
        for j in range(k)
    ]
    return {
        "particles": len(read.particles),
        "images": len(read.image.unique()),
        "half_sets": [int((read.particles.half == half).sum()) for half in (0, 1)],
        "real": int(made.real.sum()),
        "components": components,
        "contrast_spread": made.contrast,
        "max_resolution": edge / made.limit,
        "mask": read.settings.mask,
        "box": read.how.grid.box,
        "pixel_size": read.how.grid.pixel_size,
        "iterations": read.how.iterations,
        "seed": read.how.seed,
        damage.ENTRY: made.damaged,
        **in_summary(made.warnings),
        "device": str(read.device),
        "seconds": {"total": round(seconds, 3)},
        **provenance(),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _rows(read: ComponentInput, made: Made) -> list[str]:
    """A line for each component."""
    told = []
    power = float((made.mean * made.mask).square().sum())
    for j, real in enumerate(made.real.tolist()):
        share = 100 * float(made.variance[j]) / max(power, 1e-30)
        verdict = f"component {j + 1}, real:" if real else "looked for, not real:"
        told.append(
            f"{verdict} the other half set's images gain {float(made.gain.mean[j]):.3g} each "
            f"({float(made.gain.errors[j]):.1f} standard errors), {share:.2g} % of the mean map's power, "
            f"{float(made.by_faults[j]):.0%} of it like faults of the images"
        )
    return told
