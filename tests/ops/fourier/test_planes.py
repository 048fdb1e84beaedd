"""Turned copies and sums of turned images, against closed forms and against each other."""

from __future__ import annotations

import math

import pytest
import torch

from cryotorch.ops.fourier.planes import (
    PADDING,
    images_of,
    moved,
    planes,
    radius_of,
    reach_of,
    turn_back,
    turned,
    turns,
)
from cryotorch.ops.fourier.slices import extract_slices, gridding_line, projector
from cryotorch.ops.fourier.transforms import half_plane, pack, unpack
from cryotorch.ops.geometry.rotations import euler_to_matrix

BOX, LIMIT = 48, 16


def blob(x: float, y: float, box: int = BOX, width: float = 2.5) -> torch.Tensor:
    line = torch.arange(box, dtype=torch.float64) - box // 2
    return (-((line - x) ** 2 + (line[:, None] - y) ** 2) / (2 * width**2)).exp().float()


def places(angles: list[float], box: int = BOX, limit: float = LIMIT):
    count = half_plane(box).count(limit)
    return turns(torch.tensor(angles), count, box, reach_of(limit, box)), count


def test_a_blob_off_centre_lies_where_its_pose_says() -> None:
    """A pose of psi puts the point (x, y) of the average at R (x, y): R = (cos sin; -sin cos)."""
    at, count = places([0.4, 0.7, 2.9])
    found = turned(planes(blob(9, -4)[None], at.reach), at)[0]
    for psi, spectrum in zip(at.angle.tolist(), found, strict=True):
        c, s = math.cos(psi), math.sin(psi)
        wanted = pack(blob(c * 9 - s * 4, -s * 9 - c * 4))[:count]
        assert float((spectrum - wanted).norm() / wanted.norm()) < 0.02


def test_as_the_slices_of_a_volume() -> None:
    """The projection of a flat volume, turned by the pose (0, 0, psi)."""
    torch.manual_seed(0)
    image = torch.zeros(24, 24)
    image[7:17, 6:18] = torch.randn(10, 12)
    volume = torch.zeros(24, 24, 24)
    volume[12] = image
    at, count = places([0.3, 1.9], 24, 8)
    zero = torch.zeros(2)
    rotation = euler_to_matrix(zero, zero, at.angle)
    wanted = extract_slices(projector(volume), rotation, half_plane(24).frequency[:count])
    found = turned(planes(image[None], at.reach), at)[0]
    assert float((found - wanted).norm() / wanted.norm()) < 5e-3


def test_turning_back_is_the_adjoint() -> None:
    """<turned p, u> = <p, turn_back u> for planes p of real images, with k and -k both counted."""
    torch.manual_seed(0)
    at, count = places([0.1, 0.9, 2.2])
    p = planes(torch.randn(2, BOX, BOX), at.reach)
    u = torch.randn(2, 3, count, dtype=torch.complex64)
    left = 2 * float((turned(p, at).conj() * u).real.sum(dtype=torch.float64))
    right = float((p.conj() * turn_back(u, at)).real.sum(dtype=torch.float64))
    assert left == pytest.approx(right, rel=1e-4)


def test_turned_copies_give_their_average_back() -> None:
    at, count = places(torch.linspace(0, math.pi, 41)[:-1].tolist())
    image = blob(7, 3) - 0.6 * blob(-5, 8) + 0.3 * blob(-2, -9)
    spectra = turned(planes(image[None], at.reach), at)
    sums, weight = turn_back(spectra, at), turn_back(torch.ones(1, 40, count), at)
    found = images_of(sums / weight.clamp_min(1e-3 * float(weight.max())), BOX)[0]
    wanted = unpack(pack(image)[: half_plane(BOX).count(BOX)], BOX)
    difference = pack(found) - pack(wanted)
    inside = half_plane(BOX).radius < LIMIT - 1
    assert float(difference[inside].norm() / pack(wanted)[inside].norm()) < 0.06


@pytest.mark.parametrize("limit", [16.0, 23.9])
def test_both_ways_divide_by_the_interpolation(limit: float) -> None:
    image, line = blob(5, -7), gridding_line(BOX, PADDING * BOX) ** 2
    found = images_of(planes((image * line[:, None] * line)[None], reach_of(limit, BOX)), BOX)[0]
    assert torch.allclose(found, image, atol=2e-3)


def test_a_plane_is_moved() -> None:
    plane = planes(blob(2, 1)[None], reach_of(20, BOX))
    found = images_of(moved(plane, torch.tensor([[3.0, -2.5]]), BOX), BOX)
    assert torch.allclose(found[0], blob(5, -1.5), atol=0.04)


def test_radius_in_fourier_pixels() -> None:
    radius = radius_of(4)
    assert radius.shape == (81,) and float(radius[0]) == pytest.approx(math.sqrt(8))
    assert float(radius[40]) == 0.0 and float(radius[41]) == 0.5
