"""Products that only rank candidates are made in the precision that the processor multiplies natively."""

from __future__ import annotations

import pytest
import torch

from cryotorch.ops.pose.precision import coarse_dtype


@pytest.mark.parametrize("native", [True, False])
def test_bfloat16_where_it_is_native(monkeypatch: pytest.MonkeyPatch, native: bool) -> None:
    expected = torch.bfloat16 if native else torch.float32
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native, raising=False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: native)
    assert coarse_dtype() is expected and coarse_dtype(torch.device("cpu")) is expected
    assert coarse_dtype("cuda") is expected and coarse_dtype(torch.device("cuda:1")) is expected


def test_a_torch_that_cannot_say_computes_in_single_precision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    assert coarse_dtype() is torch.float32
