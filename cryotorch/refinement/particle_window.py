"""The soft circle that images are cut with around their particle before they are inserted into a map."""

from __future__ import annotations

import torch
from torch import Tensor

from cryotorch.ops.ctf.transfer import delocalisation
from cryotorch.ops.fourier.transforms import pack, shift_phase, unpack
from cryotorch.ops.masks.soft import soft_circle
from cryotorch.particles import Particles
from cryotorch.refinement.settings import ImageGrid

EDGE_SHARE, MIN_EDGE = 0.05, 3.0  # of the box, and pixels at least: width of the circle's edge


def typical_delocalisation(particles: Particles) -> float:
    """``ops.ctf.transfer.delocalisation`` in Å² that 95 % of the particles do not exceed."""
    voltage = particles.optics.voltage_kv[particles.optics_group]
    return float(delocalisation(particles.defocus, voltage).quantile(0.95))


def particle_window(
    particles: Particles,
    radius: float | None,
    finest: float,
    grid: ImageGrid,
    device: torch.device | str = "cpu",
) -> Tensor:
    """(d, d): as wide as the particle and what the CTF carries out of it at the finest frequency that is inserted.

    A circle of the particle's own size would throw that part of the signal away. It ends where the window on the images does.

    Args:
        radius: of the particle, pixels; None = not known, as wide as the images' own window.
        finest: shell, Fourier pixels.
    """
    edge = max(MIN_EDGE, EDGE_SHARE * grid.box)
    if radius is not None:
        radius += typical_delocalisation(particles) * finest / (grid.box * grid.pixel_size**2)
    if radius is None or radius + edge >= grid.window[1]:
        radius = grid.window[1] - edge
    return soft_circle(grid.box, radius, edge, device)


def cut_out(spectrum: Tensor, shift_px: Tensor, window: Tensor) -> Tensor:
    """Packed images (b, m) whose particles, at ``shift_px`` (b, 2), are centred, multiplied by a window (d, d) and moved back."""
    box = len(window)
    phase = shift_phase(shift_px, box)
    return pack(unpack(spectrum * phase.conj(), box) * window) * phase
