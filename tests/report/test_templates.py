"""The contact sheet: every template in its place with its angles."""

from __future__ import annotations

import torch

from cryotorch.report.style import render
from cryotorch.report.templates import MAX_SHOWN, contact_sheet, shown, view_captions


def test_every_image_has_its_tile_and_its_angles() -> None:
    images = torch.rand(12, 8, 8)
    angles = torch.stack([torch.linspace(-170, 170, 12), torch.linspace(0, 180, 12)], 1)
    figure = contact_sheet(images, view_captions(angles), 4.0, "12 templates")
    (axes,) = figure.axes
    assert len(axes.images) == 12
    assert torch.equal(torch.from_numpy(axes.images[7].get_array().data), images[7])
    captions = [text.get_text() for text in axes.texts]
    assert captions[:2] == ["\N{MINUS SIGN}170°, 0°", "\N{MINUS SIGN}139°, 16°"]
    assert captions[-1] == "5 Å"  # a fifth of 32 Å, in round numbers
    left, right, _, top = axes.images[10].get_extent()  # the second row begins
    assert (left, right) == (0, 1) and top < axes.images[9].get_extent()[2]
    assert len({image.get_clim() for image in axes.images}) == 1
    wide, narrow = render(figure), render(contact_sheet(images[:1], ["1"], 4.0, "1 template"))
    assert wide.width > 2 * narrow.width > 600


def test_long_lists_are_thinned_out_evenly() -> None:
    assert shown(7).tolist() == list(range(7))
    few = shown(1000)
    assert len(few) == MAX_SHOWN and few[0] == 0 and few[-1] == 999
    assert set((few[1:] - few[:-1]).tolist()) == {5, 6}
