"""Particles as tensors: what is known of each one, and a batch of them with their images."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Optics:
    """What the particles of an optics group share; one row per group.

    Attributes:
        voltage_kv: (g,) acceleration voltage, kV.
        spherical_aberration: (g,) Cs, mm.
        amplitude_contrast: (g,) fraction of amplitude contrast, 0 to 1.
        pixel_size: (g,) Å per pixel of the images as extracted.
    """

    voltage_kv: Tensor
    spherical_aberration: Tensor
    amplitude_contrast: Tensor
    pixel_size: Tensor


@dataclass(frozen=True)
class Particles:
    """The metadata of n particles.

    Attributes:
        rotation: (n, 3, 3) float32, reference to particle frame.
        shift: (n, 2) float32, Å, (x, y); the sense is RELION's origin.
        defocus: (n, 3) float32: defocus_u Å, defocus_v Å, astigmatism angle in radians from the x axis to u.
        phase_shift: (n,) float32, radians.
        optics_group: (n,) int64, row of ``optics``.
        half: (n,) int64: 0 or 1, or -1 where no half set is known.
        scale: (n,) float32, contrast of the particle, about 1.
        address: (n, 2) int64: stack number, 0-based index of the image within that stack.
        pose_sigma: (n, 2) float32: standard deviation of the rotation (radians) and of the shift (Å); 0 = unknown.
        has_pose: whether rotation and shift come from the input.
        optics: the optics groups.
    """

    rotation: Tensor
    shift: Tensor
    defocus: Tensor
    phase_shift: Tensor
    optics_group: Tensor
    half: Tensor
    scale: Tensor
    address: Tensor
    pose_sigma: Tensor
    has_pose: bool
    optics: Optics

    def __len__(self) -> int:
        return len(self.shift)

    def replace(self, **changes) -> Particles:
        """A copy with some fields exchanged."""
        return replace(self, **changes)


def unposed(n: int, optics: Optics) -> Particles:
    """n particles of the first optics group without pose, in focus, half set and address unset."""
    return Particles(
        rotation=torch.eye(3).repeat(n, 1, 1),
        shift=torch.zeros(n, 2),
        defocus=torch.zeros(n, 3),
        phase_shift=torch.zeros(n),
        optics_group=torch.zeros(n, dtype=torch.int64),
        half=torch.full((n,), -1, dtype=torch.int64),
        scale=torch.ones(n),
        address=torch.stack([torch.zeros(n, dtype=torch.int64), torch.arange(n)], 1),
        pose_sigma=torch.zeros(n, 2),
        has_pose=False,
        optics=optics,
    )


@dataclass(frozen=True)
class Batch:
    """Some particles of one half set with their images.

    Attributes:
        index: (b,) int64, rows of the ``Particles``; empty for a filler batch.
        images: (b, d, d) float32, at the refinement box, protein bright.
        half: which half set all of them belong to.
    """

    index: Tensor
    images: Tensor
    half: int

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The batch on another device."""
        move = dict(device=device, non_blocking=non_blocking)
        return Batch(self.index.to(**move), self.images.to(**move), self.half)
