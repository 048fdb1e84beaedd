from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

from PIL import Image

from cryotorch.report.orientation_page import Page, Score, page_html, page_picture
from cryotorch.report.style import new_figure, render

PAGE = Page(
    origin="Half maps of <runs> & more",
    scores=[Score("cFAR", "0.31", "even from 0.5 on", False), Score("SCF*", "0.92", "even", True)],
    reading="The resolution depends on the direction.",
    warnings=["Look < twice"],
    facts={"Box": "64 voxels"},
    explanations=["1 / SCF* = <s> <1/s>"],
)
PICTURES = {f"figure_{n}": render(new_figure(4 + n, 2, f"Figure {n}")) for n in (1, 2)}


class Reader(HTMLParser):
    """Tags, the sources of images, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.sources: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.tags.add(tag)
        if tag == "img":
            self.sources.append(dict(attributes)["src"])
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_html_is_whole_and_loads_nothing() -> None:
    html = page_html(PAGE, PICTURES)
    reader = Reader()
    reader.feed(html)
    assert reader.open == []
    assert not reader.tags & {"script", "link", "iframe", "object"}
    assert not re.search(r"https?:|url\(|@import", html)
    for said in (PAGE.origin, "0.31", "0.92", PAGE.reading, "Look < twice", *PAGE.explanations):
        assert said in reader.text
    pngs = [
        base64.b64decode(source.removeprefix("data:image/png;base64,")) for source in reader.sources
    ]
    assert pngs == [picture.png for picture in PICTURES.values()]
    assert html.count('class="score bad"') == html.count('class="score good"') == 1


def test_picture_stacks_head_and_figures() -> None:
    page = page_picture(PAGE, PICTURES)
    with Image.open(io.BytesIO(page.png)) as image:
        assert image.size == (page.width, page.height)
        last = PICTURES["figure_2"]
        tail = image.crop((0, page.height - last.height, last.width, page.height))
        with Image.open(io.BytesIO(last.png)) as wanted:
            assert tail.tobytes() == wanted.tobytes()
    head = page.height - sum(p.height for p in PICTURES.values())
    assert head > 100 and page.width > last.width
