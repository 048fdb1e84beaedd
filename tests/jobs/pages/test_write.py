"""Pages are written where jobs end; what goes wrong with one harms no run."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from cryotorch.data.mrc import write_volume
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.files.output_folder import new_files
from cryotorch.jobs.files.resume import write_config
from cryotorch.jobs.pages import write
from cryotorch.jobs.pages.write import PAGE, VIEW, write_comparison, write_pages, write_sweep_page


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    path.mkdir()
    write_volume(path / "map.mrc", torch.rand(16, 16, 16), 2.0)
    write_config(path, make_settings("reconstruct", symmetry="C3"))
    return path


def test_a_page_and_a_script(folder: Path) -> None:
    write_pages(folder, Path("final/place"))
    text = (folder / PAGE).read_text(encoding="utf-8")
    assert "<title>place</title>" in text and "Point symmetry" in text
    assert "cryotorch job=report runs=[final/place," in text and str(folder) not in text
    assert '<a href="./view.cxc">' in text
    assert (folder / VIEW).read_text().startswith("# Open in a new session of ChimeraX")


def test_a_page_that_fails_leaves_no_old_one_and_stops_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write_pages(folder, folder)
    caplog.set_level(logging.INFO, "cryotorch")

    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(write, "_write", fail)
    write_pages(folder, folder)
    assert not (folder / PAGE).exists() and not (folder / VIEW).exists()
    assert "MemoryError: there is no report.html in" in caplog.text


def test_results_and_page_appear_together(tmp_path: Path) -> None:
    settings = make_settings("volume_tools", out=str(tmp_path / "out"))
    with new_files(settings, ["config.yaml", "mask.mrc"]) as made:
        write_volume(made / "mask.mrc", torch.ones(8, 8, 8).cumsum(0) / 8, 1.0)
        assert not (made / PAGE).exists()
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == ["config.yaml", "manifest.json", "mask.mrc", PAGE, VIEW]


def test_a_sweep_has_a_page_where_there_is_room(folder: Path, tmp_path: Path) -> None:
    write_sweep_page(tmp_path, [folder])
    assert not (tmp_path / PAGE).exists()
    write_sweep_page(tmp_path, [folder] * (write.MOST_RUNS + 1))
    assert not (tmp_path / PAGE).exists()
    write_sweep_page(tmp_path, [folder, folder])
    assert (tmp_path / PAGE).read_text(encoding="utf-8").count("<td>reconstruct</td>") == 2


def test_a_comparison_leaves_the_folders_as_they_are(folder: Path, tmp_path: Path) -> None:
    before = sorted(folder.iterdir())
    write_comparison(tmp_path / "page.html", "One", [folder])
    assert sorted(folder.iterdir()) == before
    assert "<title>One</title>" in (tmp_path / "page.html").read_text(encoding="utf-8")
