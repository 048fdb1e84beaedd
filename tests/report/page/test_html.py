"""The page as a reader meets it: opened in a browser without network, used by pointer and keys, in light and dark, on a phone."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cryotorch.report.page.gathered import Command, Parameter, RunPage, gather
from cryotorch.report.page.html import ASSETS, page_html
from cryotorch.report.page.run_files import RunFiles
from cryotorch.results import IterationResult

EVIL = '<img src=x onerror="document.title=1"></script><script>alert(1)</script>'
INK = "(c) => { const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let n = 0; for (let k = 3; k < d.length; k += 4) n += d[k] > 0; return n / (c.width * c.height); }"


def write_page(path: Path, *runs: RunFiles) -> Path:
    """A page of runs with what a job would say of them."""
    rows = [Parameter("symmetry", "C4", "C1", True, "Point group."), Parameter("seed", "0", "0", False, "Of chance.")]  # fmt: skip
    said = ("Refines.", rows, [Command("Sharpen", "cryotorch job=sharpen volume='a b'")], ["Someone 1999"])  # fmt: skip
    made = [gather(RunPage(run, *said), len(runs), k) for k, run in enumerate(runs)]
    path.write_text(page_html("A run", made), encoding="utf-8")
    return path


@pytest.fixture
def page(run: RunFiles, tmp_path: Path) -> Path:
    return write_page(tmp_path / "page.html", run)


def keep(path: Path) -> None:
    """Screenshots stay where they are asked for, to be looked at."""
    if folder := os.environ.get("CRYOTORCH_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / path.name).write_bytes(path.read_bytes())


def test_one_file_that_loads_nothing(page: Path) -> None:
    """No address of another file or machine but links to the run's own, and a policy that forbids any."""
    text = page.read_text(encoding="utf-8")
    assert "default-src 'none'" in text and text.count("<script") == 2
    assert not re.search(r"""(?:src|href)=["'](?!data:|#|\./)""", text)
    assert not re.search(r"https?://(?!www\.w3\.org)", text)
    assert len(text) < 1_000_000


def test_words_of_files_are_never_markup(
    result: IterationResult, write: Callable[..., RunFiles], tmp_path: Path
) -> None:
    run = write(tmp_path / EVIL.replace("/", "")[:40], result, device=EVIL)
    evil = replace(run, job=EVIL, log=(EVIL,), files=((EVIL, 3),), config={EVIL: EVIL})
    evil.summary["warnings"] = [EVIL]
    text = write_page(tmp_path / "page.html", evil).read_text(encoding="utf-8")
    assert "<img src=x" not in text and "<script>alert" not in text
    assert text.count("</script>") == 2


def test_everything_is_drawn_without_network_and_without_errors(page: Path, browser) -> None:
    browser.open(page)
    assert browser.errors == []
    assert all(url.startswith(("file:", "data:", "blob:")) for url in browser.requests)
    assert browser.run("document.querySelectorAll('[data-draw] canvas').length") >= 12
    for kind, least in dict(fsc=0.03, history=0.02, slices=0.99, orientations=0.3).items():
        ink = browser.run(f"[...document.querySelectorAll('[data-draw={kind}] canvas')].map({INK})")
        assert min(ink) > least, kind
    triangles = browser.run("document.querySelector('[data-draw=surface] .note').textContent")
    assert int(re.search(r"([\d,]+) triangles", triangles)[1].replace(",", "")) > 500
    assert browser.run("document.querySelectorAll('table tbody tr').length") > 10
    assert browser.run("document.documentElement.scrollWidth") <= 1280


def test_the_surface_shows_what_is_there(page: Path, browser, tmp_path: Path) -> None:
    """Pixels of the mesh: some of the canvas, not all of it, and others when it is turned by a key and by the pointer."""
    browser.open(page)
    pixels = (
        "(() => { const c = document.querySelector('[data-draw=surface] canvas'), g = c.getContext('webgl2'), "
        "d = new Uint8Array(4 * c.width * c.height); g.readPixels(0, 0, c.width, c.height, g.RGBA, g.UNSIGNED_BYTE, d); "
        "let n = 0, sum = 0; for (let k = 0; k < d.length; k += 4) { n += d[k + 3] > 0; sum = (sum * 31 + d[k] + d[k + 1]) % 1000003; } "
        "return [n / (c.width * c.height), sum]; })()"
    )
    share, first = browser.run(pixels)
    assert 0.03 < share < 0.8
    browser.run("document.querySelector('[data-draw=surface] canvas').focus()")
    browser.key("ArrowRight")
    _, second = browser.run(pixels)
    where = "[data-draw=surface] canvas"
    browser.move(where, 0.4, 0.5, "mousePressed", button="left", buttons=1, clickCount=1)
    browser.move(where, 0.6, 0.5, buttons=1)
    browser.move(where, 0.6, 0.5, "mouseReleased", button="left", clickCount=1)
    _, third = browser.run(pixels)
    assert len({first, second, third}) == 3


def test_the_cursor_tells_angstrom_and_values(page: Path, browser, result: IterationResult) -> None:
    """By pointer and by arrow keys; the numbers are those of the curves."""
    browser.open(page)
    browser.move("[data-draw=fsc] canvas", 0.5, 0.5)
    read = "document.querySelector('[data-draw=fsc] .read').textContent"
    assert re.search(r"[\d.]+ Å \([\d.]+ 1/Å\): .*Corrected 0\.\d{3}", browser.run(read))
    browser.move("[data-draw=fsc] canvas", 0.5, 1.5)
    browser.run("document.querySelector('[data-draw=fsc] canvas').focus()")
    for _ in range(9):
        browser.key("ArrowRight")
    edge = result.map.shape[-1] * result.pixel_size
    value = float(result.curves["corrected"][8])
    assert browser.run(read).startswith(f"{edge / 8:.2f} Å ({8 / edge:.4f} 1/Å)")
    assert f"Corrected {value:.3f}" in browser.run(read)


def test_toggles_and_iterations(page: Path, browser, result: IterationResult) -> None:
    browser.open(page)
    ink = f"({INK})(document.querySelector('[data-draw=fsc] canvas'))"
    toggle = "[...document.querySelectorAll('[data-draw=fsc] .legend button')].find((b) => b.textContent.startsWith('No mask'))"
    before = browser.run(ink)
    browser.run(f"{toggle}.click()")
    assert browser.run(f"{toggle}.getAttribute('aria-pressed')") == "false"
    assert browser.run(ink) < before
    slide = "document.querySelector('[data-draw=fsc] input')"
    browser.run(f"{slide}.value = 0; {slide}.dispatchEvent(new Event('input'))")
    assert browser.run(f"{slide}.parentNode.textContent") == "Iteration1 of 3"
    browser.run("document.querySelector('[data-draw=fsc] canvas').focus()")
    for _ in range(5):
        browser.key("ArrowRight")
    text = browser.run("document.querySelector('[data-draw=fsc] .read').textContent")
    third = float(result.curves["corrected"][4]) / 3  # in the first iteration, see ``write_run``
    assert f"Corrected {third:.3f}"[:-1] in text


def test_sliders_move_through_the_map(page: Path, browser, result: IterationResult) -> None:
    """The slice on the canvas is that of the map: where the ball lies it is white, at the end of the box grey."""
    browser.open(page)
    middle = "(() => { const c = document.querySelector('[data-draw=slices] canvas'); return c.getContext('2d').getImageData(c.width * (16 + 5) / 32, c.height / 2, 1, 1).data[0]; })()"
    inside = browser.run(middle)
    slide = "document.querySelector('[data-draw=slices] .panel input')"
    browser.run(f"{slide}.focus()")
    browser.key("End")
    browser.run(f"{slide}.value = 1; {slide}.dispatchEvent(new Event('input'))")
    shown = browser.run(f"{slide}.parentNode.textContent")
    assert shown == f"z = {15 * result.pixel_size:.1f} Å"
    assert inside > 240 and browser.run(middle) < 60


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("dark", [False, True])
def test_light_and_dark_on_a_desk_and_a_phone(
    width: int, dark: bool, page: Path, browser, tmp_path: Path
) -> None:
    """Nothing is wider than the screen, the background is as asked for, and the curves change with it."""
    browser.open(page, width, dark=dark)
    assert browser.run("document.documentElement.scrollWidth") <= width
    path = browser.screenshot(tmp_path / f"page_{width}_{'dark' if dark else 'light'}.png")
    keep(path)
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("L"))
    assert image.width == width and image.height > 2000
    assert (np.median(pixels) < 60) == dark
    browser.run("document.getElementById('theme').click()")
    with Image.open(browser.screenshot(tmp_path / "other.png")) as other:
        assert (np.median(np.asarray(other.convert("L"))) < 60) != dark


@pytest.mark.parametrize("dark", [False, True])
def test_on_paper(dark: bool, page: Path, browser, tmp_path: Path) -> None:
    """White sheets, few of them, with everything on them but what is there to be clicked; curves that were switched off stay off."""
    pdfium = pytest.importorskip("pypdfium2", reason="needs pypdfium2 to read a PDF file")
    browser.open(page, dark=dark)
    toggle = "[...document.querySelectorAll('[data-draw=fsc] .legend button')].find((b) => b.textContent.startsWith('No mask'))"
    browser.run(f"{toggle}.click()")
    width = browser.run("document.querySelector('[data-draw=fsc] canvas').clientWidth")
    path = browser.pdf(tmp_path / f"paper_{'dark' if dark else 'light'}.pdf")
    keep(path)
    document, text, pictures = pdfium.PdfDocument(path), "", 0
    assert 3 <= len(document) <= 8
    for sheet in document:
        pixels = np.asarray(sheet.render(scale=1).to_pil().convert("L"))
        assert np.median(pixels) == 255 and pixels[:20].min() == pixels[:, :20].min() == 255
        words = sheet.get_textpage()
        text += words.get_text_bounded()
        places = [words.get_rect(k) for k in range(words.count_rects())]
        rights = [p[2] for p in places if len(words.get_text_bounded(*p)) > 2]  # no ligatures
        assert max(rights, default=0) < sheet.get_width() - 20  # nothing is cut off
        for found in sheet.get_objects(filter=[pdfium.raw.FPDF_PAGEOBJ_IMAGE]):
            assert np.ptp(np.asarray(found.get_bitmap().to_pil().convert("L"))) > 40
            pictures += 1
    assert pictures >= 6  # three slices, the surface, the sphere and its map at least
    for shown in (
        "9.41 Å",
        "Corrected, 9.41 Å",
        "z = 0.0 Å",
        "What opens it",
        "cryotorch job=sharpen",
    ):
        assert shown in text, shown
    for hidden in ("Light or dark", "Copy", "No mask", "The last lines of log.txt", "Outline of"):
        assert hidden not in text, hidden
    assert browser.run("document.querySelector('[data-draw=fsc] canvas').clientWidth") == width


def test_runs_side_by_side(
    run: RunFiles,
    result: IterationResult,
    write: Callable[..., RunFiles],
    browser,
    tmp_path: Path,
) -> None:
    other = write(tmp_path / "other", replace(result, resolution=float("nan"), final=True))
    page = write_page(tmp_path / "both.html", run, other)
    browser.open(page)
    assert browser.errors == []
    cells = browser.run("[...document.querySelectorAll('.compared tr')].map((r) => r.textContent)")
    assert any("9.41 Å" in text and "no resolution is claimed" in text for text in cells)
    assert browser.run("document.querySelectorAll('[data-draw=slices] canvas').length") == 2
    assert browser.run("document.querySelectorAll('[data-draw=surface] canvas').length") == 2
    keep(browser.screenshot(tmp_path / "both.png"))
    browser.open(write_page(tmp_path / "silent.html", other))
    said = browser.run("document.querySelector('[data-draw=fsc]').textContent")
    assert "Corrected, nothing to claim" in said and "No resolution is claimed" in said
    assert "Å (not corrected)" not in said  # no number where nothing can be claimed


def test_figures_stand_in_where_no_script_runs(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    plain = re.search(r'data-draw="fsc".*?<noscript>(.*?)</noscript>', text, re.DOTALL)[1]
    assert '<img alt="FSC, made" src="data:image/png;base64,' in plain


def test_the_assets_are_part_of_the_package() -> None:
    from importlib.resources import files

    assert all(files("cryotorch.report.page").joinpath(name).is_file() for name in ASSETS)
