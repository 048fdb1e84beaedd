"""What a command that resumes leaves out comes from the folder of the run; ``tests/test_cli.py`` says it in whole commands."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from cryotorch.errors import InputError
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.config.parse import to_yaml
from cryotorch.jobs.files.resume import completed, config_text, job_of, read_config, write_config


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run that was started in another folder than the test goes on in."""
    (tmp_path / "run").mkdir()
    (tmp_path / "started").mkdir()
    settings = make_settings(
        "homo_refine", out="elsewhere", particles="a.star", volume="/abs/b.mrc", seed=7,
        search__candidates=12,
    )  # fmt: skip
    monkeypatch.chdir(tmp_path / "started")
    write_config(tmp_path / "run", settings)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "run"


def values(run: Path, **changes: object) -> dict:
    """Composed values of a command that gives nothing but these."""
    composed = yaml.safe_load(to_yaml(make_settings("homo_refine", out=str(run), **changes)))
    return composed | {"resume": True}


def test_job_and_start_stand_before_the_parameters(run: Path) -> None:
    written = read_config(run)
    assert list(written)[:2] == ["job", "started_in"]
    assert (written["job"], written["started_in"]) == ("homo_refine", str(run.parent / "started"))
    assert (written["seed"], written["search"]["candidates"]) == (7, 12)
    assert job_of(run) == "homo_refine"
    assert config_text(make_settings("sharpen", out="x")).startswith("job: sharpen\n")


def test_what_is_not_given_comes_from_the_run(run: Path) -> None:
    found = completed("homo_refine", values(run, seed=3, search__newton_steps=4), {"seed"})
    assert (found["seed"], found["particles"]) == (3, str(run.parent / "started" / "a.star"))
    assert found["search"]["candidates"] == 12
    assert found["search"]["newton_steps"] != 4  # was not among the given
    assert (found["out"], found["resume"]) == (str(run), True)  # of the command, always


def test_a_group_that_is_given_is_taken_as_it_is(run: Path) -> None:
    composed = values(run, search__newton_steps=4)
    found = completed("homo_refine", composed, {"search"})
    assert found["search"] == composed["search"] and found["seed"] == 7


def test_relative_paths_start_where_the_run_did(run: Path) -> None:
    found = completed("homo_refine", values(run), ())
    assert found["particles"] == str(run.parent / "started" / "a.star")
    assert found["volume"] == "/abs/b.mrc" and found["mask"] is None
    assert found["symmetry"] == "C1"  # no path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, r"there is no config\.yaml in it"),
        ("- ]", r"its config\.yaml cannot be read"),
        ("3", r"its config\.yaml cannot be read"),
        ("seed: 7", "does not say which job it is of"),
    ],
)
def test_a_folder_that_is_no_run(tmp_path: Path, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(InputError, match=said):
        job_of(tmp_path)


def test_a_run_of_another_job_is_refused(run: Path) -> None:
    with pytest.raises(InputError, match="a run of job=homo_refine, not of job=local_refine"):
        completed("local_refine", {"out": str(run)}, ())
