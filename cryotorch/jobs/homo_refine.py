"""Homogeneous refinement: one map and the poses of all particles, from an initial map."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from cryotorch.jobs.config.parse import Length, require
from cryotorch.jobs.refinement.settings import RefineConfig, Search


@dataclass(frozen=True)
class GlobalSearch(Search):
    """The search over all orientations; meanings and defaults in ``configs/job/homo_refine.yaml``."""

    shift_extent: Length | None


@dataclass(frozen=True)
class HomoRefine(RefineConfig):
    """The parameters; meanings and defaults in ``configs/job/homo_refine.yaml``, lengths in Å."""

    symmetry_frame: Literal["check", "auto", "trust"]
    fast_subsets: bool
    search: GlobalSearch

    def __post_init__(self) -> None:
        """Refuses what is wrong whatever the data are."""
        super().__post_init__()
        static = self.mask_mode != "static" or self.mask is not None
        require(static, "mask_mode", self.mask_mode, "it needs a mask, add mask=<file>")
        known = self.particles == "demo" or self.volume is not None
        require(
            known,
            "volume",
            self.volume,
            "your own particles need an initial map, add volume=<file>",
        )


def run(settings: HomoRefine) -> None:
    """From a particle stack to a validated map in ``settings.out``."""
    import time

    started = time.perf_counter()
    from cryotorch.jobs.refinement.run import refine, run_log

    with run_log() as log:
        refine(_demo(settings), prepare, log, started)


def _demo(settings: HomoRefine) -> HomoRefine:
    """``particles=demo`` stands for the files of the built-in set."""
    if settings.particles != "demo":
        return settings
    import logging

    from cryotorch.jobs.simulate import demo_folder

    folder = demo_folder()
    log = logging.getLogger("cryotorch")
    log.info(
        "particles=demo: simulated particles of a made-up molecule from %s, not data of yours",
        folder,
    )
    volume = settings.volume or str(folder / "initial.mrc")
    return replace(settings, particles=str(folder / "particles.star"), volume=volume)


def plan_global(settings: HomoRefine, images, group, half):
    """``plan`` with what only a search over all orientations has: how far shifts reach, and subsets of the ``half`` sets (n,)."""
    from cryotorch.jobs.refinement.settings import plan

    planned = plan(settings, images, group)
    extent, edge = settings.search.shift_extent, images.box * images.pixel_size
    within = extent is None or extent <= edge / 2
    require(within, "search.shift_extent", extent, f"the box ends {edge / 2:.4g} Å from its middle")
    extent_px = 0.1 * images.box if extent is None else extent / images.pixel_size
    search, schedule = replace(planned.search, shift_extent=extent_px), planned.schedule
    if settings.fast_subsets:
        schedule = replace(schedule, images=min(int((half == h).sum()) for h in (0, 1)))
    checked = "" if settings.symmetry_frame == "trust" else settings.symmetry
    # what both half sets are aligned to first, they have in common for good: noise keeps the shape of the initial map
    shared = max(planned.shared, schedule.first_limit)
    return replace(planned, search=search, schedule=schedule, symmetry=checked, shared=shared)


def prepare(settings: HomoRefine, file, images, group):
    """The initial map on the symmetry axes, and the half sets."""
    import logging

    from cryotorch.data.image_names import refuse_duplicates
    from cryotorch.findings import remark
    from cryotorch.jobs.inputs.reference import load_mask, load_reference, warn_if_inverted
    from cryotorch.jobs.inputs.reference_axes import onto_axes
    from cryotorch.jobs.refinement.run import Inputs
    from cryotorch.refinement.half_sets import assign_half_sets
    from cryotorch.report.sentences import line

    refuse_duplicates(file.particles.address.numpy(), file.stacks, file.path)
    particles, note = assign_half_sets(
        file.particles, settings.half_sets == "resplit", settings.seed
    )
    planned = plan_global(settings, images, group, particles.half)
    volume = load_reference(settings.volume, "volume", file, images)
    warn_if_inverted(volume, settings.volume)
    volume, told = onto_axes(volume, group, settings.symmetry, settings.symmetry_frame)
    for warning in told:
        logging.getLogger("cryotorch").warning(line(warning))
    if settings.mask is not None and settings.mask_mode != "none":
        mask = load_mask(settings.mask, settings.volume, file, images)
        planned = replace(planned, mask=replace(planned.mask, user_mask=mask))
    beginning = [note]
    if particles.has_pose or bool(particles.shift.any()):
        beginning.append(remark("poses_not_used", file=str(file.path)))
    return Inputs(planned, volume, particles, beginning, {}, told)
