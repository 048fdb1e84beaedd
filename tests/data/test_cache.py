from __future__ import annotations

import json
import multiprocessing
import os

import numpy as np
import pytest

from cryotorch.data.cache import CachedImages, content_key
from cryotorch.errors import InputError

N, BOX = 10, 8
IMAGES = np.random.default_rng(0).normal(size=(N, BOX, BOX)).astype(np.float32)


class Maker:
    """Counts how often images are made, across processes too."""

    def __init__(self, folder):
        self.log = folder / "made.txt"

    def __call__(self, start: int, stop: int) -> np.ndarray:
        with open(self.log, "a") as file:
            file.write(f"{start}\n")
        return IMAGES[start:stop]

    @property
    def calls(self) -> int:
        return len(self.log.read_text().split()) if self.log.exists() else 0


def open_cache(folder, maker: Maker) -> CachedImages:
    return CachedImages(folder / "cache", "key", N, BOX, 1.5, maker, block=4)


def test_made_once_and_read_again(tmp_path):
    maker = Maker(tmp_path)
    first = open_cache(tmp_path, maker)
    order = np.array([9, 0, 5, 5])
    np.testing.assert_array_equal(first.read(order), IMAGES[order])
    np.testing.assert_array_equal(open_cache(tmp_path, maker).read(np.arange(N)), IMAGES)
    assert maker.calls == 3  # blocks of 4, 4 and 2
    assert sorted(p.name for p in (tmp_path / "cache").iterdir()) == [
        "particles_key.json",
        "particles_key.lock",
        "particles_key.mrcs",
    ]


@pytest.mark.parametrize(
    "damage", ["byte", "nan", "short", "long", "no sums", "bad sums", "empty sums"]
)
def test_a_damaged_cache_is_made_again(tmp_path, damage):
    maker = Maker(tmp_path)
    cache = open_cache(tmp_path, maker)
    raw = bytearray(cache.path.read_bytes())
    sums = json.loads(cache.sums_path.read_text())
    if damage == "byte":
        raw[-3] ^= 1
    elif damage == "nan":
        raw[-4:] = np.array(np.nan, "<f4").tobytes()
    elif damage == "short":
        del raw[-1]
    elif damage == "long":
        raw += b"\0"
    cache.path.write_bytes(raw)
    if damage == "no sums":
        cache.sums_path.unlink()
    elif damage == "bad sums":
        cache.sums_path.write_text(json.dumps({**sums, "crc32": [0, 0, 0]}))
    elif damage == "empty sums":
        cache.sums_path.write_text("[]")
    again = open_cache(tmp_path, maker)
    np.testing.assert_array_equal(again.read(np.arange(N)), IMAGES)
    assert maker.calls == 6
    np.testing.assert_array_equal(open_cache(tmp_path, maker).read(np.arange(N)), IMAGES)
    assert maker.calls == 6


def test_damage_while_in_use_is_noticed_at_the_first_reading(tmp_path):
    maker = Maker(tmp_path)
    cache = open_cache(tmp_path, maker)
    np.testing.assert_array_equal(cache.read(np.arange(4)), IMAGES[:4])
    with open(cache.path, "r+b") as file:
        file.seek(1024 + 4 * BOX * BOX * 9)
        file.write(b"\x01\x02\x03")
    np.testing.assert_array_equal(cache.read(np.array([9])), IMAGES[9:])
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
    def fail(start: int, stop: int) -> np.ndarray:
        if start:
            raise InputError("image 5 is broken.")
        return IMAGES[start:stop]

    with pytest.raises(InputError, match="image 5"):
        CachedImages(tmp_path, "key", N, BOX, 1.5, fail, block=4)
    assert [p.name for p in tmp_path.iterdir()] == ["particles_key.lock"]


def test_what_a_killed_job_left_is_removed(tmp_path):
    (tmp_path / "cache").mkdir()
    left = tmp_path / "cache" / ".particles_key.mrcs.123.partial"
    left.write_bytes(b"half")
    open_cache(tmp_path, Maker(tmp_path))
    assert not left.exists()


def test_a_full_disk_or_unusable_folder_is_refused(tmp_path, monkeypatch):
    maker = Maker(tmp_path)
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(InputError, match=r"cache_dir .* cannot be made"):
        open_cache(tmp_path, maker)
    (tmp_path / "cache").unlink()
    monkeypatch.setattr(
        "cryotorch.data.cache.shutil.disk_usage", lambda _: type("U", (), {"free": 100})
    )
    with pytest.raises(InputError, match=r"0\.0 GB free, the cache of 10 images needs"):
        open_cache(tmp_path, maker)
    assert maker.calls == 0


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
    ]
    os.utime(paths[1], ns=(10, 11))
    others.append(content_key(paths, address, 8))
    paths[1].write_bytes(b"123")
    os.utime(paths[1], ns=(10, 10))
    others.append(content_key(paths, address, 8))
    assert len({key, *others}) == 1 + len(others)
