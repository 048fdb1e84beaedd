"""The compiled loops against the tensor operations they stand for."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from cryotorch.ops.fourier.slices import (
    accumulator,
    extract_slices,
    insert_slices_,
    projector,
    sample,
    slice_coordinates,
)
from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.ops.geometry.rotations import random_rotations
from cryotorch.ops.pose.scores import Observation, gram_of_tensors, pose_terms
from cryotorch.refinement.pose_search.search import ascend

BOX = 20
STRETCH = torch.tensor(
    [[[1.02, 0.01], [0.0, 0.97]], [[0.99, 0.0], [0.02, 1.01]], [[1.0, 0], [0, 1]]]
)


@pytest.mark.parametrize("kind", ["shared", "deep", "each", "each and deep"])
@pytest.mark.parametrize("limit", [4.0, 10.0])
def test_slices(kind, limit, points, threads, draw):
    table = projector(torch.randn(BOX, BOX, BOX, generator=draw), limit)
    rotation, frequency = random_rotations(5, draw), points(kind, BOX)
    frequency = frequency[..., : half_plane(BOX).count(limit - 1), :]
    found = extract_slices(table, rotation, frequency)
    expected = sample(table, slice_coordinates(rotation, frequency))
    assert torch.allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("stretched", [False, True])
@pytest.mark.parametrize("limit", [3.0, 9.5])
def test_products_of_poses(limit, stretched, threads, draw):
    m, b, k = half_plane(BOX).count(limit), 3, 2
    seen = Observation(
        torch.randn(b, m, dtype=torch.complex64, generator=draw),
        torch.randn(b, m, generator=draw),
        0.5 + torch.rand(b, m, generator=draw),
        BOX,
        STRETCH if stretched else None,
    )
    table = projector(torch.randn(BOX, BOX, BOX, generator=draw), limit)
    poses = (
        torch.arange(b).repeat_interleave(k),
        random_rotations(b * k, draw),
        torch.randn(b * k, 2, generator=draw),
    )
    found, expected = pose_terms(table, seen, *poses).gram, gram_of_tensors(table, seen, *poses)
    length = expected.diagonal(dim1=1, dim2=2).sqrt()
    error = (found - expected).abs() / (length[:, :, None] * length[:, None])
    assert float(error.max()) < 1e-5
    assert torch.equal(found, found.mT)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e38])
def test_numbers_that_are_not_finite_lead_nowhere_else(value, draw):
    """Images, maps and poses of such numbers: the loops end, inside their arrays, and without an exception."""
    m, b = half_plane(BOX).count(9.5), 3
    spectrum = torch.randn(b, m, dtype=torch.complex64, generator=draw)
    rotation, shift = random_rotations(b, draw), torch.randn(b, 2, generator=draw)
    table = projector(torch.randn(BOX, BOX, BOX, generator=draw), 9.5)
    spoilt = torch.full_like(rotation, value)
    for pose in ((rotation, shift), (spoilt, shift), (rotation, torch.full_like(shift, value))):
        for filled in (spectrum, torch.full_like(spectrum, complex(value, value))):
            gain = torch.ones(b, m)
            seen = Observation(filled, gain, gain, BOX, None)
            ascend(table, seen, torch.arange(b), *pose, steps=3)
            extract_slices(table, pose[0], half_plane(BOX).frequency[:m])
            around = accumulator(BOX, 2)
            insert_slices_(around, filled, gain, pose[0], half_plane(BOX).frequency[:m])
            assert around.sums.shape == accumulator(BOX, 2).sums.shape


FIRST = """
import torch
from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.ops.pose.scores import Observation, pose_terms
from cryotorch.ops.geometry.rotations import random_rotations
from cryotorch.ops.fourier.slices import projector
from cryotorch.refinement.pose_search.search import ascend

torch.manual_seed(0)
slices, m = projector(torch.randn(24, 24, 24), 10), half_plane(24).count(10)
spectrum = 50 * torch.randn(8, m, dtype=torch.complex64)
seen = Observation(spectrum, torch.randn(8, m), 1e-4 * torch.rand(8, m), 24)
image = torch.arange(8)
terms, rotation, shift = ascend(slices, seen, image, random_rotations(8), torch.randn(8, 2), 4)
again = pose_terms(slices, seen, image, rotation, shift)
print([t.double().sum().item().hex() for t in (terms.gram, again.gram, rotation, shift)])
"""


@pytest.mark.slow
def test_the_process_that_compiles_computes_what_later_ones_do(tmp_path):
    """To the bit: a refinement on a new machine is that of its repetition."""
    place = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    first, later = (
        subprocess.run(
            [sys.executable, "-c", FIRST], env=place, capture_output=True, check=True
        ).stdout
        for _ in range(2)
    )
    assert first == later and first
