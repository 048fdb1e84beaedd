"""Homogeneous refinement: one map and the poses of all particles, from an initial map."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from cryotorch.jobs.settings import Angle, Length, TrainerSettings, in_angstrom, positive, require
from cryotorch.jobs.units import parse_length

# Fewer Fourier shells tell no orientations apart.
LONG_JOB = 50_000  # particles from which on compiling is worth its preparation
LEAST_SHELLS = 2


@dataclass(frozen=True)
class Search:
    """The pose search; meanings and defaults in ``configs/job/homo_refine.yaml``."""

    coarse_limit: int
    grid_step: Angle | None
    candidates: int
    newton_steps: int
    shift_extent: Length | None
    posterior: Literal["laplace", "map"]

    def __post_init__(self) -> None:
        names = ("coarse_limit", "grid_step", "candidates", "newton_steps", "shift_extent")
        positive(self, *names, prefix="search.")


@dataclass(frozen=True)
class HomoRefine:
    """The parameters; meanings and defaults in ``configs/job/homo_refine.yaml``, lengths in Å."""

    trainer: TrainerSettings
    particles: str
    volume: str | None
    mask: str | None
    out: str | None
    resume: bool
    overwrite: bool
    cache_dir: str | None
    box_size: int | None
    particle_diameter: Length | None
    window_inner: float
    window_outer: float
    normalize: Literal["auto"] | bool
    invert: bool
    symmetry: str
    initial_resolution: Length
    rescale_reference: bool
    max_iterations: int
    extra_final_passes: int
    max_align_resolution: Length | None
    minibatch_size: Literal["auto"] | int
    seed: int
    compile: Literal["auto"] | bool
    half_sets: Literal["keep", "resplit"]
    split_resolution: Length
    per_particle_scale: bool
    scale_start_iteration: int
    mask_mode: Literal["dynamic", "static", "none"]
    mask_threshold: float
    mask_near: Length
    mask_far: Length
    mask_start_resolution: Length
    bfactor: float | None
    search: Search

    def __post_init__(self) -> None:
        """Refuses what is wrong whatever the data are."""
        positive(self, "particle_diameter", "initial_resolution", "max_iterations", "mask_far")
        positive(self, "max_align_resolution", "split_resolution", "mask_start_resolution")
        box, batch = self.box_size, self.minibatch_size
        require(box is None or box >= 8, "box_size", box, "it must be at least 8 pixels")
        require(box is None or box % 2 == 0, "box_size", box, "it must be even")
        require(batch == "auto" or batch > 0, "minibatch_size", batch, "it must be above zero")
        for name in ("extra_final_passes", "scale_start_iteration", "seed"):
            value = getattr(self, name)
            require(value >= 0, name, value, "it must not be negative")
        inner, outer = self.window_inner, self.window_outer
        require(0 < inner <= 1, "window_inner", inner, "it must be above 0 and at most 1")
        require(inner <= outer <= 1, "window_outer", outer, "it must lie in window_inner to 1")
        threshold = self.mask_threshold
        require(0 < threshold < 1, "mask_threshold", threshold, "it must lie between 0 and 1")
        near, far = self.mask_near, self.mask_far
        require(parse_length(near, 1.0) >= 0, "mask_near", near, "it must not be negative")
        same_unit = isinstance(near, str) == isinstance(far, str)
        longer = parse_length(near, 1.0) < parse_length(far, 1.0)
        require(not same_unit or longer, "mask_far", far, f"it must be above mask_near={near}")
        require(
            self.mask_mode != "static" or self.mask is not None,
            "mask_mode",
            self.mask_mode,
            "it needs a mask, add mask=<file>",
        )
        require(
            self.particles == "demo" or self.volume is not None,
            "volume",
            self.volume,
            "your own particles need an initial map, add volume=<file>",
        )


def run(settings: HomoRefine) -> None:
    """From a particle stack to a validated map in ``settings.out``."""
    import time

    started = time.perf_counter()
    import torch

    from cryotorch.data.images import ParticleImages
    from cryotorch.data.particle_file import read_particles
    from cryotorch.errors import InputError
    from cryotorch.jobs import refinement as r
    from cryotorch.jobs.run_folder import RunFolder, fingerprint, last_checkpoint, rank
    from cryotorch.ops.symmetry import point_group
    from cryotorch.refine.distributed import Batches
    from cryotorch.refine.module import Refinement, coming
    from cryotorch.refine.schedule import Stop
    from cryotorch.refine.start import assign_half_sets, begin
    from cryotorch.report.run_log import RunLog

    try:
        group = point_group(settings.symmetry)
    except ValueError as error:
        raise InputError(f"symmetry={settings.symmetry} cannot be used: {error}") from None
    with RunLog(rank()) as log:
        settings = _demo(settings)
        inputs = (settings.particles, settings.volume, settings.mask)
        folder = RunFolder(settings.out, settings.resume, settings.overwrite, inputs)
        file = read_particles(settings.particles)
        for message in file.messages:
            log.info(message)
        images = ParticleImages(file, settings.box_size, settings.cache_dir, settings.invert)
        images.normalise = r.normalise_needed(images, settings.normalize)
        given, settings = settings, in_angstrom(settings, file.pixel_size)
        plan = _plan(settings, images, group)
        volume = r.load_on_grid(settings.volume, "volume", file, images)
        r.warn_if_inverted(volume, settings.volume)
        volume = r.onto_axes(volume, group, settings.symmetry)
        if settings.mask is not None and settings.mask_mode != "none":
            plan = replace(plan, mask=replace(plan.mask, given=r.load_mask(settings.mask, file, images)))
        resplit = settings.half_sets == "resplit"
        particles, note = assign_half_sets(file.particles, resplit, settings.seed)
        log.info(note)
        if particles.has_pose or bool(particles.shift.any()):
            log.info("orientations in %s are not used, the search is global; it starts at the origins given there", file.path)
        size = settings.minibatch_size
        batches = Batches(images, particles.half, r.batch_size(images.box) if size == "auto" else size)

        belongs = fingerprint(file, particles, images.box, images.pixel_size, settings.symmetry)
        checkpoint = last_checkpoint(folder.path) if settings.resume else None
        if checkpoint is not None:
            then = coming(belongs.check(checkpoint), plan)
            if isinstance(then, Stop):
                log.info("The run in %s has finished already: %s.", folder.path, then.reason)
                return
            for change in folder.changes(given):
                log.info("resumed with %s", change)
        extras: dict = {"mask": settings.mask, "symmetry": settings.symmetry}
        most = settings.max_iterations + settings.extra_final_passes
        trainer = r.make_trainer(folder.path, settings.trainer, most, r.callbacks(folder.path, file, extras, belongs, started))
        extras["device"] = r.machine(trainer)
        log.info("%d particles of %d pixels, %.4g Å, on %s", len(particles), images.box, images.pixel_size, extras["device"])
        with torch.no_grad():
            state, notes = begin(
                particles, volume, batches, plan, settings.initial_resolution, trainer.strategy.root_device, fresh=checkpoint is None
            )
        for note in notes:
            log.info(note)
        extras["seconds"] = {"setup": round(time.perf_counter() - started, 3)}
        module = Refinement(state, plan, batches)
        log.open(folder.open(given) / "log.txt")
        try:
            r.fit(trainer, module, checkpoint)
        except InputError:
            folder.discard()
            raise
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"add resume=true to the same command to go on in {folder.path}") from None
        seconds = time.perf_counter() - started
        found = module.result.resolution
        bound = ", the limit of the pixel size" if found < 2.1 * images.pixel_size else ""
        log.info("Resolution %.2f Å%s, %.0f s. The results are in %s", found, bound, seconds, folder.path)


def _demo(settings: HomoRefine) -> HomoRefine:
    """``particles=demo`` stands for the files of the built-in set."""
    if settings.particles != "demo":
        return settings
    import logging

    from cryotorch.jobs.simulate import demo_folder

    folder = demo_folder()
    log = logging.getLogger("cryotorch")
    log.info("particles=demo: simulated particles of a made-up molecule from %s, not data of yours", folder)
    volume = settings.volume or str(folder / "initial.mrc")
    return replace(settings, particles=str(folder / "particles.star"), volume=volume)


def _plan(settings: HomoRefine, images, group):
    """The parameters in the algorithm's units: pixels, Fourier pixels, radians."""
    import math

    from cryotorch.refine.schedule import ScheduleSettings
    from cryotorch.refine.search import SearchSettings
    from cryotorch.refine.state import MaskSettings, Settings

    box, pixel = images.box, images.pixel_size
    edge, search = box * pixel, settings.search
    extent, step, finest = search.shift_extent, search.grid_step, settings.max_align_resolution
    _check_lengths(settings, edge, pixel)
    most = min(box / 2 - 1, edge / finest) if finest else box / 2 - 1
    return Settings(
        box=box,
        pixel_size=pixel,
        group=group,
        search=SearchSettings(
            coarse_limit=search.coarse_limit,
            grid_step=None if step is None else math.radians(step),
            candidates=search.candidates,
            newton_steps=search.newton_steps,
            shift_extent=0.1 * box if extent is None else extent / pixel,
            compile=len(images) >= LONG_JOB if settings.compile == "auto" else settings.compile,
        ),
        schedule=ScheduleSettings(
            first_limit=min(edge / settings.initial_resolution, most),
            most=most,
            max_iterations=settings.max_iterations,
            extra_final_passes=settings.extra_final_passes,
        ),
        mask=MaskSettings(
            mode=settings.mask_mode,
            threshold=settings.mask_threshold,
            near=settings.mask_near,
            far=settings.mask_far,
            start=settings.mask_start_resolution,
        ),
        split=edge / settings.split_resolution,
        window=(settings.window_inner * box / 2, settings.window_outer * box / 2),
        particle_radius=settings.particle_diameter and settings.particle_diameter / 2 / pixel,
        posterior=search.posterior,
        per_particle_scale=settings.per_particle_scale,
        scale_start_iteration=settings.scale_start_iteration,
        rescale_reference=settings.rescale_reference,
        bfactor=settings.bfactor,
    )


def _check_lengths(settings: HomoRefine, edge: float, pixel: float) -> None:
    """Refuses lengths in Å that make no sense in a box of this edge."""
    lowest = edge / LEAST_SHELLS
    for name in ("initial_resolution", "max_align_resolution"):
        value = getattr(settings, name)
        require(value is None or value <= lowest, name, value, f"in a box of {edge:.4g} Å it must be at most {lowest:.4g} Å")
    split, nyquist = settings.split_resolution, 2 * pixel
    require(split > nyquist, "split_resolution", split, f"the half sets would share everything, it must be above {nyquist:.4g} Å")
    diameter, extent = settings.particle_diameter, settings.search.shift_extent
    require(diameter is None or diameter <= edge, "particle_diameter", diameter, f"the box is only {edge:.4g} Å wide")
    require(
        extent is None or extent <= edge / 2,
        "search.shift_extent",
        extent,
        f"the box ends {edge / 2:.4g} Å from its middle",
    )
