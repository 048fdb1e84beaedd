"""Before anything is inserted: hands, poses that are missing, padding that fits."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from cryotorch.errors import InputError
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.reconstruction import from_poses
from cryotorch.ops.geometry.rotations import euler_to_matrix
from cryotorch.particles import Optics, unposed

OPTICS = Optics(torch.tensor([300.0]), torch.zeros(1), torch.tensor([0.1]), torch.tensor([2.0]))


def test_the_other_hand_of_the_other_hand_is_the_first() -> None:
    """A mirrored map has the poses of the same images, half a turn apart in tilt."""
    angles = torch.tensor([0.3, 1.1]), torch.tensor([0.7, 2.0]), torch.tensor([2.0, -0.4])
    given = replace(unposed(2, OPTICS), rotation=euler_to_matrix(*angles), has_pose=True)
    other = from_poses.other_hand(given)
    assert torch.allclose(torch.linalg.det(other.rotation.double()), torch.ones(2).double())
    assert not torch.allclose(other.rotation, given.rotation, atol=0.1)
    again = from_poses.other_hand(other)
    assert torch.allclose(again.rotation.float(), given.rotation.float(), atol=1e-6)


def test_padding_follows_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    images, cpu = SimpleNamespace(box=64, pixel_size=2.0), torch.device("cpu")
    settings = make_settings("reconstruct")
    need = from_poses.BYTES_PER_VOXEL * 128**3
    monkeypatch.setattr(from_poses, "require_room", lambda *given: None)
    for there, padding in ((2 * need + 2, 2), (2 * need, 1)):
        monkeypatch.setattr(from_poses, "memory_of", lambda device, there=there: there)
        assert from_poses._padding(settings, images, cpu) == padding
    with pytest.raises(InputError, match="the box is only 128 Å wide"):
        from_poses._padding(replace(settings, particle_diameter=200.0), images, cpu)


def test_poses_are_needed() -> None:
    with pytest.raises(InputError, match=r"has no orientations .*job=homo_refine"):
        from_poses._check_poses(make_settings("reconstruct", particles="a.star"), False)
