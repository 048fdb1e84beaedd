"""Templates for particle picking: projections of a map in evenly spaced directions."""

from __future__ import annotations

import time
from pathlib import Path

from cryotorch.jobs.picking.settings import CreateTemplates

# In the order in which they appear: who sees the STAR file finds its images, and the summary says that all is there.
FILES = (
    *("config.yaml", "log.txt", "templates.mrcs", "templates.star", "templates.png"),
    *("tensorboard", "summary.json"),
)


def run(settings: CreateTemplates) -> Path:
    """Projections of the map with their angles and a picture, in ``settings.out``."""
    started = time.perf_counter()
    from cryotorch.data.mrc import write_stack
    from cryotorch.jobs.files.dry_run import work_begins
    from cryotorch.jobs.files.ending import tell_end
    from cryotorch.jobs.files.memory import memory_needed
    from cryotorch.jobs.files.output_folder import new_files
    from cryotorch.jobs.inputs.maps import map_path
    from cryotorch.jobs.picking.results import draw, write_star_file, write_summary
    from cryotorch.jobs.picking.templates import arrange, measure
    from cryotorch.report.run_log import RunLog

    with RunLog() as log:
        path = map_path(settings.volume)
        with new_files(settings, FILES, [path]) as folder:
            log.open(folder / "log.txt")
            made = arrange(path, settings)
            maps = made.volume
            work_begins(settings, memory_needed("create_templates", len(maps), maps.device))
            found = measure(made)
            stack = (found.factor * images for images, _ in made.images())
            n, box, size = len(made.views), made.box, made.pixel_size
            write_stack(folder / "templates.mrcs", stack, n, box, size)
            write_star_file(folder, made)
            draw(folder, made, found)
            write_summary(folder / "summary.json", made, found, time.perf_counter() - started)
            log.info("%d templates of %d pixels, %.4g Å per pixel", n, box, size)
            log.info(
                "relion_autopick takes --ref templates.star in that folder, or from anywhere --ref %s --angpix_ref %.5g",
                *(Path(settings.out) / "templates.mrcs", size),
            )
        tell_end(settings, started)
    return Path(settings.out)
