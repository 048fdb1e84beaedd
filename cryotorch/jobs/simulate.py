"""Simulated particles with known poses, and the built-in demo set made of them."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cryotorch.errors import InputError
from cryotorch.jobs.config.parse import in_angstrom
from cryotorch.jobs.files.output_folder import new_files
from cryotorch.jobs.files.resume import write_config
from cryotorch.jobs.simulation.settings import Simulate
from cryotorch.version import __version__

# In the order in which they appear: who sees a STAR file finds its images.
FILES = (
    "particles.mrcs",
    "truth.mrc",
    "initial.mrc",
    "config.yaml",
    "truth.star",
    "particles.star",
)
# With a second body also these, before the tables that name the images.
BODY_FILES = (
    "truth_body1.mrc",
    "truth_body2.mrc",
    "mask_body1.mrc",
    "mask_body2.mrc",
    "truth_body2.star",
    "consensus.star",
)
SPECIES_FILE = "truth_species2.mrc"  # with a second species
# The built-in demo: small enough to refine in well under a minute on two cores, noisy enough to be a task.
DEMO: dict[str, Any] = dict(box_size=48, pixel_size=3.0, n_particles=1000, snr=0.1, seed=1)


def run(settings: Simulate) -> Path:
    """Images of a molecule in random orientations, with CTF and white noise, in ``settings.out``.

    The map is brought to the grey scale on which the noise has variance 1 and the CTF-modulated signal, over the
    whole image and averaged over the particles, variance ``snr`` (1 without noise). With a second body the signal is
    that of both.
    """
    started = time.perf_counter()
    from cryotorch.jobs.files.ending import tell_end
    from cryotorch.report.run_log import RunLog

    with RunLog() as log:
        used = _simulate(settings)
        box, pixel_size, snr = settings.box_size, settings.pixel_size, settings.snr
        noise = "no noise" if snr is None else f"SNR {snr:g} over the whole image"
        about = settings.n_particles, box, pixel_size, noise
        log.info("%d particles of %d pixels, %g Å per pixel, %s", *about)
        if used.second_body is not None and used.second_body_states != "absent":
            log.info(
                "The second body turns by up to %g degrees about hinge=[%s] and moves by up to %g Å",
                used.second_body_rotation,
                ",".join(f"{x:g}" for x in used.hinge),
                used.second_body_shift,
            )
        tell_end(settings, started)
    return Path(settings.out)


def _simulate(settings: Simulate) -> Simulate:
    """Everything in its place; the settings with what was found for them."""
    import torch

    from cryotorch.data.mrc import write_stack, write_volume
    from cryotorch.data.particle_file import new_particle_file, write_particles
    from cryotorch.jobs.files.dry_run import work_begins
    from cryotorch.jobs.files.memory import memory_needed, require_room
    from cryotorch.jobs.simulation.mixture import SPECIES
    from cryotorch.jobs.simulation.particles import images as images_of
    from cryotorch.jobs.simulation.second_body import write as write_second_body
    from cryotorch.jobs.simulation.simulated import simulated
    from cryotorch.ops.fourier.filters import low_pass
    from cryotorch.report.sentences import line

    settings = in_angstrom(settings, settings.pixel_size)
    n, box, pixel_size = settings.n_particles, settings.box_size, settings.pixel_size
    host = torch.device("cpu")
    require_room(box, host, f"box_size={box}")
    print(line(memory_needed("simulate", box, host)))
    names = (FILES[0], *BODY_FILES, SPECIES_FILE, *FILES[1:])
    inputs = (settings.source, settings.second_body, settings.second_species)
    with new_files(settings, names, inputs) as folder:
        made = simulated(settings)
        work_begins(settings)
        settings, bodies, volume = made.settings, made.bodies, made.volume
        stack = folder / "particles.mrcs"
        images = images_of(made.spectra(), settings, made.draw)
        write_stack(stack, images, n, box, pixel_size, settings.dtype)
        write_volume(folder / "truth.mrc", volume, pixel_size)
        initial = low_pass(volume, pixel_size, settings.initial_resolution)
        write_volume(folder / "initial.mrc", initial, pixel_size)
        blind, species = made.blind(), {}
        if made.species is not None:
            species = {SPECIES: made.species.numpy()}
            if made.second is not None:
                write_volume(folder / SPECIES_FILE, made.second, pixel_size)
        source = new_particle_file(folder / "particles.star", [stack], box, blind)
        write_particles(source.path, source, blind, species)
        write_particles(folder / "truth.star", source, bodies[0].particles, species)
        if made.rest is not None:
            write_second_body(folder, bodies, made.rest, source, settings, species)
        write_config(folder, settings)  # with the hinge
    return settings


def demo_folder(cache: str | Path | None = None) -> Path:
    """The folder of the built-in demo set (``FILES``), simulated at the first call and kept.

    It lies in ``cache``, else in ``$CRYOTORCH_CACHE``, ``$XDG_CACHE_HOME/cryotorch`` or ``~/.cache/cryotorch``,
    under a name made of version, settings and the code behind it. Calls at the same time are safe: each builds its
    own copy, the first one is kept.

    Raises:
        InputError: the cache cannot be written.
    """
    from cryotorch.jobs.config.catalog import make_settings

    folder = _cache(cache) / f"demo-{__version__}-{_demo_key()}"
    if _complete(folder):
        return folder
    print(f"making the demo set, {DEMO['n_particles']} simulated particles, once: {folder}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        workshop = Path(tempfile.mkdtemp(prefix=".demo-", dir=folder.parent))
    except OSError as error:
        raise InputError(
            f"The demo cannot be kept in {folder.parent} ({error.strerror}): set CRYOTORCH_CACHE to a folder that "
            "you can write"
        ) from None
    try:
        _simulate(make_settings("simulate", out=str(workshop / "demo"), **DEMO))
        if folder.exists() and not _complete(folder):  # someone has tidied up in it
            os.rename(folder, workshop / "incomplete")
        try:
            os.rename(workshop / "demo", folder)
        except OSError:
            if not _complete(folder):  # else another run was faster, with the same result
                raise
    finally:
        shutil.rmtree(workshop, ignore_errors=True)
    return folder


def _cache(given: str | Path | None) -> Path:
    if given is not None or os.environ.get("CRYOTORCH_CACHE"):
        return Path(given or os.environ["CRYOTORCH_CACHE"]).expanduser()
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "cryotorch"


def _complete(folder: Path) -> bool:
    return all((folder / name).is_file() for name in FILES)


def _demo_key() -> str:
    """Changes with whatever changes the demo: its settings, their defaults, the code of molecule and images."""
    from cryotorch.jobs.config.catalog import make_settings

    package = Path(__file__).parents[1]
    code = (
        "ops/models/phantom.py",
        "ops/models/gaussians.py",
        "ops/geometry/directions.py",
        "jobs/simulation/particles.py",
        "jobs/simulation/simulated.py",
    )
    key = hashlib.sha256(repr(asdict(make_settings("simulate", **DEMO))).encode())
    for name in code:
        key.update((package / name).read_bytes())
    return key.hexdigest()[:10]
