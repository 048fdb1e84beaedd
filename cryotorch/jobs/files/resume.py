"""What ``resume=true`` takes from the folder of a run: all that the command does not say itself."""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from cryotorch.data.files import replace_file
from cryotorch.errors import InputError
from cryotorch.jobs.config import catalog
from cryotorch.jobs.config.parse import to_yaml
from cryotorch.jobs.files.manifest import job_name

CONFIG = "config.yaml"
# The job, and the folder that relative paths start at: they stand before the parameters.
JOB, FOLDER = "job", "started_in"
OWN = ("out", "resume", "overwrite", "dry_run")  # of the command, never of the folder


def config_text(settings: Any) -> str:
    """The text of ``config.yaml``: enough to go on with the run from anywhere."""
    head = yaml.safe_dump(
        {JOB: job_name(settings), FOLDER: os.getcwd()}, allow_unicode=True, sort_keys=False
    )
    return head + to_yaml(settings)


def write_config(folder: Path, settings: Any) -> None:
    """Put ``config.yaml`` into a folder, whole."""
    with replace_file(folder / CONFIG) as file:
        file.write(config_text(settings).encode())


def read_config(out: str | Path) -> dict[str, Any]:
    """The settings in the folder of a run.

    Raises:
        InputError: there are none, or they cannot be read.
    """
    path = Path(out) / CONFIG
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        found = None
    if not isinstance(found, dict):
        what = f"its {CONFIG} cannot be read" if path.is_file() else f"there is no {CONFIG} in it"
        raise InputError(
            f"resume=true finds no run in out={out} ({what}): name the folder of the run, or give the whole command"
        )
    return found


def resuming(settings: Any) -> str:
    """How to go on with a run."""
    return f"to go on, cryotorch out={shlex.quote(str(settings.out))} resume=true"


def job_of(out: str | Path) -> str:
    """The job that the folder of a run is of."""
    job = read_config(out).get(JOB)
    if job is None:
        raise InputError(
            f"{Path(out) / CONFIG} does not say which job it is of: add job=homo_refine or job=local_refine"
        )
    return catalog.find_job(str(job))


def completed(job: str, values: Mapping[str, Any], given: Collection[str]) -> dict[str, Any]:
    """Composed ``values`` with those of the run in ``out`` in place of every parameter that is not among the ``given``.

    Args:
        given: dotted names that the command sets, or groups such as ``trainer``.

    Raises:
        InputError: the run is one of another job.
    """
    saved = read_config(values["out"])
    if saved.get(JOB, job) != job:
        raise InputError(f"out={values['out']} holds a run of job={saved[JOB]}, not of job={job}")
    start = saved.get(FOLDER)
    elsewhere = start is not None and Path(start).resolve() != Path.cwd()
    paths = {p.name for p in catalog.parameters(job) if p.meaning.endswith("Path.")}

    def fill(now: Mapping[str, Any], then: Mapping[str, Any], prefix: str) -> dict[str, Any]:
        found = dict(now)
        for key, value in now.items():
            name = prefix + key
            if name in given or name in OWN or key not in then:
                continue
            if isinstance(value, Mapping):
                found[key] = (
                    fill(value, then[key], name + ".") if isinstance(then[key], dict) else value
                )
                continue
            found[key] = then[key]
            if start is not None and elsewhere and name in paths and isinstance(then[key], str):
                found[key] = os.path.join(start, then[key])
        return found

    return fill(values, saved, "")
