"""Sections are there where there is something to show, and compare what differs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cryotorch.report.page import sections
from cryotorch.report.page.gathered import Command, Parameter, RunPage, gather
from cryotorch.report.page.run_files import RunFiles, read_run


def test_an_empty_folder_has_few(tmp_path: Path) -> None:
    runs = [gather(RunPage(read_run(tmp_path)))]
    empty = (sections.fsc, sections.maps, sections.particles, sections.iterations, sections.citations)  # fmt: skip
    assert [part(runs) for part in empty] == [""] * 5
    assert sections.parameters([]) == "" and sections.log(runs[0].page.run) == ""


def test_changed_parameters_come_first_and_are_marked() -> None:
    rows = [Parameter("seed", "0", "0", False, "Of chance."), Parameter("b", "5", "4", True, "")]
    text = sections.parameters(rows)
    assert text.index(">b<") < text.index("<details>") < text.index(">seed<")
    assert text.count("class=changed") == 1 and text.startswith("<p>1 of 2 differ")


def test_parameters_of_several_runs(run: RunFiles) -> None:
    first = [Parameter("a", "1", "1", False, ""), Parameter("b", "2", "2", False, ""), Parameter("c", "9", "3", True, "")]  # fmt: skip
    second = [Parameter("a", "7", "1", True, ""), Parameter("b", "2", "2", False, ""), Parameter("c", "9", "3", True, "")]  # fmt: skip
    runs = [gather(RunPage(run, parameters=rows), 2) for rows in (first, second)]
    text = sections.parameters_of(runs)
    assert ">a<" in text and ">b<" not in text and ">c<" in text
    assert text.count("class=changed") == 1  # c differs from its default, but not between the runs


def test_headline_and_commands(run: RunFiles) -> None:
    of = gather(RunPage(run, commands=[Command("Go", "cryotorch job=a b='<c>'")]))
    assert "b=&#x27;&lt;c&gt;&#x27;" in sections.commands([of])
    text = sections.headline(of)
    assert "<b>9.41 Å</b>" in text and "warning" not in text
    doubted = replace(of, page=replace(of.page, run=replace(run, summary={**run.summary, "warnings": ["Look <out>"]})))  # fmt: skip
    assert '<p class="warning">Look &lt;out&gt;</p>' in sections.headline(doubted)
    both = sections.headline_table([of, doubted])
    assert both.count("9.41 Å") == 2 and "Look &lt;out&gt;" in both and ">none<" in both
