"""What lies in the folder of a run, whatever the job: its settings, its summary, its files; nothing of it need be there."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

LONGEST_LOG = 40  # lines of log.txt that are shown, the last ones
MOST_FILES = 400  # of a folder that is none of ours
PAGE = "report.html"  # does not list itself
SUMMARY = "summary.json"
# Entries of it that are lists, and of what.
LISTS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("findings", "classes", "steps", "starts", "history"), dict),
    **dict.fromkeys(("warnings", "explanations", "files"), str),
    "half_sets": int,
}


@dataclass(frozen=True)
class RunFiles:
    """The folder of a run.

    Attributes:
        path: where the files lie now; place: the folder as the user knows it, where they lie in the end.
        job: its name, "" where nothing says it.
        config: parameters of config.yaml; summary: of summary.json; {} where there is none that can be read.
        files: name, relative to the folder, and bytes of each.
        log: the last lines of log.txt.
        damaged: names of those that are there and cannot be read, though the page is made of them.
    """

    path: Path
    place: Path
    job: str
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    files: tuple[tuple[str, int], ...] = ()
    log: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What to call the run: its folder."""
        return self.place.name or str(self.place)

    @property
    def names(self) -> list[str]:
        """Of the files."""
        return [name for name, _ in self.files]

    def has(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return name in self.names

    @property
    def history(self) -> list[dict[str, Any]]:
        """A row for each iteration, [] of a job without any."""
        rows = self.summary.get("history")
        rows = rows if isinstance(rows, list) else []
        return [row for row in rows if isinstance(row, dict) and "iteration" in row]

    @property
    def finished(self) -> bool:
        """Whether the run came to its end, as far as can be told; that of a job without a summary is told by its files."""
        if SUMMARY in self.damaged:
            return True
        return bool(self.summary.get("final", bool(self.summary) or not self.has("log.txt")))


def read_run(path: Path, place: Path | None = None) -> RunFiles:
    """The folder of a run as it is; files that are damaged count as missing."""
    names = ("config.yaml", SUMMARY, "manifest.json")
    read = {name: _mapping(path / name) for name in names}
    damaged = tuple(name for name, values in read.items() if values is None)
    config, summary, manifest = (values or {} for values in read.values())
    summary = {name: v for name, v in summary.items() if _as_written(name, v)}
    job = config.get("job") or manifest.get("job") or ""
    files = []
    for file in sorted(path.rglob("*")):
        inside = file.relative_to(path).parts
        hidden = any(part.startswith(".") for part in inside)
        if hidden or not file.is_file() or file.name == PAGE:
            continue
        files.append(("/".join(inside), file.stat().st_size))
        if len(files) == MOST_FILES:
            break
    log = path / "log.txt"
    lines = log.read_text("utf-8", "replace").splitlines() if log.is_file() else []
    shown = tuple(lines[-LONGEST_LOG:])
    return RunFiles(path, place or path, str(job), config, summary, tuple(files), shown, damaged)


def _mapping(path: Path) -> dict[str, Any] | None:
    """What a file holds, {} where there is none, None where it holds something else or cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


def _as_written(name: str, value: object) -> bool:
    """Whether an entry of a summary is what jobs write under this name, where others make something of it."""
    if name not in LISTS:
        return True
    return isinstance(value, list) and all(isinstance(x, LISTS[name]) for x in value)


def number(value: object) -> float | None:
    """A finite number, or None for whatever else a file may hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) <= sys.float_info.max else None
