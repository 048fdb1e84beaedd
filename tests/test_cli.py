"""The command line as a user meets it: help, one sentence per mistake, the run folder."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import cryotorch
from cryotorch import __main__ as cli
from cryotorch.errors import InputError
from cryotorch.jobs import homo_refine
from cryotorch.jobs.files.resume import config_text

# Shows the settings that reached the job.
ECHO = """
import sys
from cryotorch import __main__ as cli
from cryotorch.jobs import homo_refine
homo_refine.run = lambda settings: print(f"out={settings.out} seed={settings.seed} far={settings.mask_far}")
cli.main()
"""


def run(
    *arguments: str, cwd: Path, code: str = "", **environment: str
) -> subprocess.CompletedProcess:
    start = ["-c", code] if code else ["-m", "cryotorch"]
    return subprocess.run(
        [sys.executable, *start, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(Path(cryotorch.__file__).parents[1]), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture):
    """Runs main() in this process, in an empty folder, with a job that only keeps its settings."""
    seen: list = []
    monkeypatch.chdir(tmp_path)
    for name in ("CRYOTORCH_STARTED", "HYDRA_FULL_ERROR", "CRYOTORCH_DEBUG", "LOCAL_RANK"):
        monkeypatch.setenv(name, "")  # so that what main() sets for its children is undone
        monkeypatch.delenv(name)
    monkeypatch.setattr(homo_refine, "run", seen.append)

    def call(*arguments: str):
        seen.clear()
        monkeypatch.setattr(sys, "argv", ["cryotorch", *arguments])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        return code, out, err, list(seen)

    return call


def test_no_job_lists_the_jobs_without_loading_torch(tmp_path: Path) -> None:
    code = "import sys; from cryotorch.__main__ import main; main(); print('torch' in sys.modules)"
    for arguments in ((), ("--help",)):
        done = run(*arguments, cwd=tmp_path, code=code)
        assert done.returncode == 0 and done.stderr == ""
        assert re.search(r"^  homo_refine +Refine the map", done.stdout, re.M)
        assert done.stdout.endswith("False\n")


def test_job_help_lists_parameters(call) -> None:
    code, out, err, _ = call("job=homo_refine", "--help")
    assert (code, err) == (0, "")
    assert re.search(r"^  initial_resolution=auto +Low-pass of the initial map, Å", out, re.M)
    assert re.search(r"^  search.candidates=24 +Orientations per particle", out, re.M)
    assert re.search(r"^  trainer.devices=auto +Number of devices", out, re.M)


def test_version(call) -> None:
    assert call("--version")[:2] == (0, f"cryotorch {cryotorch.__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["symmetry=C4"], "no job was named: add .*job=homo_refine"),
        (["job="], "no job was named"),
        (["job=homorefine"], r"there is no job homorefine \(did you mean homo_refine\?\)"),
        (["job=homorefine", "--help"], "there is no job homorefine"),
        (["job=homo_refine", "symetry=C4"], "no parameter symetry: did you mean symmetry?"),
        (["job=homo_refine", "+foo=1"], "homo_refine has no parameter foo: list them with"),
        (["job=homo_refine", "newton_steps=3"], "did you mean search.newton_steps?"),
        (["job=homo_refine", "~symmetry"], "needs a value for symmetry"),
        (["job=homo_refine", "max_iterations=many"], "must be a whole number, got 'many'"),
        (["job=homo_refine", "mask_far=14furlongs"], "mask_far=14furlongs has an unknown unit"),
        (["job=homo_refine", "trainer=gpuu"], r"no preset trainer=gpuu \(did you mean gpu\?\)"),
        (["job=homo_refine", "seed=1,2"], "seed=1,2 has several values: add --multirun"),
        (
            ["job=homo_refine", "trainer.devices=0,1"],
            r"has several values: write trainer.devices=\[0,1\] for a list, or add --multirun",
        ),
        (
            ["job=volume_tools", "segment.labels=1,8"],
            r"write segment.labels=\[1,8\] for a list, or add --multirun",
        ),
        (
            ["job=homo_refine", "seed=1,2", "out=mr", "-m"],
            "out=mr would be the folder of every run",
        ),
        (["job=homo_refine", "particles"], "cannot read particles: write parameters as name=value"),
        (["job=homo_refine", "out=${nosuch}"], "'nosuch' not found"),
        (["job=homo_refine", "hydra/launcher=nosuch"], "Could not find 'hydra/launcher/nosuch'"),
        (
            ["job=homo_refine", "--symmetry=C4"],
            "no option --symmetry: parameters are written as symmetry=C4",
        ),
        (["job=homo_refine", "--symmetry", "C4"], "written as symmetry=<value>"),
        (["job=homo_refine", "particles=a.star"], "add volume=<file>"),
    ],
)
def test_mistakes_end_in_one_sentence(call, tmp_path: Path, arguments, sentence: str) -> None:
    code, out, err, seen = call(*arguments)
    assert (code, out, seen) == (1, "", [])
    assert re.fullmatch(r"error: .+\n", err), err
    assert re.search(sentence.replace("?", r"\?") if "\\" not in sentence else sentence, err), err
    assert list(tmp_path.iterdir()) == []


def test_settings_reach_the_job(call) -> None:
    code, _, err, seen = call(
        "job=homo_refine",
        "symmetry=D7",
        "trainer=cpu",
        "trainer.devices=[0,1]",
        "mask_far=20A",
        "out=here",
    )
    assert (code, err) == (0, "")
    (settings,) = seen
    assert (settings.symmetry, settings.mask_far, settings.out) == ("D7", 20.0, "here")
    assert (settings.trainer.accelerator, settings.trainer.devices) == ("cpu", [0, 1])


@pytest.mark.parametrize(
    "name", ["a b (1).star", "é.star", "a=b.star", "it's.star", "a, b.star", "~/x.star"]
)
def test_odd_file_names_need_no_extra_quotes(call, name: str) -> None:
    code, _, err, seen = call("job=homo_refine", f"particles={name}", "volume=map.mrc")
    if "," in name:
        assert code == 1 and "several values" in err
    else:
        assert (code, err) == (0, "") and seen[0].particles == name


def test_nothing_is_left_behind_and_the_run_folder_is_dated(call, tmp_path: Path) -> None:
    seen = call("job=homo_refine")[3]
    assert re.fullmatch(r"runs/homo_refine/\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", seen[0].out)
    assert list(tmp_path.iterdir()) == []


def test_further_ranks_find_the_same_run_folder(call, monkeypatch: pytest.MonkeyPatch) -> None:
    first = call("job=homo_refine")[3][0].out
    started = os.environ["CRYOTORCH_STARTED"]
    # What Lightning adds when it starts rank 1, some seconds later.
    monkeypatch.setattr(cli.datetime, "datetime", None)
    monkeypatch.setenv("LOCAL_RANK", "1")
    extra = ['hydra.run.dir="."', "hydra.job.name=train_ddp_process_1", "hydra.output_subdir=null"]
    assert call("job=homo_refine", *extra)[3][0].out == first
    assert os.environ["CRYOTORCH_STARTED"] == started


def test_ranks_that_others_start_need_a_name(call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "4")
    monkeypatch.setenv("SLURM_PROCID", "3")
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    assert call("job=homo_refine")[3][0].out == "runs/homo_refine/slurm_77_0"
    monkeypatch.delenv("SLURM_PROCID")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, _, err, _ = call("job=homo_refine")
    assert code == 1 and "add out=<folder>" in err


def test_input_errors_of_the_job(call, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(settings: object) -> None:
        raise InputError("box must be even, got 255:\n  pad to 256")

    monkeypatch.setattr(homo_refine, "run", fail)
    assert call("job=homo_refine")[::2] == (1, "error: box must be even, got 255: pad to 256\n")
    monkeypatch.setenv("CRYOTORCH_DEBUG", "1")
    err = call("job=homo_refine")[2]
    assert "Traceback" in err and err.endswith("error: box must be even, got 255: pad to 256\n")


def test_bugs_show_their_traceback(call, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(settings: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(homo_refine, "run", fail)
    code, _, err, _ = call("job=homo_refine")
    assert code == 1 and err.startswith("Traceback") and err.endswith("ZeroDivisionError: a bug\n")
    assert "hydra" not in err


def test_sweep(tmp_path: Path) -> None:
    """The flag may stand anywhere; each job has its own folder; a job that fails leaves the others be."""
    done = run("job=homo_refine", "--multirun", "seed=1,2", cwd=tmp_path, code=ECHO)
    assert done.returncode == 0, done.stderr
    folders = re.findall(r"out=(\S+) seed=(\d)", done.stdout)
    assert [seed for _, seed in folders] == ["1", "2"]
    assert all(re.search(rf"runs/sweep/[-\d_]+/seed={n}$", out) for out, n in folders)
    done = run("job=homo_refine", "seed=-1,2", "-m", cwd=tmp_path, code=ECHO)
    assert done.returncode == 1 and "seed=2" in done.stdout
    assert re.fullmatch(r"error: seed=-1 cannot be used.*\n", done.stderr)  # no line of Hydra's
    assert re.search(r"\nseed=-1 +failed +-.*\nseed=2 +- ", done.stdout)
    (text,) = [p for p in tmp_path.glob("runs/sweep/*/sweep.txt") if "failed" in p.read_text()]
    assert text.read_text() in done.stdout and "seed=-1: error: seed=-1 cannot" in text.read_text()
    left = json.loads(text.with_suffix(".json").read_text())["runs"]
    assert [r["name"] for r in left] == ["seed=-1", "seed=2"] and left[1]["error"] == ""
    done = run("job=homo_refine", "seed=1,2", "out=s${seed}", "-m", cwd=tmp_path, code=ECHO)
    assert done.returncode == 0 and "out=s1 seed=1" in done.stdout and "out=s2" in done.stdout


def test_further_ranks_of_a_sweep_join_the_run_they_were_started_for(tmp_path: Path) -> None:
    """And the first rank starts each run as if there had been none before."""
    ranks = """
import os
from cryotorch.jobs import homo_refine
def run(s):
    print(f"seed={s.seed} rank={os.environ.get('LOCAL_RANK')} turn={os.environ['CRYOTORCH_SWEEP_RUN']}")
    os.environ.update(LOCAL_RANK=os.environ.get("LOCAL_RANK", "0"), WORLD_SIZE="2")  # as Lightning does
homo_refine.run = run
from cryotorch.__main__ import main
main()
"""
    command = ("job=homo_refine", "seed=5,6,7", "-m")
    first = run(*command, cwd=tmp_path, code=ranks)
    assert re.findall(r"seed=.*turn.*", first.stdout) == [
        f"seed={5 + n} rank=None turn={n}" for n in range(3)
    ]
    further = {"LOCAL_RANK": "1", "CRYOTORCH_SWEEP_RUN": "1", "CRYOTORCH_STARTED": "now"}
    second = run(*command, cwd=tmp_path, code=ranks, **further)
    assert second.stdout == "seed=6 rank=1 turn=1\n"


def test_the_parameters_that_differ() -> None:
    command = ["job=homo_refine", "seed=0,1", "symmetry=C1", "trainer.devices=[0,1]", "-m"]
    assert cli.swept([*command, "mask_near=range(3,9,2)", "trainer=cpu,gpu", "out=s${seed}"]) == [
        "seed",
        "mask_near",
        "trainer",
    ]


def test_resume_takes_from_the_folder_what_is_not_said(call, tmp_path: Path) -> None:
    """The job too; what is said counts; relative paths start where the run did."""
    started = ("job=homo_refine", "particles=a.star", "volume=b (1).mrc", "seed=7", "trainer=cpu")
    settings = call(*started, "search.candidates=12", "mask_far=6px", "out=run")[3][0]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(config_text(settings))
    code, _, err, seen = call("out=run", "resume=true")
    assert (code, err) == (0, "") and seen == [dataclasses.replace(settings, resume=True)]
    more = ("max_iterations=50", "search.newton_steps=3", "trainer=gpu")
    (seen,) = call("resume=true", "out=run", *more)[3]
    assert (seen.max_iterations, seen.search.candidates, seen.search.newton_steps) == (50, 12, 3)
    assert (seen.trainer.accelerator, seen.particles, seen.seed) == ("gpu", "a.star", 7)
    (tmp_path / "below").mkdir()
    os.chdir(tmp_path / "below")
    (seen,) = call("out=../run", "resume=true", "particles=c.star")[3]
    assert (seen.particles, seen.volume) == ("c.star", f"{tmp_path}/b (1).mrc")
    assert (seen.out, seen.mask, seen.mask_far) == ("../run", None, "6px")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["out=none", "resume=true"], "finds no run in out=none (there is no config.yaml in it)"),
        (["out=torn", "resume=true"], "(its config.yaml cannot be read): name the folder"),
        (["out=old", "resume=true"], "old/config.yaml does not say which job it is of: add job="),
        (["out=run", "resume=true", "job=local_refine"], "holds a run of job=homo_refine, not of"),
        (
            ["out=run", "resume=true", "sed=4"],
            "homo_refine has no parameter sed: did you mean seed",
        ),
        (["out=run"], "no job was named"),
    ],
)
def test_what_cannot_be_resumed(call, tmp_path: Path, arguments, sentence: str) -> None:
    texts = {"run": "job: homo_refine\nseed: 7\n", "old": "seed: 7\n", "torn": "- ]"}
    for name, text in texts.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(text)
    code, out, err, seen = call(*arguments)
    assert (code, out, seen) == (1, "", []) and sentence in err and err.count("\n") == 1


def test_show_the_settings(tmp_path: Path) -> None:
    done = run("job=homo_refine", "--cfg", "job", "mask_far=20A", cwd=tmp_path)
    assert done.returncode == 0 and "mask_far: 20A\n" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_interrupt(tmp_path: Path) -> None:
    code = ECHO.replace(
        "lambda settings:",
        "lambda settings: __import__('time').sleep(30) if print('up', flush=True) is None else",
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "job=homo_refine"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(cryotorch.__file__).parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "up\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, "interrupted\n")


def test_a_dry_run_ends_well_and_leaves_nothing(tmp_path: Path) -> None:
    given = ("box_size=16", "pixel_size=6", "n_particles=12", "resolution=14", "out=new")
    done = run("job=simulate", "dry_run=true", *given, cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == ""
    assert (
        "nothing was written. A run would write into new: report.html, view.cxc, particles.mrcs"
        in done.stdout
    )
    assert list(tmp_path.iterdir()) == []


def test_the_doctor_is_called(call, monkeypatch: pytest.MonkeyPatch) -> None:
    from cryotorch.jobs.doctor import examine as doctor

    for code in (0, 1):
        monkeypatch.setattr(doctor, "examine", lambda code=code: code)
        assert call("doctor")[0] == code
    assert "cryotorch doctor" in call("--help")[1]
