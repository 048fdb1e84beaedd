"""Anisotropy of a map: conical FSC of its half maps, and how the particles' views sample Fourier space."""

from __future__ import annotations

import time
from pathlib import Path

from cryotorch.jobs.config.parse import (
    in_angstrom,
)
from cryotorch.jobs.orientation.settings import OrientationDiagnostics

# Everything the job may leave in ``out``; the summary comes last and so says that all is there.
FILES = (
    *("config.yaml", "log.txt", "mask_fsc.mrc", "conical_fsc.csv", "conical_fsc.png"),
    *("directional_resolution.png", "viewing_directions.png", "sampling.png"),
    *("orientation_diagnostics.png", "tensorboard", "summary.json"),
)


def run(settings: OrientationDiagnostics) -> Path:
    """Scores, curves and one page about two half maps and their particles, in ``settings.out``."""
    started = time.perf_counter()
    from cryotorch.jobs.files.dry_run import work_begins
    from cryotorch.jobs.files.ending import tell_end
    from cryotorch.jobs.files.memory import memory_needed
    from cryotorch.jobs.files.output_folder import new_files
    from cryotorch.jobs.inputs.device import pick_device
    from cryotorch.jobs.inputs.half_maps import load_half_maps
    from cryotorch.jobs.inputs.masks import try_mask
    from cryotorch.jobs.orientation.diagnose import diagnose, load_views
    from cryotorch.jobs.orientation.results import table, write, write_summary
    from cryotorch.report.run_log import RunLog
    from cryotorch.report.sentences import line

    inputs = (settings.half_map_a, settings.half_map_b, settings.mask, settings.particles)
    with RunLog() as log:
        with new_files(settings, FILES, (settings.volume, *inputs)) as folder:
            log.open(folder / "log.txt")
            device = pick_device(settings.device)
            named = (settings.volume, settings.half_map_a, settings.half_map_b)
            halves = load_half_maps(*named, settings.pixel_size, settings.symmetry)
            box, pixel_size = halves.maps.shape[-1], halves.pixel_size
            log.info("Half maps %s and %s", *halves.paths)
            log.info("%d voxels per edge, %.4g Å per voxel, on %s", box, pixel_size, device)
            views = load_views(settings)
            try_mask(settings, halves.grid)
            work_begins(settings, memory_needed("orientation_diagnostics", box, device))
            found = diagnose(in_angstrom(settings, pixel_size), halves, views, device)
            for row in table(found):
                log.info(row)
            for warning in found.warnings:
                log.info(line(warning))
            write(folder, found, halves, settings)
            seconds = {**found.seconds, "total": time.perf_counter() - started}
            extras = {"seed": settings.seed, "device": str(device), "seconds": seconds}
            write_summary(folder, found, halves, settings, extras)
        tell_end(settings, started)
    return Path(settings.out)
