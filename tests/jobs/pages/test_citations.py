"""A paper is named where its method was used, and only there."""

from __future__ import annotations

from pathlib import Path

import pytest

from cryotorch.jobs.pages.citations import CITATIONS, citations
from cryotorch.report.page.run_files import RunFiles


def run(job: str, *files: str, **config: object) -> RunFiles:
    return RunFiles(Path("a"), Path("a"), job, config, {}, tuple((name, 1) for name in files))


@pytest.mark.parametrize(
    ("of", "author", "used"),
    [
        (run("homo_refine", "fsc.txt"), "Chen et al. 2013", True),
        (run("particles"), "Chen et al. 2013", False),
        (run("homo_refine", search={"method": "branch_and_bound"}), "Punjani et al. 2017", True),
        (run("homo_refine", search={"method": "newton"}), "Punjani et al. 2017", False),
        (run("local_refine", regularizer="nonuniform"), "Zhang & Fleet 2020", True),
        (run("sharpen", "local_resolution.mrc"), "Cardone", True),
        (run("reconstruct", ewald=None), "Russo", False),
        (run("reconstruct", ewald="+"), "Russo", True),
    ],
)
def test_by_parameters_and_files(of: RunFiles, author: str, used: bool) -> None:
    assert any(author in text for text in citations(of)) == used


def test_every_paper_has_its_doi() -> None:
    assert all("doi:10." in citation.paper for citation in CITATIONS)
    assert citations(run("convert")) == []
