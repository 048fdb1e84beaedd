"""What lies in the folder of a run, whatever the job: its settings, its summary, its files; nothing of it need be there."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

LONGEST_LOG = 40  # lines of log.txt that are shown, the last ones
MOST_FILES = 400  # of a folder that is none of ours
PAGE = "report.html"  # does not list itself


@dataclass(frozen=True)
class RunFiles:
    """The folder of a run.

    Attributes:
        path: where the files lie now; place: the folder as the user knows it, where they lie in the end.
        job: its name, "" where nothing says it.
        config: parameters of config.yaml; summary: of summary.json; {} where there is none that can be read.
        files: name, relative to the folder, and bytes of each.
        log: the last lines of log.txt.
    """

    path: Path
    place: Path
    job: str
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    files: tuple[tuple[str, int], ...] = ()
    log: tuple[str, ...] = ()

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
        """Whether the run came to its end; that of a job without a summary is told by its files."""
        return bool(self.summary.get("final", bool(self.summary) or not self.has("log.txt")))


def read_run(path: Path, place: Path | None = None) -> RunFiles:
    """The folder of a run as it is; files that are damaged count as missing."""
    config, summary = _mapping(path / "config.yaml"), _mapping(path / "summary.json")
    manifest = _mapping(path / "manifest.json")
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
    return RunFiles(path, place or path, str(job), config, summary, tuple(files), shown)


def _mapping(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def number(value: object) -> float | None:
    """A finite number, or None for whatever else a file may hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < float("inf") else None
