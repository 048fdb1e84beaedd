"""Ten real particles of TRPV1 with poses by RELION: our conventions are RELION's on real data too."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cryotorch.data.images import ParticleImages
from cryotorch.data.mrc import read_volume
from cryotorch.data.particle_file import ParticleFile, read_particles
from cryotorch.ops.fourier.image_model import project
from cryotorch.ops.fourier.transforms import half_plane, pack, unpack
from cryotorch.ops.masks.soft import soft_circle
from cryotorch.refinement.image_terms import transfer

BAND = 60, 15  # Å; coarser than that, particles look alike from everywhere
RADIUS = 88  # Å, of the molecule

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def trpv1(shared_data) -> tuple[ParticleFile, Tensor, Tensor]:
    """The file, its images (10, 48, 48) and the map."""
    file = read_particles(shared_data / "real" / "trpv1_small_stack.star")
    volume, _ = read_volume(shared_data / "real" / "trpv1_volume.mrc")
    return file, ParticleImages(file)[list(range(10))], volume


def correlation(
    trpv1: tuple[ParticleFile, Tensor, Tensor],
    rotation: Tensor | None = None,
    sign: float = 1,
    mirror: bool = False,
    ctf: bool = True,
) -> Tensor:
    """Of each image with the projection of the map at its pose, within band and radius."""
    file, images, volume = trpv1
    p, box, pixel_size = file.particles, file.box, file.pixel_size
    if mirror:
        volume = volume.flip(0).roll(1, 0)
    rotation = p.rotation if rotation is None else rotation
    gain = transfer(p, torch.arange(len(p)), box, pixel_size).gain if ctf else None
    expected = project(volume, rotation, sign * p.shift / pixel_size, gain)
    resolution = box * pixel_size / half_plane(box).radius
    band = (resolution <= BAND[0]) & (resolution >= BAND[1])
    mask = soft_circle(box, RADIUS / pixel_size, 1)
    a, b = (unpack(spectrum * band, box) * mask for spectrum in (expected, pack(images)))
    return (a * b).sum((1, 2)) / (a.square().sum((1, 2)) * b.square().sum((1, 2))).sqrt()


def test_particles_correlate_with_projections_at_their_poses(trpv1):
    found = correlation(trpv1)
    assert found.mean().item() == pytest.approx(0.265, abs=0.02)
    assert found.min() > 0.18


def test_other_conventions_do_not(trpv1):
    transposed = trpv1[0].particles.rotation.transpose(1, 2)
    assert correlation(trpv1, rotation=transposed).mean() < 0.17
    assert correlation(trpv1, mirror=True).mean().abs() < 0.04
    assert correlation(trpv1, sign=-1).mean() < 0.08
    # the CTF has its first zero at 17 Å: beyond it little is left of this band
    assert correlation(trpv1, ctf=False).mean() < correlation(trpv1).mean() - 0.02
