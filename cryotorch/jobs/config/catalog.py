"""The jobs and their parameters as ``configs/`` tells them; reads YAML only, so that help comes at once.

Every parameter stands in a YAML file below one comment line: meaning, unit, when to change it. The comment on top
of a job's file says what the job does; ``# --- Title ---`` opens a group of parameters.
"""

from __future__ import annotations

import dataclasses
import importlib
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
    """Config groups that a job pulls in, such as ``trainer``."""
    entries = _load(CONFIGS / "job" / f"{job}.yaml").get("defaults", [])
    return [key.lstrip("/") for e in entries if isinstance(e, Mapping) for key in e]


def parameters(job: str) -> list[Parameter]:
    """All parameters of a job in the order of its file, those of its config groups last."""
    found = _parameters(CONFIGS / "job" / f"{job}.yaml")
    for group, option in _group_defaults(job).items():
        inner = _parameters(CONFIGS / group / f"{option}.yaml")
        title = f"{group} (presets: {', '.join(f'{group}={o}' for o in options(group))})"
        found += [dataclasses.replace(p, name=f"{group}.{p.name}", section=title) for p in inner]
    return found


def summary(job: str) -> str:
    """What the job does: the comment on top of its file."""
    lines = []
    for line in (CONFIGS / "job" / f"{job}.yaml").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @"):
            lines.append(line.lstrip("# "))
    return " ".join(lines)


def settings_class(job: str) -> type:
    """The dataclass of a job: ``HomoRefine`` of ``cryotorch.jobs.homo_refine``."""
    module = importlib.import_module(f"cryotorch.jobs.{job}")
    return getattr(module, "".join(word.capitalize() for word in job.split("_")))


def make_settings(job: str, **changes: Any) -> Any:
    """The settings of a job with the defaults of its YAML, for use from Python.

    Nested names take two underscores: ``make_settings("homo_refine", search__candidates=4)``. Raises InputError.
    """
    values = _load(CONFIGS / "job" / f"{job}.yaml")
    values.pop("defaults", None)
    for group, option in _group_defaults(job).items():
        values[group] = _load(CONFIGS / group / f"{option}.yaml")
    for name, value in changes.items():
        *path, last = name.split("__")
        inner = values
        for key in path:
            inner = inner[key]
        inner[last] = value
    return build(settings_class(job), values, job)


def check_name(name: str, job: str) -> None:
    """Raises InputError unless ``name`` is a parameter of the job, or a group of them."""
    known = [p.name for p in parameters(job)]
    parents = {k.rpartition(".")[0] for k in known}
    if name not in known and name not in parents:
        raise unknown(name, known, job)


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


def _group_defaults(job: str) -> dict[str, str]:
    entries = _load(CONFIGS / "job" / f"{job}.yaml").get("defaults", [])
    return {k.lstrip("/"): v for e in entries if isinstance(e, Mapping) for k, v in e.items()}


def _load(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}


def _parameters(path: Path) -> list[Parameter]:
    """The leaves of a YAML file, each with the comment lines right above it."""
    values = _load(path)
    found: list[Parameter] = []
    comment: list[str] = []
    parents: list[tuple[int, str]] = []
    section = "Parameters"
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.strip()
        if text.startswith("# ---"):
            section, comment = text.strip("# -"), []
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
    return found
