from __future__ import annotations

import bz2
import gzip
import os

import pytest

from cryotorch.data.files import open_input, replace_file
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
