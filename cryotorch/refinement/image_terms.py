"""What the microscope does to an image, particle by particle, and images as the searches see them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cryotorch.ops.ctf.aberrations import antisymmetric_phase, symmetric_phase
from cryotorch.ops.ctf.transfer import contrast_transfer
from cryotorch.ops.fourier.slices import of_each
from cryotorch.ops.fourier.transforms import half_plane, pack
from cryotorch.ops.masks.soft import soft_circle
from cryotorch.ops.pose.scores import Observation
from cryotorch.particles import Particles
from cryotorch.refinement.settings import ImageGrid

# Images multiplied by their CTF c are divided by it as y c / (c^2 + MIN_CTF_POWER): what is near a zero of c counts for nothing anyway.
MIN_CTF_POWER = 1e-3


@dataclass(frozen=True)
class Transfer:
    """What stands between a slice and an image, without the particle's own scale.

    Attributes:
        gain: (b, m) CTF with symmetric aberrations, envelope, MTF and factor.
        phase: (b, m) complex64, exp(+i phi) of the antisymmetric aberrations, or None.
        magnification: (b, 2, 2) from frequencies of the image to those of the reference, or None.
    """

    gain: Tensor
    phase: Tensor | None
    magnification: Tensor | None


def transfer(
    particles: Particles,
    rows: Tensor,
    box: int,
    pixel_size: float,
    device: torch.device | str = "cpu",
) -> Transfer:
    """The transfer of some particles, ``rows`` (b,), on the packed half plane of a box.

    All aberrations are those at M k, the frequency in the specimen, as in RELION; the MTF is at k, that of the detector.
    """

    def of_rows(values: Tensor) -> Tensor:
        return values[rows].to(device)

    def of_group(values: Tensor) -> Tensor:
        return values[particles.optics_group[rows]].to(device)

    def if_any(values: Tensor | None) -> Tensor | None:
        return None if values is None else of_group(values)

    optics = particles.optics
    magnification, own_pixel = if_any(optics.magnification), of_group(optics.pixel_size)
    at_image = half_plane(box, device).frequency / (box * pixel_size)
    frequency = of_each(at_image, magnification)
    voltage, aberration = of_group(optics.voltage_kv), of_group(optics.spherical_aberration)
    even = if_any(optics.even_zernike)
    gain = contrast_transfer(
        frequency,
        of_rows(particles.defocus),
        of_rows(particles.phase_shift),
        voltage,
        aberration,
        of_group(optics.amplitude_contrast),
        None if even is None else symmetric_phase(frequency, even),
    )
    if particles.bfactor is not None:
        k2 = frequency.square().sum(-1)
        gain = gain * torch.exp(-0.25 * of_rows(particles.bfactor)[:, None] * k2)
    if particles.ctf_scale is not None:
        gain = gain * of_rows(particles.ctf_scale)[:, None]
    if optics.mtf is not None:
        gain = gain * _at(of_group(optics.mtf), at_image, own_pixel)
    coarser = own_pixel > 1.001 * pixel_size
    # there is nothing in such an image beyond its own Nyquist frequency; the host does not wait for a device to ask it
    if coarser.device.type != "cpu" or bool(coarser.any()):
        nyquist = 1 / (2 * own_pixel) - 0.5 / (box * pixel_size)
        beyond = at_image.norm(dim=-1) >= nyquist[:, None]
        gain = gain.masked_fill(beyond & coarser[:, None], 0.0)
    phase, tilt, odd = None, if_any(optics.beam_tilt), if_any(optics.odd_zernike)
    if tilt is not None or odd is not None:
        turn = antisymmetric_phase(frequency, tilt, odd, voltage, aberration)
        phase = torch.polar(torch.ones_like(turn), turn)
    return Transfer(gain, phase, magnification)


def _at(mtf: Tensor, frequency: Tensor, pixel_size: Tensor) -> Tensor:
    """Curves (b, q) from 0 to 1 / (2 pixel_size) read at frequencies (m, 2) by linear interpolation."""
    most = mtf.shape[1] - 1
    place = frequency.norm(dim=-1) * (2 * most * pixel_size)[:, None]
    lower = place.long().clamp(max=most - 1)
    fraction = (place - lower).clamp(max=1)
    low, high = (torch.take_along_dim(mtf, at, 1) for at in (lower, lower + 1))
    return torch.lerp(low, high, fraction)


def observe(
    particles: Particles, rows: Tensor, images: Tensor, noise: Tensor, grid: ImageGrid
) -> Observation:
    """Window and transform images (b, d, d) of one half set; attach scale times transfer and the precision, 1 / ``noise`` (g, s).

    The phase of antisymmetric aberrations is taken out of the images, which leaves scores and noise as they are.
    """
    device = images.device
    plane = half_plane(grid.box, device)
    inner, outer = grid.window
    window = soft_circle(grid.box, inner, outer - inner, device)
    through = transfer(particles, rows, grid.box, grid.pixel_size, device)
    spectrum = pack(images * window)
    if through.phase is not None:
        spectrum = spectrum * through.phase.conj()
    group = particles.optics_group[rows]
    done = particles.optics.premultiplied
    if done is not None:
        done = done[group].to(device)[:, None]
        divided = spectrum * through.gain / (through.gain**2 + MIN_CTF_POWER)
        spectrum = torch.where(done, divided, spectrum)
    gain = through.gain * particles.scale[rows].to(device)[:, None]
    precision = (1 / noise).float()[group.to(device)][:, plane.shell]
    return Observation(spectrum, gain, precision, grid.box, through.magnification)
