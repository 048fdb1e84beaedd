"""Results on the host are those of the device, and the host waits once."""

from __future__ import annotations

from collections.abc import Callable

import torch

from cryotorch.ops.host import to_device, to_host

VALUES = [
    torch.arange(6.0).view(2, 3).T,
    torch.tensor([True, False, True]),
    torch.tensor(7.5, dtype=torch.float64),
    torch.zeros(0, 4),
    torch.tensor([[1 + 2j]]),
    torch.arange(5),
]


def test_what_lies_on_the_cpu_stays_as_it_is() -> None:
    assert all(a is b for a, b in zip(to_host(VALUES), VALUES, strict=True))


def test_many_tensors_and_one_wait(pretended_cuda: Callable) -> None:
    with pretended_cuda() as seen:
        there = [value.to("cuda") for value in VALUES]
        seen.waits.clear()
        here = to_host([*there, VALUES[0]])
        assert sum(seen.waits.values()) == 1
    assert here[-1] is VALUES[0]
    for found, value in zip(here, VALUES, strict=False):
        assert found.device.type == "cpu" and found.dtype == value.dtype
        assert torch.equal(found, value)


def test_the_host_does_not_wait_for_what_it_sends(pretended_cuda: Callable) -> None:
    with pretended_cuda() as seen:
        there = to_device(VALUES[0], "cuda", torch.float64)
        assert there.device.type == "cuda" and there.dtype == torch.float64
        assert to_device(there, "cuda") is there
        assert sum(seen.waits.values()) == 0 and sum(seen.to_device.values()) == 6 * 8
        assert torch.equal(to_host([there])[0], VALUES[0].double())
    assert to_device(VALUES[1], "cpu") is VALUES[1]
