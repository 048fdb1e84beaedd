"""What a page takes from a folder, and how little of it where the folder is empty."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

from PIL import Image

from cryotorch.report.page.gathered import RunPage, gather
from cryotorch.report.page.run_files import RunFiles, read_run


def test_everything_of_a_refinement(run: RunFiles) -> None:
    found = gather(RunPage(run))
    plain = found.plain()
    assert plain["fsc"]["curves"] and plain["history"]["resolution"] and len(plain["maps"]) == 6
    assert plain["orientations"]["count"] == 400 and plain["histograms"] and plain["tint"]
    json.dumps(plain, allow_nan=False)


def test_figures_are_made_small(run: RunFiles) -> None:
    text = gather(RunPage(run)).pictures["fsc"]
    raw = base64.b64decode(text.removeprefix("data:image/png;base64,"))
    with Image.open(io.BytesIO(raw)) as image, Image.open(run.path / "plots/fsc.png") as before:
        assert image.size == before.size and image.mode == "P"
    (run.path / "plots" / "fsc.png").write_bytes(b"no picture")
    assert gather(RunPage(read_run(run.path))).pictures == {}


def test_nothing_of_an_empty_folder(tmp_path: Path) -> None:
    plain = gather(RunPage(read_run(tmp_path))).plain()
    assert plain["fsc"] is None and plain["maps"] == [] and plain["orientations"] is None
