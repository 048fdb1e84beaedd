"""What a run was made of, kept in its checkpoints: only the same can go on from them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer

from cryotorch.data.images import ParticleImages
from cryotorch.data.particle_file import ParticleFile
from cryotorch.errors import InputError
from cryotorch.jobs.config.parse import shown
from cryotorch.jobs.files.manifest import job_name
from cryotorch.particles import Particles
from cryotorch.refinement.runtime.checkpoints import read_checkpoint

FORMAT = 4  # of the saved state
COMPARED_IMAGES = 32  # images whose pixels are compared
# What made the images and the start: another value would come too late, or mix two runs.
FIXED = ("invert", "normalize", "initial_resolution", "rescale_reference")
# Of a checkpoint, besides ours.
ENTRIES = (
    *("epoch", "global_step", "pytorch-lightning_version", "state_dict", "loops"),
    *("optimizer_states", "lr_schedulers"),
)


class Fingerprint(Callback):
    """Values that tell a run from others, and a watch over the image stacks while it goes on.

    Args:
        images_of: whose stacks are watched; None watches nothing.
        values: plain numbers and texts.
    """

    def __init__(self, images_of: ParticleImages | None = None, **values: Any) -> None:
        self.images, self.values = images_of, values
        self._seen = [] if images_of is None else _status(images_of.stacks)

    def state_dict(self) -> dict[str, Any]:
        return dict(self.values)

    def check(self, checkpoint: Path) -> dict[str, Any]:
        """The saved state of the refinement.

        Raises:
            InputError: the file cannot be used.
            OtherRun: it belongs to something else.
        """
        saved = read_checkpoint(checkpoint)
        lacks = next((name for name in ENTRIES if name not in saved), "")
        try:
            then, state = saved["callbacks"][self.state_key], saved["refinement"]
        except (KeyError, TypeError):
            then = state = None
        if not isinstance(then, dict) or not isinstance(state, dict):
            lacks = lacks or "the state of a refinement"
        elif not lacks and not _counts(saved["loops"]):
            lacks = "the counts of the trainer"
        if lacks:
            raise InputError(f"checkpoint {checkpoint} lacks {lacks}")
        self.compare(checkpoint, then)
        assert isinstance(state, dict)
        return state

    def compare(self, checkpoint: Path, then: Any) -> None:
        """Raises OtherRun where the values of a checkpoint are not these, InputError where it has none."""
        known = then if isinstance(then, dict) else {}
        pairs = [(name, now, known.get(name)) for name, now in self.values.items()]
        plain = all(isinstance(x, str | int | float | None) for _, _, x in pairs)
        if not isinstance(then, dict) or not plain:
            raise InputError(f"checkpoint {checkpoint} lacks what tells its run from others")
        for name, now, before in pairs:
            if before != now:
                differs = f"{name} is {shown(now)}, was {shown(before)}"
                if name in ("particles", "half_sets", "images"):
                    differs = f"the {name.replace('_', ' ')} are not the same"
                raise OtherRun(other_run(checkpoint.parents[1], differs))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Before anything of the iteration is written."""
        self.require_same_images()

    def require_same_images(self) -> None:
        """Raises InputError if a stack has other images than at the start."""
        if self.images is None:
            return
        now = _status(self.images.stacks)
        changed = [p for p, a, b in zip(self.images.stacks, self._seen, now, strict=True) if a != b]
        if changed and images_digest(self.images) != self.values["images"]:
            raise InputError(
                f"{changed[0]} was changed while the run was reading it: put back what it held, then add resume=true"
            )
        self._seen = now  # the same images, written again


def _counts(loops: Any) -> bool:
    """Whether these are whole numbers of a size that counts have, in dicts and lists of any depth."""
    if isinstance(loops, dict):
        return all(isinstance(name, str) for name in loops) and _counts(list(loops.values()))
    if isinstance(loops, list | tuple):
        return all(map(_counts, loops))
    return loops is None or (isinstance(loops, int) and abs(loops) < 2**53)


class OtherRun(InputError):
    """The checkpoint is whole, but belongs to another run."""


def unusable(checkpoint: Path | None, why: str) -> InputError:
    """For what a trainer kept of itself in a checkpoint and cannot take over."""
    return InputError(
        f"checkpoint {checkpoint} cannot be gone on with ({why}): start anew with overwrite=true"
    )


def other_run(out: Path, differs: str) -> str:
    """Why a run cannot be gone on with."""
    return (
        f"resume=true cannot go on with the run in out={out} ({differs}): give what it was started with, or name "
        "another folder"
    )


def fingerprint(
    settings: Any, file: ParticleFile, particles: Particles, images: ParticleImages, symmetry: str
) -> Fingerprint:
    """Of a refinement on particles with their half sets and images."""
    return Fingerprint(
        images_of=images,
        format=FORMAT,
        job=job_name(settings),
        **input_values(file, particles, images),
        symmetry=symmetry.upper(),
        half_sets=hashlib.sha256(particles.half.numpy().tobytes()).hexdigest()[:12],
        **{name: getattr(settings, name) for name in FIXED},
    )


def input_values(
    file: ParticleFile, particles: Particles, images: ParticleImages
) -> dict[str, Any]:
    """What tells particles and images from others."""
    digest = hashlib.sha256(
        "\0".join(path.name for path in file.stacks).encode("utf-8", "surrogateescape")
    )
    for values in (particles.address, particles.defocus):
        digest.update(values.numpy().tobytes())
    return dict(
        n_particles=len(particles),
        box=images.box,
        pixel_size=round(images.pixel_size, 4),
        particles=digest.hexdigest()[:12],
        images=images_digest(images),
    )


def images_digest(images: ParticleImages) -> str:
    """Of the shapes of all stacks and the pixels of ``COMPARED_IMAGES`` images spread over the set."""
    rows = np.linspace(0, len(images) - 1, min(len(images), COMPARED_IMAGES)).astype(int)
    return images.digest(rows)


def _status(stacks: list[Path]) -> list[tuple[int, int, int] | None]:
    found = []
    for path in stacks:
        try:
            status = os.stat(path)
        except OSError:
            found.append(None)  # who reads it will tell
        else:
            found.append((status.st_ino, status.st_size, status.st_mtime_ns))
    return found
