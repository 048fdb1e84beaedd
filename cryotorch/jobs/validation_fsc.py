"""Fourier shell correlation of two half maps: the curves, the mask behind them, and the resolution."""

from __future__ import annotations

import time
from pathlib import Path

from cryotorch.jobs.config.parse import (
    in_angstrom,
)
from cryotorch.jobs.fsc.settings import ValidationFsc

# Everything the job may leave in ``out``; the summary comes last and so says that all is there.
FILES = (
    *("config.yaml", "log.txt", "mask_fsc.mrc", "map_half_A.mrc", "map_half_B.mrc"),
    *("fsc.txt", "fsc_*.xml", "fsc.png", "mask.png", "tensorboard", "summary.json"),
)


def run(settings: ValidationFsc) -> Path:
    """Mask, curves and resolution of two half maps, in ``settings.out``."""
    started = time.perf_counter()
    from cryotorch.jobs.files.dry_run import work_begins
    from cryotorch.jobs.files.ending import tell_end
    from cryotorch.jobs.files.memory import TIGHTENING, memory_needed
    from cryotorch.jobs.files.output_folder import new_files
    from cryotorch.jobs.fsc.results import table, write, write_summary
    from cryotorch.jobs.fsc.validate import validate
    from cryotorch.jobs.inputs.device import pick_device
    from cryotorch.jobs.inputs.half_maps import load_half_maps
    from cryotorch.jobs.inputs.masks import try_mask
    from cryotorch.report.run_log import RunLog
    from cryotorch.report.sentences import line

    loaded = time.perf_counter()
    inputs = (settings.volume, settings.half_map_a, settings.half_map_b, settings.mask)
    with RunLog() as log:
        with new_files(settings, FILES, inputs) as folder:
            log.open(folder / "log.txt")
            device = pick_device(settings.device)
            named = (settings.volume, settings.half_map_a, settings.half_map_b)
            halves = load_half_maps(*named, settings.pixel_size, settings.symmetry)
            box, pixel_size = halves.maps.shape[-1], halves.pixel_size
            log.info("Half maps %s and %s", *halves.paths)
            log.info("%d voxels per edge, %.4g Å per voxel, on %s", box, pixel_size, device)
            more = TIGHTENING * box**3 if settings.tightens else 0.0
            try_mask(settings, halves.grid)
            work_begins(settings, memory_needed("validation_fsc", box, device, more))
            ready = time.perf_counter()
            found = validate(in_angstrom(settings, pixel_size), halves, device)
            for row in table(found):
                log.info(row)
            for warning in found.warnings:
                log.info(line(warning))
            judged = time.perf_counter()
            write(folder, found, halves, relabelled=settings.pixel_size is not None)
            done = time.perf_counter()
            seconds = {"total": done - started, "load_program": loaded - started}
            seconds |= {"read": ready - loaded, **found.seconds, "write": done - judged}
            extras = {"seed": settings.seed, "device": str(device), "seconds": seconds}
            write_summary(folder, found, halves, settings, extras)
        tell_end(settings, started)
    return Path(settings.out)
