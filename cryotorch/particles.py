"""Particles as tensors: what is known of each one, and a batch of them with their images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

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
        beam_tilt: (g, 2) mrad, x and y, RELION's sign.
        odd_zernike, even_zernike: (g, o) and (g, e) RELION's coefficients of the antisymmetric and symmetric aberrations, rad.
        magnification: (g, 2, 2) M of RELION, from frequencies of the image to those of the reference.
        mtf: (g, q) of the detector, at q equally spaced frequencies from 0 to 1 / (2 pixel_size).
        premultiplied: (g,) bool, whether images come multiplied by their CTF.

    The last six are None where no group has any.
    """

    voltage_kv: Tensor
    spherical_aberration: Tensor
    amplitude_contrast: Tensor
    pixel_size: Tensor
    beam_tilt: Tensor | None = None
    odd_zernike: Tensor | None = None
    even_zernike: Tensor | None = None
    magnification: Tensor | None = None
    mtf: Tensor | None = None
    premultiplied: Tensor | None = None

    def __len__(self) -> int:
        return len(self.voltage_kv)

    def to(self, device: torch.device | str) -> Optics:
        """The same on a device."""
        moved: dict[str, Any] = {k: v if v is None else v.to(device) for k, v in vars(self).items()}
        return Optics(**moved)

    def replace(self, **changes: Any) -> Optics:
        """A copy with some fields exchanged."""
        return replace(self, **changes)


# Places of RELION's coefficients, see ops.aberrations: the order of each list is that of the files.
ODD_TILT, ODD_TREFOIL = [0, 1, 3, 4], [2, 5]
EVEN_TETRA = [4, 5, 7, 8]


def ignore(
    optics: Optics,
    tilt: bool = False,
    trefoil: bool = False,
    tetra: bool = False,
    anisomag: bool = False,
) -> Optics:
    """Optics without some aberrations.

    Args:
        tilt: beam tilt, and the odd Zernike terms of azimuthal order 1.
        trefoil: odd terms of azimuthal order 3; tetra: even terms of fourth radial order but for the round one.
        anisomag: the magnification matrix.
    """
    odd = (ODD_TILT if tilt else []) + (ODD_TREFOIL if trefoil else [])
    return optics.replace(
        beam_tilt=None if tilt else optics.beam_tilt,
        odd_zernike=_without(optics.odd_zernike, odd),
        even_zernike=_without(optics.even_zernike, EVEN_TETRA if tetra else []),
        magnification=None if anisomag else optics.magnification,
    )


def _without(coefficients: Tensor | None, places: list[int]) -> Tensor | None:
    if coefficients is None or not places:
        return coefficients
    kept = coefficients.clone()
    kept[:, [place for place in places if place < kept.shape[1]]] = 0
    return kept


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
        pose_sigma: (n, 2) float32: standard error of the rotation (radians) and of the shift (Å), per axis; 0 = unknown.
        has_pose: whether rotation and shift come from the input.
        optics: the optics groups.
        bfactor: (n,) float32 Å², envelope exp(-B k^2 / 4) of the particle; None = 0.
        ctf_scale: (n,) float32, factor on the CTF; None = 1.
        origin: (n,) int64, number of the image that the particle's was made of, where several were made of one, as by signal
            subtraction after symmetry expansion: they share its noise. None = each is as it was recorded.
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
    bfactor: Tensor | None = None
    ctf_scale: Tensor | None = None
    origin: Tensor | None = None

    def __len__(self) -> int:
        return len(self.shift)

    def to(self, device: torch.device | str) -> Particles:
        """The same on a device."""
        values = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in vars(self).items()}
        moved: dict[str, Any] = values | {"optics": self.optics.to(device)}
        return Particles(**moved)

    def replace(self, **changes: Any) -> Particles:
        """A copy with some fields exchanged."""
        return replace(self, **changes)

    def __getitem__(self, rows: Tensor) -> Particles:
        """Some of the particles."""
        values: dict[str, Any] = {
            k: v[rows] if isinstance(v, Tensor) else v for k, v in vars(self).items()
        }
        return Particles(**values)


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

    def part(self, rows: slice) -> Batch:
        """Some of the particles."""
        return Batch(self.index[rows], self.images[rows], self.half)

    def pin_memory(self) -> Batch:
        """In memory that a device copies from while it computes; DataLoader calls it."""
        if self.images.device.type != "cpu":  # it stays there
            return self
        return Batch(self.index.pin_memory(), self.images.pin_memory(), self.half)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The batch on another device."""
        move: dict[str, Any] = dict(device=device, non_blocking=non_blocking)
        return Batch(self.index.to(**move), self.images.to(**move), self.half)
