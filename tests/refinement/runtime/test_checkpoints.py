"""Checkpoints: whole or absent, and what is read is what was written."""

from __future__ import annotations

import random
import zipfile
from pathlib import Path

import pytest
import torch

from cryotorch.errors import InputError
from cryotorch.refinement.runtime.checkpoints import AtomicCheckpoints, checksum, read_checkpoint

VALUES = {
    "a": torch.arange(500.0).reshape(5, 100).T,
    "none": None,
    "course": {"crossings": [1.5, float("inf")], "after": (), "stopped": "é"},
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
