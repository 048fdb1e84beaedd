"""The jobs and their parameters as ``configs/`` tells them; reads YAML only, so that help comes at once.

Every parameter stands in a YAML file below one comment line: meaning, unit, when to change it. The comment on top
of a job's file says what the job does, example commands follow; ``# --- Title (more in shared/...) ---`` opens a
section. What several jobs share stands once, in the files of ``configs/shared`` that a job lists under ``defaults``:
its own line without a comment changes the default of such a parameter, one with a comment replaces the meaning too.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import importlib
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import yaml

from cryotorch.errors import InputError
from cryotorch.jobs.config.parse import build, closest, shown, spelled, unknown

# In the wheel configs/ lies inside the package, in a checkout beside it.
_PACKAGE = Path(__file__).parents[2]
CONFIGS = next(p for p in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if p.is_dir())


@dataclass(frozen=True)
class Parameter:
    """A parameter as its YAML file shows it: dotted name, default, meaning, title of its group."""

    name: str
    default: Any
    meaning: str
    section: str


def job_names() -> list[str]:
    """The jobs there are, in alphabetical order."""
    return options("job")


def options(group: str) -> list[str]:
    """The files of a config group such as ``job`` or ``trainer``, without their ending."""
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def find_job(name: str) -> str:
    """``name`` if there is such a job, else InputError with the closest one."""
    names = job_names()
    if name not in names:
        hint = closest(name, names)
        raise InputError(f"there is no job {name}{hint}: choose one of {', '.join(names)}")
    return name


def groups(job: str) -> list[str]:
    """Config groups whose presets a job offers, such as ``trainer``."""
    return list(_presets(_job_file(job)))


def parameters(job: str) -> list[Parameter]:
    """All parameters of a job by section, in the order of its file; those of its config groups last."""
    found = _composed(_job_file(job))
    for group, path in _presets(_job_file(job)).items():
        title = f"{group} (presets: {', '.join(f'{group}={o}' for o in options(group))})"
        for p in _composed(path):
            found.append(dataclasses.replace(p, name=f"{group}.{p.name}", section=title))
    return found


def summary(job: str) -> str:
    """What the job does: the comment on top of its file."""
    lines = []
    for line in _job_file(job).read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @"):
            lines.append(line.lstrip("# "))
    return " ".join(lines)


def examples(job: str) -> list[tuple[str, str]]:
    """Commands to begin with, each with what it is for: ``# The demo: cryotorch job=homo_refine`` before the sections.

    Lines that only name a part of a command (``...``) are for readers of the file.
    """
    head = _job_file(job).read_text(encoding="utf-8").partition("# ---")[0]
    return re.findall(r"^# (.+?): +(cryotorch(?: [\w.]+=(?:'[^']*'|\S+))+)$", head, re.MULTILINE)


def settings_class(job: str) -> type:
    """The dataclass of a job: ``HomoRefine`` of ``cryotorch.jobs.homo_refine``."""
    module = importlib.import_module(f"cryotorch.jobs.{job}")
    return getattr(module, "".join(word.capitalize() for word in job.split("_")))


def make_settings(job: str, **changes: Any) -> Any:
    """The settings of a job with the defaults of its YAML, for use from Python.

    Nested names take two underscores: ``make_settings("homo_refine", search__candidates=4)``, or the group a mapping.

    Raises:
        InputError: there is no such job, or it has no parameter of that name, or not of that value.
    """
    values = _values(_job_file(find_job(job)))
    for name, value in changes.items():
        _check_keyword(name, job)
        *path, last = name.removesuffix("_").split("__")
        inner = values
        for key in path:
            inner = inner[key]
        grouped = isinstance(value, Mapping) and isinstance(inner[last], Mapping)
        inner[last] = {**inner[last], **value} if grouped else value
    return build(settings_class(job), values, job)


def check_name(name: str, job: str) -> None:
    """Raises InputError unless ``name`` is a parameter of the job, or a group of them."""
    known = [p.name for p in parameters(job)]
    parents = {k.rpartition(".")[0] for k in known}
    if name not in known and name not in parents - {""}:
        raise unknown(name, known, job)


def _check_keyword(name: str, job: str) -> None:
    """``check_name`` for a name as Python writes it."""
    known = [p.name.replace(".", "__") for p in parameters(job)]
    spelt = name.removesuffix("_")
    if spelt not in known and spelt not in {k.rpartition("__")[0] for k in known} - {""}:
        raise unknown(name, known, job, f'list them with parameters("{job}")')


def takes_list(name: str, job: str) -> bool:
    """Whether a parameter of the job may have several values at once, as ``[a,b]``."""
    hint: Any = settings_class(job)
    for part in name.split("."):
        hints = get_type_hints(hint) if dataclasses.is_dataclass(hint) else {}
        hint = {spelled(field): kind for field, kind in hints.items()}.get(part)
    return any(get_origin(option) is list for option in (hint, *get_args(hint)))


def list_jobs(width: int = 100) -> str:
    """Help without a job."""
    lines = [
        "cryotorch: cryo-EM single-particle refinement in PyTorch.",
        "",
        "usage: cryotorch job=<job> [name=value ...]     run a job",
        "       cryotorch job=<job> --help               list its parameters",
        "       cryotorch job=<job> --cfg job            show the settings it would run with",
        "       cryotorch job=<job> name=a,b --multirun  run it once per value",
        "       cryotorch doctor                         examine this installation and machine",
        "       cryotorch --version",
        "",
        "jobs:",
    ]
    for job in job_names():
        lines += _entry(job, summary(job), width)
    return "\n".join(lines)


def list_parameters(job: str, width: int = 100) -> str:
    """Help on one job: every parameter with default and meaning."""
    lines = [f"job={job}", *textwrap.wrap(summary(job), width), ""]
    lines += ["Lengths are in Å unless they carry a unit (14A, 1.4nm, 6px), angles in degrees"]
    lines += ["unless they do (0.35rad). Relative paths start at the current folder."]
    section = None
    for parameter in parameters(job):
        if parameter.section != section:
            section = parameter.section
            lines += ["", section]
        default = "''" if parameter.default == "" else shown(parameter.default)
        lines += _entry(f"{parameter.name}={default}", parameter.meaning, width)
    return "\n".join(lines)


def _entry(head: str, text: str, width: int) -> list[str]:
    indent = " " * 31
    body = textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent) or [""]
    if len(head) <= 26:
        return [f"  {head}".ljust(31) + body[0].strip(), *body[1:]]
    return [f"  {head}", *body]


def _job_file(job: str) -> Path:
    return CONFIGS / "job" / f"{job}.yaml"


@functools.cache
def _parsed(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}


def _load(path: Path) -> dict[str, Any]:
    return copy.deepcopy(_parsed(path))


def _shared(path: Path) -> list[Path]:
    """The files whose parameters a file takes over: those of ``/shared: [a, b]``, and presets of its own group."""
    found = []
    for entry in _load(path).get("defaults", []):
        if isinstance(entry, Mapping):
            lists = {
                key.lstrip("/"): names for key, names in entry.items() if isinstance(names, list)
            }
            found += [
                CONFIGS / group / f"{n}.yaml" for group, names in lists.items() for n in names
            ]
        elif entry != "_self_":
            found.append(path.with_name(f"{entry}.yaml"))
    return found


def _presets(path: Path) -> dict[str, Path]:
    """The preset that a file takes of each group, as ``/trainer: auto``."""
    entries = [e for e in _load(path).get("defaults", []) if isinstance(e, Mapping)]
    pairs = [(key.lstrip("/"), name) for entry in entries for key, name in entry.items()]
    return {group: CONFIGS / group / f"{n}.yaml" for group, n in pairs if isinstance(n, str)}


def _values(path: Path) -> dict[str, Any]:
    """Names and defaults as Hydra composes them: what is shared, then the presets, then the file's own."""
    values: dict[str, Any] = {}
    for base in _shared(path):
        _merge(values, _values(base))
    for group, preset in _presets(path).items():
        values[group] = _values(preset)
    _merge(values, _load(path))
    values.pop("defaults", None)
    return values


def _merge(values: dict[str, Any], new: Mapping[str, Any]) -> None:
    for name, value in new.items():
        if isinstance(value, Mapping) and name in values:
            _merge(values[name], value)
        else:
            values[name] = value


def _composed(path: Path) -> list[Parameter]:
    """The parameters of a file and of those that it shares; in each section its own come first."""
    titles, own = _read(path)
    shared: dict[str, Parameter] = {}
    for p in (p for base in _shared(path) for p in _composed(base)):
        shared.pop(p.name, None)
        shared[p.name] = p
    for p in own:
        if p.meaning:
            shared.pop(p.name, None)
        else:
            shared[p.name] = dataclasses.replace(shared[p.name], default=p.default)
    found = [p for p in own if p.meaning] + list(shared.values())
    order = list(dict.fromkeys([*titles, *(p.section for p in found)]))
    return sorted(found, key=lambda p: order.index(p.section))


def _read(path: Path) -> tuple[list[str], list[Parameter]]:
    """The titles of the sections of a YAML file, and its leaves, each with the comment lines right above it."""
    values = _load(path)
    titles: list[str] = []
    found: list[Parameter] = []
    comment: list[str] = []
    parents: list[tuple[int, str]] = []
    section = "Parameters"
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.strip()
        if text.startswith("# ---"):
            section, comment = text.strip("# -").partition(" (")[0], []
            titles.append(section)
        elif text.startswith("#"):
            comment.append(text.lstrip("# "))
        elif ":" in text and not text.startswith("-"):
            indent = len(line) - len(line.lstrip())
            parents = [p for p in parents if p[0] < indent]
            path_to = [*(name for _, name in parents), text.partition(":")[0]]
            value: Any = values
            for key in path_to:
                value = value[key]
            if path_to[0] != "defaults":
                if isinstance(value, dict):
                    parents.append((indent, path_to[-1]))
                else:
                    found.append(Parameter(".".join(path_to), value, " ".join(comment), section))
            comment = []
        else:
            comment = []
    return titles, found
