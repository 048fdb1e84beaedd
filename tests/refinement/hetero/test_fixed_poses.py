"""Images at fixed poses: three numbers stand for the residual, and an image's own part is taken out of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from cryotorch.ops.fourier.image_model import predict
from cryotorch.ops.fourier.slices import projector
from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.refinement.hetero.fixed_poses import (
    compare,
    pose_images,
    residual_of_best,
    scale_free,
)
from cryotorch.refinement.hetero.references import OWN, make_references
from cryotorch.refinement.image_terms import observe
from cryotorch.refinement.image_weight import unlimited
from cryotorch.refinement.settings import ImageGrid
from cryotorch.refinement.spectra import Spectra
from tests.refinement.hetero.test_class_sums import sums_of
from tests.refinement.hetero.test_references import one_hot


def projectors(maps: torch.Tensor, limit: float) -> list:
    return [projector(volume, limit=limit) for volume in maps]


def test_likelihoods_are_those_of_the_image_model(simulate: Callable) -> None:
    """|y - f|^2 / sigma2 of images with shifts, two half sets, and noise that is not white."""
    world = simulate(40, 1.0, box=24, pixel=6.0)
    noise = torch.linspace(1, 3, 13)[None]
    grid, limit = ImageGrid.whole(24, 6.0), 9.499
    spectra = Spectra(world.images, world.truth, grid, noise, unlimited(24), limit)
    posed = pose_images(spectra, torch.arange(40), limit)
    maps = torch.stack([world.volume, 0.5 * world.volume, world.volume.flip(0)])
    count = half_plane(24).count(limit)
    seen = observe(world.truth, torch.arange(40), world.images, noise, grid).limited(count)
    shift = world.truth.shift / 6.0
    wanted = torch.stack(
        [
            -(
                seen.precision
                * (
                    seen.spectrum - predict(projector(one), world.truth.rotation, shift, seen.gain)
                ).abs()
                ** 2
            ).sum(1)
            for one in maps
        ],
        1,
    )
    found = compare(posed, [projectors(maps, limit)])
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=0.01)
    halves = compare(posed, [projectors(maps, limit), projectors(0 * maps, limit)])
    first = posed.half == 0
    torch.testing.assert_close(halves[first], found[first])
    torch.testing.assert_close(
        halves[~first], -posed.power[~first].sum(1, keepdim=True).expand(-1, 3)
    )


def test_more_noise_is_less_of_everything(two_states: Callable) -> None:
    world = two_states(20)
    images = world.images
    less = images.with_noise(torch.full((1, 13), 2.0))
    torch.testing.assert_close(less.power, images.power / 2)
    given = [projectors(world.maps, 9.0)]
    torch.testing.assert_close(compare(less, given), compare(images, given) / 2)


def test_coarse_images_are_the_same_in_a_smaller_box(two_states: Callable) -> None:
    images = two_states(5).images.limited(5.499, 16)
    at = half_plane(16).frequency[: images.weight.shape[1]]
    assert torch.equal(at, half_plane(24).frequency[: images.weight.shape[1]])


def test_the_scale_does_not_matter_where_it_is_free(two_states: Callable) -> None:
    world = two_states(30, snr=2.0)
    given = projectors(world.maps, world.settings.limit)
    twice = projectors(2 * world.maps, world.settings.limit)
    found = scale_free(world.images, given)
    torch.testing.assert_close(found, scale_free(world.images, twice), rtol=1e-4, atol=1e-3)
    # no better at any other scale
    power = world.images.power.sum(1, keepdim=True)
    assert bool((found - power >= compare(world.images, [given]) - 1e-2).all())
    inverted = scale_free(world.images, projectors(-world.maps, world.settings.limit))
    assert float(inverted.median()) == 0


def test_nobody_prefers_a_class_for_what_he_brought_there(two_states: Callable) -> None:
    """Noise in random classes: images like their own class for their own noise, and not once that is taken out."""
    world = two_states(600, noise_only=True)
    share = one_hot(torch.randint(2, (600,), generator=torch.Generator().manual_seed(1)))
    halves, limit = sums_of(world, share), world.settings.limit
    # filtered as if the classes were alike in both halves
    both = halves.__class__(**{**vars(halves)})
    found = make_references(both, 0.0, world.masks.solvent, lenient=True)
    gain = 0.5
    volumes = gain * halves.classes * world.masks.solvent
    influence = OWN * gain * world.masks.solvent.mean() / halves.weight.clamp_min(1e-30)
    assert found.influence.shape == influence.shape
    given = [projectors(half, limit) for half in volumes]
    mine = share.argmax(1)
    rows = torch.arange(600)

    def preference(evidence: torch.Tensor) -> float:
        return float((evidence[rows, mine] - evidence[rows, 1 - mine]).mean())

    naive = preference(compare(world.images, given))
    fair = preference(compare(world.images, given, share, influence))
    assert naive > 2 and abs(fair) < 0.2 * naive
    # and the noise is found as it is
    residual = residual_of_best(world.images, given, mine, share, influence)
    assert float(residual.mean()) == pytest.approx(1 + float(influence.mean()) * 0, abs=0.05)
