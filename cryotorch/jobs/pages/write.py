"""The page of a run and its script for ChimeraX, written where every job ends."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from cryotorch.data.files import replace_file
from cryotorch.findings import remark
from cryotorch.jobs.config import catalog
from cryotorch.report.sentences import line

PAGE, VIEW = "report.html", "view.cxc"
PAGES = (PAGE, VIEW)  # what every job writes besides its own files
MOST_RUNS = 12  # side by side


def write_pages(path: Path, place: Path) -> None:
    """``report.html`` and ``view.cxc`` of the run whose files lie in ``path`` and belong to ``place``.

    What goes wrong is said in the log and stops nothing: all results are there without it.
    """
    with _harmless(path, place):
        _write(path, place)


def write_sweep_page(folder: Path, runs: Sequence[Path]) -> None:
    """``report.html`` over the runs of a sweep in its folder, where a page has room for them."""
    if 1 < len(runs) <= MOST_RUNS:
        with _harmless(folder, folder):
            write_comparison(folder / PAGE, folder.name, runs)


@contextmanager
def _harmless(path: Path, place: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        for name in PAGES:
            (path / name).unlink(missing_ok=True)
        reason = " ".join(str(error).split()) or type(error).__name__
        log = logging.getLogger("cryotorch")
        log.info(line(remark("page_failed", reason=reason, folder=str(place))))


def _write(path: Path, place: Path) -> None:
    from cryotorch.report.page.chimerax import view_script
    from cryotorch.report.page.gathered import gather
    from cryotorch.report.page.html import page_html

    found = gather(run_page(path, place))
    script = view_script(found.page.run, found.grids)
    if script is not None:
        with replace_file(path / VIEW) as file:
            file.write(script.encode(errors="surrogateescape"))
        found = replace(found, page=run_page(path, place))  # which lists it
    with replace_file(path / PAGE) as file:
        file.write(page_html(found.page.run.name, [found]).encode(errors="replace"))


def write_comparison(file: Path, title: str, folders: Sequence[Path]) -> None:
    """One page over several runs, or over one, in a file of its own; ``folders`` are left as they are."""
    from cryotorch.report.page.gathered import gather
    from cryotorch.report.page.html import page_html

    runs = [gather(run_page(f, f), len(folders), k) for k, f in enumerate(folders)]
    with replace_file(file) as page:
        page.write(page_html(title, runs).encode(errors="replace"))


def run_page(path: Path, place: Path):
    """The files of a run, and what is said of it beyond them."""
    from cryotorch.jobs.pages.citations import citations
    from cryotorch.jobs.pages.next_steps import commands
    from cryotorch.jobs.pages.parameters import parameters
    from cryotorch.report.page.gathered import RunPage
    from cryotorch.report.page.run_files import read_run

    run = read_run(path, place)
    known = run.job in catalog.job_names()
    about = catalog.summary(run.job) if known else ""
    return RunPage(run, about, parameters(run), commands(run), citations(run))
