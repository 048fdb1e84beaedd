"""The last lines of a job say what its summary says, and no more."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

import pytest

from cryotorch.jobs import volume_tools
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.files import ending
from cryotorch.jobs.files.ending import claim_line, last_lines, tell_end
from cryotorch.jobs.files.manifest import Manifest
from cryotorch.ops.resolution.claims import NOISE_ENDS, NYQUIST_ENDS, THRESHOLD_ENDS

FILES = ["config.yaml", "map.mrc", "particles.star", "plots/fsc.png", "summary.json"]


@pytest.mark.parametrize(
    ("ended", "words"),
    [
        (THRESHOLD_ENDS, "Resolution 4.20 Å"),
        (NYQUIST_ENDS, "Resolution 4.20 Å, the limit of the pixel size"),
        (NOISE_ENDS, "Resolution 4.20 Å, beyond it the half maps agree no further than noise may"),
    ],
)
def test_what_is_claimed(ended: str, words: str) -> None:
    assert claim_line(4.2, ended) == words
    for nothing in (None, float("nan")):
        assert claim_line(nothing, ended) == "No resolution can be claimed, see the warnings"


def test_a_refinement() -> None:
    summary = {"resolution": 3.5, "ended_by": "threshold", "warnings": ["a " * 100, "short: b"]}
    lines = last_lines("homo_refine", "my run", summary, {"refine_defocus": True}, FILES, 12.34)
    assert lines[0] == "Resolution 3.50 Å"
    assert lines[1] == "2 warnings, in full above and in the log:"
    assert lines[2].endswith(" a ...") and len(lines[2]) < 120
    assert lines[3] == "    short: b"
    assert lines[4] == "The results are in my run, 12.3 s: map.mrc, particles.star and 3 others"
    assert lines[5].startswith("Next: cryotorch job=local_resolution volume='my run'   # ")
    assert lines[6].startswith("      cryotorch job=")


def test_what_is_not_claimed_is_not_sharpened() -> None:
    lines = last_lines("validation_fsc", "out", {"resolution": None}, {}, [], 1)
    assert lines == [
        "No resolution can be claimed, see the warnings",
        "The results are in out, 1.0 s",
    ]


def test_jobs_without_a_resolution_claim_none() -> None:
    for summary in ({}, {"resolution": [8.0, None]}):
        lines = last_lines("class2d", "out", summary, {}, [], 1)
        assert lines == ["The results are in out, 1.0 s"]
    first = last_lines("ab_initio", "out", {"resolution": None}, {}, [], 1)[0]
    assert first.startswith("No resolution is claimed of a first map")


def test_of_the_files_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = make_settings("volume_tools", out=str(tmp_path / "out"))
    Path(settings.out).mkdir()
    for name, text in {"mask.mrc": "", "summary.json": json.dumps({"result": "mask.mrc"})}.items():
        (tmp_path / "out" / name).write_text(text)
    Manifest("volume_tools", tuple(volume_tools.FILES)).write(tmp_path / "out")
    with caplog.at_level(logging.INFO, "cryotorch"):
        tell_end(settings, time.perf_counter())
        assert "s: mask.mrc" in caplog.messages[0]
        assert caplog.messages[1].startswith("Next: cryotorch job=validation_fsc volume=")
        monkeypatch.setattr(ending, "rank", lambda: 1)
        caplog.clear()
        tell_end(settings, time.perf_counter())
        assert caplog.messages == []
