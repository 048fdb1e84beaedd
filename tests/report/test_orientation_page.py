from __future__ import annotations

import io

from PIL import Image

from cryotorch.report.orientation_page import Page, Score, page_picture
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
