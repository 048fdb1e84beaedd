"""The resolution around each voxel, from two half maps, and a map low-passed by it."""

from __future__ import annotations

import time
from pathlib import Path

from cryotorch.jobs.config.parse import in_angstrom
from cryotorch.jobs.resolution_map.settings import LocalResolution

# Everything the job may leave in ``out``; the summary comes last and so says that all is there.
FILES = (
    *("config.yaml", "log.txt", "mask_fsc.mrc", "local_resolution.mrc", "map_local_filtered.mrc"),
    *("local_resolution.png", "slices.png", "local_resolution.cxc", "summary.json"),
)


def run(settings: LocalResolution) -> Path:
    """Local resolution of two half maps, with figures and a locally filtered map, in ``settings.out``."""
    started = time.perf_counter()
    from cryotorch.jobs.files.dry_run import work_begins
    from cryotorch.jobs.files.ending import tell_end
    from cryotorch.jobs.files.memory import memory_needed
    from cryotorch.jobs.files.output_folder import new_files
    from cryotorch.jobs.inputs.device import pick_device
    from cryotorch.jobs.inputs.half_maps import load_half_maps
    from cryotorch.jobs.inputs.masks import try_mask
    from cryotorch.jobs.resolution_map.measure import local_result
    from cryotorch.jobs.resolution_map.results import write, write_summary
    from cryotorch.report.run_log import RunLog
    from cryotorch.report.sentences import line

    named = (settings.volume, settings.half_map_a, settings.half_map_b)
    with RunLog() as log:
        with new_files(settings, FILES, (*named, settings.map, settings.mask)) as folder:
            log.open(folder / "log.txt")
            device = pick_device(settings.device)
            halves = load_half_maps(*named, settings.pixel_size, settings.symmetry)
            box, pixel_size = halves.maps.shape[-1], halves.pixel_size
            log.info("Half maps %s and %s", *halves.paths)
            log.info("%d voxels per edge, %.4g Å per voxel, on %s", box, pixel_size, device)
            try_mask(settings, halves.grid)
            work_begins(settings, memory_needed("local_resolution", box, device))
            reading = time.perf_counter() - started
            found = local_result(in_angstrom(settings, pixel_size), halves, device)
            for warning in found.warnings:
                log.info(line(warning))
            measuring = time.perf_counter() - started - reading
            write(folder, found, halves, settings)
            seconds = {"reading": reading, "measuring": measuring}
            seconds["total"] = time.perf_counter() - started
            write_summary(folder, settings, found, halves, seconds)
        tell_end(settings, started)
    return Path(settings.out)
