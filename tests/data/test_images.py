from __future__ import annotations

import dataclasses
import math
import pickle

import mrcfile
import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

from cryotorch.data.images import ParticleImages
from cryotorch.data.mrc import write_stack
from cryotorch.data.particle_file import read_particles
from cryotorch.data.star import Table, write_star
from cryotorch.errors import InputError
from cryotorch.ops.fourier.transforms import pack, resize_images
from cryotorch.report.sentences import said

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


def gaussian(box: int, pixel_size: float, x0: float, y0: float, sigma: float = 4.0) -> np.ndarray:
    """What a detector of this pixel size sees of a Gaussian density: values go as 1 / pixel_size."""
    y, x = (np.mgrid[:box, :box] - box // 2) * pixel_size
    return np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / (2 * sigma**2)) / pixel_size


GRIDS = [
    (48, 1.5),
    (40, 1.55),
    (36, 2.0),
    (24, 1.8),
    (64, 1.5004),
]  # a box too large, one too small
PLACES = [(5.0, -8.0), (-6.0, 3.0), (0.0, 0.0)]


@pytest.fixture
def several(tmp_path):
    """Three images on each of five grids, the first grid with one more; Gaussians on a background of 7."""
    rows, optics = [], []
    for g, (box, pixel_size) in enumerate(GRIDS):
        images = [gaussian(box, pixel_size, *place) for place in PLACES] + [
            gaussian(box, pixel_size, 4.0, 4.0)
        ] * (g == 0)
        write_stack(tmp_path / f"{g}.mrcs", [np.array(images) + 7.0], len(images), box, pixel_size)
        rows += [(f"{i + 1}@{g}.mrcs", g + 1) for i in range(len(images))]
        optics.append((g + 1, box, pixel_size))
    number, box, pixel_size = zip(*optics, strict=True)
    names, groups = zip(*rows, strict=True)
    n = len(GRIDS)
    tables = {
        "optics": Table(
            {
                "rlnOpticsGroup": number,
                "rlnVoltage": [300] * n,
                "rlnSphericalAberration": [2.7] * n,
                "rlnAmplitudeContrast": [0.1] * n,
                "rlnImageSize": box,
                "rlnImagePixelSize": np.array(pixel_size),
            }
        ),
        "particles": Table(
            {
                "rlnImageName": names,
                "rlnOpticsGroup": groups,
                **{f"rlnDefocus{x}": [1e4] * len(rows) for x in ("U", "V", "Angle")},
            }
        ),
    }
    write_star(tmp_path / "p.star", tables)
    return read_particles(tmp_path / "p.star")


@pytest.mark.parametrize("box", [None, 36])
def test_images_of_several_grids_come_on_that_of_the_largest_group(several, tmp_path, box):
    assert (several.box, several.pixel_size) == (48, 1.5)
    assert said(several.messages) == [
        f"The images of {several.path} have 1.5 to 2 Å per pixel and 24 to 64 pixels: all are brought to 1.5 Å and "
        "48 pixels, those of the largest optics group."
    ]
    images = ParticleImages(several, box)
    d, p = images.box, images.pixel_size
    assert p == pytest.approx(1.5 * 48 / d)
    order = list(range(len(images)))[::-1]
    batch = images[order].flip(0)
    small = 24 * 1.8  # Å; beyond its edges follow zeros
    y, x = (np.mgrid[:d, :d] - d // 2) * p
    reach = np.maximum(
        np.abs(x + 0.9), np.abs(y + 0.9)
    )  # the middle of the image lies half a pixel lower
    for row, image in enumerate(batch.numpy()):
        group = several.particles.optics_group[row].item()
        i = row if group == 0 else row - 3 * group - 1
        expected = gaussian(d, p, *[*PLACES, (4.0, 4.0)][i])
        if group == 3:
            assert (image[reach > small / 2 + 0.1] == 0).all()
            expected = np.where(reach > small / 2 - 0.1, image, expected)
        assert np.abs(image - expected).max() < 0.02 * expected.max(), (row, group)
    cached = ParticleImages(several, box, tmp_path / "cache")
    assert torch.allclose(cached[order].flip(0), batch, atol=1e-6)
    assert torch.equal(images[[7]], images[order].flip(0)[[7]])


def test_the_background_of_a_padded_image_is_its_own(several, tmp_path):
    """Its level is measured where there is image, and other pixel sizes are another cache."""
    rng = np.random.default_rng(0)
    for g, (box, pixel_size) in enumerate(GRIDS):
        n = 3 + (g == 0)
        noise = rng.normal(5, 2, size=(n, box, box))
        write_stack(tmp_path / f"{g}.mrcs", [noise], n, box, pixel_size)
    images = ParticleImages(several, None, tmp_path / "cache")
    level = images.background_sigma(list(range(len(images))))
    assert level[:4].tolist() == pytest.approx([2] * 4, rel=0.1)
    # of white noise the pixels below the Nyquist frequency of the common grid are kept, and values go as 1 / pixel size
    assert level[10:13].tolist() == pytest.approx([2 * 1.8 / 1.5] * 3, rel=0.2)
    images.normalize = True
    batch = images[[0, 10]]
    field = torch.tensor([1, (24 * 1.8 / 1.5 / 48) ** 2])
    power = batch.square().mean((1, 2)) / field
    assert power.tolist() == pytest.approx([1, 1], rel=0.25)
    optics = several.particles.optics
    other = dataclasses.replace(
        several,
        particles=several.particles.replace(
            optics=optics.replace(pixel_size=optics.pixel_size * torch.tensor([1, 1, 1.01, 1, 1]))
        ),
    )
    ParticleImages(other, None, tmp_path / "cache")
    assert len(list((tmp_path / "cache").glob("*.mrcs"))) == 2


def test_the_sign_of_each_image_is_applied(particle_set, tmp_path):
    file = read_particles(particle_set.write())
    sign = np.where(np.arange(N) % 3 == 0, -1, 1).astype(np.float32)
    plain = ParticleImages(file)[list(range(N))]
    signed = dataclasses.replace(file, sign=sign)
    for cache in (None, tmp_path / "c"):
        images = ParticleImages(signed, cache_dir=cache)
        expected = plain * torch.from_numpy(sign)[:, None, None]
        assert torch.allclose(images[list(range(N))], expected, atol=1e-6)
        assert torch.allclose(images[[3]], -plain[[3]], atol=1e-6)
    assert torch.allclose(ParticleImages(signed, invert=True)[[3]], plain[[3]])


@pytest.mark.parametrize("box", [7, 18, 0, -2])
def test_boxes_that_do_not_fit_are_refused(particle_set, box):
    with pytest.raises(InputError, match=f"box_size must be even and at most 16, got {box}"):
        ParticleImages(read_particles(particle_set.write()), box)


@pytest.mark.parametrize("box", [None, 10])
@pytest.mark.parametrize(("dtype", "precision"), [("float16", 2**-11), ("float32", 1e-6)])
def test_the_cache_gives_the_same_images(particle_set, tmp_path, box, dtype, precision):
    file = read_particles(particle_set.write())
    like = dict(rtol=precision, atol=1e-6)  # last bits depend on the batch
    plain = ParticleImages(file, box)[[7, 2, 3]]
    cached = ParticleImages(file, box, tmp_path / "cache", cache_dtype=dtype)
    assert torch.allclose(cached[[7, 2, 3]], plain, **like)
    stack = next((tmp_path / "cache").glob("*.mrcs"))
    made = stack.stat().st_ino
    again = ParticleImages(file, box, tmp_path / "cache", cache_dtype=dtype)
    assert torch.equal(again[[7, 2, 3]], cached[[7, 2, 3]])
    assert stack.stat().st_ino == made
    with mrcfile.open(particle_set.stack, "r+") as changed:
        changed.data[2] *= 2
    file = read_particles(particle_set.star)
    other = ParticleImages(file, box, tmp_path / "cache", cache_dtype=dtype)
    assert torch.allclose(other[[7, 2]], plain[:2] * torch.tensor([1, 2])[:, None, None], **like)


def test_the_cache_keeps_to_its_limit(particle_set, tmp_path):
    file = read_particles(particle_set.write())

    def cache(box: int) -> ParticleImages:
        return ParticleImages(file, box, tmp_path / "cache", cache_limit=2e-5)

    held = cache(16)
    with pytest.raises(InputError, match=r"may hold 2e-05 GB \(cache_limit\), of which 1\.64e-05"):
        cache(10)
    held.close()
    cache(10).close()
    assert len(list((tmp_path / "cache").glob("*.mrcs"))) == 1
    assert held[[3]].shape == (1, 16, 16)  # made again


@pytest.mark.parametrize("value", [np.nan, np.inf, 1000.0, -1000.0])
@pytest.mark.parametrize("cached", [False, True])
def test_a_bad_pixel_is_replaced_and_told(particle_set, tmp_path, value, cached):
    file = read_particles(particle_set.write())
    before = ParticleImages(file)[list(range(N))]
    with np.errstate(all="ignore"), mrcfile.open(particle_set.stack, "r+") as stack:
        stack.data[4, 7, 9] = value
    where = tmp_path / "cache" if cached else None
    images = ParticleImages(file, cache_dir=where)
    after = images[list(range(N))]
    others = [i for i in range(N) if i != 4]
    assert torch.allclose(after[others], before[others], atol=1e-5)
    touched = torch.zeros(BOX, BOX, dtype=torch.bool)
    touched[6:9, 8:11] = True
    assert torch.allclose(after[4][~touched], before[4][~touched], atol=1e-5)
    assert after[4].abs().max() < 5
    assert images.faults == {4: "1 outlier pixel replaced"}
    assert images.name(4) == f"5@{particle_set.stack}"
    once_more = ParticleImages(file, cache_dir=where)[[4]]
    assert torch.allclose(once_more, after[[4]], atol=1e-6)  # the same draws
    if cached:  # what was replaced is known without the images
        again = ParticleImages(file, cache_dir=where)
        again[[3, 4]]
        assert again.faults == images.faults


def test_a_bead_is_replaced_whole(particle_set):
    file = read_particles(particle_set.write())
    y, x = np.mgrid[:BOX, :BOX] - 5
    with np.errstate(all="ignore"), mrcfile.open(particle_set.stack, "r+") as stack:
        stack.data[4] -= 30.0 * np.exp(-((np.hypot(x, y) / 2.5) ** 6))
    images = ParticleImages(file)
    assert images[[4]].abs().max() < 10 and images[[4]].square().mean() < 3
    assert "outlier pixels replaced" in images.faults[4]


def test_pixels_of_strong_particles_are_left_alone(tmp_path):
    """Twenty sigmas, or forty where a long particle is seen from its end."""
    rng = np.random.default_rng(3)
    n, box = 60, 32
    y, x = np.mgrid[:box, :box] - box // 2
    strength = rng.uniform(15, 25, n)
    strength[::20] = 40
    spots = np.exp(-(x**2 + y**2) / 18) * strength[:, None, None]
    stack = (spots + rng.normal(size=(n, box, box))).astype(np.float32)
    images = ParticleImages(read_particles(write_set(tmp_path, stack)))
    background = stack[:, np.hypot(x, y) > box / 2].mean(1)
    assert np.allclose(images[list(range(n))].numpy(), stack - background[:, None, None], atol=1e-4)
    assert not images.faults


def test_images_without_noise_are_left_alone(tmp_path):
    y, x = np.mgrid[:16, :16] - 8
    stack = np.exp(-(x**2 + y**2) / 4.0)[None] * np.arange(1, 9)[:, None, None]
    stack = np.where(np.hypot(x, y) < 7, stack, 0).astype(np.float32)
    images = ParticleImages(read_particles(write_set(tmp_path, stack)))
    images.judge_level()
    assert np.allclose(images[list(range(8))].numpy(), stack, atol=1e-6)
    assert not images.faults


def write_set(folder, stack: np.ndarray):
    """A STAR file of images in focus."""
    n, box = len(stack), stack.shape[-1]
    write_stack(folder / "s.mrcs", [stack], n, box, 2.0)
    optics = {"rlnOpticsGroup": [1], "rlnVoltage": [300], "rlnSphericalAberration": [2.7]}
    optics |= {"rlnAmplitudeContrast": [0.1], "rlnImageSize": [box], "rlnImagePixelSize": [2.0]}
    rows = {"rlnImageName": [f"{i + 1}@s.mrcs" for i in range(n)], "rlnOpticsGroup": [1] * n}
    rows |= {f"rlnDefocus{name}": [1e4] * n for name in ("U", "V", "Angle")}
    write_star(folder / "s.star", {"optics": Table(optics), "particles": Table(rows)})
    return folder / "s.star"


@pytest.mark.parametrize("times", [1000.0, 0.001])
def test_an_image_of_another_level_is_brought_to_that_of_the_set(particle_set, times):
    file = read_particles(particle_set.write())
    before = ParticleImages(file)[list(range(N))]
    with np.errstate(all="ignore"), mrcfile.open(particle_set.stack, "r+") as stack:
        stack.data[4] *= times
    images = ParticleImages(file)
    images.judge_level()
    after = images[list(range(N))]
    others = [i for i in range(N) if i != 4]
    assert torch.equal(after[others], before[others])
    factor = (after[4] / before[4]).median()
    assert torch.allclose(after[4], factor * before[4], atol=1e-4) and 0.6 < factor < 1.6
    told = images.faults[4]
    assert told.startswith("background ") and told.endswith(" times as loud as usual")
    assert float(told.split()[1]) == pytest.approx(times, rel=0.4)


def test_a_background_of_two_levels_does_not_lower_the_image(tmp_path):
    """The edge of a carbon film: the noise is that of the others, and so is the particle."""
    stack = np.random.default_rng(4).normal(size=(20, 32, 32)).astype(np.float32)
    stack[3, :, 16:] += 20
    images = ParticleImages(read_particles(write_set(tmp_path, stack)))
    assert images.background_sigma([3])[0] == pytest.approx(1, rel=0.2)
    images.judge_level()
    assert images[[3]][0, :, 17:].std() == pytest.approx(1, rel=0.1)


def test_a_blank_image_is_all_zeros_and_told(particle_set, tmp_path):
    with mrcfile.open(particle_set.stack, "r+") as file:
        file.data[4] = 7
    for where in (None, tmp_path / "cache"):
        images = ParticleImages(read_particles(particle_set.write()), cache_dir=where)
        images.normalize = True
        assert images[[3, 4]][1].abs().max() == 0 and images[[3]].std() > 0.5
        assert images.faults == {4: "blank"}


def test_blank_images_throughout_are_refused(particle_set):
    with mrcfile.open(particle_set.stack, "r+") as file:
        file.data[4:] = 7
    images = ParticleImages(read_particles(particle_set.write()))
    with pytest.raises(InputError, match=r"Image 5 of .*stack\.mrcs is blank, and so are most"):
        images[[0]]


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
    assert float(raw.mean((1, 2)).abs().max()) < 0.01
    assert raw.std((1, 2)) == pytest.approx(0.05, rel=0.15)  # as in the file


@pytest.mark.parametrize("box", [None, 10])
def test_an_image_is_the_same_to_the_bit_whatever_comes_with_it_cached_or_not(
    particle_set, tmp_path, box
):
    """So that cache_dir in float32, and the size of a batch, leave a result as it is."""
    file = read_particles(particle_set.write())
    images = ParticleImages(file, box)
    cached = ParticleImages(file, box, cache_dir=tmp_path / "c")
    every = images[list(range(N))]
    for rows in ([0], [11], [3, 4], [5, 2, 9], list(range(2, N))):
        assert torch.equal(images[rows], every[rows]) and torch.equal(cached[rows], every[rows])


@pytest.mark.parametrize("scale", [2.0**50, 1e15, 1e-20, 5e37, 1e-30])
def test_stacks_of_any_grey_scale_are_brought_near_1(particle_set, scale):
    """By a power of 2, which changes no digit."""
    file = read_particles(particle_set.write())
    plain = ParticleImages(file)[list(range(N))]
    with np.errstate(all="ignore"), mrcfile.open(particle_set.stack, "r+") as stack:
        stack.data[:] = particle_set.images.astype(np.float64) * scale
    images = ParticleImages(file)
    found = images[list(range(N))]
    factor = images.unit * scale
    assert math.log2(images.unit) % 1 == 0 and 0.5 < float(found.std()) < 2
    assert torch.allclose(found / factor, plain, atol=1e-5 * float(plain.abs().max()))
    if scale == 2.0**50:
        assert torch.equal(found / factor, plain)


def test_usual_grey_scales_stay(particle_set):
    images = ParticleImages(read_particles(particle_set.write()))
    images[0]
    assert images.unit == 1


@pytest.mark.parametrize("value", [3e38, -3e38, 1e20, math.inf, math.nan])
@pytest.mark.parametrize("place", [(0, 0), (8, 8)])
def test_a_flipped_bit_is_mended(particle_set, value, place):
    """In a corner, where the level is measured, and in the middle."""
    with np.errstate(all="ignore"), mrcfile.open(particle_set.stack, "r+") as stack:
        stack.data[(4, *place)] = value
    images = ParticleImages(read_particles(particle_set.write()))
    images.judge_level()
    found = images[list(range(N))]
    assert found.isfinite().all() and float(found.abs().max()) < 20
    assert "outlier pixel" in images.faults[4] and list(images.faults) == [4]


def test_an_image_of_impossible_values_is_named(particle_set):
    with np.errstate(all="ignore"), mrcfile.open(particle_set.stack, "r+") as stack:
        stack.data[4] = 1e38
        stack.data[4, 3] = -1e38
    images = ParticleImages(read_particles(particle_set.write()))
    with pytest.raises(InputError, match=r"Image 5 of .* has grey values of 1e\+38 where those"):
        images[list(range(N))]


def test_the_same_image_has_the_same_mark(particle_set):
    with mrcfile.open(particle_set.stack, "r+") as file:
        file.data[7] = file.data[2]
        file.data[4] = 0
    images = ParticleImages(read_particles(particle_set.write()))
    assert not images.marks.any()
    _ = images[[2, 3]], images[list(range(3, N))]
    read = images.marks[2:]
    assert images.marks[:2].tolist() == [0, 0] and images.marks[4] == 0  # not read; blank
    assert images.marks[2] == images.marks[7] and len(set(read.tolist())) == N - 3
    before = images.marks.copy()
    _ = images[list(range(2, N))]
    assert (images.marks == before).all()


@pytest.mark.parametrize("normalize", [True, False])
def test_what_grey_values_are_multiplied_by(particle_set, normalize):
    """Batches are the stored images times it, but for their background: of another unit, an image of another level, inverted."""
    with mrcfile.open(particle_set.stack, "r+") as file:
        file.data[:] *= 2.0**40
        file.data[3] *= 50
        stored = torch.from_numpy(file.data.astype(np.float64))
    images = ParticleImages(read_particles(particle_set.write()), invert=True)
    images.normalize = normalize
    images.judge_level()
    batch, rows = images[list(range(N))], list(range(N))
    expected = stored * images.grey(rows).double()[:, None, None]
    level = expected[:, outside(BOX)].mean(1)
    assert torch.allclose(batch.double(), expected - level[:, None, None], atol=1e-4)
    assert bool((images.grey(rows) < 0).all())


@pytest.mark.parametrize("cached", [False, True])
def test_as_stored_but_for_what_is_not_finite(particle_set, tmp_path, cached):
    file = read_particles(particle_set.write())
    with np.errstate(all="ignore"), mrcfile.open(particle_set.stack, "r+") as stack:
        stack.data[4, 7, 9] = np.inf
        plain = np.array(stack.data[[4, 0]], np.float32)
    images = ParticleImages(file, cache_dir=tmp_path / "cache" if cached else None)
    images[list(range(N))]
    found = images.as_stored(np.array([4, 0])).numpy()
    assert np.argwhere(found != plain).tolist() == [[0, 7, 9]]
    usual = plain[0][np.isfinite(plain[0])]
    assert abs(found[0, 7, 9] - np.median(usual)) < 5 * usual.std()
