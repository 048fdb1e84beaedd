"""A page proposes what the summary supports, and to go on with what has not ended."""

from __future__ import annotations

import shlex
from pathlib import Path

from cryotorch.jobs.pages.next_steps import commands
from cryotorch.report.page.run_files import read_run


def test_what_the_summary_supports(tmp_path: Path) -> None:
    folder = tmp_path / "a run"
    folder.mkdir()
    (folder / "config.yaml").write_text("job: homo_refine\nsymmetry: D7\nparticles: in.star\n")
    for claimed, wanted in ((5.5, "local_resolution"), ("null", "class2d")):
        (folder / "summary.json").write_text(f'{{"resolution": {claimed}}}')
        told = [command.command for command in commands(read_run(folder))]
        assert told[0].startswith(f"cryotorch job={wanted} ")
        assert any(f"runs=[{shlex.quote(str(folder))},<another run>]" in one for one in told)


def test_an_unfinished_run_is_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    for name in ("log.txt", "checkpoints/iteration_002.ckpt"):
        (tmp_path / name).touch()
    assert commands(read_run(tmp_path))[0].command == f"cryotorch out={tmp_path} resume=true"
