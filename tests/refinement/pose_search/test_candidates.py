"""Of the poses that a search has met the best stay, each once, and others only where they are hardly worse."""

from __future__ import annotations

import torch

from cryotorch.ops.geometry.rotations import from_rotation_vector, random_rotations
from cryotorch.refinement.pose_search.candidates import (
    CLIMB_CUTOFF,
    SCORE_CUTOFF,
    single_candidate,
    thin_out,
    worth_a_climb,
)


def test_thinning_keeps_the_best_and_drops_copies() -> None:
    """Two images with four candidates: of the second's the best two are the same pose."""
    rotation = random_rotations(8, torch.Generator().manual_seed(5))
    rotation[6] = from_rotation_vector(torch.tensor([0.002, 0, 0])) @ rotation[4]
    shift, image = torch.zeros(8, 2), torch.tensor([0] * 4 + [1] * 4)
    score = torch.tensor([1.0, 4, 3, 2, 9, 1, 8, 5])
    assert thin_out(score, rotation, shift, image, 2).tolist() == [1, 2, 4, 7]
    assert thin_out(score, rotation, shift, image, 1).tolist() == [1, 4]
    shift[6] = torch.tensor([2.0, 0])  # elsewhere, so no copy
    assert thin_out(score, rotation, shift, image, 2).tolist() == [1, 2, 4, 6]
    assert thin_out(score, rotation, shift, image, 9).tolist() == [1, 2, 3, 0, 4, 6, 7, 5]
    # images may have kept different numbers before
    rows = torch.tensor([1, 3, 4, 5, 6])
    assert thin_out(score[rows], rotation[rows], shift[rows], image[rows], 2).tolist() == [
        0,
        1,
        2,
        4,
    ]
    score[[2, 5]] -= 2 * SCORE_CUTOFF
    assert thin_out(score, rotation, shift, image, 9).tolist() == [1, 3, 0, 4, 6, 7]
    score[7] = (
        9 - CLIMB_CUTOFF - 0.1
    )  # nearly as good as the best is what a candidate beyond the sure ones must be
    assert thin_out(score, rotation, shift, image, 9, sure=1).tolist() == [1, 3, 0, 4, 6]


def test_candidates_beyond_the_sure_ones_must_be_close() -> None:
    score = torch.tensor([[20.0, 10, 9, 8], [20, 19, 15, 13.9]])
    stays = worth_a_climb(score, 2).tolist()
    assert stays == [[True, True, False, False], [True, True, True, False]]
    assert single_candidate(torch.tensor([0, 1, 1, 3]), 4).tolist() == [True, False, False, True]
