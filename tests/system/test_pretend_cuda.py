"""The pretended CUDA device refuses what a real one refuses, and sees where the host waits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cryotorch.ops.fourier.reconstruct import collect
from cryotorch.ops.fourier.slices import accumulator, add_slices_, projector
from cryotorch.ops.fourier.symmetrise import _add_copies, _to_table
from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.ops.geometry.rotations import random_rotations
from cryotorch.ops.geometry.symmetry import point_group
from cryotorch.ops.masks.components import joined
from cryotorch.ops.pose.scores import Observation, gram_of_tensors


@pytest.fixture
def seen(pretended_cuda: Callable) -> Iterator[Any]:
    with pretended_cuda() as seen:
        yield seen


def far(*shape: int) -> torch.Tensor:
    return torch.ones(shape, device="cuda")


def test_tensors_say_where_they_are(seen: Any) -> None:
    near = torch.zeros(3)
    for tensor in (far(3), near.to("cuda"), near.cuda(), near.to(far(3)), far(3)[1:] * 2 + 1):
        assert tensor.is_cuda and not tensor.is_cpu and tensor.device == torch.device("cuda:0")
    for tensor in (near, far(3).cpu(), far(3).to("cpu"), torch.zeros_like(far(3), device="cpu")):
        assert tensor.device.type == "cpu" and not tensor.is_cuda
        assert isinstance(tensor.numpy(), np.ndarray)
    assert torch.zeros_like(far(3)).is_cuda and far(3).new_zeros(2).is_cuda
    assert all(part.is_cuda for part in (*far(4).split(2), *far(4).max(0)))


def test_a_view_shares_memory_and_a_copy_does_not(seen: Any) -> None:
    there = far(2, 3)
    there[0].zero_()
    there += 1
    here = there.cpu()
    there.zero_()
    assert here.tolist() == [[1, 1, 1], [2, 2, 2]]


def test_gradients_are_on_the_device(seen: Any) -> None:
    there = far(3).requires_grad_()
    (slope,) = torch.autograd.grad((there**2).sum(), there)
    assert slope.is_cuda and slope.tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("mixed", "reason"),
    [
        (lambda: far(3) + torch.ones(3), "same device"),
        (lambda: torch.stack([far(3), torch.ones(3)]), "same device"),
        (lambda: torch.where(far(3) > 0, torch.ones(3), 0.0), "same device"),
        (lambda: far(3).index_add_(0, torch.tensor([1]), far(1)), "same device"),
        (lambda: torch.ones(3)[far(3).long()], "indices should be"),
        (lambda: far(3).numpy(), "numpy"),
        (lambda: np.asarray(far(3)), "numpy"),
        (lambda: np.exp(far(3)), "numpy"),
        (lambda: torch.rand(3, generator=torch.Generator(), device="cuda"), "generator"),
        (lambda: far(3).uniform_(generator=torch.Generator()), "generator"),
        (lambda: far(3).long() @ far(3).long(), "not implemented"),
        (lambda: far(3).pin_memory(), "cannot pin"),
    ],
)
def test_what_a_device_refuses_is_refused(mixed: Callable, reason: str, seen: Any) -> None:
    with pytest.raises((RuntimeError, TypeError), match=reason):
        mixed()


@pytest.mark.parametrize(
    ("harmless"),
    [
        lambda: far(3) * torch.tensor(2.0),  # a single number goes along
        lambda: far(3).masked_fill_(far(3) > 0, 2),
        lambda: far(4).reshape(2, 2).sum(0).clamp(0, 1).topk(1),
        lambda: far(3).repeat_interleave(far(3).long(), output_size=3),
        lambda: far(3).scatter_add_(0, far(3).long() * 0, far(3)),
        lambda: torch.ones(3).pin_memory().to("cuda", non_blocking=True),
        lambda: far(3).__setitem__(far(3) > 0, 2.0),
        lambda: torch.fft.rfftn(far(4, 4, 4)),
        lambda: torch.linalg.inv_ex(torch.eye(3, device="cuda")),
    ],
)
def test_what_needs_no_answer_is_no_wait(harmless: Callable, seen: Any) -> None:
    harmless()
    assert seen.waits.total() == 0, seen.waits


@pytest.mark.parametrize(
    ("waiting", "what"),
    [
        (lambda: far(1).item(), "item"),
        (lambda: float(far(1)), "item"),
        (lambda: bool(far(3).all()), "item"),
        (lambda: far(3).tolist(), "tolist"),
        (lambda: far(3).cpu(), "copy to the host"),
        (lambda: torch.zeros(3).copy_(far(3)), "copy to the host"),
        (lambda: torch.ones(3).to("cuda"), "copy to the device"),
        (lambda: torch.ones(3).to("cuda", non_blocking=True), "copy to the device"),  # pageable
        (lambda: torch.tensor([1.0], device="cuda"), "copy to the device"),
        (lambda: far(3).new_tensor([1.0]), "copy to the device"),
        (lambda: far(3)[[0, 1]], "copy to the device"),
        (lambda: far(3)[far(3) > 0], "index by a mask"),
        (lambda: far(3).__setitem__(far(3) > 0, far(3)), "index_put by a mask"),
        (lambda: far(3).nonzero(), "nonzero"),
        (lambda: torch.where(far(3) > 0), "nonzero"),
        (lambda: torch.unique(far(3)), "_unique2"),
        (lambda: torch.bincount(far(3).long(), minlength=9), "bincount"),
        (lambda: torch.equal(far(3), far(3)), "equal"),
        (lambda: torch.allclose(far(3), far(3)), "allclose"),
        (lambda: far(3).repeat_interleave(far(3).long()), "repeat_interleave"),
        (lambda: torch.linalg.inv(torch.eye(3, device="cuda")), "_linalg_check_errors"),
        (lambda: torch.cuda.synchronize(), "synchronize"),
    ],
)
def test_waits_are_seen(waiting: Callable, what: str, seen: Any) -> None:
    waiting()
    assert {name: n for (name, _), n in seen.waits.items()} == {what: 1}


def test_a_wait_has_its_line_in_the_package(seen: Any) -> None:
    joined(far(3, 3) > 0)
    assert {where.partition(":")[0] for _, where in seen.waits} == {"ops/masks/components.py"}
    assert "ops/masks/components.py" in seen.table()


def test_bytes_are_counted(seen: Any) -> None:
    there = torch.zeros(5, dtype=torch.float64).to("cuda")
    there[:2].cpu()
    assert (seen.to_device.total(), seen.to_host.total()) == (40, 16)


def test_a_file_holds_plain_tensors(seen: Any, tmp_path: Path) -> None:
    torch.save({"there": far(2)}, tmp_path / "file.pt")
    read = torch.load(tmp_path / "file.pt", map_location="cpu", weights_only=True)
    assert type(read["there"]) is torch.Tensor and read["there"].tolist() == [1, 1]


def test_memory_is_what_lives(pretended_cuda: Callable) -> None:
    with pretended_cuda(watch_memory=True) as seen:
        first = far(100)
        second = first[10:] * 2 + 1  # 90 numbers that are gone, and 90 that stay
        assert second.is_cuda and (seen.memory.now, seen.memory.peak) == (760, 1120)
        del first
        assert seen.memory.now == 360


def test_threads_have_the_device_too(seen: Any) -> None:
    found: list[torch.Tensor] = []
    thread = threading.Thread(target=lambda: found.append(torch.ones(2).to("cuda")))
    thread.start()
    thread.join()
    assert found[0].is_cuda and seen.to_device.total() == 8


def test_an_event_is_waited_for_unless_the_host_waited_since(seen: Any) -> None:
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    event.synchronize()
    event.record()
    float(far(1))
    event.synchronize()
    assert sorted(name for name, _ in seen.waits) == ["item", "synchronize"]


def test_there_is_no_device_outside(pretended_cuda: Callable) -> None:
    before = torch.cuda.is_available()
    with pretended_cuda():
        assert torch.cuda.is_available() and torch.cuda.device_count() == 1
    assert torch.cuda.is_available() == before


def test_the_same_operations_give_the_same_bits(pretended_cuda: Callable) -> None:
    """As other devices do it: on the CPU, and pretended."""
    draw = torch.Generator().manual_seed(0)
    plane, volume = half_plane(16), torch.randn(16, 16, 16, generator=draw)
    spectrum = torch.randn(5, plane.count(8), dtype=torch.complex64, generator=draw)
    weight, rotation = torch.rand(spectrum.shape, generator=draw), random_rotations(5, draw)
    given = (volume, spectrum, weight, rotation, point_group("D3"), torch.arange(5))

    def work(*given: torch.Tensor) -> list[torch.Tensor]:
        volume, spectrum, weight, rotation, group, image = given
        frequency = half_plane(16, volume.device).frequency
        sums = accumulator(16, device=volume.device)
        add_slices_(sums, spectrum, weight, rotation, frequency)
        copies = _add_copies(_to_table(collect(sums, 7), 7.0), 7.0, group)
        seen = Observation(spectrum, weight, weight, 16)
        poses = image, rotation, rotation[:, :2, 0]
        terms = gram_of_tensors(projector(volume), seen, *poses)
        return [sums.sums[0], copies, terms, joined(volume > 0.4)]

    near = work(*given)
    with pretended_cuda():
        found = work(*(t.to("cuda") for t in given))
        assert all(t.is_cuda for t in found)
        far = [t.cpu() for t in found]
    assert all(torch.equal(a, b) for a, b in zip(near, far, strict=True))
