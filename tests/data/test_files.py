from __future__ import annotations

import bz2
import gzip
import os
from pathlib import Path

import pytest

from cryotorch.data.atoms import read_atoms
from cryotorch.data.files import open_input, replace_file
from cryotorch.data.mrc import read_volume, stack_header
from cryotorch.data.star import read_star
from cryotorch.errors import InputError


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress])
def test_compression_is_seen_by_content(tmp_path, pack):
    path = tmp_path / "file"
    path.write_bytes(pack(b"data" * 1000))
    with open_input(path) as file:
        assert file.read() == b"data" * 1000


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_damaged_compressed_files_are_refused(tmp_path, pack):
    path = tmp_path / "file.gz"
    whole = pack(bytes(range(256)) * 100)
    for broken in (whole[:-8], whole[: len(whole) // 2], whole[:12] + b"\xff\x00" + whole[14:]):
        path.write_bytes(broken)
        with pytest.raises(InputError, match=r"file\.gz"), open_input(path) as file:
            file.read()


def test_missing_file_and_folder_are_named(tmp_path):
    with (
        pytest.raises(InputError, match=r"nothing\.star does not exist"),
        open_input(tmp_path / "nothing.star"),
    ):
        pass
    with pytest.raises(InputError, match="is a folder"), open_input(tmp_path):
        pass


def test_pipes_and_devices_are_refused_before_they_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(InputError, match="it is a pipe or a device"), open_input(path):
            pass


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "map.mrc"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), replace_file(path) as file:
        file.write(b"half of the new")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    with replace_file(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


def test_unwritable_place_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="cannot be written"), replace_file(tmp_path / "no" / "x"):
        pass


def packed(path: Path, head: bytes, fill: bytes, times: int) -> Path:
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(head)
        for _ in range(times):
            file.write(fill)
    return path


@pytest.mark.parametrize(
    ("name", "head", "fill", "read", "said"),
    [
        ("long.star", b"data_\nloop_\n_rlnA\n", b"x" * 2**20, read_star, "more than 1048576 chara"),
        (
            "many.star",
            b"data_\nloop_\n_rlnA\n",
            (b"#" * 2**12 + b"\n") * 2**8,
            read_star,
            "unpacks to more than",
        ),
        (
            "m.pdb.gz",
            b"HEADER\n",
            (b"REMARK" + b" " * 2**10 + b"\n") * 2**10,
            read_atoms,
            "unpacks to more than",
        ),
        (
            "huge.mrc",
            stack_header(200000, 200000, 1.0, "float32"),
            b"\0" * 2**20,
            read_volume,
            "GB",
        ),
        (
            "cut.mrc",
            stack_header(256, 256, 1.0, "float32"),
            b"\0" * 2**20,
            read_volume,
            "truncated",
        ),
    ],
)
def test_a_bomb_is_not_unpacked(name, head, fill, read, said, tmp_path: Path) -> None:
    """What a few kilobytes may unpack to is bounded, and so is what is read of it."""
    times = 8 if name.endswith(".mrc") else 100
    path = packed(tmp_path / name, head, fill, times)
    assert path.stat().st_size < 2**20
    with pytest.raises(InputError, match=said):
        read(path)


def test_a_mask_of_zeros_is_read_whatever_it_shrinks_to(tmp_path: Path) -> None:
    path = packed(tmp_path / "m.mrc", stack_header(32, 32, 1.0, "float32"), b"\0" * 2**17, 1000)
    assert read_volume(path)[0].shape == (32, 32, 32)  # and not what follows
