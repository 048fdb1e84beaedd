from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from cryotorch.report import maps
from cryotorch.results import IterationResult


def test_slices_and_projections_show_the_same_planes() -> None:
    volume = torch.zeros(8, 8, 8)
    volume[4, 5, 6] = 1  # z = 0, y = 1, x = 2 from the origin
    xy, xz, yz = maps.central_slices(volume)
    assert xy[5, 6] == 1 and xy.sum() == 1
    assert xz.sum() == 0 and yz.sum() == 0
    xy, xz, yz = maps.central_slices(volume, through=(6, 5, 4))
    assert xy[5, 6] == 1 and xz[4, 6] == 1 and yz[4, 5] == 1
    xy, xz, yz = maps.projections(volume)
    assert xy[5, 6] == 1 and xz[4, 6] == 1 and yz[4, 5] == 1


def test_gallery_holds_all_images_with_common_limits_per_row(result: IterationResult) -> None:
    axes = maps.slices(result).axes[0]
    images = axes.get_images()
    assert len(images) == 9
    np.testing.assert_array_equal(images[1].get_array(), result.map[:, 16].numpy())
    np.testing.assert_array_equal(images[3].get_array(), result.map_sharp[16].numpy())
    np.testing.assert_array_equal(images[8].get_array(), result.map.sum(2).numpy())
    for row in range(3):
        assert len({image.get_clim() for image in images[3 * row : 3 * row + 3]}) == 1
    labels = {t.get_text() for t in axes.texts}
    assert {"xy", "xz", "yz", "Map, slices", "Sharpened, slices", "10 Å"} <= labels


def test_a_map_that_was_not_sharpened_is_not_called_so(result: IterationResult) -> None:
    plain = replace(result, guinier=replace(result.guinier, bfactor=None, applied=0.0))
    labels = {t.get_text() for t in maps.slices(plain).axes[0].texts}
    assert "Filtered, not sharpened" in labels and "Sharpened, slices" not in labels
    blurred = replace(result, guinier=replace(result.guinier, applied=50.0))
    assert "Blurred, slices" in {t.get_text() for t in maps.slices(blurred).axes[0].texts}


def test_mask_figure_outlines_the_soft_edge(result: IterationResult) -> None:
    axes = maps.masks(result).axes[0]
    outlines = [c for c in axes.collections if hasattr(c, "levels")]
    assert len(axes.get_images()) == 12 and len(outlines) == 6
    assert [list(c.levels) for c in outlines] == [[0.01, 0.5, 0.99]] * 6
    # The mask falls from 1 at 11 to 0 at 14 pixels: 0.5 at 12.5, in tiles of 32 pixels with the origin in pixel 16.
    half = outlines[0].get_paths()[1].vertices - np.array([16.5, 16.5]) / 32
    np.testing.assert_allclose(np.hypot(*half.T), 12.5 / 32, rtol=0.02)


def test_without_refinement_mask_one_row_is_drawn(result: IterationResult) -> None:
    axes = maps.masks(replace(result, mask_refine=None)).axes[0]
    assert len(axes.get_images()) == 6
    share = float(result.mask_fsc.double().mean())
    assert f"FSC mask (tight), {share:.1%}" in {t.get_text() for t in axes.texts}
