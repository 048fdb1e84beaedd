"""Homogeneous refinement: one map and the poses of all particles, from an initial map."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from cryotorch.jobs.config.parse import Length, require
from cryotorch.jobs.refinement.settings import RefineConfig, SearchConfig


@dataclass(frozen=True)
class GlobalSearchConfig(SearchConfig):
    """The search over all orientations; meanings and defaults in ``configs/job/homo_refine.yaml``."""

    shift_extent: Length | None


@dataclass(frozen=True)
class HomoRefine(RefineConfig):
    """The parameters; meanings and defaults in ``configs/job/homo_refine.yaml``, lengths in Å."""

    initial_resolution: Literal["auto"] | Length  # pyright: ignore[reportIncompatibleVariableOverride]
    symmetry_frame: Literal["check", "auto", "trust"]
    fast_subsets: bool
    search: GlobalSearchConfig

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


def run(config: HomoRefine) -> None:
    """From a particle stack to a validated map in ``config.out``."""
    import time

    started = time.perf_counter()
    from cryotorch.refinement.runtime.lean_lightning import import_lightning

    import_lightning()
    from cryotorch.jobs.refinement.run import refine, run_log

    with run_log() as log:
        refine(_demo(config), prepare, log, started)


def _demo(config: HomoRefine) -> HomoRefine:
    """``particles=demo`` stands for the files of the built-in set."""
    if config.particles != "demo":
        return config
    import logging

    from cryotorch.jobs.simulate import demo_folder

    folder = demo_folder()
    log = logging.getLogger("cryotorch")
    log.info(
        "particles=demo: simulated particles of a made-up molecule from %s, not data of yours",
        folder,
    )
    volume = config.volume or str(folder / "initial.mrc")
    return replace(config, particles=str(folder / "particles.star"), volume=volume)


def global_em_settings(config: HomoRefine, images, group, half):
    """``em_settings`` with what only a search over all orientations has: how far shifts reach, and subsets of the ``half`` sets (n,)."""
    from cryotorch.jobs.initial_map.begin import first_resolution
    from cryotorch.jobs.refinement.settings import em_settings

    first = first_resolution(config.initial_resolution, config.volume)
    settings = em_settings(replace(config, initial_resolution=first), images, group)
    extent, edge = config.search.shift_extent, images.box * images.pixel_size
    within = extent is None or extent <= edge / 2
    require(within, "search.shift_extent", extent, f"the box ends {edge / 2:.4g} Å from its middle")
    extent_px = 0.1 * images.box if extent is None else extent / images.pixel_size
    search, schedule = replace(settings.search, shift_extent=extent_px), settings.schedule
    if config.fast_subsets:
        schedule = replace(schedule, images=min(int((half == h).sum()) for h in (0, 1)))
    checked = "" if config.symmetry_frame == "trust" else config.symmetry
    # what both half sets are aligned to first, they have in common for good: noise keeps the shape of the initial map
    shared = max(settings.shared, schedule.first_limit)
    return replace(settings, search=search, schedule=schedule, symmetry=checked, shared=shared)


def prepare(config: HomoRefine, file, images, group):
    """The initial map on the symmetry axes, and the half sets."""
    import logging

    from cryotorch.data.image_names import refuse_duplicates
    from cryotorch.findings import remark
    from cryotorch.jobs.inputs.maps import map_path
    from cryotorch.jobs.inputs.reference import load_box_mask, load_reference, warn_if_inverted
    from cryotorch.jobs.inputs.reference_axes import onto_axes
    from cryotorch.jobs.refinement.run import Inputs
    from cryotorch.refinement.em.hands import finest_initial_shell
    from cryotorch.refinement.half_sets import assign_half_sets
    from cryotorch.report.sentences import line

    refuse_duplicates(file.particles.address.numpy(), file.stacks, file.path)
    particles, note = assign_half_sets(file.particles, config.half_sets == "resplit", config.seed)
    settings = global_em_settings(config, images, group, particles.half)
    begun = map_path(config.volume)
    volume = load_reference(begun, "volume", file, images)
    warn_if_inverted(volume, begun)
    finest = finest_initial_shell(settings)
    volume, warnings = onto_axes(volume, group, config.symmetry, config.symmetry_frame, finest)
    for warning in warnings:
        logging.getLogger("cryotorch").warning(line(warning))
    if config.mask is not None and config.mask_mode != "none":
        mask = load_box_mask(config.mask, begun, file, images)
        settings = replace(settings, mask=replace(settings.mask, user_mask=mask))
    beginning = [note]
    if particles.has_pose or bool(particles.shift.any()):
        beginning.append(remark("poses_not_used", file=str(file.path)))
    return Inputs(settings, volume, particles, beginning, {}, warnings)
