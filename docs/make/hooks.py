"""What mkdocs calls while it builds: the pages of the jobs, and formulas as MathML, which browsers draw by themselves."""

from __future__ import annotations

import html
import re
import sys
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent))

from job_pages import catalog, index, page

_FORMULA = re.compile(
    r'<(span|div) class="arithmatex">(?:\\\((.*?)\\\)|\\\[(.*?)\\\])</\1>', re.DOTALL
)


def on_config(config: Any) -> Any:
    """Puts the pages of all jobs into the navigation, where it says ``jobs``."""
    pages = ["jobs/index.md", *({job: f"jobs/{job}.md"} for job in catalog.job_names())]
    for entry in config.nav:
        for title, value in entry.items():
            if value == "jobs":
                entry[title] = pages
    return config


def on_files(files: Files, config: Any) -> Files:
    files.append(File.generated(config, "jobs/index.md", content=index()))
    for job in catalog.job_names():
        files.append(File.generated(config, f"jobs/{job}.md", content=page(job)))
    return files


def on_page_content(content: str, **_: Any) -> str:
    return _FORMULA.sub(_mathml, content)


def _mathml(found: re.Match[str]) -> str:
    inline, block = found[2], found[3]
    text = html.unescape(inline if block is None else block).strip()
    return convert(text, display="inline" if block is None else "block")
