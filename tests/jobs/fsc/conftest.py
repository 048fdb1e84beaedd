"""Half maps of a phantom, what is said of them, and a look at a single finding."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from cryotorch.findings import Finding, codes
from cryotorch.jobs.fsc.advice import advice
from cryotorch.jobs.fsc.mask import FscMask
from cryotorch.ops.masks.soft import density_mask
from cryotorch.ops.models.phantom import phantom
from cryotorch.ops.resolution.claims import UNKNOWN, judge


@pytest.fixture(scope="session")
def noise() -> Callable[[int, int], Tensor]:
    """noise(box, seed): white, of two half maps."""

    def noise(box: int, seed: int) -> Tensor:
        return torch.randn(2, box, box, box, generator=torch.Generator().manual_seed(seed))

    return noise


@pytest.fixture(scope="session")
def halves(noise: Callable) -> Callable[..., Tensor]:
    """halves(level): a phantom in 48 voxels of 3 Å in noise of so many of its standard deviations."""
    truth = phantom(48, 3.0, torch.eye(3)[None], 1)

    def halves(level: float = 2.0) -> Tensor:
        return truth / truth.std() + level * noise(48, 1)

    return halves


@pytest.fixture(scope="session")
def tight() -> Callable[..., Tensor]:
    """tight(maps, threshold): a soft mask around their density."""

    def tight(maps: Tensor, threshold: float = 0.3) -> Tensor:
        return density_mask(maps.mean(0), 3.0, threshold, 6, 20, 12)

    return tight


@pytest.fixture(scope="session")
def said_of() -> Callable[..., list[Finding]]:
    """said_of(maps, mask, kind): all advice about half maps."""

    def said_of(maps: Tensor, mask: Tensor, kind: str = "generated") -> list[Finding]:
        judged = judge(maps, 3.0, mask, mask)
        return advice(maps, judged, FscMask(mask, kind), 3.0, UNKNOWN).warnings

    return said_of


@pytest.fixture(scope="session")
def only() -> Callable[..., None]:
    """only(found, code, **values): one finding, with these values among others; numbers to 1 % or 0.005."""

    def only(found: list[Finding], code: str, **values: object) -> None:
        assert codes(found) == [code], found
        for name, value in values.items():
            if isinstance(value, float):
                value = pytest.approx(value, rel=0.01, abs=0.005)
            assert found[0][name] == value, (name, found)

    return only
