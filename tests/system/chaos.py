"""Kills, full disks, rivals and changed files: a run ends in its result or in one sentence, and nothing is lost.

Short in the suite; ``pytest -m slow tests/system/chaos.py`` is the long form, and ``python tests/system/chaos.py --kills 40`` prints a
table of every case with the seed that repeats it.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import cryotorch
from cryotorch.jobs import simulate
from cryotorch.jobs.config.catalog import make_settings

LONGEST = 240  # s that anything may take before it counts as hanging
FIRST = 60  # s until a signal must have ended a process
# Job -> what it is given, in the folder of ``make_inputs``. A job joins with one line.
JOBS = {
    "homo_refine": "particles=set/particles.star volume=set/initial.mrc search.grid_step=15 search.candidates=4",
    "local_refine": "particles=set/consensus.star volume=set/truth.mrc mask=set/mask_body2.mrc initial_resolution=20 half_sets=resplit",
}
COMMON = "max_iterations=3 split_resolution=25 minibatch_size=32 trainer=cpu"
# Jobs that go on from stage to stage.
STAGES = {
    "ab_initio": "particles=set/particles.star n_starts=2 max_particles=100 initial_resolution=40 final_resolution=20 device=cpu",
    "hetero_refine": "particles=set/particles.star volume=set/initial.mrc n_classes=2 n_starts=1 max_passes=4 initial_resolution=30 final_resolution=16 device=cpu",
    "classify": "particles=set/truth.star n_starts=1 final_resolution=14 half_sets=resplit device=cpu",
    "class2d": "particles=set/particles.star n_classes=3 iterations=2 max_resolution=14 shift_extent=10 device=cpu",
}
# Jobs that make their results in one go, for disks that fill up.
AT_ONCE = {
    "simulate": "box_size=32 pixel_size=4 n_particles=20",
    "convert": "particles=set/truth.star",
    "particles": "particles=set/truth.star restack=float16 split=2",
    "reconstruct": "particles=set/truth.star half_sets=resplit",
    "subtract": "particles=set/consensus.star volume=set/truth.mrc mask=set/mask_body2.mrc write=[star,cs]",
    "ctf_refine": "particles=whole/particles.star volume=whole passes=1 tilt=false trefoil=false",
    "sharpen": "volume=whole",
    "local_resolution": "volume=whole",
    "validation_fsc": "volume=whole",
    "orientation_diagnostics": "volume=whole n_directions=300",
    "create_templates": "volume=whole n_templates=4",
    "variability": "particles=set/truth.star n_components=2 iterations=4 n_frames=3",
    "volume_tools": "volume=set/truth.mrc threshold=0.3",
    "report": "runs=[whole]",
}
# Processes -> how they are asked for.
PROCESSES = {1: "", 2: "trainer.devices=2 trainer.accelerator=cpu trainer.strategy=ddp"}
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
# What the same run leaves twice: maps, and particles as the last.
MADE = {
    "ab_initio": ("map.mrc", "particles.star"),
    "class2d": ("classes.mrcs", "particles.star"),
    "classify": ("map_class_1.mrc", "particles.star"),
    "hetero_refine": ("map_class_1.mrc", "particles.star"),
}
HALVES = ("map_half_A.mrc", "map_half_B.mrc", "particles.star")


def environment() -> dict[str, str]:
    """One thread, as sums in another order are not the same bits."""
    path = str(Path(cryotorch.__file__).parents[1])
    threads = dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    return {**os.environ, **threads, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""}


def start(folder: Path, *arguments: str, most_bytes: int | None = None) -> subprocess.Popen:
    """A job in a session of its own; no file of it may become larger than ``most_bytes``."""

    def limit() -> None:
        if most_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))

    return subprocess.Popen(
        [sys.executable, "-m", "cryotorch", *arguments],
        cwd=folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=limit,
    )


def end(process: subprocess.Popen, within: float = LONGEST) -> tuple[int, str]:
    """Exit code and stderr; AssertionError if it, or a process that it started, does not end in time."""
    try:
        _, said = process.communicate(timeout=within)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise AssertionError(f"{' '.join(process.args[3:])} hung for {within} s") from None
    return process.returncode, said


def run(folder: Path, *arguments: str, **limits: int) -> tuple[int, str]:
    return end(start(folder, *arguments, **limits))


def command(job: str, processes: int = 1) -> list[str]:
    if job in STAGES:
        return f"job={job} {STAGES[job]} devices={processes}".split()
    return f"job={job} {JOBS[job]} {COMMON} {PROCESSES[processes]}".split()


def make_inputs(folder: Path) -> Path:
    """Particles of two bodies, and the result of a refinement that nothing disturbed for each job: ``<job>-<processes>``."""
    few = dict(box_size=32, pixel_size=4, n_particles=120, snr=1, seed=2, second_body_size=0.8)
    given = dict(out=str(folder / "set"), second_body="phantom", **few)
    simulate.run(make_settings("simulate", **given))
    return folder


def whole(folder: Path, job: str, processes: int = 1) -> tuple[Path, float]:
    """The folder of an undisturbed run, and the seconds it took from its first file to its last."""
    out = folder / f"{job}-{processes}"
    if not out.exists():
        code, said = run(folder, *command(job, processes), f"out={out.name}")
        assert code == 0, said
    times = [(out / name).stat().st_mtime for name in ("config.yaml", "manifest.json")]
    return out, max(times[1] - times[0], 0.5)


def same(one: Path, other: Path) -> bool:
    """Whether maps and particles are the same, bit by bit, wherever the images lie."""
    *names, star = next((n for n in (HALVES, *MADE.values()) if (other / n[0]).exists()), HALVES)
    maps = [[np.fromfile(p / n, "<f4", offset=1024) for p in (one, other)] for n in names]
    stars = [re.sub(rb"@\S*/", b"@", (p / star).read_bytes()) for p in (one, other)]
    return all(np.array_equal(*pair) for pair in maps) and stars[0] == stars[1]


def left_over(out: Path) -> list[str]:
    """Temporary files that a run should have removed."""
    return [p.name for p in out.rglob("*") if p.name.startswith(".")]


def one_sentence(code: int, said: str) -> bool:
    """The documented end of a run that cannot go on."""
    return code == 1 and said.startswith("error: ") and said.count("\n") == 1


@dataclass
class Case:
    """What became of a run that was killed.

    Attributes:
        moment: s after its first file, negative: after the start of the process, before there was a file.
        ends: exit codes, of the killed run and of all that went on with it.
        fault: empty if all is well.
    """

    job: str
    processes: int
    signal: signal.Signals
    seed: int
    moment: float = 0.0
    ends: tuple[int, ...] = ()
    fault: str = ""

    def line(self) -> str:
        state = self.fault or "same maps"
        return f"{self.job:13s} {self.processes} {self.signal.name:8s} seed {self.seed:3d} at {self.moment:6.2f} s, ends {self.ends}: {state}"


def kill(folder: Path, case: Case, overwrite: bool = False) -> Case:
    """Send a signal at a random moment, go on until the end, and compare with the run that nothing disturbed."""
    draw = random.Random(f"{case.job} {case.processes} {case.signal} {case.seed}")
    expected, seconds = whole(folder, case.job, case.processes)
    out = folder / f"killed-{case.job}-{case.processes}-{case.signal.name}-{case.seed}"
    given = [*command(case.job, case.processes), f"out={out.name}"]
    if overwrite:
        shutil.copytree(expected, out)
        given.append("overwrite=true")
    ends, arguments = [], given
    for _ in range(draw.choice((1, 1, 2))):  # what goes on may be killed too
        before = _stamp(out)
        process = start(folder, *arguments)
        early = draw.random() < 0.15
        while not early and process.poll() is None and _stamp(out) == before:
            time.sleep(0.01)
        wait = draw.uniform(0, 8.0 if early else 1.1 * seconds)
        case.moment = -wait if early else wait
        time.sleep(wait)
        if process.poll() is None:
            process.send_signal(case.signal)
        code, said = end(process, FIRST)
        ends.append(code)
        if "Traceback" in said:
            case.fault = "a traceback: " + said.strip().splitlines()[-1]
        ways = [] if case.job in STAGES else PROCESSES[case.processes].split()
        arguments = [*ways, f"out={out.name}", "resume=true"]
        if not (out / "config.yaml").exists():
            arguments = given
    code, said = run(folder, *arguments)
    if code != 0 and "finds no run" in said:
        code, said = run(folder, *given)
    case.ends = (*ends, code)
    if code != 0:
        case.fault = said.strip()
    elif not same(out, expected):
        case.fault = "other maps"
    elif left_over(out):
        case.fault = f"left over: {left_over(out)}"
    if not case.fault:
        shutil.rmtree(out)
    return case


def _stamp(out: Path) -> float:
    """When the configuration of a run was written."""
    try:
        return (out / "config.yaml").stat().st_mtime_ns
    except OSError:
        return 0


def cases(
    kills: int, seed: int, processes: tuple[int, ...] = (1,), jobs: tuple[str, ...] = (*JOBS,)
) -> Iterator[Case]:
    """Jobs, numbers of processes and signals in turn."""
    for number in range(kills):
        kind = number // len(jobs)
        yield Case(
            jobs[number % len(jobs)],
            processes[kind // len(SIGNALS) % len(processes)],
            SIGNALS[kind % len(SIGNALS)],
            seed + number,
        )


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_inputs(tmp_path_factory.mktemp("chaos"))


def test_a_kill(folder: Path) -> None:
    case = kill(folder, Case("local_refine", 1, signal.SIGKILL, seed=1))
    assert not case.fault, case.line()


@pytest.mark.slow
@pytest.mark.parametrize("overwrite", [False, True], ids=["new", "overwrite"])
def test_kills(folder: Path, overwrite: bool) -> None:
    found = [kill(folder, case, overwrite) for case in cases(20, 100, (1, 2))]
    assert not [case.line() for case in found if case.fault]


@pytest.mark.slow
def test_kills_of_stages(folder: Path) -> None:
    found = [kill(folder, case) for case in cases(12, 500, (1, 2), (*STAGES,))]
    assert not [case.line() for case in found if case.fault]


@pytest.mark.slow
@pytest.mark.parametrize("job", [*JOBS, *STAGES, *AT_ONCE])
def test_a_full_disk(folder: Path, job: str) -> None:
    """Limits on the size of files, from none at all to the largest file."""
    source = folder / "whole"
    if not source.exists():
        source.symlink_to(whole(folder, "homo_refine")[0])
    given = f"job={job} {AT_ONCE[job]}".split() if job in AT_ONCE else command(job)
    code, said = run(folder, *given, f"out=disk-{job}")
    assert code == 0, said
    sizes = sorted({p.stat().st_size for p in (folder / f"disk-{job}").rglob("*") if p.is_file()})
    for most in (0, *random.Random(job).sample(sizes[1:], 3), sizes[-1] - 1):
        out = folder / f"full-{job}-{most}"
        code, said = run(folder, *given, f"out={out.name}", most_bytes=most)
        if code == 0:  # nothing but the log was too large
            continue
        assert one_sentence(code, said), (most, said)
        if most:  # else libraries find no place for temporary files
            assert "File too large" in said or "is the disk full" in said, said
        if job in AT_ONCE:
            assert not out.exists()
            continue
        arguments = (
            [f"out={out.name}", "resume=true"] if out.exists() else [*given, f"out={out.name}"]
        )
        code, said = run(folder, *arguments)
        assert (code, said) == (0, "") and same(out, folder / f"disk-{job}")


@pytest.mark.slow
@pytest.mark.parametrize("megabytes", [0.1, 0.6, 1.2, 2.0])
def test_a_small_disk_that_is_enlarged(folder: Path, megabytes: float) -> None:
    expected, _ = whole(folder, "homo_refine")
    place = folder / f"disk{megabytes}"
    place.mkdir()
    size = f"size={int(megabytes * 1024)}k"
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "none", place], capture_output=True)
    if done.returncode:
        pytest.skip("needs the right to mount")
    try:
        given = [*command("homo_refine"), f"out={place.name}/out"]
        code, said = run(folder, *given)
        assert one_sentence(code, said) and "No space left on device" in said, said
        subprocess.run(["mount", "-o", "remount,size=64m", place], check=True)
        if (place / "out").exists():
            given = [f"out={place.name}/out", "resume=true"]
        assert run(folder, *given) == (0, "")
        assert same(place / "out", expected)
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        for more in ([], ["overwrite=true"], ["resume=true", "max_iterations=4"]):
            code, said = run(folder, *command("homo_refine"), f"out={place.name}/out", *more)
            assert one_sentence(code, said), said
        assert same(place / "out", expected)
    finally:
        subprocess.run(["umount", "-l", place], check=False)


def _await(path: Path, process: subprocess.Popen) -> None:
    until = time.monotonic() + LONGEST
    while not path.exists():
        assert process.poll() is None and time.monotonic() < until, end(process)
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("becomes", ["nothing", "a file"])
def test_a_folder_that_vanishes(folder: Path, job: str, becomes: str) -> None:
    for turn in range(3):
        out = folder / f"vanishing-{job}-{becomes.replace(' ', '-')}-{turn}"
        process = start(folder, *command(job), f"out={out.name}")
        _await(out / "config.yaml", process)
        time.sleep(random.Random(turn).uniform(0, whole(folder, job)[1]))
        out.rename(folder / f"{out.name}-away")
        if becomes == "a file":
            out.touch()
        code, said = end(process)
        assert one_sentence(code, said) or (code, said) == (0, ""), (code, said)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["noise", "another file", "cut", "gone", "the same"])
def test_a_stack_that_changes_under_the_run(folder: Path, what: str, tmp_path: Path) -> None:
    expected, _ = whole(folder, "homo_refine")
    shutil.copytree(folder / "set", tmp_path / "set")
    stack, out = tmp_path / "set" / "particles.mrcs", tmp_path / "out"
    images = stack.read_bytes()
    process = start(tmp_path, *command("homo_refine"), "out=out")
    _await(out / "checkpoints" / "iteration_001.ckpt", process)
    noise = (
        images[:1024] + np.random.default_rng(0).normal(size=len(images)).astype("<f4").tobytes()
    )
    if what == "noise":
        with open(stack, "r+b") as file:
            file.write(noise[: len(images)])
    elif what == "another file":
        (tmp_path / "new").write_bytes(noise[: len(images)])
        (tmp_path / "new").rename(stack)
    elif what == "cut":
        os.truncate(stack, 10_000)
    elif what == "gone":
        stack.unlink()
    else:
        stack.touch()
    code, said = end(process)
    assert (code, said) == (0, "") if what == "the same" else one_sentence(code, said), said
    if what not in ("the same", "gone"):
        code, said = run(tmp_path, "out=out", "resume=true")
        assert one_sentence(code, said), said
    stack.write_bytes(images)
    if what != "the same":
        assert run(tmp_path, "out=out", "resume=true") == (0, "")
    assert same(out, expected)


@pytest.mark.slow
def test_two_jobs_on_one_folder_and_on_one_cache(folder: Path) -> None:
    expected, _ = whole(folder, "homo_refine")
    shutil.copytree(expected, folder / "rivals")
    more = ("out=rivals", "overwrite=true", "cache_dir=cache")
    rivals = [start(folder, *command("homo_refine"), *more) for _ in range(3)]
    beside = start(folder, *command("homo_refine"), "out=beside", "cache_dir=cache")
    ends = sorted(end(process) for process in rivals)
    assert [code for code, _ in ends] == [0, 1, 1] and end(beside) == (0, "")
    assert all("rivals is in use by process" in said for _, said in ends[1:]), ends
    assert same(folder / "rivals", folder / "beside") and not left_over(folder / "rivals")
    rivals = [start(folder, "out=rivals", "resume=true", "max_iterations=4") for _ in range(3)]
    assert sorted(end(process)[0] for process in rivals) == [0, 1, 1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, nargs="+", default=[1], choices=PROCESSES)
    parser.add_argument("--overwrite", action="store_true", help="the run replaces another one")
    parser.add_argument("--stages", action="store_true", help="of jobs that go on by stages")
    given = parser.parse_args()
    tally: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="chaos-") as place:
        make_inputs(Path(place))
        jobs = tuple(STAGES if given.stages else JOBS)
        for case in cases(given.kills, given.seed, tuple(given.processes), jobs):
            print(kill(Path(place), case, given.overwrite).line(), flush=True)
            tally["fault" if case.fault else "well"] += 1
    print(dict(tally))
    sys.exit(bool(tally["fault"]))


if __name__ == "__main__":
    main()
