from __future__ import annotations

import pickle

import mrcfile
import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

from cryotorch.data.images import ParticleImages
from cryotorch.data.particle_file import read_particles
from cryotorch.errors import InputError
from cryotorch.ops.fourier import pack, resize_images

N, BOX = 12, 16


def outside(box: int) -> np.ndarray:
    y, x = np.mgrid[:box, :box] - box // 2
    return np.hypot(x, y) > box / 2


def test_batches_have_zero_background(particle_set):
    with mrcfile.open(particle_set.stack, "r+") as file:
        file.data[:] += 100
    images = ParticleImages(read_particles(particle_set.write()))
    assert (len(images), images.box, images.pixel_size) == (N, BOX, 2.5)
    batch = images[[3, 11, 0]]
    assert batch.dtype == torch.float32
    source = particle_set.images[[3, 11, 0]]
    expected = source - source[:, outside(BOX)].mean(1)[:, None, None]
    np.testing.assert_allclose(batch.numpy(), expected, atol=2e-5)
    assert batch.numpy()[:, outside(BOX)].mean(1) == pytest.approx([0, 0, 0], abs=1e-5)
    assert torch.equal(images[5], images[[5]][0])


def test_invert_changes_the_sign(particle_set, tmp_path):
    file = read_particles(particle_set.write())
    plain = ParticleImages(file)[[1, 2]]
    assert torch.equal(ParticleImages(file, invert=True)[[1, 2]], -plain)
    for invert, sign in ((True, -1), (False, 1)):  # one cache serves both
        cached = ParticleImages(file, cache_dir=tmp_path / "c", invert=invert)
        assert torch.allclose(cached[[1, 2]], sign * plain, atol=1e-6)
    assert len(list((tmp_path / "c").glob("*.mrcs"))) == 1


def test_cropping_keeps_the_low_frequencies(particle_set):
    file = read_particles(particle_set.write())
    small = ParticleImages(file, 10)
    assert (small.box, small.pixel_size) == (10, pytest.approx(4.0))
    batch = small[list(range(N))]
    assert batch.shape == (N, 10, 10)
    expected = pack(resize_images(torch.from_numpy(particle_set.images), 10))
    assert torch.allclose(
        pack(batch), expected, atol=1e-5
    )  # the background is k = 0, not in a pack
    assert batch.numpy()[:, outside(10)].mean(1) == pytest.approx([0] * N, abs=1e-6)


@pytest.mark.parametrize("box", [7, 18, 0, -2])
def test_boxes_that_do_not_fit_are_refused(particle_set, box):
    with pytest.raises(InputError, match=f"box_size must be even and at most 16, got {box}"):
        ParticleImages(read_particles(particle_set.write()), box)


@pytest.mark.parametrize("box", [None, 10])
def test_the_cache_gives_the_same_images(particle_set, tmp_path, box):
    file = read_particles(particle_set.write())
    plain = ParticleImages(file, box)[[7, 2, 3]]
    cached = ParticleImages(file, box, tmp_path / "cache")
    assert torch.allclose(cached[[7, 2, 3]], plain, atol=1e-6)  # last bits depend on the batch
    stack = next((tmp_path / "cache").glob("*.mrcs"))
    made = stack.stat().st_mtime_ns
    again = ParticleImages(file, box, tmp_path / "cache")
    assert torch.equal(again[[7, 2, 3]], cached[[7, 2, 3]])
    assert stack.stat().st_mtime_ns == made
    with mrcfile.open(particle_set.stack, "r+") as changed:
        changed.data[2] *= 2
    other = ParticleImages(read_particles(particle_set.star), box, tmp_path / "cache")
    assert torch.allclose(other[[7, 2]], plain[:2] * torch.tensor([1, 2])[:, None, None], atol=1e-6)


def test_a_bad_pixel_is_found_while_reading_and_while_caching(particle_set, tmp_path):
    with mrcfile.open(particle_set.stack, "r+") as file:
        file.data[4, 0, 0] = np.nan
    file = read_particles(particle_set.write())
    images = ParticleImages(file)
    images[[0, 3, 5]]
    with pytest.raises(
        InputError, match=r"Image 5 of .*stack\.mrcs has 1 pixels that are not finite"
    ):
        images[[3, 4]]
    with pytest.raises(InputError, match="Image 5 of"):
        ParticleImages(file, cache_dir=tmp_path / "cache")


def test_a_blank_image_is_refused(particle_set):
    with mrcfile.open(particle_set.stack, "r+") as file:
        file.data[4] = 7
    images = ParticleImages(read_particles(particle_set.write()))
    assert images[[3, 5]].isfinite().all()
    with pytest.raises(
        InputError, match=r"Image 5 of .*stack\.mrcs is blank, all its pixels are 7"
    ):
        images[[3, 4]]


def test_a_data_loader_gets_whole_batches(particle_set, tmp_path):
    images = ParticleImages(read_particles(particle_set.write()), 10, tmp_path / "cache")
    batches = list(
        DataLoader(
            images,
            batch_sampler=BatchSampler(SequentialSampler(images), 5, drop_last=False),
            collate_fn=lambda batch: batch,
        )
    )
    assert [len(batch) for batch in batches] == [5, 5, 2]
    assert torch.equal(torch.cat(batches), images[list(range(N))])
    assert torch.equal(pickle.loads(pickle.dumps(images))[[1]], images[[1]])


@pytest.mark.data
def test_real_images(shared_data):
    file = read_particles(shared_data / "relion_c1" / "particles.star")
    batch = ParticleImages(file)[list(range(0, 2000, 10))]
    assert batch.shape == (200, 64, 64)
    # noise of variance 1; the signal, SNR 0.08, lies at low frequencies
    high = pack(batch)[:, -300:].abs().square().mean().item()
    assert high == pytest.approx(1, abs=0.02)
    raw = ParticleImages(read_particles(shared_data / "real" / "empiar_10076_7.star"), 64)[
        list(range(7))
    ]
    assert raw.shape == (7, 64, 64)
    assert raw.isfinite().all()
