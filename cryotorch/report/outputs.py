"""The files of a result: maps, masks, particles, curves and the summary."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cryotorch.data.files import replace_file
from cryotorch.data.half_sets import SHARED_RESOLUTION
from cryotorch.data.mrc import write_volume
from cryotorch.data.particle_file import ParticleFile, write_particles
from cryotorch.report.bild import orientation_bild
from cryotorch.report.fsc_files import write_fsc_files, write_fsc_iterations
from cryotorch.report.sentences import line
from cryotorch.report.summary import write_summary
from cryotorch.results import IterationResult

PROBABILITY = "cryotorchParticleProbability"


def write_outputs(
    folder: Path,
    result: IterationResult,
    source: ParticleFile | None = None,
    extras: Mapping[str, object] | None = None,
    formats: Sequence[str] = ("star",),
) -> list[Path]:
    """Write everything that outlives the run into an existing folder; the paths, ``summary.json`` last.

    Each file is replaced as a whole, and the summary is written when all others are there.

    Args:
        source: the file the particles came from, whose columns are kept; None writes no particles.
        extras: further entries of the summary (see ``summary.summarise``).
        formats: of the particles, "star" and "cs".

    Raises:
        InputError: the folder cannot be written to.
    """
    folder = Path(folder)
    volumes = {
        "map": result.map,
        "map_sharp": result.map_sharp,
        "map_half_A": result.half_maps[0],
        "map_half_B": result.half_maps[1],
        "mask_refine": result.mask_refine,
        "mask_fsc": result.mask_fsc,
        "map_cutoff": result.cutoff,
    }
    paths = []
    for name, volume in volumes.items():
        path = folder / f"{name}.mrc"
        if volume is None:
            path.unlink(missing_ok=True)  # of an earlier iteration
            continue
        write_volume(path, volume, result.pixel_size)
        paths.append(path)
    box = result.map.shape[-1]
    paths += write_fsc_files(folder, result.curves, box, result.pixel_size, result.band)
    paths.append(folder / "fsc_iterations.txt")
    write_fsc_iterations(paths[-1], result.iteration, result.curves)
    paths.append(folder / "orientations.bild")
    rotation, radius = result.particles.rotation.numpy(), 0.45 * box * result.pixel_size
    with replace_file(paths[-1]) as file:
        file.write(orientation_bild(rotation, box, result.pixel_size, radius).encode())
    if source is not None:
        source = _without_probability(source)
        for ending in dict.fromkeys(formats):
            paths.append(folder / f"particles.{ending}")
            unseen = write_particles(paths[-1], source, result.particles, _columns(result))
            for message in unseen:
                logging.getLogger("cryotorch").warning(line(message))
    paths.append(folder / "summary.json")
    write_summary(paths[-1], result, extras)
    return paths


def _without_probability(source: ParticleFile) -> ParticleFile:
    """The file without what an earlier run said of its particles against another map."""
    table = source.tables["particles"].copy()
    table.pop(PROBABILITY, None)
    return replace(source, tables={**source.tables, "particles": table})


def _columns(result: IterationResult) -> dict[str, np.ndarray]:
    """Further columns: what the half sets had in common, Å; how loud each image is, and whether it shows the molecule; of a local search, how far each pose has moved, degrees and Å."""
    columns, moved = {}, result.departures
    if result.shared > 0:
        edge = result.map.shape[-1] * result.pixel_size
        columns[SHARED_RESOLUTION] = np.full(len(result.particles), round(edge / result.shared, 4))
    if result.noise_factor is not None:
        columns["cryotorchNoiseFactor"] = result.noise_factor.double().numpy()
    if result.probability is not None:
        columns[PROBABILITY] = result.probability.double().numpy()
    if moved is None:
        return columns
    return columns | {
        "cryotorchRotationChange": moved.rotation.double().numpy(),
        "cryotorchShiftChange": moved.shift.double().numpy(),
    }
