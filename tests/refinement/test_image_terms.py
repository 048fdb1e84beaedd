"""What the microscope adds: each part of the transfer alone, and images with it that are searched like those without."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from cryotorch.ops.ctf.aberrations import symmetric_phase
from cryotorch.ops.ctf.transfer import contrast_transfer
from cryotorch.ops.fourier.image_model import predict
from cryotorch.ops.fourier.slices import extract_slices, projector
from cryotorch.ops.fourier.transforms import half_plane, unpack
from cryotorch.ops.geometry.rotations import from_rotation_vector
from cryotorch.ops.pose.scores import pose_terms
from cryotorch.particles import Optics, ignore, unposed
from cryotorch.refinement.image_terms import observe, transfer

BOX, PIXEL = 32, 2.0
STRETCH = torch.tensor([[[1.03, 0.01], [0.01, 0.98]]])
FREQUENCY = half_plane(BOX).frequency / (BOX * PIXEL)


def particle(n: int = 1, **optics):
    lens = [torch.tensor([v]) for v in (300.0, 2.7, 0.1, PIXEL)]
    defocus = torch.tensor([[9000.0, 8600.0, 0.4]]).repeat(n, 1)
    return unposed(n, Optics(*lens, **optics)).replace(defocus=defocus)


def of_first(p, **kept):
    return transfer(p, torch.arange(1), BOX, PIXEL, **kept)


def test_plain_transfer_is_the_ctf():
    p = particle()
    lens = (p.optics.voltage_kv, p.optics.spherical_aberration, p.optics.amplitude_contrast)
    found = of_first(p)
    assert torch.equal(found.gain, contrast_transfer(FREQUENCY, p.defocus, p.phase_shift, *lens))
    assert found.phase is None and found.magnification is None


def test_even_terms_move_the_rings():
    even = torch.zeros(1, 9)
    even[0, 4:] = torch.tensor([5.0, -3.0, 2.0, 4.0, 6.0])
    p = particle(even_zernike=even)
    lens = (p.optics.voltage_kv, p.optics.spherical_aberration, p.optics.amplitude_contrast)
    phase = symmetric_phase(FREQUENCY, even)
    plain = contrast_transfer(FREQUENCY, p.defocus, p.phase_shift, *lens)
    quarter = contrast_transfer(FREQUENCY, p.defocus, p.phase_shift + math.pi / 2, *lens)
    expected = plain * phase.cos() - quarter * phase.sin()  # sin(chi - e)
    assert torch.allclose(of_first(p).gain, expected, atol=2e-5)
    assert float((of_first(p).gain - plain).abs().max()) > 0.1
    without = ignore(p.optics, tetra=True).even_zernike
    assert without[0, 6] == 2 and without[0, [4, 5, 7, 8]].abs().max() == 0


def test_envelope_factor_and_mtf_multiply():
    k = FREQUENCY.norm(dim=1)
    plain = of_first(particle()).gain[0]
    p = particle().replace(bfactor=torch.tensor([80.0]), ctf_scale=torch.tensor([0.7]))
    assert torch.allclose(of_first(p).gain[0], plain * 0.7 * torch.exp(-20 * k**2), atol=1e-6)
    straight = torch.linspace(1, 0.4, 4)[None]
    found = of_first(particle(mtf=straight)).gain[0]
    assert torch.allclose(found, plain * (1 - 0.6 * k * 2 * PIXEL), atol=1e-5)


def test_ctf_is_taken_where_the_specimen_is():
    """With a magnification matrix the CTF's rings are those at M k (RELION)."""
    p = particle(magnification=STRETCH)
    lens = (p.optics.voltage_kv, p.optics.spherical_aberration, p.optics.amplitude_contrast)
    there = FREQUENCY @ STRETCH[0].T
    expected = contrast_transfer(there, p.defocus, p.phase_shift, *lens)
    assert torch.allclose(of_first(p).gain, expected, atol=1e-6)


@pytest.fixture
def scene(simulate):
    world = simulate(n=8, box=BOX, pixel=PIXEL, snr=None)
    s = replace(world.settings, window=(0.45 * BOX, 0.5 * BOX))
    return world, s


def images_with(world, optics):
    """The world's particles, imaged with other optics."""
    truth = world.truth.replace(optics=world.truth.optics.replace(**optics))
    rows = torch.arange(len(truth))
    t = transfer(truth, rows, BOX, PIXEL)
    spectrum = predict(
        projector(world.volume),
        truth.rotation,
        truth.shift / PIXEL,
        t.gain,
        truth.scale,
        t.magnification,
    )
    if t.phase is not None:
        spectrum = spectrum * t.phase
    return truth, spectrum


def test_odd_phases_are_taken_out(scene):
    world, s = scene
    odd = torch.tensor([[0.0, 0.0, 30.0, 0.0, 0.0, -20.0]])
    tilted, spectrum = images_with(
        world, dict(beam_tilt=torch.tensor([[2.0, 1.0]]), odd_zernike=odd)
    )
    flat = torch.ones(1, BOX // 2 + 1)
    rows = torch.arange(8)
    images = unpack(spectrum, BOX)
    wide = replace(s.grid, window=(100.0, 200.0))
    seen = observe(tilted, rows, images, flat, wide)
    _, plain = images_with(world, {})
    assert torch.allclose(seen.spectrum, plain, atol=1e-4 * float(plain.abs().max()))
    assert float((spectrum - plain).abs().max()) > 0.1 * float(plain.abs().max())


def test_premultiplied_images_are_divided(scene):
    world, s = scene
    truth, spectrum = images_with(world, {})
    gain = transfer(truth, torch.arange(8), BOX, PIXEL).gain
    done = truth.replace(optics=truth.optics.replace(premultiplied=torch.tensor([True])))
    flat = torch.ones(1, BOX // 2 + 1)
    wide = replace(s.grid, window=(100.0, 200.0))
    seen = observe(done, torch.arange(8), unpack(spectrum * gain, BOX), flat, wide)
    clear = gain.abs() > 0.3
    error = (seen.spectrum - spectrum)[clear].abs().max() / spectrum.abs().max()
    assert float(error) < 0.02


def test_derivatives_with_magnification(scene):
    """Gradients of the score by finite differences; the true pose is the best one."""
    world, s = scene
    truth, spectrum = images_with(world, dict(magnification=STRETCH))
    flat = torch.ones(1, BOX // 2 + 1)
    seen = observe(
        truth, torch.arange(8), unpack(spectrum, BOX), flat, replace(s.grid, window=(100.0, 200.0))
    )
    table, image = projector(world.volume), torch.arange(8)
    shift = truth.shift / PIXEL

    def terms(rotation, shift_px):
        return pose_terms(table, seen, image, rotation, shift_px)

    best = terms(truth.rotation, shift)
    assert torch.allclose(best.cross, best.power, rtol=1e-3)
    off = from_rotation_vector(torch.tensor([0.02, -0.03, 0.05])) @ truth.rotation
    here, step = terms(off, shift + 0.2), 4e-3
    for axis in range(5):
        move = torch.zeros(5)
        move[axis] = step
        sides = [
            terms(from_rotation_vector(sign * move[:3]) @ off, shift + 0.2 + sign * move[3:]).score
            for sign in (1, -1)
        ]
        slope = (sides[0] - sides[1]) / (2 * step)
        scale = here.gradient[:, axis].abs().max()
        assert torch.allclose(here.gradient[:, axis], slope, atol=0.05 * float(scale))
    ignored = replace(seen, magnification=None)
    worse = pose_terms(table, ignored, image, truth.rotation, shift)
    assert (best.score > worse.score).all()


def test_slices_are_read_at_m_k(scene):
    world, _ = scene
    table, rotation = projector(world.volume), world.truth.rotation
    frequency = half_plane(BOX).frequency[: half_plane(BOX).count(10)]
    each = frequency @ STRETCH.expand(8, 2, 2).mT
    found = extract_slices(table, rotation, each)
    for i in range(8):
        alone = extract_slices(table, rotation[i : i + 1], frequency @ STRETCH[0].T)
        assert torch.allclose(found[i], alone[0], atol=1e-4)
    deep = torch.cat([frequency, torch.zeros(len(frequency), 1)], 1)
    assert torch.allclose(
        extract_slices(table, rotation, deep), extract_slices(table, rotation, frequency)
    )


def test_nothing_counts_beyond_the_own_nyquist_frequency():
    """A group of coarser images, brought to the grid of the others."""
    both = Optics(
        *(torch.tensor([v, v]) for v in (300.0, 2.7, 0.1)), torch.tensor([PIXEL, 2 * PIXEL])
    )
    p = particle(2).replace(optics=both, optics_group=torch.tensor([0, 1]))
    found, radius = (
        transfer(p, torch.arange(2), BOX, PIXEL).gain,
        half_plane(BOX).frequency.norm(dim=1),
    )
    assert torch.equal(found[0], of_first(particle()).gain[0])
    assert torch.equal(found[1] != 0, (radius < BOX / 4 - 0.5) & (found[0] != 0))
