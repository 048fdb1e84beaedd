"""Checkpoints: whole or absent, and what is read is what was written."""

from __future__ import annotations

import os
import pickle
import random
import time
import tracemalloc
import zipfile
from pathlib import Path

import pytest
import torch

from cryotorch.errors import InputError
from cryotorch.refinement.runtime.checkpoints import AtomicCheckpoints, checksum, read_checkpoint

VALUES = {
    "a": torch.arange(500.0).reshape(5, 100).T,
    "none": None,
    "convergence": {"crossings": [1.5, float("inf")], "after": (), "stopped": "é"},
    "known": torch.tensor([True, False]),
    "empty": torch.empty(0, 3, dtype=torch.int64),
    "half": torch.ones(3, dtype=torch.bfloat16),
}


def test_a_checkpoint_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saver, path = AtomicCheckpoints(), tmp_path / "iteration_000.ckpt"
    saver.save_checkpoint(VALUES, path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    before = path.read_bytes()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        saver.save_checkpoint({"a": torch.zeros(3)}, path)
    assert path.read_bytes() == before
    found = saver.load_checkpoint(path)
    assert list(found) == list(VALUES) and torch.equal(found["a"], VALUES["a"])
    assert checksum(found) == checksum(VALUES)


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/c\.ckpt cannot be written .*then add resume=true"):
        AtomicCheckpoints().save_checkpoint(VALUES, tmp_path / "file" / "c.ckpt")


def test_no_flipped_bit_is_taken_over(tmp_path: Path) -> None:
    """torch ignores the checksums of the zip file: of 300 flips in the tensors all are seen, and elsewhere nothing changes."""
    path = tmp_path / "c.ckpt"
    AtomicCheckpoints().save_checkpoint(VALUES, path)
    whole, draw, harmless = path.read_bytes(), random.Random(0), 0
    with zipfile.ZipFile(path) as file:
        start = next(i for i in file.infolist() if i.filename.endswith("data/0")).header_offset
    for turn in range(600):
        place = draw.randrange(len(whole)) if turn % 2 else start + 100 + draw.randrange(1900)
        torn = bytearray(whole)
        torn[place] ^= 1 << draw.randrange(8)
        path.write_bytes(torn)
        try:
            found = read_checkpoint(path)
        except InputError as error:
            assert "checkpoint" in str(error) and "\n" not in str(error)
        else:
            assert checksum(found) == checksum(VALUES)
            harmless += 1
    assert 0 < harmless < 300


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"a": 1}, "holds no checksum: it is from an older version"),
        ({"a": 1, "checksum": "0" * 64}, "is damaged: its checksum differs"),
        ([1, 2], r"cannot be read \(AttributeError|TypeError\)"),
    ],
)
def test_what_is_no_checkpoint_of_ours(tmp_path: Path, values: object, said: str) -> None:
    torch.save(values, tmp_path / "c.ckpt")
    with pytest.raises(InputError, match=said):
        read_checkpoint(tmp_path / "c.ckpt")


def laughs() -> list:
    """Ten lists of ten lists and so on, each ten times the same."""
    found: list = [0]
    for _ in range(12):
        found = [found] * 10
    return found


class Code:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def repacked(path: Path, method: int, **parts: bytes) -> None:
    """The same zip file, its parts compressed or exchanged."""
    with zipfile.ZipFile(path) as old:
        inside = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w", method) as new:
        for name, raw in inside.items():
            new.writestr(name, parts.get(name.split("/", 1)[1].replace("/", "_"), raw))


HOSTILE = {
    "a tensor of any size": {"a": torch.zeros(1).expand(10**13)},
    "a tensor of some size": {"a": torch.zeros(1).expand(10**8)},
    "many lists": {"a": laughs()},
    "a large number": {"a": 10**9999},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_would_take_memory_or_time_is_refused(tmp_path: Path, name: str) -> None:
    torch.save({**HOSTILE[name], "checksum": "0" * 64}, tmp_path / "c.ckpt")
    assert os.path.getsize(tmp_path / "c.ckpt") < 2**20
    start = time.process_time()
    with pytest.raises(InputError, match=r"cannot be read \(\w+\)$"):
        read_checkpoint(tmp_path / "c.ckpt")
    assert time.process_time() - start < 20


def refused(path: Path) -> None:
    """In a sentence, with little memory."""
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r"cannot be read \(\w+\)$"):
            read_checkpoint(path)
        assert tracemalloc.get_traced_memory()[1] < 2**27
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_bomb_is_not_unpacked(tmp_path: Path, method: int) -> None:
    path = tmp_path / "c.ckpt"
    AtomicCheckpoints().save_checkpoint({"a": torch.zeros(1000)}, path)
    repacked(path, method, data_0=bytes(2**26))
    assert os.path.getsize(path) < 2**20
    refused(path)


def test_no_code_of_a_pickle_runs(tmp_path: Path) -> None:
    path, sprung = tmp_path / "c.ckpt", tmp_path / "sprung"
    torch.save({"a": Code(sprung), "checksum": "0" * 64}, path)
    refused(path)
    torch.save({"a": Code(sprung)}, path, _use_new_zipfile_serialization=False)
    refused(path)
    for protocol in range(6):
        path.write_bytes(pickle.dumps(Code(sprung), protocol))
        refused(path)
    AtomicCheckpoints().save_checkpoint(VALUES, path)
    repacked(path, zipfile.ZIP_STORED, **{"data.pkl": pickle.dumps(Code(sprung), 2)})
    refused(path)
    path.unlink()
    path.mkdir()
    refused(path)
    path.rmdir()
    os.mkfifo(path)
    refused(path)
    assert not sprung.exists()


def test_lists_that_are_too_deep(tmp_path: Path) -> None:
    """torch cannot save them, others may."""
    path = tmp_path / "c.ckpt"
    AtomicCheckpoints().save_checkpoint(VALUES, path)
    raw = (
        b"\x80\x02}(X\x01\x00\x00\x00a"
        + b"]" * 100_000
        + b"a" * 99_999
        + b"X\x08\x00\x00\x00checksumX\x01\x00\x00\x000u."
    )
    repacked(path, zipfile.ZIP_STORED, **{"data.pkl": raw})
    refused(path)
