"""The folder of a run: nothing in it is touched before the input is checked, and nothing of anyone else's ever."""

from __future__ import annotations

import filecmp
import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import Callback

from cryotorch.data.files import replace_file
from cryotorch.data.particle_file import ParticleFile
from cryotorch.errors import InputError
from cryotorch.jobs.resume import CONFIG, FOLDER, config_text
from cryotorch.jobs.settings import shown, to_yaml
from cryotorch.particles import Particles
from cryotorch.results import CURVES

CHECKPOINTS = "checkpoints"
# Everything that a run leaves behind.
RESULTS = (
    *(CONFIG, "log.txt", "summary.json", "fsc.txt", *(f"fsc_{name}.xml" for name in CURVES)),
    *(
        "map.mrc",
        "map_sharp.mrc",
        "map_half_A.mrc",
        "map_half_B.mrc",
        "mask_refine.mrc",
        "mask_fsc.mrc",
        "map_cutoff.mrc",
    ),
    *("particles.star", "particles.cs", "orientations.bild"),
    *("plots", "tensorboard", "profile", CHECKPOINTS),
)
# What may differ between a run and its resumption without a word.
FREE = (
    *("out", "resume", "overwrite", "cache_dir", "cache_dtype", "cache_limit", "write", "profile"),
    *("trainer", "compile", "minibatch_size"),
)
# What made the images and the start: another value would come too late, or mix two runs. For the rest see ``Fingerprint``.
FIXED = ("invert", "normalize", "initial_resolution", "rescale_reference", "volume")


def rank() -> int:
    """This process's number in a job of several, also before the trainer exists."""
    for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"):
        if name in os.environ:
            return int(os.environ[name])
    return 0


def last_checkpoint(out: Path) -> Path | None:
    """The newest whole checkpoint of a run folder."""
    found = sorted((Path(out) / CHECKPOINTS).glob("iteration_*.ckpt"))
    return found[-1] if found else None


class RunFolder:
    """Checked first, opened when the input is known to be good, tidied up when the first iteration never ends.

    Args:
        inputs: files of the user, which a run must not replace.

    Raises:
        InputError: it holds a run, there is nothing to resume, an input lies where a result goes, or it cannot be written.
    """

    def __init__(
        self, out: str | Path, resume: bool, overwrite: bool, inputs: tuple[Any, ...] = ()
    ) -> None:
        self.path, self.resume, self.overwrite = Path(out), resume, overwrite
        self._new = False
        if rank() == 0:
            self._check(inputs)

    def _check(self, inputs: tuple[Any, ...] = ()) -> None:
        out, held = self.path, self._held()
        if self.resume and not held:
            raise InputError(
                f"resume=true finds no run in out={out}: leave resume out, or name the folder of the run"
            )
        if held and not self.resume and not self.overwrite:
            if CONFIG in held:
                what, ways = (
                    "a run",
                    "name another folder, or add resume=true to go on or overwrite=true to replace it",
                )
            else:
                what, ways = (
                    f"{held[0]}, which a run would replace",
                    "name another folder, or add overwrite=true",
                )
            raise InputError(f"out={out} already holds {what}: {ways}")
        for path in filter(None, inputs):
            if Path(path).resolve() in [(out / name).resolve() for name in held]:
                raise InputError(
                    f"out={out} cannot be used: its {Path(path).name} is an input of this run, name another folder"
                )
        above = next((p for p in (out, *out.absolute().parents) if os.path.lexists(p)), Path("/"))
        if not above.is_dir():
            raise InputError(f"out={out} cannot be made: {above} is a file, name another folder")
        if not os.access(above, os.W_OK | os.X_OK):
            raise InputError(
                f"out={out} cannot be written (no permission in {above}): name a folder that you can write to"
            )

    def _held(self) -> list[str]:
        return [name for name in RESULTS if os.path.lexists(self.path / name)]

    def open(self, settings: Any) -> Path:
        """Make it, clear it on ``overwrite``, and write the configuration; on rank 0."""
        if rank() > 0:
            return self.path
        self._check()  # another run may have come in
        self._new = not self.resume or last_checkpoint(self.path) is None
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if self._new:
                self._clear()
            with replace_file(self.path / CONFIG) as file:  # other ranks read it
                file.write(config_text(settings).encode())
        except OSError as error:
            reason = error.strerror or str(error)
            raise InputError(
                f"out={self.path} cannot be written ({reason}): name a folder that you can write to"
            ) from None
        return self.path

    def discard(self) -> None:
        """After bad input: leave no new folder without a finished iteration, so that the mended command can be given again."""
        if self._new and rank() == 0 and last_checkpoint(self.path) is None:
            self._clear()
            if not any(self.path.iterdir()):
                self.path.rmdir()

    def _clear(self) -> None:
        for name in self._held():
            path = self.path / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    def changes(self, settings: Any) -> list[str]:
        """What differs from the settings that the run was started with, as ``name=new instead of old``.

        Raises:
            InputError: the run's images or start would have been others.
        """
        try:
            before = _flat(yaml.safe_load((self.path / CONFIG).read_text(encoding="utf-8")))
        except (OSError, ValueError, yaml.YAMLError, AttributeError):
            return []
        start = Path(before.get(FOLDER, "."))
        now = _flat(yaml.safe_load(to_yaml(settings)))
        differ = [
            name
            for name, value in now.items()
            if name.split(".")[0] not in FREE
            and name in before
            and not _same(value, before[name], start)
        ]
        for name in differ:
            if name in FIXED and not (
                name == "volume" and _copied(now[name], start / before[name])
            ):
                raise InputError(
                    other_run(self.path, f"{name} is {shown(now[name])}, was {shown(before[name])}")
                )
        return [f"{name}={shown(now[name])} instead of {shown(before[name])}" for name in differ]


def other_run(out: Path, differs: str) -> str:
    """Why a run cannot be gone on with."""
    return (
        f"resume=true cannot go on with the run in out={out} ({differs}): give what it was started with, or name "
        "another folder"
    )


def _same(now: Any, before: Any, start: Path) -> bool:
    """Whether two values are the same, or lead to one file; ``start``: where relative paths of ``before`` began."""
    if now == before or not (isinstance(now, str) and isinstance(before, str)):
        return now == before
    return Path(now).exists() and Path(now).resolve() == (start / before).resolve()


def _copied(now: str, before: Path) -> bool:
    """Whether a file that moved has the bytes of the one before, as far as that can be told."""
    if not Path(now).is_file() or before.is_dir():
        return False
    return not before.is_file() or filecmp.cmp(now, before, shallow=False)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= (
            _flat(value, f"{prefix}{name}.")
            if isinstance(value, Mapping)
            else {prefix + name: value}
        )
    return found


class Fingerprint(Callback):
    """What a run was made of, kept in its checkpoints: only the same can go on from them."""

    def __init__(self, **values: Any) -> None:
        self.values = values

    def state_dict(self) -> dict[str, Any]:
        return dict(self.values)

    def check(self, checkpoint: Path) -> dict[str, Any]:
        """The saved state of the refinement; raises InputError for a checkpoint of something else."""
        try:
            saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
            then, state = saved["callbacks"][self.state_key], saved["refinement"]
        except Exception as error:  # a damaged file fails in many ways
            raise InputError(
                f"checkpoint {checkpoint} cannot be read ({type(error).__name__}): start anew with overwrite=true"
            ) from None
        for name, now in self.values.items():
            if then.get(name) != now:
                differs = f"{name} is {now}, was {then.get(name)}"
                if name in ("particles", "half_sets"):
                    differs = f"the {name.replace('_', ' ')} are not the same"
                raise InputError(other_run(checkpoint.parents[1], differs))
        return state


def fingerprint(
    file: ParticleFile, particles: Particles, box: int, pixel_size: float, symmetry: str
) -> Fingerprint:
    """Of particles with their half sets, in a box."""
    digest = hashlib.sha256(
        "\0".join(path.name for path in file.stacks).encode("utf-8", "surrogateescape")
    )
    for values in (particles.address, particles.defocus):
        digest.update(values.numpy().tobytes())
    return Fingerprint(
        format=2,  # of the saved state
        n_particles=len(particles),
        box=box,
        pixel_size=round(pixel_size, 4),
        symmetry=symmetry.upper(),
        particles=digest.hexdigest()[:12],
        half_sets=hashlib.sha256(particles.half.numpy().tobytes()).hexdigest()[:12],
    )
