"""CTF refinement on simulated images: values and errors against the truth, with a perfect reference and with half maps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from cryotorch.ops.ctf.aberration_fit import (
    even_zernike,
    odd_zernike,
    spherical_factor,
    tilt_factor,
)
from cryotorch.ops.ctf.defocus_fit import from_form, to_form
from cryotorch.ops.fourier.filters import filter_shells
from cryotorch.ops.fourier.image_model import predict
from cryotorch.ops.fourier.reconstruct import shell_mean_weight, solve
from cryotorch.ops.fourier.slices import projector
from cryotorch.ops.fourier.transforms import unpack
from cryotorch.ops.geometry.rotations import random_rotations
from cryotorch.ops.masks.soft import soft_sphere
from cryotorch.ops.resolution.fsc import crossing_shell, fsc_curves
from cryotorch.particles import Optics, Particles, unposed
from cryotorch.refinement.backproject import backproject
from cryotorch.refinement.ctf.apply import Refined
from cryotorch.refinement.ctf.compare import Comparison, gathered, pick_sample
from cryotorch.refinement.ctf.refine import REFIT_PRIOR_ERRORS, CtfPass
from cryotorch.refinement.ctf.sums import CLEAR_ERRORS
from cryotorch.refinement.image_terms import transfer
from cryotorch.refinement.runtime.distributed import Batches
from cryotorch.refinement.settings import CtfTargets, ImageGrid

BOX, PIXEL = 64, 1.6
CLEAN = Optics(*(torch.tensor([value]) for value in (300.0, 2.7, 0.1, PIXEL)))
GRID = ImageGrid.whole(BOX, PIXEL)
WHAT = CtfTargets(limit=BOX / 2 - 1, tilt=False, trefoil=False)


@dataclass
class Microscope:
    """Images with white noise of variance 1, the particles with their true values, the map on the images' grey scale."""

    truth: Particles
    images: Tensor
    volume: Tensor

    @property
    def batches(self) -> Batches:
        return Batches(self.images, self.truth.half, 64)


@pytest.fixture(scope="module")
def molecule() -> Tensor:
    """Random density in a ball, its amplitudes falling off as those of a protein do."""
    noise = torch.randn(BOX, BOX, BOX, generator=torch.Generator().manual_seed(0))
    k = torch.arange(BOX // 2 + 1) / (BOX * PIXEL)
    inside = soft_sphere(BOX, 0.28 * BOX, 3)
    return filter_shells(noise * inside, torch.exp(-30 * k**2)) * inside


def take(molecule: Tensor, n: int, snr: float, optics: Optics = CLEAN, seed: int = 1) -> Microscope:
    g = torch.Generator().manual_seed(seed)
    u = 6000 + 8000 * torch.rand(n, generator=g)
    truth = unposed(n, optics).replace(
        rotation=random_rotations(n, g),
        shift=2 * torch.randn(n, 2, generator=g),
        defocus=torch.stack([u, u - 300, 3 * torch.rand(n, generator=g)], 1),
        half=torch.arange(n) % 2,
        optics_group=torch.arange(n) * len(optics) // n,
        has_pose=True,
    )
    slices, spectra = projector(molecule), []
    for rows in torch.arange(n).split(64):
        t = transfer(truth, rows, BOX, PIXEL)
        pose = truth.rotation[rows], truth.shift[rows] / PIXEL
        spectrum = predict(slices, *pose, t.gain, magnification=t.magnification)
        spectra.append(spectrum if t.phase is None else spectrum * t.phase)
    clean = unpack(torch.cat(spectra), BOX)
    factor = (snr / clean.var()).sqrt()
    images = clean * factor + torch.randn(clean.shape, generator=g)
    return Microscope(truth, images, molecule * factor)


def off(particles: Particles, seed: int = 5, largest: float = 300.0) -> tuple[Particles, Tensor]:
    """The particles with defocus errors (n,), uniform up to ``largest`` Å, taken off."""
    g = torch.Generator().manual_seed(seed)
    error = largest * (2 * torch.rand(len(particles), generator=g) - 1)
    defocus = particles.defocus.clone()
    defocus[:, :2] -= error[:, None]
    return particles.replace(defocus=defocus), error


def refine(
    seen: Microscope,
    particles: Particles,
    references: Tensor,
    what: CtfTargets,
    passes: int = 1,
    micrograph: Tensor | None = None,
    errors: float = CLEAR_ERRORS,
) -> Refined:
    noise = torch.ones(2, len(particles.optics), BOX // 2 + 1)
    made_with, start = particles, None
    for _ in range(passes):
        one = CtfPass(particles, references, what, GRID, made_with, start, micrograph)
        one.calibrate(pick_sample(seen.batches), noise)
        for number in range(len(seen.batches)):
            one.add(seen.batches[number], noise)
        found = one.solve(errors)
        particles, start = found.particles, found.start
    return found


def defocus_scores(found: Refined, truth: Particles) -> Tensor:
    """Errors of the mean defocus in standard errors."""
    form = to_form(found.particles.defocus.double()) - to_form(truth.defocus.double())
    return form[:, 0] / found.sigma[:, 0]


def half_maps(seen: Microscope, particles: Particles) -> tuple[Tensor, float]:
    """Half maps (2, d, d, d) inside a mask, made of the particles as they are, and their limit in shells."""
    noise = torch.ones(2, len(particles.optics), BOX // 2 + 1)
    batches, maps = seen.batches, []

    def of_half(half: int) -> Iterator:
        return (b for b in (batches[i] for i in range(len(batches))) if b.half == half)

    for half in (0, 1):
        sums = backproject(particles, of_half(half), noise, GRID, torch.device("cpu"))
        maps.append(solve(sums, 1e-3 * shell_mean_weight(sums)))
    halves = torch.stack(maps)
    mask = soft_sphere(BOX, 0.32 * BOX, 5)
    limit = crossing_shell(fsc_curves(halves, PIXEL, mask)["corrected"])
    return halves * mask, limit


def both(volume: Tensor) -> Tensor:
    return volume.expand(2, -1, -1, -1)


def test_defocus_errors_are_found_as_well_as_the_errors_say(molecule: Tensor) -> None:
    seen = take(molecule, 400, 0.2)
    start, error = off(seen.truth)
    found = refine(seen, start, both(seen.volume), WHAT, passes=2)
    score = defocus_scores(found, seen.truth)
    assert 0.85 < float(score.std()) < 1.15
    assert abs(float(score.mean())) < 0.2
    assert found.prior == pytest.approx(float(error.std()), rel=0.3)
    assert float(found.sigma[:, 0].median()) < 60
    # the astigmatism stays
    old, new = (to_form(p.defocus.double())[:, 1:] for p in (start, found.particles))
    torch.testing.assert_close(new, old, atol=0.02, rtol=0)


def test_half_maps_do_not_keep_particles_where_they_were(molecule: Tensor, monkeypatch) -> None:
    """Each finds its noise in its own half map, with the CTF it was inserted with: left in, that is believed."""
    seen = take(molecule, 500, 0.25)
    start, error = off(seen.truth)
    references, limit = half_maps(seen, start)
    what = replace(WHAT, limit=limit)
    found = refine(seen, start, references, what, passes=2)
    score = defocus_scores(found, seen.truth)
    assert 0.85 < float(score.std()) < 1.15

    def followed(found: Refined) -> float:
        change = (to_form(found.particles.defocus) - to_form(start.defocus))[:, 0]
        return float(change @ error / error.square().sum())

    shrunk = found.prior**2 / (found.prior**2 + float(found.sigma[:, 0].median()) ** 2)
    assert followed(found) == pytest.approx(shrunk, abs=0.05)

    calibrate = Comparison.calibrate

    def left_in(self, *args):
        c = calibrate(self, *args)
        self.calibration = replace(c, own=torch.zeros_like(c.own))
        return self.calibration

    monkeypatch.setattr(Comparison, "calibrate", left_in)
    naive = refine(seen, start, references, what)
    assert followed(naive) < shrunk - 0.1
    assert float(defocus_scores(naive, seen.truth).std()) > 1.3


def test_the_optics_within_three_standard_errors(molecule: Tensor) -> None:
    """Beam tilt, trefoil, spherical aberration, tetrafoil and magnification of two groups at once, with the defocus off."""
    parts = {
        "trefoil": torch.tensor([8.0, -5.0]).double(),
        "tetrafoil": torch.tensor([80.0, -50.0]).double(),
        "secondary_astigmatism": torch.tensor([40.0, 60.0]).double(),
    }
    lens = [column.repeat(2) for column in (CLEAN.voltage_kv, CLEAN.amplitude_contrast)]
    matrix = torch.tensor([[[1.008, 0.005], [0.005, 0.994]], [[1.0, 0.0], [0.0, 0.998]]])
    optics = Optics(
        lens[0],
        torch.tensor([2.8, 2.7]),
        lens[1],
        CLEAN.pixel_size.repeat(2),
        beam_tilt=torch.tensor([[1.0, -0.6], [0.0, 0.0]]),
        odd_zernike=torch.stack([odd_zernike(parts).float(), torch.zeros(6)]),
        even_zernike=torch.stack([even_zernike(parts).float(), torch.zeros(9)]),
        magnification=matrix,
    )
    seen = take(molecule, 600, 0.4, optics)
    plain = Optics(lens[0], torch.tensor([2.7, 2.7]), lens[1], optics.pixel_size)
    start = off(seen.truth)[0].replace(optics=plain)
    what = CtfTargets(limit=BOX / 2 - 1, spherical=True, tetra=True, anisomag=True)
    found = refine(seen, start, both(seen.volume), what, passes=3)
    new = found.particles.optics
    for g, fit in enumerate(found.groups):
        assert fit.unknown == [] and fit.particles == 300
        errors = {
            "tilt": (new.beam_tilt - optics.beam_tilt)[g] * tilt_factor(300, 2.7),
            "trefoil": (new.odd_zernike - optics.odd_zernike)[g, [5, 2]],
            "spherical": (new.spherical_aberration - optics.spherical_aberration)[[g]]
            * spherical_factor(300),
            "tetrafoil": (new.even_zernike - optics.even_zernike)[g, [8, 4]],
            "secondary_astigmatism": 4 * (new.even_zernike - optics.even_zernike)[g, [7, 5]],
        }
        for name, error in errors.items():
            assert (error.abs() < 3.2 * fit.sigma[name]).all(), (g, name, error, fit.sigma[name])
        stretch = (new.magnification - optics.magnification)[g].double()
        off_by = torch.stack(
            [(stretch[0, 0] - stretch[1, 1]) / 2, (stretch[0, 1] + stretch[1, 0]) / 2]
        )
        assert (off_by.abs() < 3.2 * fit.sigma["magnification"][1:]).all()
    tilt_sigma = found.groups[0].sigma["tilt"] / abs(tilt_factor(300, 2.7))
    assert float(tilt_sigma.max()) < 0.03  # mrad
    # the mean magnification is the map's, the difference of the groups is theirs
    scale = new.magnification.diagonal(dim1=1, dim2=2).mean(1)
    assert float(scale.mean()) == pytest.approx(1, abs=1e-4)
    truth = optics.magnification.diagonal(dim1=1, dim2=2).mean(1)
    assert float(scale[0] - scale[1]) == pytest.approx(float(truth[0] - truth[1]), abs=1e-3)


def test_the_shift_that_hid_a_tilt_is_taken_back(molecule: Tensor) -> None:
    """Poses found with the tilt in the images have moved by what a shift can do about it."""
    optics = CLEAN.replace(beam_tilt=torch.tensor([[1.0, 0.0]]))
    seen = take(molecule, 200, 0.4, optics)
    moved = seen.truth.replace(optics=CLEAN, shift=seen.truth.shift - torch.tensor([0.4, 0.0]))
    what = replace(WHAT, defocus=False, tilt=True)
    found = refine(seen, moved, both(seen.volume), what, passes=2)
    assert float(found.particles.optics.beam_tilt[0, 0]) == pytest.approx(1.0, abs=0.1)
    back = (found.particles.shift - moved.shift).mean(0)
    assert back.tolist() == pytest.approx([0.4, 0.0], abs=0.05)


def test_astigmatism_per_micrograph_and_per_particle(molecule: Tensor) -> None:
    seen = take(molecule, 240, 0.3)
    micrograph = torch.arange(240) // 60
    draw = torch.Generator().manual_seed(2)
    wrong = 80 * torch.randn(4, 2, generator=draw).double()
    form = to_form(seen.truth.defocus.double())
    form[:, 1:] -= wrong[micrograph]
    start = seen.truth.replace(defocus=from_form(form).float())
    for kind, numbers in (("micrograph", micrograph), ("particle", None)):
        what = replace(WHAT, astigmatism=kind)
        found = refine(seen, start, both(seen.volume), what, 2, numbers)
        error = to_form(found.particles.defocus.double()) - to_form(seen.truth.defocus.double())
        score = (error / found.sigma)[:, 1:]
        if kind == "micrograph":
            score = score[::60]
            assert float(found.sigma[:, 1:].max()) < 20
        assert float(score.square().mean().sqrt()) == pytest.approx(1, abs=0.4)


def test_sums_of_two_ranks_are_those_of_one(molecule: Tensor) -> None:
    seen = take(molecule, 96, 0.3)
    what = CtfTargets(limit=20, tetra=True, anisomag=True)
    noise = torch.ones(2, 1, BOX // 2 + 1)
    whole, *parts = (CtfPass(seen.truth, both(seen.volume), what, GRID) for _ in range(3))
    batches = Batches(seen.images, seen.truth.half, 16)
    for one in (whole, *parts):
        one.calibrate(pick_sample(batches), noise)
    for number in range(len(batches)):
        whole.add(batches[number], noise)
        parts[number % 2].add(batches[number], noise)
    for a, b, c in zip(*(one.sums.tensors() for one in (whole, *parts)), strict=True):
        torch.testing.assert_close(b + c, a, rtol=1e-6, atol=1e-6)


def test_what_the_data_do_not_tell_is_left_alone(molecule: Tensor) -> None:
    seen = take(molecule, 16, 0.0002)
    found = refine(seen, seen.truth, both(seen.volume), CtfTargets(limit=14, defocus=False))
    assert set(found.groups[0].unknown) == {"shift", "tilt", "trefoil"}
    assert found.particles.optics.beam_tilt is None
    assert found.particles.optics.odd_zernike is None
    torch.testing.assert_close(found.particles.shift, seen.truth.shift)


def test_a_mask_gathers_the_signal() -> None:
    """Closed form for a ball of radius R in a box of d: (9 / 8 pi) (d / R)^2."""
    x = torch.arange(80) - 40
    ball = (x[:, None, None] ** 2 + x[:, None] ** 2 + x**2 <= 24**2).float()
    assert gathered(ball) == pytest.approx(9 / (8 * torch.pi) * (80 / 24) ** 2, rel=0.02)
    assert gathered(torch.ones(8, 8, 8)) == pytest.approx(1)


@pytest.mark.slow
def test_half_maps_give_optics_within_their_errors(molecule: Tensor) -> None:
    """Half maps made with the tilt ignored give it to 0.1 mrad, and made anew; errors of values and defocus match the scatter."""
    optics = CLEAN.replace(beam_tilt=torch.tensor([[1.0, -0.6]]))
    scores = []
    for seed in range(4):
        seen = take(molecule, 1200, 0.2, optics, seed)
        start, prior = off(seen.truth, seed)[0].replace(optics=CLEAN), None
        for _ in range(2):
            references, limit = half_maps(seen, start)
            what = CtfTargets(limit=limit, prior=prior)
            found = refine(seen, start, references, what, passes=2, errors=0.0)
            error = (found.particles.optics.beam_tilt - optics.beam_tilt)[0].double()
            assert float(error.abs().max()) < 0.1
            assert 0.85 < float(defocus_scores(found, seen.truth).std()) < 1.15
            sigma = found.groups[0].sigma
            scores.append(error / (sigma["tilt"] / abs(tilt_factor(300, 2.7))))
            scores.append(found.particles.optics.odd_zernike[0, [5, 2]].double() / sigma["trefoil"])
            # what was fitted to these images before cannot tell how far off it was
            start, prior = found.particles, REFIT_PRIOR_ERRORS * float(found.sigma[:, 0].median())
    assert 0.6 < float(torch.stack(scores).square().mean().sqrt()) < 1.4


def test_copies_of_an_image_do_not_make_the_optics_surer(molecule: Tensor) -> None:
    """As after symmetry expansion: the same values with the same standard errors, not smaller by the root of 3."""
    seen = take(molecule, 120, 0.05)
    rows = torch.arange(120).repeat_interleave(3)
    again = Microscope(seen.truth[rows], seen.images[rows], seen.volume)
    micrograph = torch.arange(120) % 4
    what = replace(WHAT, tilt=True, trefoil=True, spherical=True, anisomag=True)
    what = replace(what, astigmatism="micrograph")
    references = seen.volume.expand(2, -1, -1, -1)
    everything = {"errors": 0.0}  # however unclear
    once = refine(seen, seen.truth, references, what, micrograph=micrograph, **everything)
    many = refine(again, again.truth, references, what, micrograph=micrograph[rows], **everything)
    (first,), (second,) = once.groups, many.groups
    assert (first.particles, second.particles) == (120, 360)
    for name, sigma in first.sigma.items():
        assert torch.allclose(second.sigma[name], sigma, rtol=0.05), name
    assert first.values.keys() == second.values.keys() and first.values
    for name, value in first.values.items():
        assert ((second.values[name] - value).abs() < 0.3 * first.sigma[name]).all(), name
    assert torch.allclose(many.sigma[::3], once.sigma, rtol=0.05)
