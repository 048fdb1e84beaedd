"""Every command that a page proposes is one that cryotorch takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from cryotorch.jobs.config import catalog
from cryotorch.jobs.pages.next_steps import STEPS, next_steps
from cryotorch.report.page.run_files import read_run


def test_every_step_names_parameters_that_are_there() -> None:
    for step in STEPS:
        told = step.parameters.format(run="r", symmetry=" symmetry=C4", classes="1")
        for word in shlex.split(re.sub(r"[<>]", "", told)):
            name, equals, _ = word.partition("=")
            assert equals
            catalog.check_name(name, catalog.find_job(step.job))


def test_by_the_files_in_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a run"
    folder.mkdir()
    (folder / "config.yaml").write_text("job: homo_refine\nsymmetry: D7\n")
    for name in ("map.mrc", "map_half_A.mrc", "map_half_B.mrc", "particles.star"):
        (folder / name).touch()
    told = {c.command for c in next_steps(read_run(folder))}
    place = shlex.quote(str(folder))
    assert f"cryotorch job=sharpen volume={place}" in told
    local = f"cryotorch job=local_refine particles={place}/particles.star volume={place} mask=<mask.mrc> symmetry=D7"
    assert local in told
    assert not any("job=homo_refine" in command for command in told)  # it is one


def test_an_unfinished_run_is_gone_on_with_first(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    for name in ("log.txt", "checkpoints/iteration_002.ckpt"):
        (tmp_path / name).touch()
    assert next_steps(read_run(tmp_path))[0].command == f"cryotorch out={tmp_path} resume=true"


def test_suggested_classes(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("job: class2d\n")
    (tmp_path / "summary.json").write_text('{"suggested": [2, 5]}')
    (tmp_path / "classes.star").touch()
    assert next_steps(read_run(tmp_path))[0].command.endswith("select=[2,5]")
