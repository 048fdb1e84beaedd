"""A line for each check, and one in the end with the exit code."""

from __future__ import annotations

from pathlib import Path

import pytest

from cryotorch.jobs.doctor import examine as doctor
from cryotorch.jobs.doctor.machine import Check

FINE, ILL = Check("disk", "5 GB free"), Check("threads", "64 for 4 processors", "take fewer")


@pytest.mark.parametrize(
    ("given", "code", "last"),
    [
        ([FINE], 0, "installation and machine are fit for work"),
        ([FINE, ILL], 1, "threads: take fewer"),
    ],
)
def test_the_last_line_and_the_exit_code(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    tmp_path: Path,
    given: list[Check],
    code: int,
    last: str,
) -> None:
    monkeypatch.setattr(doctor, "checks", lambda folder: given)
    monkeypatch.setattr(doctor, "self_test", lambda: [Check("kernels", "agree")])
    assert doctor.examine(tmp_path) == code
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(given) + 2
    assert lines[0] == "ok   disk       5 GB free" and lines[-2] == "ok   kernels    agree"
    assert lines[-1].endswith(last) and lines[-1].startswith("OK" if code == 0 else "To mend")
