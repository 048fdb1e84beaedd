from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
import pickle

import mrcfile
import numpy as np
import pytest

from cryotorch.data.cache import PAGE, CachedImages, content_key
from cryotorch.data.cache_folder import CacheFolder
from cryotorch.errors import InputError

N, BOX = 10, 8
IMAGES = np.random.default_rng(0).normal(size=(N, BOX, BOX)).astype(np.float32)
NOTES = np.arange(-1, N - 1, dtype=np.int32)


class Maker:
    """Counts how often images are made, across processes too."""

    def __init__(self, folder):
        self.log = folder / "made.txt"

    def __call__(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        with open(self.log, "a") as file:
            file.write(f"{start}\n")
        return make_images(start, stop)

    @property
    def calls(self) -> int:
        return len(self.log.read_text().split()) if self.log.exists() else 0


def open_cache(folder, maker: Maker, dtype: str = "float32") -> CachedImages:
    where = CacheFolder(folder / "cache")
    return CachedImages(where, "key", N, BOX, 1.5, maker, dtype, block=4)


def test_made_once_and_read_again(tmp_path):
    maker = Maker(tmp_path)
    first = open_cache(tmp_path, maker)
    order = np.array([9, 0, 5, 5])
    np.testing.assert_array_equal(first.read(order), IMAGES[order])
    np.testing.assert_array_equal(open_cache(tmp_path, maker).read(np.arange(N)), IMAGES)
    assert first.read(np.arange(0)).shape == (0, BOX, BOX)
    assert maker.calls == 3  # blocks of 4, 4 and 2
    np.testing.assert_array_equal(open_cache(tmp_path, maker).notes, NOTES)
    names = sorted(p.name for p in (tmp_path / "cache").iterdir())
    assert names == [".lock", "particles_key.mrcs"]
    with pytest.raises(IndexError, match="has 10 images"):
        first.read(np.array([10]))


@pytest.mark.parametrize("level", [1e-30, 1e-3, 1.0, 3e5, 1e30])
def test_half_precision_adds_little_noise_whatever_the_unit(tmp_path, level):
    images = IMAGES.copy()
    images[2, 0, 0] = 1e3  # a hot pixel
    cache = open_cache(tmp_path, lambda i, j: (images[i:j] * level, NOTES[i:j]), "float16")
    read = cache.read(np.arange(N)).numpy()
    np.testing.assert_allclose(read, images * level, rtol=2**-11, atol=level * 1e-5)
    ordinary = np.delete(np.arange(N), 2)
    noise = np.square((read / level - images)[ordinary], dtype=np.float64).mean()
    assert 2e-8 < noise / np.square(images[ordinary]).mean() < 6e-8
    assert cache.path.stat().st_size == PAGE + 2 * N * BOX**2


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_other_programs_can_open_it(tmp_path, dtype):
    cache = open_cache(tmp_path, Maker(tmp_path), dtype)
    with mrcfile.open(cache.path) as file:
        assert file.is_image_stack() and file.voxel_size.x == pytest.approx(1.5)
        scale = (IMAGES / file.data).mean((1, 2))
        np.testing.assert_allclose(file.data * scale[:, None, None], IMAGES, rtol=2e-3)
    np.testing.assert_allclose(np.log2(scale), np.log2(scale).round(), atol=1e-3)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize(
    "damage", ["byte", "nan", "short", "long", "swap", "sum", "factor", "note"]
)
def test_a_damaged_cache_is_made_again(tmp_path, damage, dtype):
    maker = Maker(tmp_path)
    cache = open_cache(tmp_path, maker, dtype)
    expected = cache.read(np.arange(N)).numpy()
    raw = bytearray(cache.path.read_bytes())
    size = np.dtype(dtype).itemsize * BOX**2
    if damage == "byte":
        raw[-3] ^= 1
    elif damage == "nan":
        raw[-4:] = b"\xff" * 4
    elif damage == "short":
        del raw[-1]
    elif damage == "long":
        raw += b"\0"
    elif damage == "swap":
        first = PAGE + 3 * size
        raw[first : first + 2 * size] = (
            raw[first + size : first + 2 * size] + raw[first : first + size]
        )
    elif damage == "sum":
        raw[1024 + 8 * 4] ^= 1
    elif damage == "factor":
        raw[1024 + 8 * N + 4 * 4 + 2] ^= 0x80
    elif damage == "note":
        raw[1024 + 12 * N + 4 * 4] ^= 1
    cache.path.write_bytes(raw)
    again = open_cache(tmp_path, maker, dtype)
    np.testing.assert_array_equal(again.read(np.arange(N)), expected)
    assert maker.calls == 6
    np.testing.assert_array_equal(open_cache(tmp_path, maker, dtype).read(np.arange(N)), expected)
    assert maker.calls == 6


def test_a_cache_that_stays_damaged_is_told(tmp_path, monkeypatch):
    cache, counter = open_cache(tmp_path, Maker(tmp_path)), itertools.count()
    monkeypatch.setattr(
        "cryotorch.data.cache._checksums",
        lambda rows, *_: next(counter) + 0 * rows[:, 0, 0].astype("<u8"),
    )
    with pytest.raises(InputError, match="is damaged again and again: choose another cache_dir"):
        cache.read(np.array([1]))


def test_damage_while_in_use_is_noticed(tmp_path):
    maker = Maker(tmp_path)
    cache = open_cache(tmp_path, maker)
    np.testing.assert_array_equal(cache.read(np.arange(4)), IMAGES[:4])
    with open(cache.path, "r+b") as file:
        file.seek(PAGE + 4 * BOX * BOX * 9)
        file.write(b"\x01\x02\x03")
    other = open_cache(tmp_path, maker)
    for each in (cache, other):  # one mends it for both
        np.testing.assert_array_equal(each.read(np.array([9])), IMAGES[9:])
    assert maker.calls == 6


def test_a_file_cut_short_while_in_use_is_made_again(tmp_path):
    maker = Maker(tmp_path)
    cache = open_cache(tmp_path, maker)
    os.truncate(cache.path, PAGE + 100)
    np.testing.assert_array_equal(cache.read(np.arange(N)), IMAGES)
    assert maker.calls == 6


def test_concurrent_jobs_make_it_once(tmp_path):
    maker = Maker(tmp_path)
    context = multiprocessing.get_context("spawn")
    with context.Pool(3) as pool:
        made = pool.starmap(read_all, [(tmp_path,)] * 6)
    assert maker.calls == 3
    for images in made:
        np.testing.assert_array_equal(images, IMAGES)


def read_all(folder) -> np.ndarray:
    return open_cache(folder, Maker(folder)).read(np.arange(N))


def test_a_failed_making_leaves_nothing_that_counts(tmp_path):
    def fail(start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        if start:
            raise InputError("image 5 is broken.")
        return make_images(start, stop)

    with pytest.raises(InputError, match="image 5"):
        CachedImages(CacheFolder(tmp_path), "key", N, BOX, 1.5, fail, block=4)
    assert [p.name for p in tmp_path.iterdir()] == [".lock"]


def test_what_a_killed_job_left_is_taken_over(tmp_path):
    (tmp_path / "cache").mkdir()
    left = tmp_path / "cache" / ".particles_key.mrcs.partial"
    left.write_bytes(b"half" * 10_000)
    cache = open_cache(tmp_path, Maker(tmp_path))
    assert not left.exists()
    np.testing.assert_array_equal(cache.read(np.arange(N)), IMAGES)


def test_a_pickled_cache_opens_the_file_again(tmp_path):
    cache = CachedImages(CacheFolder(tmp_path), "key", N, BOX, 1.5, make_images)
    again = pickle.loads(pickle.dumps(cache))
    np.testing.assert_array_equal(again.read(np.arange(N)), IMAGES)
    cache.close()
    np.testing.assert_array_equal(cache.read(np.array([4])), IMAGES[4:5])


def make_images(start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    return IMAGES[start:stop], NOTES[start:stop]


def test_the_time_of_making_is_logged(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        open_cache(tmp_path, Maker(tmp_path))
    assert [m.split()[:2] for m in caplog.messages] == [["Caching", "10"], ["Cached", "10"]]


def test_the_key_follows_the_content(tmp_path):
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        path.write_bytes(b"12")
        os.utime(path, ns=(10, 10))
    address = np.array([[0, 0], [1, 0]])
    key = content_key(paths, address, 8)
    assert key == content_key(paths, address.copy(), 8)
    others = [
        content_key(paths[::-1], address, 8),
        content_key(paths, address[::-1], 8),
        content_key(paths, address, 6),
        content_key(paths, address, 8, np.full(len(address), 1.01)),
        content_key(paths, address, 8, dtype="float16"),
    ]
    os.utime(paths[1], ns=(10, 11))
    others.append(content_key(paths, address, 8))
    paths[1].write_bytes(b"123")
    os.utime(paths[1], ns=(10, 10))
    others.append(content_key(paths, address, 8))
    assert len({key, *others}) == 1 + len(others)
