"""The parameters of a run beside their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from cryotorch.errors import InputError
from cryotorch.jobs.config import catalog
from cryotorch.jobs.config.parse import shown, to_yaml
from cryotorch.jobs.files.resume import FOLDER, JOB, OWN
from cryotorch.report.page.gathered import Parameter
from cryotorch.report.page.run_files import RunFiles


def parameters(run: RunFiles) -> list[Parameter]:
    """In the order of the job's help; of a job that this version does not have, as config.yaml holds them."""
    given = flat({name: v for name, v in run.config.items() if name not in (JOB, FOLDER)})
    if run.job not in catalog.job_names():
        return [Parameter(name, _text(value), "", False, "") for name, value in given.items()]
    meanings = {p.name: p.meaning for p in catalog.parameters(run.job)}
    defaults = _defaults(run.job)
    rows = []
    for name in [*meanings, *(name for name in given if name not in meanings)]:
        if name not in given:
            continue
        value, default = given[name], defaults.get(name)
        changed = name in defaults and value != default and name not in OWN
        rows.append(Parameter(name, _text(value), _text(default), changed, meanings.get(name, "")))
    return rows


def _defaults(job: str) -> dict[str, Any]:
    """As a run writes them."""
    try:
        return flat(yaml.safe_load(to_yaml(catalog.make_settings(job))))
    except InputError:
        return {}


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by their dotted names."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        inner = flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else None
        found |= {prefix + str(name): value} if inner is None else inner
    return found


def _text(value: object) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_text, value))}]"
    return "''" if value == "" else shown(value)
