"""The pages: every job has one, every command parses, every link and picture is there."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from cryotorch import __main__ as command_line
from cryotorch import api
from cryotorch.jobs.config import catalog

REPOSITORY = Path(__file__).parents[1]
DOCS = REPOSITORY / "docs"
PAGES = sorted([REPOSITORY / "README.md", *DOCS.glob("*.md")])
LARGEST_PICTURE = 100_000  # bytes


@pytest.fixture(autouse=True)
def make_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS / "make"))


def fenced(text: str, language: str) -> list[str]:
    """The blocks of a page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[str]:
    lines = [line for block in fenced(text, "bash") for line in block.splitlines()]
    return [line for line in lines if line.split(" ")[0] == "cryotorch"]


def parsed(line: str) -> None:
    """As the command line would take it, to the settings of the job; nothing runs."""
    arguments = shlex.split(line, comments=True)[1:]
    if "--help" in arguments:
        arguments = [a for a in arguments if a != "--help"] or ["job=homo_refine"]
    if not arguments:
        return
    if "resume=true" in arguments and not any(a.startswith("job=") for a in arguments):
        names = {a.partition("=")[0] for a in arguments}
        known = {job: {p.name for p in catalog.parameters(job)} for job in catalog.job_names()}
        arguments.append("job=" + next(job for job in known if names <= known[job]))
    arguments = command_line._tidy(arguments)
    command_line._check_options(arguments)
    command_line._check(arguments)
    command_line._check_sweep(arguments)
    found = [OverridesParser.create().parse_override(a) for a in arguments if "=" in a]
    sweep = "--multirun" in arguments
    job, values = "", {}
    for override in found:
        assert sweep or not override.is_sweep_override(), override.input_line
        value = (
            next(override.sweep_iterator()) if override.is_sweep_override() else override.value()
        )
        if override.key_or_group == "job":
            job = value
        else:
            values[override.key_or_group] = value
    groups = [*catalog.groups(job), "hydra/launcher"]
    given = {k.replace(".", "__"): v for k, v in values.items() if k not in groups}
    catalog.make_settings(job, **{f"{k}_" if k == "class" else k: v for k, v in given.items()})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_parses(page: Path) -> None:
    for line in commands(page.read_text()):
        try:
            parsed(line)
        except Exception as error:
            raise AssertionError(f"{line}: {error}") from error


@pytest.mark.parametrize("job", catalog.job_names())
def test_every_job_has_a_page_with_commands_and_parameters(job: str) -> None:
    from job_pages import EXPLAINED, index, page

    text = page(job)
    assert f"[{job}]({job}.md)" in index()
    assert len(commands(text)) == len(catalog.examples(job))
    for line in commands(text):
        parsed(line)
    name, _, anchor = EXPLAINED[job][1].partition("#")
    assert not anchor or anchor in anchors((DOCS / name).read_text())
    for parameter in catalog.parameters(job):
        assert f" {{ #{parameter.name} }}\n:   " in text


def test_a_wrong_command_is_noticed() -> None:
    for line in (
        "cryotorch job=sharpn",
        "cryotorch job=sharpen folder=a",
        "cryotorch job=sharpen bfactor=-50,-100",
        "cryotorch job=homo_refine seed=often",
        "cryotorch job=homo_refine --dry",
    ):
        with pytest.raises(Exception):  # noqa: B017
            parsed(line)


def anchors(text: str) -> set[str]:
    titles = re.findall(r"^#+ +(.+)$", text, re.MULTILINE)
    slugs = {re.sub(r"[^\w\s-]", "", t).strip().lower() for t in titles}
    return {re.sub(r"[\s-]+", "-", s) for s in slugs} | set(re.findall(r"\{ #(\S+) \}", text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_and_picture_of_a_page_is_there(page: Path) -> None:
    from job_pages import index
    from job_pages import page as job_page

    made = {DOCS / "jobs" / f"{job}.md": job for job in catalog.job_names()}
    text = re.sub(r"^```.*?^```|`[^`\n]*`", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if target in made:
            there = job_page(made[target])
        elif target == DOCS / "jobs" / "index.md":
            there = index()
        else:
            assert target.exists(), link
            there = target.read_text() if target.suffix == ".md" else ""
        assert not anchor or anchor in anchors(there), link


@pytest.mark.parametrize("page", ["from_cryosparc.md", "from_relion.md"])
def test_defaults_in_the_tables_are_those_of_the_jobs(page: str) -> None:
    """Cells in the column ``default`` hold, in order, the defaults of the parameters linked in the column before."""
    from job_pages import shown

    column, held = None, 0
    for line in (DOCS / page).read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if "default" in cells:
            column = cells.index("default")
        elif not cells:
            column = None
        elif column is not None:
            linked = re.findall(r"\]\(jobs/(\w+)\.md#([\w.]+)\)", cells[column - 1])
            said = re.findall(r"(?:^|, )`([^`]+)`", cells[column])
            parameters = [{p.name: p for p in catalog.parameters(j)}[name] for j, name in linked]
            if said:
                said *= len(parameters) if len(said) == 1 else 1  # one for all of them
                assert said == [shown(p.default) for p in parameters], line
                held += len(said)
    assert held > 30


def test_pictures_are_small_and_used() -> None:
    pages = "".join(page.read_text() for page in PAGES)
    for picture in sorted((DOCS / "pictures").iterdir()):
        assert picture.stat().st_size < LARGEST_PICTURE, picture.name
        assert f"pictures/{picture.name}" in pages, picture.name


def test_every_page_is_in_the_navigation() -> None:
    text = (REPOSITORY / "mkdocs.yml").read_text()
    listed = [name for _, name in re.findall(r"- (.+): (\w+\.md)$", text, re.MULTILINE)]
    assert sorted(listed) == [page.name for page in sorted(DOCS.glob("*.md"))]


def test_nothing_is_loaded_from_the_network() -> None:
    """No fonts, scripts or pictures of other hosts."""
    settings = yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text())
    assert settings["theme"]["font"] is False
    assert "extra_javascript" not in settings
    assert not re.search(r"\]\(http[^)]+\.(png|svg|jpg)\)", "".join(p.read_text() for p in PAGES))


def test_python_on_the_pages_uses_what_there_is() -> None:
    for page in PAGES:
        text = page.read_text()
        for block in fenced(text, "python"):
            compile(block, page.name, "exec")
        assert set(re.findall(r"\bct\.(\w+)", text)) <= set(api.__all__), page.name


def test_every_function_is_on_the_page_of_python() -> None:
    rows = re.findall(r"^\| (`.+?) \|", (DOCS / "python.md").read_text(), re.MULTILINE)
    functions = {name for name in api.__all__ if name.islower()} - {"parameters"}
    assert set(re.findall(r"`(\w+)`", " ".join(rows))) == functions


def test_the_notebook_uses_what_there_is() -> None:
    """CI runs it; here its cells compile, and the names of ct are there."""
    notebook = json.loads((DOCS / "examples" / "refine.ipynb").read_text())
    cells = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
    for cell in cells:
        compile(cell, "refine.ipynb", "exec")
    assert set(re.findall(r"\bct\.(\w+)", "".join(cells))) <= set(api.__all__)
