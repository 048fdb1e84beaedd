from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from cryotorch.errors import InputError
from cryotorch.report.log import IterationLog, iteration_line
from cryotorch.report.run_log import RunLog
from cryotorch.report.summary import median
from cryotorch.results import IterationResult


def test_line_has_resolution_changes_and_seconds(result: IterationResult) -> None:
    assert iteration_line(result) == (
        "Iteration  4     9.41 Å   (no mask 13.30 Å)   rotation  1.25°   shift  0.40 Å      2.5 s"
    )


def test_first_iteration_has_no_change(result: IterationResult) -> None:
    nan = torch.full((400,), torch.nan)
    line = iteration_line(replace(result, rotation_change=nan, shift_change=nan, history=[]))
    assert "rotation new   shift new" in line and line.endswith(" 2.0 s")


def test_median_ignores_what_is_not_finite() -> None:
    assert median(torch.tensor([1.0, torch.nan, 3.0, torch.inf, 2.0])) == 2
    assert median(torch.tensor([torch.nan])) != median(torch.tensor([torch.nan]))


def test_log_goes_to_file_and_terminal(
    result: IterationResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "log.txt"
    path.write_text("earlier run\n")
    trainer, module = SimpleNamespace(is_global_zero=True), SimpleNamespace(result=result)
    with RunLog() as log:
        log.info("before there was a %s", "file")
        log.open(path)
        IterationLog().on_train_epoch_end(trainer, module)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "earlier run"
    assert lines[1].endswith("before there was a file")
    assert lines[2].endswith(iteration_line(result)) and lines[2][:4].isdigit()
    assert lines[3].endswith("    the FSC no longer improves by 0.3 shell")
    shown = capsys.readouterr().out.splitlines()
    assert shown[:2] == ["before there was a file", iteration_line(result)]
    assert shown[2:] == ["    the FSC no longer improves by 0.3 shell"]
    assert logging.getLogger("cryotorch").handlers == []


def test_other_ranks_are_silent(
    result: IterationResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with RunLog(rank=1) as log:
        log.open(tmp_path / "log.txt")
        log.logger.warning("not here")
        trainer = SimpleNamespace(is_global_zero=False)
        IterationLog().on_train_epoch_end(trainer, SimpleNamespace(result=result))
    assert not (tmp_path / "log.txt").exists()
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (InputError("the stack is gone"), "error: the stack is gone"),
        (KeyboardInterrupt(), "interrupted"),
        (ZeroDivisionError("a bug"), "ZeroDivisionError: a bug"),
    ],
)
def test_file_says_why_a_run_ended(
    error: BaseException, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(type(error)), RunLog() as log:
        log.open(tmp_path / "log.txt")
        raise error
    assert (tmp_path / "log.txt").read_text(encoding="utf-8").rstrip().endswith(words)
    assert capsys.readouterr().out == ""
    assert logging.getLogger("cryotorch").handlers == []
