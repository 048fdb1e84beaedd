"""The terminal and the file of a run: who speaks, when, and what is said last."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from cryotorch.errors import InputError
from cryotorch.report.log import IterationLog, iteration_line
from cryotorch.report.run_log import RunLog
from cryotorch.results import IterationResult


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
