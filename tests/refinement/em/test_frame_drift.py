"""The frame's drift is measured against the first poses, and taken out."""

from __future__ import annotations

import pytest
import torch

from cryotorch.ops.geometry.rotations import from_rotation_vector, random_rotations, rotation_angle
from cryotorch.ops.geometry.symmetry import point_group
from cryotorch.refinement.em.frame_drift import Drift, estimate_drift, remove_drift

TURN, MOVE = torch.tensor([0.01, -0.02, 0.03]), torch.tensor([0.4, -0.3, 0.8])


def drifted(n: int = 400, noise: float = 0.02):
    """Anchor poses, and the same in a frame turned by TURN and moved by MOVE, with errors and five strays."""
    draw = torch.Generator().manual_seed(0)
    anchor, anchor_shift = random_rotations(n, draw), 3 * torch.randn(n, 2, generator=draw)
    error = from_rotation_vector(noise * torch.randn(n, 3, generator=draw))
    rotation = error @ anchor @ from_rotation_vector(TURN)
    shift = anchor_shift + rotation[:, :2] @ MOVE + 0.3 * torch.randn(n, 2, generator=draw)
    rotation[:5], shift[:5] = random_rotations(5, draw), 20.0
    return rotation, shift, anchor, anchor_shift


def test_a_planted_drift_is_found_and_taken_out():
    rotation, shift, anchor, anchor_shift = drifted()
    drift = estimate_drift(rotation, shift, anchor, anchor_shift, point_group("C1"))
    assert torch.allclose(drift.turn, TURN, atol=0.004)
    assert torch.allclose(drift.move, MOVE, atol=0.08)
    back, back_shift = remove_drift(Drift(TURN, MOVE), rotation, shift)
    assert rotation_angle(back, anchor)[5:].median() < 0.04
    assert (back_shift - anchor_shift)[5:].mean(0).norm() < 0.05
    again = estimate_drift(back, back_shift, anchor, anchor_shift, point_group("C1"))
    assert again.turn.norm() < 0.005 and again.move.norm() < 0.1


@pytest.mark.parametrize("name, free", [("C4", [0, 0, 1]), ("D2", [0, 0, 0]), ("T", [0, 0, 0])])
def test_only_what_the_symmetry_leaves_free_can_drift(name, free):
    rotation, shift, anchor, anchor_shift = drifted()
    group = point_group(name)
    mates = anchor @ group.float()[torch.arange(len(anchor)) % len(group)]
    drift = estimate_drift(rotation, shift, mates, anchor_shift, group)
    free = torch.tensor(free, dtype=torch.float32)
    assert torch.allclose(drift.turn, TURN * free, atol=0.004)
    assert torch.allclose(drift.move, MOVE * free, atol=0.08)


def test_nothing_is_measured_where_all_particles_found_other_poses():
    _, shift, anchor, anchor_shift = drifted()
    other = random_rotations(len(anchor), torch.Generator().manual_seed(9))
    drift = estimate_drift(
        other[:20], shift[:20], anchor[:20], anchor_shift[:20], point_group("C1")
    )
    assert drift.turn.norm() == 0 and drift.move.norm() == 0
