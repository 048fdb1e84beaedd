"""The table, and the numbers of a summary."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cryotorch.data.mrc import read_volume
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.fsc import results
from cryotorch.jobs.fsc.results import table, write, write_summary
from cryotorch.jobs.fsc.validate import Validation, validate
from cryotorch.jobs.inputs.half_maps import HalfMaps
from cryotorch.report.style import Picture


@pytest.fixture
def judged(halves: Callable) -> tuple[Validation, HalfMaps]:
    maps = HalfMaps(halves(7.0), 3.0, (Path("a.mrc"), Path("b.mrc")))
    settings = make_settings("validation_fsc", optimize_mask=False)
    return validate(settings, maps, torch.device("cpu")), maps


def test_the_table_has_two_thresholds_the_mask_and_the_claim(judged) -> None:
    found, _ = judged
    head, *rows, mask, claim = table(found)
    assert head.split() == ["FSC", "=", "0.143", "FSC", "=", "0.5"]
    assert [row[:18].strip() for row in rows] == [
        "No mask", "Spherical mask", "Loose mask", "Tight mask", "Corrected",
    ]  # fmt: skip
    for row, (name, reached) in zip(rows, found.resolutions[0.143].items(), strict=True):
        cells = row[18:].split()
        assert cells[::2] == [f"{reached:.2f}", f"{found.resolutions[0.5][name]:.2f}"], row
    assert mask == f"Mask: {found.mask}"
    assert claim.startswith(f"Resolution: {found.resolution:.2f} Å (corrected FSC")


def test_a_curve_that_never_falls_has_a_sign_and_nothing_claimed_a_word(judged) -> None:
    found, _ = judged
    curves = found.curves | {"tight": torch.ones(25)}
    reached = {t: r | {"tight": 6.0} for t, r in found.resolutions.items()}
    reached[0.5]["corrected"] = float("nan")
    lines = table(replace(found, curves=curves, resolutions=reached))
    assert "≤ 6.00 Å" in next(line for line in lines if line.startswith("Tight"))
    assert "none" in next(line for line in lines if line.startswith("Corrected"))
    reached[0.143]["corrected"] = float("nan")
    lines = table(replace(found, curves=curves, resolutions=reached))
    assert lines == [f"Mask: {found.mask}", "Resolution: none can be claimed"]


def test_the_summary_says_what_was_found(judged, tmp_path: Path) -> None:
    found, maps = judged
    settings = make_settings("validation_fsc", threshold=0.4)
    write_summary(tmp_path, found, maps, settings, {"more": 1})
    said = json.loads((tmp_path / "summary.json").read_text())
    assert said["resolution"] == pytest.approx(found.resolution) and said["more"] == 1
    assert said["resolutions"]["tight"] == pytest.approx(found.resolutions[0.143]["tight"])
    assert (said["box"], said["pixel_size"], said["nyquist"]) == (48, 3.0, 6.0)
    phases = said["random_phases"]
    assert phases["from_shell"] == found.onset
    assert phases["from_resolution"] == pytest.approx(144 / found.onset)
    assert phases["fsc_at_resolution"] == pytest.approx(
        float(found.curves["randomised"][found.last])
    )
    assert (said["mask"]["threshold"], said["mask"]["file"]) == (0.4, None)
    assert said["mask"]["volume"] == pytest.approx(found.mask.fraction * 144**3)
    assert not said["limited_by_nyquist"] and not said["pixel_size_corrected"]


@pytest.mark.parametrize("relabelled", [True, False])
def test_half_maps_are_written_again_with_another_pixel_size_only(
    judged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, relabelled: bool
) -> None:
    monkeypatch.setattr(results, "render", lambda figure: Picture(b"", 1, 1))
    monkeypatch.setattr(results, "write_tensorboard", lambda *a: None)
    found, maps = judged
    write(tmp_path, found, maps, relabelled)
    assert torch.equal(read_volume(tmp_path / "mask_fsc.mrc")[0], found.mask.mask)
    halves = [tmp_path / f"map_half_{name}.mrc" for name in "AB"]
    assert [path.exists() for path in halves] == [relabelled] * 2
    if relabelled:
        assert all(torch.equal(read_volume(p)[0], m) for p, m in zip(halves, maps.maps))
