"""Particles as tensors: rows, copies, batches, and optics without their aberrations."""

from __future__ import annotations

import torch

from cryotorch.particles import Batch, Optics, ignore, unposed


def optics(groups: int = 2, **more: torch.Tensor) -> Optics:
    return Optics(*(torch.full((groups,), v) for v in (300.0, 2.7, 0.1, 1.5)), **more)


def test_particles_without_a_pose() -> None:
    found = unposed(3, optics())
    assert len(found) == 3 and not found.has_pose
    assert torch.equal(found.rotation, torch.eye(3).repeat(3, 1, 1))
    assert found.half.tolist() == [-1] * 3 and found.scale.tolist() == [1.0] * 3
    assert found.address.tolist() == [[0, 0], [0, 1], [0, 2]]
    assert not found.shift.any() and not found.pose_sigma.any() and found.bfactor is None


def test_rows_take_every_column_with_them() -> None:
    some = unposed(6, optics()).replace(
        scale=torch.arange(6.0), optics_group=torch.arange(6) % 2, bfactor=10 * torch.arange(6.0)
    )
    for rows in (torch.tensor([4, 1]), torch.arange(6) == 2):
        part = some[rows]
        assert torch.equal(part.scale, some.scale[rows])
        assert torch.equal(part.bfactor, some.bfactor[rows])
        assert torch.equal(part.address, some.address[rows]) and part.origin is None
        assert part.optics is some.optics and len(part) == len(part.shift)


def test_copies_leave_the_first_as_it_was() -> None:
    first = unposed(2, optics())
    other = first.replace(
        scale=torch.tensor([2.0, 3.0]), optics=first.optics.replace(mtf=torch.ones(2, 4))
    )
    assert first.scale.tolist() == [1, 1] and first.optics.mtf is None
    assert other.optics.mtf.shape == (2, 4) and other.rotation is first.rotation


def test_tensors_and_optics_move_to_a_device_together() -> None:
    moved = unposed(2, optics(mtf=torch.ones(2, 4))).to("meta")
    assert {moved.rotation.device.type, moved.optics.mtf.device.type} == {"meta"}
    assert moved.optics.beam_tilt is None and not moved.has_pose


def test_aberrations_are_left_out_one_by_one() -> None:
    """Places in RELION's lists: the odd ones of tilt are 1, 2, 4, 5 and of trefoil 3, 6."""
    given = optics(
        beam_tilt=torch.ones(2, 2),
        odd_zernike=torch.ones(2, 6),
        even_zernike=torch.ones(2, 9),
        magnification=torch.eye(2).repeat(2, 1, 1),
    )
    none = ignore(given)
    assert all(getattr(none, k) is v for k, v in vars(given).items())
    tilt = ignore(given, tilt=True)
    assert tilt.beam_tilt is None and tilt.odd_zernike[0].tolist() == [0, 0, 1, 0, 0, 1]
    trefoil = ignore(given, trefoil=True)
    assert trefoil.odd_zernike[1].tolist() == [1, 1, 0, 1, 1, 0] and trefoil.beam_tilt is not None
    tetra = ignore(given, tetra=True)
    assert tetra.even_zernike[0].tolist() == [1, 1, 1, 1, 0, 0, 1, 0, 0]
    assert ignore(given, anisomag=True).magnification is None
    assert given.odd_zernike.min() == 1  # the given ones stay
    short = ignore(optics(odd_zernike=torch.ones(2, 2)), tilt=True, trefoil=True)
    assert short.odd_zernike.tolist() == [[0, 0]] * 2


def test_a_part_of_a_batch() -> None:
    batch = Batch(torch.arange(5), torch.arange(5.0)[:, None, None], 1)
    part = batch.part(slice(1, 3))
    assert part.index.tolist() == [1, 2] and part.images.flatten().tolist() == [1, 2]
    assert part.half == 1 and batch.to("meta").images.device.type == "meta"
    assert batch.to("meta").pin_memory().half == 1
