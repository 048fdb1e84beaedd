"""Simulated particles with known poses, and the built-in demo set made of them."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from cryotorch import __version__
from cryotorch.errors import InputError
from cryotorch.jobs.config.parse import Angle, Angstrom, Length, in_angstrom, require
from cryotorch.jobs.config.units import parse_length
from cryotorch.jobs.files.output_folder import new_files
from cryotorch.jobs.files.resume import write_config

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
# Coefficients in RELION's columns.
ZERNIKE = {"odd_zernike": 6, "even_zernike": 9}
# The built-in demo: small enough to refine in well under a minute on two cores, noisy enough to be a task.
DEMO: dict[str, Any] = dict(box_size=48, pixel_size=3.0, n_particles=1000, snr=0.1, seed=1)


@dataclass(frozen=True)
class Simulate:
    """The parameters; meanings and defaults in ``configs/job/simulate.yaml``, lengths in Å."""

    out: str | None
    overwrite: bool
    source: str
    assembly: str | None
    phantom_seed: int
    symmetry: str
    resolution: Length | None
    bfactor: float
    second_body: str | None
    second_body_size: float
    second_body_rotation: Angle
    second_body_shift: Length
    hinge: list[float] | None
    box_size: int
    pixel_size: Angstrom
    n_particles: int
    snr: float | None
    dtype: Literal["float32", "float16"]
    orientations: Literal["uniform", "preferred"]
    concentration: float
    shift_sigma: Length
    scale_sigma: float
    defocus_min: Length
    defocus_max: Length
    astigmatism: Length
    voltage_kv: float
    spherical_aberration: float
    amplitude_contrast: float
    phase_shift: Angle
    beam_tilt: list[float] | None
    odd_zernike: list[float] | None
    even_zernike: list[float] | None
    magnification: list[list[float]] | None
    known_aberrations: bool
    defocus_error: Length
    initial_resolution: Length
    minibatch_size: Literal["auto"] | int
    seed: int

    def __post_init__(self) -> None:
        """Refuses what is wrong whatever the source is."""
        box = self.box_size
        require(box % 2 == 0, "box_size", box, f"it must be even, {box + 1} for example")
        low, high = self.defocus_min, self.defocus_max
        ordered = parse_length(low, self.pixel_size) <= parse_length(high, self.pixel_size)
        require(ordered, "defocus_max", high, f"it must not be below defocus_min={low}")
        finest = 2 * self.pixel_size
        fine = self.resolution or finest
        sampled = parse_length(fine, self.pixel_size) >= 0.999 * finest
        require(sampled, "resolution", fine, f"it must be at least two pixels, {finest:g} Å")
        edge = box * self.pixel_size
        held = parse_length(fine, self.pixel_size) <= max(edge / 2, finest)
        require(held, "resolution", fine, f"the box is only {edge:g} Å wide: at most half of that")
        require(bool(self.source), "source", self.source, "give phantom or a file")
        self._check_aberrations()
        self._check_second_body()

    def _check_aberrations(self) -> None:
        tilt, matrix = self.beam_tilt, self.magnification
        require(tilt is None or len(tilt) == 2, "beam_tilt", tilt, "write it as [x,y], in mrad")
        wish = "it acts through the spherical aberration, which is 0"
        require(not any(tilt or []) or self.spherical_aberration != 0, "beam_tilt", tilt, wish)
        for name, most in ZERNIKE.items():
            value = getattr(self, name)
            fits = value is None or 1 <= len(value) <= most
            require(fits, name, value, f"give 1 to {most} coefficients")
        square = matrix is None or (len(matrix) == 2 and all(len(row) == 2 for row in matrix))
        require(square, "magnification", matrix, "write it as [[xx,xy],[yx,yy]]")
        unit = ((1.0, 0.0), (0.0, 1.0))
        near = all(
            abs(x - one) <= 0.2
            for row, ones in zip(matrix or unit, unit, strict=True)
            for x, one in zip(row, ones, strict=True)
        )
        wish = "its elements must be within 0.2 of those of [[1,0],[0,1]]"
        require(near, "magnification", matrix, wish)

    def _check_second_body(self) -> None:
        body = self.second_body
        if self.hinge is None:
            return
        place = "[" + ",".join(f"{x:g}" for x in self.hinge) + "]"
        require(body is not None, "hinge", place, "it needs a second_body")
        require(len(self.hinge) == 3, "hinge", place, "it has three numbers, [x,y,z] in voxels")
        inside = all(0 <= x <= self.box_size - 1 for x in self.hinge)
        wish = f"it must lie in the box, from 0 to {self.box_size - 1} voxels in x, y and z"
        require(inside, "hinge", place, wish)


def run(settings: Simulate) -> Path:
    """Images of a molecule in random orientations, with CTF and white noise, in ``settings.out``.

    The map is brought to the grey scale on which the noise has variance 1 and the CTF-modulated signal, over the
    whole image and averaged over the particles, variance ``snr`` (1 without noise). With a second body the signal is
    that of both.
    """
    from cryotorch.report.run_log import RunLog

    with RunLog():
        used = _simulate(settings)
    box, pixel_size, snr = settings.box_size, settings.pixel_size, settings.snr
    noise = "no noise" if snr is None else f"SNR {snr:g} over the whole image"
    print(
        f"{settings.out}: {settings.n_particles} particles of {box} pixels, {pixel_size:g} Å per "
        f"pixel, {noise}"
    )
    if used.second_body is not None:
        print(
            f"The second body turns by up to {used.second_body_rotation:g} degrees about "
            f"hinge=[{','.join(f'{x:g}' for x in used.hinge)}] and moves by up to {used.second_body_shift:g} Å"
        )
    return Path(settings.out)


def _simulate(settings: Simulate) -> Simulate:
    """Everything in its place; the settings with what was found for them."""
    import torch

    from cryotorch.data.mrc import write_stack, write_volume
    from cryotorch.data.particle_file import new_particle_file, write_particles
    from cryotorch.jobs.files.memory import require_room
    from cryotorch.jobs.simulation import particles as simulation
    from cryotorch.jobs.simulation import second_body as two_bodies
    from cryotorch.ops.fourier.filters import low_pass

    settings = in_angstrom(settings, settings.pixel_size)
    n, box, pixel_size = settings.n_particles, settings.box_size, settings.pixel_size
    require_room(box, torch.device("cpu"), f"box_size={box}")
    names = (FILES[0], *BODY_FILES, *FILES[1:])
    inputs = (settings.source, settings.second_body)
    with new_files(settings, names, inputs) as folder:
        rest = None if settings.second_body is None else two_bodies.at_rest(settings)
        maps = [simulation.source_volume(settings)] if rest is None else rest.maps
        draw = torch.Generator().manual_seed(settings.seed)
        particles = simulation.draw_particles(settings, draw)
        poses = [particles]
        if rest is not None:
            settings = replace(settings, hinge=rest.hinge.tolist())
            poses.append(two_bodies.poses_of_second(particles, rest.hinge, settings, draw))
        bodies = [simulation.Body(*body) for body in zip(maps, poses, strict=True)]
        gain = math.sqrt((settings.snr or 1.0) / simulation.signal_power(bodies, settings))
        bodies = [body._replace(volume=body.volume * gain) for body in bodies]
        stack = folder / "particles.mrcs"
        images = simulation.images(bodies, settings, draw)
        write_stack(stack, images, n, box, pixel_size, settings.dtype)
        volume = bodies[0].volume if rest is None else bodies[0].volume + bodies[1].volume
        write_volume(folder / "truth.mrc", volume, pixel_size)
        initial = low_pass(volume, pixel_size, settings.initial_resolution)
        write_volume(folder / "initial.mrc", initial, pixel_size)
        blind = simulation.without_truth(particles, settings, draw)
        source = new_particle_file(folder / "particles.star", [stack], box, blind)
        write_particles(source.path, source, blind)
        write_particles(folder / "truth.star", source, particles)
        if rest is not None:
            two_bodies.write(folder, bodies, rest, source, settings)
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
    )
    key = hashlib.sha256(repr(asdict(make_settings("simulate", **DEMO))).encode())
    for name in code:
        key.update((package / name).read_bytes())
    return key.hexdigest()[:10]
