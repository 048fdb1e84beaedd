"""What is written and said of a map or mask: its numbers by hand, its picture, and an edge that is too hard."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from cryotorch.data.mrc import read_volume
from cryotorch.jobs.volume import results
from cryotorch.report import style

PX = 2.0


@pytest.mark.drawn
def test_the_folder_tells_what_was_done(
    inked: Callable, volumes: Path, tmp_path: Path, edit: Callable
) -> None:
    mask, summary = edit(
        tmp_path / "a",
        volume=f"{volumes}/blob.mrc",
        low_pass=8,
        threshold=0.3,
        dilate="1px",
        soften="4px",
    )
    names = [
        "config.yaml",
        "log.txt",
        "manifest.json",
        "mask.mrc",
        "report.html",
        "slices.png",
        "summary.json",
        "view.cxc",
    ]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == names
    numbers = summary["mask"]
    assert 0 == mask.min() < mask.max() == 1
    assert numbers["voxels"] == int((mask > 0.5).sum())
    assert numbers["volume"] == pytest.approx(numbers["voxels"] * PX**3)
    above = numbers["voxels_above_threshold"]
    assert numbers["protein_mass_kda"] == pytest.approx(above * PX**3 / 1210)
    assert numbers["edge_width"] == pytest.approx(4, rel=0.3)
    place, line = summary["centre_of_mass"], torch.arange(32.0)
    assert place["voxels"][0] == pytest.approx(float((mask.sum((0, 1)) * line).sum() / mask.sum()), abs=1e-3)  # fmt: skip
    assert place["angstrom"] == pytest.approx([PX * c for c in place["voxels"]])
    text = (tmp_path / "a" / "log.txt").read_text()
    assert all(step in text for step in summary["steps"]) and "fulcrum" in text and "kDa" in text
    written = yaml.safe_load((tmp_path / "a" / "config.yaml").read_text())
    assert (written["dilate"], written["threshold"]) == ("1px", 0.3)
    assert inked(tmp_path / "a" / "slices.png") > 0.3


def test_a_model_on_a_grid_is_shown_over_its_map(
    two_chains, tmp_path, monkeypatch, edit: Callable, off_centre: Callable
) -> None:
    """Fitted or centred."""
    like, shown = off_centre(tmp_path, "like.mrc", 40, (0, -10, 0)), []
    monkeypatch.setattr(results, "mask_figure", lambda v, *_: shown.append(v) or plain())
    for name, centre in (("a", "auto"), ("b", True)):
        common = dict(volume=str(two_chains), like=like, resolution=6, threshold=0.2)
        _, summary = edit(tmp_path / name, **common, center=centre)
        assert torch.equal(shown[-1], read_volume(like)[0])
        assert summary["corner"] == [0, -10, 0]


def plain() -> Any:
    return style.new_figure(1, 1, "")


def test_a_hard_or_narrow_edge_is_spoken_of(volumes: Path, tmp_path: Path, edit: Callable) -> None:
    source = f"{volumes}/blob.mrc"
    _, hard = edit(tmp_path / "a", volume=source, threshold=0.3)
    assert "add soften=15" in hard["warnings"][0]
    _, narrow = edit(tmp_path / "b", volume=source, threshold=0.3, soften="4px", resolution=8)
    assert "At 8 Å a soft edge of 20 Å is advised" in narrow["warnings"][0]
    _, wide = edit(tmp_path / "c", volume=source, threshold=0.3, soften="6px", resolution=2)
    assert not [w for w in wide["warnings"] if "edge of" in w or "hard" in w]


def test_the_outside_of_a_molecule_weighs_nothing(
    volumes: Path, tmp_path: Path, edit: Callable
) -> None:
    common = dict(volume=f"{volumes}/mask.mrc", soften="4px", dilate="1px")
    mask, summary = edit(tmp_path / "a", **common)
    inside = int((read_volume(volumes / "mask.mrc")[0] > 0.5).sum())
    assert summary["mask"]["protein_mass_kda"] == pytest.approx(inside * PX**3 / 1210)
    assert summary["mask"]["fraction_of_box"] == pytest.approx(float(mask.mean()), rel=1e-5)
    assert "the mask read has room for" in (tmp_path / "a" / "log.txt").read_text()
    _, summary = edit(tmp_path / "b", **common, invert=True)
    assert summary["mask"]["protein_mass_kda"] is None
    assert "kDa" not in (tmp_path / "b" / "log.txt").read_text()
