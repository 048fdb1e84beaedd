from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import mrcfile
import numpy as np
import pytest

from cryotorch.data import stacks as module
from cryotorch.data.mrc import write_stack
from cryotorch.data.stacks import Stacks
from cryotorch.errors import InputError


@pytest.fixture
def two(tmp_path):
    """Two stacks of 5 and 3 images; image i of stack s is filled with 10 s + i."""
    paths = []
    for stack, n in enumerate((5, 3)):
        paths.append(tmp_path / f"s{stack}.mrcs")
        values = (
            np.arange(n, dtype=np.float32)[:, None, None]
            + 10 * stack
            + np.zeros((1, 4, 4), np.float32)
        )
        write_stack(paths[-1], [values], n, 4, 1.5)
    return paths


def read(stacks: Stacks, *address: tuple[int, int]) -> list[float]:
    images = stacks.read(np.array(address).reshape(-1, 2))
    assert images.dtype == np.float32
    assert (images == images[:, :1, :1]).all()
    return images[:, 0, 0].tolist()


def test_images_come_in_the_order_asked_for(two):
    stacks = Stacks(two)
    assert (stacks.boxes.tolist(), stacks.counts.tolist()) == ([4, 4], [5, 3])
    assert stacks.pixel_sizes == [1.5, 1.5]
    assert read(stacks, (0, 1), (0, 2), (0, 3)) == [1, 2, 3]
    assert read(stacks, (1, 2), (0, 4), (0, 0), (1, 1), (0, 1), (1, 1)) == [12, 4, 0, 11, 1, 11]
    assert stacks.read(np.empty((0, 2), int)).shape == (0, 4, 4)


def test_consecutive_images_are_one_read(two, monkeypatch):
    calls = []
    preadv = module.os.preadv
    monkeypatch.setattr(module.os, "preadv", lambda *a: calls.append(a) or preadv(*a))
    read(Stacks(two), *((0, i) for i in range(5)))
    assert len(calls) == 1


def test_few_handles_stay_open_and_pickles_work(two, monkeypatch):
    monkeypatch.setattr(module, "MAX_HANDLES", 1)
    stacks = Stacks(two)
    assert read(stacks, (0, 0), (1, 0)) == [0, 10]
    assert len(stacks._handles) == 1
    again = pickle.loads(pickle.dumps(stacks))
    assert read(again, (0, 3)) == [3]
    with ThreadPoolExecutor(4) as pool:
        many = list(pool.map(lambda i: read(stacks, (i % 2, i % 3)), range(40)))
    assert many == [[10 * (i % 2) + i % 3] for i in range(40)]


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.float32, np.uint16, np.float16])
@pytest.mark.parametrize("order", ["<", ">"])
def test_modes_and_byte_orders(tmp_path, dtype, order):
    values = np.arange(32).reshape(2, 4, 4).astype(np.dtype(dtype).newbyteorder(order))
    with mrcfile.new(tmp_path / "s.mrcs") as file:
        file.set_data(values)
    read = Stacks([tmp_path / "s.mrcs"]).read(np.array([[0, 1], [0, 0]]))
    np.testing.assert_array_equal(read, values[::-1].astype(np.float32))


def test_bad_stacks_are_refused_with_their_name(tmp_path, two):
    path = tmp_path / "bad.mrcs"

    def refused(message: str) -> None:
        with pytest.raises(InputError, match=message):
            Stacks([two[0], path])

    refused(r"bad\.mrcs does not exist")
    path.write_bytes(b"")
    refused(r"bad\.mrcs is empty")
    whole = two[0].read_bytes()
    path.write_bytes(whole[:-1])
    refused(r"bad\.mrcs is truncated: image 5 of the 5")
    path.write_bytes(whole[:1024])
    refused("truncated: image 1 of the 5")
    path.write_bytes(b"\x1f\x8b" + whole)
    refused("compressed: unpack it")
    write_stack(path, [np.zeros((1, 5, 5))], 1, 5, 1.5)
    refused("must be even, got 5: pad to 6")
    raw = bytearray(whole)
    raw[4:8] = np.array(2, "<i4").tobytes()
    path.write_bytes(raw)
    refused("4 x 2 pixels: extract square ones")
    with pytest.raises(InputError, match="no image stack"):
        Stacks([])


def test_meaningless_pixel_sizes_are_none(tmp_path):
    for i, size in enumerate((0, 1.0, 1.2)):
        write_stack(tmp_path / f"{i}.mrcs", [np.zeros((1, 4, 4))], 1, 4, size)
    sizes = Stacks([tmp_path / f"{i}.mrcs" for i in range(3)]).pixel_sizes
    assert sizes == [None, None, pytest.approx(1.2)]


def test_an_address_beyond_the_stack_is_refused(two):
    stacks = Stacks(two)
    with pytest.raises(
        InputError, match=r"Image 4 of .*s1\.mrcs is asked for, but the stack holds 3"
    ):
        read(stacks, (0, 4), (1, 3))
    with pytest.raises(InputError, match=r"Image 0 of .*s0\.mrcs"):
        read(stacks, (0, -1))
    with pytest.raises(InputError, match="stack 2 of 2"):
        read(stacks, (2, 0))


def test_stacks_may_differ_in_box_but_not_in_one_batch(two, tmp_path):
    write_stack(tmp_path / "big.mrcs", [np.ones((2, 6, 6))], 2, 6, 1.5)
    stacks = Stacks([*two, tmp_path / "big.mrcs"])
    assert stacks.boxes.tolist() == [4, 4, 6]
    assert stacks.read(np.array([[2, 1]])).shape == (1, 6, 6)
    assert read(stacks, (1, 0), (0, 0)) == [10, 0]
    with pytest.raises(ValueError, match=r"different boxes are asked for together: \[4, 6\]"):
        read(stacks, (1, 0), (2, 0))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_image_that_is_mostly_not_finite_is_named(two, value):
    with mrcfile.open(two[1], "r+") as file:
        box = file.data.shape[-1]
        file.data[1, :, : box // 2 + 1] = value
        file.data[2, 0, 0] = value  # one pixel can be mended
    stacks = Stacks(two)
    assert read(stacks, (1, 0), (0, 1)) == [10, 1]
    assert np.isfinite(stacks.read(np.array([[1, 2]]))).sum() == box**2 - 1
    lost = box * (box // 2 + 1)
    said = rf"Image 2 of .*s1\.mrcs has {lost} of {box**2} pixels that are not finite"
    with pytest.raises(InputError, match=said):
        stacks.read(np.array([[0, 1], [1, 0], [1, 1]]))


def test_a_file_cut_while_in_use_is_refused(two):
    stacks = Stacks(two)
    read(stacks, (0, 0))
    with open(two[0], "r+b") as file:
        file.truncate(1024 + 3 * 64 + 10)
    with pytest.raises(InputError, match="ends before image 4"):
        read(stacks, *((0, i) for i in range(5)))


def test_a_file_lost_while_in_use_is_refused(two, monkeypatch):
    stacks = Stacks(two)
    read(stacks, (0, 0))
    for path in two:
        path.unlink()
    assert read(stacks, (0, 1)) == [1]  # its handle is still open
    with pytest.raises(InputError, match=r"s1\.mrcs cannot be read any more \(No such file"):
        read(stacks, (1, 0))

    def stale(*_):
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr("os.preadv", stale)
    with pytest.raises(InputError, match=r"s0\.mrcs cannot be read any more \(Stale file handle\)"):
        read(stacks, (0, 1))


@pytest.mark.data
def test_real_stacks(shared_data):
    names = {
        "real/empiar_10076_7.mrc": (320, 7, None),
        "real/sample.mrcs": (200, 17, None),
        "real/trpv1_small_stack.mrcs": (48, 10, 4.88),
        "relion_c1/particles.mrcs": (64, 2000, 3.0),
        "relion_points/relion_proj_batch_pfac2.mrcs": (64, 24, 3.54),
    }
    for name, (box, n, pixel_size) in names.items():
        stacks = Stacks([shared_data / name])
        assert (stacks.boxes[0], stacks.counts[0]) == (box, n), name
        assert stacks.pixel_sizes[0] == (pixel_size and pytest.approx(pixel_size, rel=1e-5)), name
        order = np.random.default_rng(0).permutation(n)[:50]
        images = stacks.read(np.stack([0 * order, order], 1))
        with mrcfile.open(shared_data / name, permissive=True) as theirs:
            np.testing.assert_array_equal(images, theirs.data[order].astype(np.float32))
