"""What is written: stacks by box and pixel size, names of images in the order of the rows."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch

from cryotorch.errors import InputError
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.subtraction import results
from cryotorch.jobs.subtraction.images import cut_of, new_images
from cryotorch.jobs.subtraction.inputs import prepare
from cryotorch.report.style import Picture


def test_stacks_of_a_limited_length(subtraction_set: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(results, "IN_A_STACK", 25)
    monkeypatch.setattr(results, "render", lambda figure: Picture(b"", 1, 1))
    files = dict(
        particles=str(subtraction_set / "posed.star"), mask=str(subtraction_set / "mask.mrc")
    )
    given = dict(volume=str(subtraction_set / "half"), stack_type="float16", box_size=20)
    prepared = prepare(make_settings("subtract", **files, **given, device="cpu"))
    entries, told = results.write(tmp_path, str(tmp_path), prepared)
    assert entries["stacks"] == [f"particles_{i:03d}.mrcs" for i in (1, 2, 3)] and told == []
    cut = cut_of(prepared, results.originals(prepared.file, str(tmp_path), tmp_path)[0])
    expected = torch.cat(list(new_images(prepared, cut, np.arange(60))))
    stored = [mrcfile.read(tmp_path / name) for name in entries["stacks"]]
    assert [len(x) for x in stored] == [25, 25, 10]
    assert np.array_equal(np.concatenate(stored), expected.numpy().astype(np.float16))


def test_a_disk_without_room(subtraction_set: Path, tmp_path: Path, monkeypatch) -> None:
    def full(folder, need: float) -> None:
        assert need == 60 * 32 * 32 * 4
        raise InputError("the new images need")

    monkeypatch.setattr(results, "require_disk", full)
    files = dict(
        particles=str(subtraction_set / "posed.star"), mask=str(subtraction_set / "mask.mrc")
    )
    prepared = prepare(
        make_settings("subtract", **files, volume=str(subtraction_set / "half"), device="cpu")
    )
    with pytest.raises(InputError, match="need"):
        results.write(tmp_path, str(tmp_path), prepared)
    assert not list(tmp_path.iterdir())
