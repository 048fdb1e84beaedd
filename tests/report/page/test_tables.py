"""Tables hold the numbers of the run, with units, and only what has one."""

from __future__ import annotations

from dataclasses import replace

from cryotorch.report.page import tables
from cryotorch.report.page.run_files import RunFiles


def test_iterations(run: RunFiles) -> None:
    rows = run.summary["history"]
    rows[1]["resolution"] = None
    text = tables.iterations(replace(run, summary={"history": rows}))
    assert '<th class="number">Resolution (Å)</th>' in text and text.count("<tr>") == 5
    assert '<td class="number">30.00</td>' in text and '<td class="number">not claimed</td>' in text
    assert tables.iterations(replace(run, summary={})) == ""


def test_files_are_links_that_hold_whatever_a_name_may_be(run: RunFiles) -> None:
    odd = 'a" onclick="x<b>#1%.mrc'
    text = tables.files(replace(run, files=((odd, 1_234_567), ("map.mrc", 12))))
    assert 'href="./a%22%20onclick%3D%22x%3Cb%3E%231%25.mrc"' in text and "<b>" not in text
    more = tables.files(replace(run, files=(("plots/it's 50%.png", 1), ("é\udcff.mrc", 1))))
    assert 'href="./plots/it%27s%2050%25.png"' in more and 'href="./%C3%A9%FF.mrc"' in more
    assert "1.2 MB" in text and "12 B" in text and "ChimeraX" in text


def test_what_opens_a_file() -> None:
    assert tables.opens("plots/fsc.png")[0] == "any viewer of pictures"
    assert tables.opens("tensorboard/events.out.tfevents.1.vm.2")[0].startswith("tensorboard")
    assert tables.opens("unknown.bin") == ("", "")


def test_lists_of_a_summary(run: RunFiles) -> None:
    starts = [{"number": 1, "score": 1.234, "agreement_with_best": 0.5, "private": 9}]
    ((title, text),) = tables.summary_lists(replace(run, summary={"starts": starts}))
    assert title == "Starts" and "1.23" in text and "private" not in text and ">9<" not in text
    classes = {"share": [0.25, 0.75], "resolution": [12.0, None], "effective_particles": [25, 75.2]}
    ((title, text),) = tables.summary_lists(replace(run, summary=classes))
    assert title == "Classes" and "Resolution (Å)" in text and ">25.0<" in text and ">–<" in text
    assert tables.summary_lists(replace(run, summary={"steps": [3], "share": [1.0]})) == []
