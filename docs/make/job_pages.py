"""A page for every job, in Markdown, made of the files that ``--help`` reads, so that the two cannot differ."""

from __future__ import annotations

import re

from cryotorch.jobs.config import catalog
from cryotorch.jobs.config.parse import shown


def index() -> str:
    """The page that lists the jobs."""
    rows = [
        f"| [{job}]({job}.md) | {escaped(catalog.summary(job))} |" for job in catalog.job_names()
    ]
    return "\n".join(
        [
            "# All jobs",
            "",
            "These pages are made of the files in `configs/`, like `cryotorch job=<job> --help`.",
            "",
            "| job | what it does |",
            "|---|---|",
            *rows,
            "",
        ]
    )


def page(job: str) -> str:
    """What the job does, commands to begin with, and every parameter with its default and meaning."""
    lines = [f"# {job}", "", escaped(catalog.summary(job)), ""]
    block = [f"# {title}\n{command}" for title, command in catalog.examples(job)]
    lines += ["```bash", "\n\n".join(block), "```", ""]
    lines += [
        "Lengths are in Å unless they carry a unit (`14A`, `1.4nm`, `6px`), angles in degrees unless they do "
        "(`0.35rad`). Relative paths start at the current folder.",
    ]
    section = None
    for parameter in catalog.parameters(job):
        if parameter.section != section:
            section = parameter.section
            lines += ["", f"## {escaped(section)}", ""]
        default = "''" if parameter.default == "" else shown(parameter.default)
        lines += [f"`{parameter.name}={default}` {{ #{parameter.name} }}"]
        lines += [f":   {escaped(meaning(parameter.meaning))}", ""]
    return "\n".join(lines)


def meaning(text: str) -> str:
    """The comment of a parameter; ``Path.`` at its end is for programs that build forms."""
    return re.sub(r" Path\.$", " *A file or folder.*", text)


def escaped(text: str) -> str:
    """Plain text for Markdown, but for what stands in `` ` `` and for the note on paths."""
    parts = re.split(r"(`[^`]*`| \*A file or folder\.\*$)", text)
    for i in range(0, len(parts), 2):
        parts[i] = re.sub(r"([\\*_#|\[\]])", r"\\\1", parts[i].replace("<", "&lt;"))
    return "".join(parts)
