from __future__ import annotations

import json
import math
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cryotorch import version
from cryotorch.report import summary
from cryotorch.results import IterationResult


def test_summary_holds_the_numbers_of_the_run(result: IterationResult, tmp_path: Path) -> None:
    extras = {"device": "NVIDIA H200", "seconds": {"io": 2.0}, "symmetry": "D7"}
    summary.write_summary(tmp_path / "summary.json", result, extras)
    got = json.loads((tmp_path / "summary.json").read_text())
    assert got["resolution"] == 9.41
    assert got["resolutions"] == result.resolutions
    assert (got["bfactor"], got["bfactor_fitted"], got["bfactor_error"]) == (-100, -120, 6)
    assert got["bfactor_refused"] is None
    assert (got["iterations"], got["particles"], got["half_sets"]) == (4, 400, [200, 200])
    assert (got["box"], got["pixel_size"], got["nyquist"]) == (32, 2.5, 5.0)
    assert got["rotation_change_deg"] == 1.25
    assert got["seconds"] == {"total": 10.0, "coarse": 6.0, "io": 2.0}
    assert (got["device"], got["symmetry"]) == ("NVIDIA H200", "D7")
    assert got["version"] == version.__version__
    assert [row["iteration"] for row in got["history"]] == [1, 2, 3, 4]
    assert got["peak_memory_mib"]["host"] > 50
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]", got["finished"])
    assert not list(tmp_path.glob(".*"))


def test_without_phases_in_the_history_the_last_iteration_counts(result: IterationResult) -> None:
    bare = replace(result, history=[])
    assert summary.seconds_per_phase(bare) == {"total": 2.0, "last_coarse": 1.5, "last_solve": 0.5}


def test_numbers_that_json_lacks_become_null(result: IterationResult, tmp_path: Path) -> None:
    strange = {"a": math.nan, "b": [np.float32(1.5), math.inf], "c": np.int64(3), "d": Path("x")}
    summary.write_summary(tmp_path / "s.json", result, strange)
    text = (tmp_path / "s.json").read_text()
    assert "NaN" not in text and "Infinity" not in text
    got = json.loads(text)
    assert (got["a"], got["b"], got["c"], got["d"]) == (None, [1.5, None], 3, "x")


def test_command_can_be_pasted(result: IterationResult, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["cryotorch", "job=homo_refine", "particles=my file.star"])
    command = summary.summarise(result)["command"]
    assert command == "cryotorch job=homo_refine 'particles=my file.star'"


def test_commit_is_a_hash_in_a_checkout_and_none_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = summary.git_commit()
    assert commit is None or re.fullmatch(r"[0-9a-f]{40}(-dirty)?", commit)
    monkeypatch.setattr(version, "__file__", str(tmp_path / "cryotorch" / "version.py"))
    assert summary.git_commit() is None
