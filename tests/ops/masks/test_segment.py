"""Segments of a map: balls that touch or not, labels by size, points."""

from __future__ import annotations

import pytest
import torch

from cryotorch.ops.masks.segment import (
    connected_components,
    labels_at,
    segment_table,
    select_segments,
    watershed,
)


def ball(box: int, centre: tuple[float, float, float], radius: float) -> torch.Tensor:
    """Centre (x, y, z) in voxels from the corner."""
    line = torch.arange(box)
    x, y, z = ((line - c) ** 2 for c in centre)
    return z[:, None, None] + y[:, None] + x <= radius**2


SMALL, LARGE = (10, 12, 14), (28, 20, 24)


@pytest.mark.parametrize("box", [40, 41])
def test_pieces_are_numbered_by_size(box):
    small, large = ball(box, SMALL, 5), ball(box, LARGE, 8)
    labels = connected_components(small | large)
    assert torch.equal(labels == 1, large) and torch.equal(labels == 2, small)
    volume = torch.where(small, 3.0, 2.0)
    first, second = segment_table(labels, volume)
    assert (first.label, first.voxels, first.peak) == (1, int(large.sum()), 2.0)
    assert first.centre == pytest.approx(LARGE) and second.centre == pytest.approx(SMALL)
    assert second.peak == 3.0
    assert labels_at(labels, torch.tensor([SMALL, LARGE])) == [2, 1]
    assert torch.equal(select_segments(labels, [2]), small)
    assert torch.equal(select_segments(labels, [1, 2]), small | large)


def test_pieces_hang_together_by_faces_only():
    region = torch.zeros(4, 4, 4, dtype=torch.bool)
    region[0, 0, :2] = True
    region[1, 1, 1] = True  # touches by an edge
    assert connected_components(region).unique().tolist() == [0, 1, 2]
    assert not connected_components(torch.zeros_like(region)).any()


@pytest.mark.parametrize("box", [48, 49])
@pytest.mark.parametrize("scale", [6.0, 8.0, 12.0])
@pytest.mark.parametrize("flat", [True, False])
def test_a_watershed_separates_two_balls_that_touch(box, scale, flat):
    a, b = ball(box, (16, 24, 22), 8), ball(box, (31, 24, 22), 8)
    union = a | b
    assert int(connected_components(union).max()) == 1
    volume = union.float()
    if not flat:
        generator = torch.Generator().manual_seed(1)
        volume = volume * (1 + 0.1 * torch.randn(volume.shape, generator=generator))
    labels = watershed(volume, union, scale)
    assert int(labels.max()) == 2 and torch.equal(labels > 0, union)
    for centre, own in (((16, 24, 22), a), ((31, 24, 22), b)):
        (label,) = labels_at(labels, torch.tensor([centre]))
        found = labels == label
        assert float((found & own).sum() / (found | own).sum()) > 0.95


def test_a_large_scale_keeps_together_what_a_small_one_cuts():
    union = ball(48, (16, 24, 24), 6) | ball(48, (25, 24, 24), 6)
    assert int(watershed(union.float(), union, 4).max()) == 2
    assert int(watershed(union.float(), union, 30).max()) == 1


def test_every_piece_of_a_watershed_has_a_label():
    """Also one that lies within the reach of a higher maximum."""
    specks = ball(32, (10, 16, 16), 5) | ball(32, (18, 16, 16), 1)
    labels = watershed(specks.float(), specks, 20)
    assert torch.equal(labels > 0, specks) and int(labels.max()) == 2
    assert not watershed(specks.float(), torch.zeros_like(specks), 20).any()


def test_refusals_say_what_there_is():
    labels = connected_components(ball(32, (10, 10, 10), 4))
    with pytest.raises(ValueError, match=r"There is no segment 2: they are numbered 1 to 1"):
        select_segments(labels, [2])
    with pytest.raises(ValueError, match=r"There is no segment 0"):
        select_segments(labels, [0])
    with pytest.raises(
        ValueError, match=r"\(3, 40, 3\) lies outside the box, whose voxels are 0 to 31"
    ):
        labels_at(labels, torch.tensor([[3.0, 40, 3]]))
    with pytest.raises(
        ValueError,
        match=r"\(20, 10, 10\) lies in no segment; the nearest is segment 1 at \(14, 10, 10\), 6.0 voxels",
    ):
        labels_at(labels, torch.tensor([[20.0, 10, 10]]))
    with pytest.raises(ValueError, match="scale of a watershed"):
        watershed(labels.float(), labels > 0, 0)
