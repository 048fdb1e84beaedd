"""The runs of ``--multirun``: what their folders are called, and the table of what came out."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from cryotorch.errors import InputError
from cryotorch.jobs.files.manifest import summary_of

MAX_NAME = 120  # characters of a folder's name
SWEEP_RUN = "CRYOTORCH_SWEEP_RUN"  # number of the run of a sweep that further ranks are for
# What Lightning tells further ranks, and leaves behind in the process that starts them.
RANKS = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
SAME = 0.005  # Å: what is told alike
COLUMNS = ("resolution", "iterations", "seconds", "warnings")


@dataclass
class Run:
    """One run of a sweep.

    Attributes:
        name: the values in which it differs, such as ``seed=1``; out: its folder.
        error: why it failed, else "".
        values: what it differs in from the others, by name.
        resolution: Å; iterations; seconds; warnings: sentences: what its summary says of these, else None.
    """

    name: str
    out: str
    error: str = ""
    resolution: float | None = None
    iterations: int | None = None
    seconds: float | None = None
    warnings: list[str] | None = field(default=None)
    values: dict[str, str] = field(default_factory=dict)


class Ranks:
    """The processes of a sweep whose runs have several: every run starts its own.

    Lightning starts further ranks as copies of the command, which would go through the whole sweep beside the first one, and
    meet it in the wrong run as soon as that refuses one which they do not. So they are told which run they are for.
    """

    def __init__(self) -> None:
        self.before = {name: os.environ.get(name) for name in RANKS}

    @property
    def started_elsewhere(self) -> bool:
        """By torchrun for example, and not by the first rank of this sweep."""
        return self.before["LOCAL_RANK"] is not None

    def take_part(self, number: int) -> bool:
        """Whether this process belongs to a run of the sweep; the first rank forgets those of the run before."""
        if self.started_elsewhere:
            return os.environ.get(SWEEP_RUN, str(number)) == str(number)
        if "torch" in sys.modules:
            from torch import distributed

            if distributed.is_available() and distributed.is_initialized():
                distributed.destroy_process_group()
        for name in RANKS:
            os.environ.pop(name, None)
            if self.before[name] is not None:
                os.environ[name] = self.before[name]
        os.environ[SWEEP_RUN] = str(number)
        return True


def run_name(overrides: Sequence[str], names: Sequence[str], job: str, number: int) -> str:
    """A folder's name from the values of the swept ``names`` among a run's ``overrides``: ``seed=1_symmetry=C4``.

    Without commas, so that it can be typed as the value of a parameter.
    """
    parts = []
    for override in overrides:
        name, _, value = override.lstrip("+").partition("=")
        if name in names:
            plain = re.sub(r"[^\w.+%@-]+", "_", value.strip("'\"")).strip("_") or "null"
            parts.append(f"{name}={plain}")
    text = "_".join(parts)
    if not text:  # a sweeper of its own makes the values
        return f"{job}_{number}"
    return text if len(text) <= MAX_NAME else f"{text[:MAX_NAME]}_{number}"


def found_runs(folder: Path) -> list[Run]:
    """The runs in the folder of a sweep that other processes ran."""
    left = [path.parent for path in folder.glob("*/config.yaml")]
    left.sort(key=lambda path: re.sub(r"\d+", lambda digits: digits[0].zfill(9), path.name))
    unfinished = "it left no summary.json: see its log.txt"
    return [
        Run(path.name, str(path), "" if (path / "summary.json").is_file() else unfinished)
        for path in left
    ]


def finish(runs: Sequence[Run], folder: Path, names: Sequence[str] = ()) -> str:
    """Fill in what the summaries say, write sweep.txt, sweep.json and a page over all, and return the table.

    TensorBoard runs get the values of the swept ``names`` and the resolution, for its table of hyperparameters.
    """
    from cryotorch.data.files import replace_file
    from cryotorch.jobs.pages.write import write_sweep_page
    from cryotorch.report.summary import write_json

    for run in runs:
        if not run.error:
            _read(run)
            _compare(run, names)
    text = table(runs)
    folder.mkdir(parents=True, exist_ok=True)
    with replace_file(folder / "sweep.txt") as file:
        file.write((text + "\n").encode())
    write_json(folder / "sweep.json", {"runs": [asdict(run) for run in runs]})
    write_sweep_page(folder, [Path(run.out) for run in runs if not run.error])
    return text


def verdict(runs: Sequence[Run], folder: Path) -> str:
    """Which run came out best, in what it differs and what may be doubted, and where to look."""
    page = folder / "report.html"
    where = (
        f"Side by side: {page}"
        if page.is_file()
        else f"The table is also in {folder / 'sweep.txt'}"
    )
    known = [(run.resolution, run) for run in runs if isinstance(run.resolution, int | float)]
    if not known:
        return f"No run claims a resolution. {where}"
    finest = min(reached for reached, _ in known)
    best = [run for reached, run in known if reached < finest + SAME]
    differs = "; ".join(
        ", ".join(f"{n}={v}" for n, v in run.values.items()) or run.name for run in best
    )
    doubts = sum(len(run.warnings or []) for run in best)
    doubted = f", with {doubts} warning{'s'[: doubts - 1]} to read" if doubts else ""
    alike = (
        f", reached by {len(best)} of {len(runs)} runs"
        if len(best) > 1
        else f" of {len(runs)} runs"
    )
    return f"Finest{alike}: {differs}, {finest:.2f} Å{doubted}: {', '.join(run.out for run in best)}\n{where}"


def _read(run: Run) -> None:
    summary = summary_of(Path(run.out))
    run.resolution, run.iterations = summary.get("resolution"), summary.get("iterations")
    seconds = summary.get("seconds")
    total = seconds.get("total") if isinstance(seconds, dict) else seconds
    run.seconds = summary.get("wall_seconds", total)
    said = summary.get("warnings")
    if said is None:
        told = (line for line in summary.get("messages", []) if line.startswith("WARNING"))
        said = [line.removeprefix("WARNING: ") for line in told]
    run.warnings = said


def _compare(run: Run, names: Sequence[str]) -> None:
    from cryotorch.jobs.config.parse import shown
    from cryotorch.jobs.files.manifest import read_manifest
    from cryotorch.jobs.files.resume import read_config
    from cryotorch.report.job_tensorboard import add_hyperparameters

    out = Path(run.out)
    board, manifest = out / "tensorboard", read_manifest(out)
    try:
        config = read_config(out)
    except InputError:
        return
    for name in names:
        value: object = config
        for key in name.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        run.values[name] = shown(value)
    if not run.values or manifest is None or not board.is_dir():
        return
    known = {"resolution": run.resolution, "seconds": run.seconds}
    file = add_hyperparameters(board, run.values, {k: v for k, v in known.items() if v is not None})
    names_now = (*manifest.files, f"tensorboard/{file}")
    replace(manifest, files=names_now).write(out)


def table(runs: Sequence[Run]) -> str:
    """A row for each run, and below it the sentences that belong to them."""
    rows = [("run", *COLUMNS), *(_row(run) for run in runs)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        lines.append("   ".join([row[0].ljust(widths[0]), *cells]))
    for run in runs:
        said = (
            [f"error: {run.error}"] if run.error else [f"WARNING: {w}" for w in run.warnings or []]
        )
        lines += [f"{run.name}: {sentence}" for sentence in said]
    return "\n".join(lines)


def _row(run: Run) -> tuple[str, ...]:
    if run.error:
        return (run.name, "failed", *("-" for _ in COLUMNS[1:]))
    number = isinstance(run.resolution, int | float)
    return (
        run.name,
        f"{run.resolution:.2f} Å" if number else "-",
        "-" if run.iterations is None else str(run.iterations),
        "-" if run.seconds is None else f"{run.seconds:.1f}",
        "-" if run.warnings is None else str(len(run.warnings)),
    )
