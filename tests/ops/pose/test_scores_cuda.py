"""The fused evaluation of poses agrees with the plain one."""

from __future__ import annotations

import shutil

import pytest
import torch
import torch._inductor.config
from torch._dynamo.utils import counters

from cryotorch.ops.fourier.slices import projector
from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.ops.geometry.rotations import random_rotations
from cryotorch.ops.pose import scores
from cryotorch.ops.pose.scores import Observation, PoseTerms, fused_gram, gram_of_tensors
from cryotorch.ops.pose.scores_cuda import PAIRS, compiled_products, pose_gram_cuda, square

BOX = 16


def scene(limit: float, seed: int = 0):
    draw = torch.Generator().manual_seed(seed)
    m, b, k = half_plane(BOX).count(limit), 3, 2
    seen = Observation(
        torch.randn(b, m, dtype=torch.complex64, generator=draw),
        torch.randn(b, m, generator=draw),
        0.5 + torch.rand(b, m, generator=draw),
        BOX,
    )
    table = projector(torch.randn(BOX, BOX, BOX, generator=draw), limit)
    image = torch.arange(b).repeat_interleave(k)
    return table, seen, image, random_rotations(b * k, draw), torch.randn(b * k, 2, generator=draw)


def test_square_puts_each_product_in_both_its_places():
    matrix = square(torch.arange(28.0)[None])[0]
    assert torch.equal(matrix, matrix.T)
    assert [float(matrix[i, j]) for i, j in PAIRS] == list(range(28))


@pytest.mark.parametrize("limit", [3.0, 7.5])
def test_agrees_with_the_plain_evaluation(limit: float, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scores, "compiled_products", lambda: pose_gram_cuda)
    arguments = scene(limit)
    plain, fused = gram_of_tensors(*arguments), fused_gram(*arguments)
    length = plain.diagonal(dim1=1, dim2=2).sqrt()
    error = (plain - fused).abs() / (length[:, :, None] * length[:, None])
    assert float(error.max()) < 1e-5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, inside its compiler
@pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="needs a C++ compiler"
)
def test_compiled_agrees_too(caplog: pytest.LogCaptureFixture):
    """By torch's back end for CPUs, once for all shapes; without vector instructions it is compiled in a third of the time."""
    call = compiled_products.__wrapped__()
    torch._dynamo.reset()
    counters.clear()
    with torch._inductor.config.patch({"cpp.simdlen": 1}), caplog.at_level("WARNING", "cryotorch"):
        for limit in (3.0, 7.5, 5.0):
            table, seen, *poses = scene(limit)
            frequency = half_plane(BOX).frequency[: seen.spectrum.shape[1]]
            given = (table.table, table.reach, table.padding, BOX, frequency)
            given += (torch.view_as_real(seen.spectrum), seen.gain, seen.precision, *poses, None)
            eager = pose_gram_cuda(*given)
            assert torch.allclose(
                call(*given), eager, rtol=1e-4, atol=1e-4 * float(eager.abs().max())
            )
            plain = gram_of_tensors(table, seen, *poses)
            assert torch.allclose(
                square(call(*given)), plain, rtol=1e-3, atol=1e-4 * float(plain.abs().max())
            )
    assert caplog.text == ""  # nothing went on without
    assert counters["stats"]["unique_graphs"] == 1


def test_goes_on_plainly_where_compiling_fails(monkeypatch: pytest.MonkeyPatch, caplog):
    from cryotorch.ops.pose import scores_cuda

    def broken(*arguments):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", lambda *a, **k: broken)
    call = scores_cuda.compiled_products.__wrapped__()
    monkeypatch.setattr(scores, "compiled_products", lambda: call)
    arguments = scene(7.5)
    with caplog.at_level("WARNING", "cryotorch"):
        plain, fused_terms = (PoseTerms(f(*arguments)) for f in (gram_of_tensors, fused_gram))
        assert torch.allclose(plain.score, fused_terms.score, rtol=1e-4, atol=1e-3)
    assert "compile" in caplog.text
