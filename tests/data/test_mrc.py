from __future__ import annotations

import bz2
import gzip
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cryotorch.data.mrc import read_corner, read_header, read_volume, write_stack, write_volume
from cryotorch.data.stacks import Stacks
from cryotorch.errors import InputError


@pytest.fixture
def volume():
    return torch.randn(6, 6, 6, generator=torch.Generator().manual_seed(0))


def test_round_trip_and_what_mrcfile_says(tmp_path, volume, capsys):
    path = tmp_path / "map.mrc"
    write_volume(path, volume, 1.25)
    again, pixel_size = read_volume(path)
    assert torch.equal(again, volume)
    assert pixel_size == pytest.approx(1.25, rel=1e-6)
    assert mrcfile.validate(path)
    with mrcfile.open(path) as theirs:
        np.testing.assert_array_equal(theirs.data, volume.numpy())
        assert theirs.voxel_size.z == pytest.approx(1.25)
        assert theirs.is_volume()
    before = path.read_bytes()
    write_volume(path, volume, 1.25)
    assert path.read_bytes() == before  # no date in it
    capsys.readouterr()


@pytest.mark.parametrize("suffix", [".gz", ".bz2"])
def test_compressed_maps(tmp_path, volume, suffix):
    write_volume(tmp_path / "map.mrc", volume, 2)
    path = tmp_path / f"map.mrc{suffix}"
    pack = gzip.compress if suffix == ".gz" else bz2.compress
    path.write_bytes(pack((tmp_path / "map.mrc").read_bytes()))
    assert torch.equal(read_volume(path)[0], volume)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.float32, np.uint16, np.float16])
@pytest.mark.parametrize("order", ["<", ">"])
def test_modes_and_byte_orders(tmp_path, dtype, order):
    values = np.arange(27).reshape(3, 3, 3).astype(np.dtype(dtype).newbyteorder(order))
    path = tmp_path / "map.mrc"
    with mrcfile.new(path) as file:
        file.set_data(values)
        file.voxel_size = 1.5
    read, pixel_size = read_volume(path)
    assert read.dtype == torch.float32
    np.testing.assert_array_equal(read.numpy(), values.astype(np.float32))
    assert pixel_size == 1.5
    raw = bytearray(path.read_bytes())
    raw[208:216] = bytes(8)  # neither "MAP " nor a machine stamp
    path.write_bytes(raw)
    np.testing.assert_array_equal(read_volume(path)[0].numpy(), values.astype(np.float32))


IMOD = 1146047817


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("stamp", "flags", "low", "high", "signed"),
    [
        (IMOD, 0, 0, 255, False),
        (IMOD, 1, 0, 255, True),  # a header whose range was not renewed
        (IMOD, 0, 0, 0, False),
        (IMOD, 17, -128, 3, True),
        (0, 0, 0, 255, False),
        (0, 0, -128, 127, True),
        (0, 0, 0, 100, True),  # either way the same
        (0, 0, 0, -1, True),  # the format's way to say that nothing is known
        (0, 0, 0, 4000, True),
    ],
)
def test_bytes_are_signed_or_not_as_the_header_says(
    tmp_path, order, stamp, flags, low, high, signed
):
    values = np.array([0, 3, 127, 128, 200, 255, 1, 2], np.uint8).reshape(2, 2, 2)
    path = tmp_path / "map.mrc"
    with mrcfile.new(path) as file:
        file.set_data(values.view(np.int8))
    raw = bytearray(path.read_bytes())
    little = np.frombuffer(raw[: 4 * 56], "<i4").astype(f"{order}i4")
    raw[: 4 * 56] = little.tobytes()
    raw[76:88] = np.array([low, high, 0], f"{order}f4").tobytes()
    raw[152:160] = np.array([stamp, flags], f"{order}i4").tobytes()
    path.write_bytes(raw)
    wanted = values.view(np.int8) if signed else values
    np.testing.assert_array_equal(read_volume(path)[0].numpy(), wanted.astype(np.float32))


def test_a_mask_of_unsigned_bytes_is_read_as_a_stack_too(tmp_path):
    path = tmp_path / "stack.mrcs"
    values = np.arange(3 * 16, dtype=np.uint8).reshape(3, 4, 4) * 5
    with mrcfile.new(path) as file:
        file.set_data(values.view(np.int8))
        file.header.dmin, file.header.dmax = 0, 235
    found = Stacks([path]).read(np.array([[0, 2], [0, 0], [0, 2]]))
    np.testing.assert_array_equal(found, values[[2, 0, 2]].astype(np.float32))


def test_where_the_corner_lies(tmp_path, volume):
    """The origin fields, else the starts of columns, rows and sections, whatever axes these run along."""
    path = tmp_path / "map.mrc"
    write_volume(path, volume, 2.0)
    assert read_header(path).corner == (0, 0, 0)
    with mrcfile.open(path, "r+") as file:
        file.header.nxstart, file.header.nystart, file.header.nzstart = 3, -4, 5
    assert read_header(path).corner == pytest.approx((6, -8, 10))
    with mrcfile.open(path, "r+") as file:
        file.header.mapc, file.header.mapr, file.header.maps = 3, 1, 2
    assert read_header(path).corner == pytest.approx((-8, 10, 6))
    with mrcfile.open(path, "r+") as file:
        file.header.origin.x, file.header.origin.z = 1.5, -2.5
    assert read_header(path).corner == pytest.approx((1.5, 0, -2.5))


def test_a_corner_is_written(tmp_path, volume, capsys):
    path = tmp_path / "map.mrc"
    write_volume(path, volume, 2.0, (-177.0, 3.5, 0.0))
    assert read_corner(path) == pytest.approx((-177, 3.5, 0))
    assert read_corner(path, 2.2) == pytest.approx((-177 * 1.1, 3.5 * 1.1, 0))
    assert mrcfile.validate(path)
    capsys.readouterr()


@pytest.mark.parametrize("axes", [(1, 2, 3), (3, 1, 2)])
def test_a_map_that_is_no_cube_is_padded_about_its_middle(tmp_path, axes):
    """Voxel n // 2 on voxel d // 2, and every voxel stays where it was in the coordinates of a model."""
    values = torch.randn(5, 8, 3, generator=torch.Generator().manual_seed(1))  # z, y, x
    path = tmp_path / "map.mrc"
    stored = [3 - axis for axis in reversed(axes)]
    write_volume(path, values.permute(stored), 2.0, (10.0, 20.0, 30.0))
    raw = bytearray(path.read_bytes())
    raw[64:76] = np.array(axes, "<i4").tobytes()
    path.write_bytes(raw)
    assert read_header(path).size == (3, 8, 5)
    padded, _ = read_volume(path, pad=True)
    assert padded.shape == (8, 8, 8)
    assert torch.equal(padded[2:7, :, 3:6], values) and padded.count_nonzero() == values.numel()
    assert read_corner(path) == pytest.approx((10 - 3 * 2, 20, 30 - 2 * 2))


@pytest.mark.parametrize("axes", [(1, 2, 3), (3, 1, 2), (2, 1, 3), (3, 2, 1), (0, 0, 0)])
def test_axis_order_becomes_z_y_x(tmp_path, volume, axes):
    """Column, row and section axes as in EMD-3001 (3, 1, 2)."""
    c, r, s = axes if any(axes) else (1, 2, 3)
    path = tmp_path / "map.mrc"
    write_volume(path, volume.permute(3 - s, 3 - r, 3 - c), 1)
    raw = bytearray(path.read_bytes())
    raw[64:76] = np.array(axes, "<i4").tobytes()
    path.write_bytes(raw)
    assert torch.equal(read_volume(path)[0], volume)


def test_extended_header_is_skipped(tmp_path, volume):
    path = tmp_path / "map.mrc"
    write_volume(path, volume, 1)
    raw = bytearray(path.read_bytes())
    raw[92:96] = np.array(80, "<i4").tobytes()
    path.write_bytes(raw[:1024] + bytes(80) + raw[1024:])
    assert read_header(path).offset == 1104
    assert torch.equal(read_volume(path)[0], volume)


def test_no_pixel_size_is_none(tmp_path, volume):
    write_volume(tmp_path / "map.mrc", volume, 0)
    assert read_volume(tmp_path / "map.mrc")[1] is None


def test_bad_volumes_are_refused(tmp_path, volume):
    path = tmp_path / "map.mrc"

    def refused(message: str) -> None:
        with pytest.raises(InputError, match=message):
            read_volume(path)

    refused("map.mrc does not exist")
    path.write_bytes(b"")
    refused("map.mrc is empty")
    path.write_bytes(b"x" * 100)
    refused("has 100 bytes")
    path.write_bytes(b"\xff" * 2000)
    refused("not an MRC file")
    write_volume(path, volume[:4], 1)
    refused(f"6 x 6 x 4 voxels, not a cube: pad it to one with job=volume_tools volume={path}")
    write_volume(path, volume, 1)
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    refused("truncated: 854 of 864 bytes")
    giant = np.full(3, (1 << 20) - 1, "<i4").tobytes()
    path.write_bytes(giant + whole[12:])
    refused("truncated: 864 of 4611672824300437500 bytes")
    for place, value, message in (
        (12, 4, "MRC mode 4: convert"),
        (8, 0, "holds no image"),
        (92, -1, "extended header of -1"),
        (64, 7, r"axis order \(7, 2, 3\)"),
    ):
        path.write_bytes(whole[:place] + np.array(value, "<i4").tobytes() + whole[place + 4 :])
        refused(message)
    path.write_bytes(whole[:48] + np.array(60, "<f4").tobytes() + whole[52:])
    refused("voxels of 1 x 1 x 10 Å, and only cubic ones are supported")
    for value in (np.nan, np.inf):
        broken = np.frombuffer(whole, "<f4").copy()
        broken[256 + 50] = value
        path.write_bytes(broken.tobytes())
        refused("1 voxels that are not finite")


def test_a_map_that_is_not_finite_is_not_written(tmp_path, volume):
    volume[1, 2, 3] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        write_volume(tmp_path / "map.mrc", volume, 1)
    assert list(tmp_path.iterdir()) == []


@given(st.binary(max_size=80), st.integers(0, 1023))
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_header_is_read_or_refused(tmp_path, patch, place):
    path = tmp_path / "map.mrc"
    write_volume(path, torch.ones(4, 4, 4), 1)
    raw = bytearray(path.read_bytes())
    raw[place : place + len(patch)] = patch
    path.write_bytes(raw)
    try:
        read, pixel_size = read_volume(path)
    except InputError:
        return
    assert len(set(read.shape)) == 1
    assert pixel_size is None or pixel_size > 0


WORDS = st.one_of(
    st.integers(-(2**31), 2**31 - 1).map(lambda x: np.array(x, "<i4").tobytes()),
    st.sampled_from([0, 1, -1, 2, 4, 12, 101, 2**20 - 1, 2**31 - 1, -(2**31)]).map(
        lambda x: np.array(x, "<i4").tobytes()
    ),
    st.sampled_from([0, -1, 2.5, 1e-30, 1e30, np.inf, -np.inf, np.nan]).map(
        lambda x: np.array(x, "<f4").tobytes()
    ),
)
CHANGES = st.lists(
    st.tuples(st.integers(0, 27) | st.integers(0, 255), WORDS), min_size=1, max_size=3
)


def _any_words(folder: Path, changes: list[tuple[int, bytes]], pad: bool) -> None:
    """Of a map of 4 voxels and a stack of 4 images per edge: what is read is finite, or one sentence is said."""
    for name in ("map.mrc", "stack.mrcs"):
        path = folder / name
        write_volume(path, torch.arange(64.0).reshape(4, 4, 4), 1)
        raw = bytearray(path.read_bytes())
        for place, word in changes:
            raw[4 * place : 4 * place + 4] = word
        path.write_bytes(raw)
    try:
        values, pixel_size = read_volume(folder / "map.mrc", pad=pad)
        corner = read_corner(folder / "map.mrc", 2.0)
        assert values.isfinite().all() and (pixel_size is None or 0 < pixel_size < np.inf)
        assert np.isfinite(corner).all() and values.numel() <= 64**2
    except InputError as error:
        assert "\n" not in str(error)
    try:
        stacks = Stacks([folder / "stack.mrcs"])
        images = stacks.read(np.array([[0, i] for i in range(int(stacks.counts[0]))]))
        assert images.dtype == np.float32 and images.size <= 64 * 4
    except InputError as error:
        assert "\n" not in str(error)


@given(CHANGES, st.booleans())
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_words_of_a_header(tmp_path, changes, pad):
    _any_words(tmp_path, changes, pad)


@pytest.mark.slow
@given(CHANGES, st.booleans())
@settings(
    max_examples=10_000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_words_of_a_header_often(tmp_path, changes, pad):
    _any_words(tmp_path, changes, pad)


@pytest.mark.parametrize(("dtype", "mode"), [("float32", 2), ("float16", 12)])
def test_stacks_are_written_in_chunks(tmp_path, dtype, mode, capsys):
    images = torch.randn(7, 8, 8, generator=torch.Generator().manual_seed(0))
    path = tmp_path / "stack.mrcs"
    write_stack(path, images.split(3), 7, 8, 2.5, dtype)
    assert mrcfile.validate(path)
    with mrcfile.open(path) as theirs:
        stored = images.numpy().astype(dtype)
        np.testing.assert_array_equal(theirs.data, stored)
        assert int(theirs.header.mode) == mode
        assert theirs.voxel_size.x == 2.5
        assert theirs.header.dmean == pytest.approx(stored.mean(dtype=np.float64), abs=1e-6)
        assert theirs.header.rms == pytest.approx(stored.std(dtype=np.float64), rel=1e-5)
    capsys.readouterr()


def test_a_wrong_stack_leaves_no_file(tmp_path):
    path = tmp_path / "stack.mrcs"
    images = torch.ones(3, 8, 8)
    with pytest.raises(ValueError, match="3 images were given for a stack of 4"):
        write_stack(path, [images], 4, 8, 1)
    with pytest.raises(ValueError, match="stack of box 16"):
        write_stack(path, [images], 3, 16, 1)
    with pytest.raises(ValueError, match="do not fit into float16"):
        write_stack(path, [images * 1e6], 3, 8, 1, "float16")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "box", "pixel_size"),
    [
        ("real/betaGal.mrc.gz", 100, 3.54),
        ("real/localResolution.mrc.gz", 100, 1.0),
        ("real/trpv1_volume.mrc", 48, 4.88),
        ("real/clean70SRibosome_vol_65p.mrc", 65, None),
        ("relion_points/pointmass.mrc.gz", 64, None),
        ("relion_c1/init.mrc", 64, 3.0),
    ],
)
def test_real_volumes(shared_data, name, box, pixel_size):
    volume, size = read_volume(shared_data / name)
    assert volume.shape == (box, box, box)
    assert size == (pixel_size and pytest.approx(pixel_size, rel=1e-5))
    with mrcfile.open(shared_data / name, permissive=True) as theirs:
        np.testing.assert_array_equal(volume.numpy(), theirs.data)
    if "pointmass" in name:
        assert volume[32, 32, 49] == 1
        assert volume.sum() == 1


@pytest.mark.parametrize("value", [1e37, -1e20, 1e-20])
def test_values_that_no_density_has(tmp_path, value):
    path = tmp_path / "m.mrc"
    with np.errstate(all="ignore"), mrcfile.new(path) as file:
        file.set_data(np.full((8, 8, 8), value, np.float32))
    with pytest.raises(InputError, match="which is no density"):
        read_volume(path)


@pytest.mark.parametrize("name, shape", [("p.mrcs", (4, 4, 4)), ("p.mrc", (33, 4, 4))])
def test_a_stack_of_images_is_no_map(name: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    """A thousand particles are not padded into a cube of a thousand voxels per edge."""
    with mrcfile.new(tmp_path / name) as file:
        file.set_data(np.ones(shape, np.float32))
    with pytest.raises(InputError, match="is a stack of images: name a map"):
        read_volume(tmp_path / name, pad=True)
