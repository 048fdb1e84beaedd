"""Out of memory on a device: smaller parts, the same sums, one line in the log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cryotorch.errors import InputError
from cryotorch.ops.fourier import slices
from cryotorch.particles import Batch
from cryotorch.refinement.em import expectation as module
from cryotorch.refinement.em import out_of_memory
from cryotorch.refinement.em.expectation import Expectation
from cryotorch.refinement.em.initialise import initialise_state
from cryotorch.refinement.em.iteration import expect
from cryotorch.refinement.em.out_of_memory import (
    AdaptiveBatch,
    RetryWithoutCache,
    batch_size,
    explain_out_of_memory,
    images_at_once,
    images_stay,
    snapshot,
)
from cryotorch.refinement.pose_search import finders
from cryotorch.refinement.runtime.distributed import Batches

CPU = torch.device("cpu")


def e_step(world, portions: AdaptiveBatch) -> Expectation:
    with torch.no_grad():
        state, _ = initialise_state(
            world.blind, world.volume, world.batches(), world.settings, 24.0, CPU
        )
        expectation, batches = Expectation(state, world.settings, CPU), world.batches()
        for number in range(len(batches)):
            portions(partial(expect, expectation), batches[number])
    return expectation


def assert_same(one: Expectation, other: Expectation) -> None:
    for mine, theirs in zip(one.result.tensors(), other.result.tensors(), strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-4, atol=1e-5)
    for half, mine in one.sums.items():
        total = other.sums[half].sums.sum(0)
        assert torch.allclose(
            mine.sums.sum(0), total, rtol=1e-4, atol=1e-5 * float(total.abs().max())
        )


def failing(call: Callable, size: Callable[..., int], room: int) -> Callable:
    """``call``, which runs out of memory on more than ``room`` images."""

    def limited(*arguments, **names):
        if size(*arguments) > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return call(*arguments, **names)

    return limited


# Where memory may run out in an E-step, in its order, and the number of images there.
PLACES = {
    "observe": lambda particles, rows, *_: len(rows),
    "coarse_candidates": lambda reference, seen, *_: len(seen.spectrum),
    "polish": lambda reference, seen, *_: len(seen.spectrum),
    "residual_power": lambda y, _: len(y),
    "remove_drift": lambda drift, rotation, *_: len(rotation),
    "backproject_terms": lambda spectrum, *_: len(spectrum),
    "spread_poses": lambda poses, _: len(poses.rotation),
}


@pytest.mark.parametrize("place", PLACES)
def test_the_same_sums_wherever_it_happens(
    place: str, simulate: Callable, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    world = simulate(40, 2.0, posterior="laplace", groups=2)
    whole = e_step(world, AdaptiveBatch())
    where = module if hasattr(module, place) else finders
    monkeypatch.setattr(where, place, failing(getattr(where, place), PLACES[place], 6))
    portions = AdaptiveBatch()
    with caplog.at_level(logging.INFO, "cryotorch"):
        parts = e_step(world, portions)
    assert portions.batch_size == 5  # of 20 per batch
    assert_same(parts, whole)
    assert (parts.result.updated == 1).all() and parts.result.count[..., 1].sum() == 40
    lines = [r.message for r in caplog.records if "at once" in r.message]
    assert len(lines) == 1 and "20 particles at once" in lines[0] and "with 5 or fewer" in lines[0]


def test_insertion_goes_on_where_it_stopped(
    simulate: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path of CUDA devices: memory runs out inside the insertion of the third rotation, before its first write."""
    world = simulate(40, 2.0)
    whole = e_step(world, AdaptiveBatch())

    def add_slices_(sums, spectrum, *others) -> None:
        calls.append(len(spectrum))
        if len(calls) in (3, 4):
            raise torch.OutOfMemoryError
        add(sums, spectrum, *others)

    calls: list[int] = []
    add = slices.add_slices_
    monkeypatch.setattr(slices, "add_slices_", add_slices_)
    monkeypatch.setattr(slices, "is_compiled_for", lambda device: False)
    portions = AdaptiveBatch()
    parts = e_step(world, portions)
    assert calls[:8] == [20, 20, 20, 10, 5, 5, 5, 5] and portions.batch_size is None
    assert_same(parts, whole)


def test_tensors_are_added_after_all_memory_is_there() -> None:
    """Memory that runs out at any allocation of the insertion leaves the sums as they were."""

    class Full(TorchDispatchMode):
        """The device is full at the allocation number ``at``."""

        def __init__(self, at: int) -> None:
            super().__init__()
            self.at, self.made = at, 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            old = [a for a in (*args, *(kwargs or {}).values()) if isinstance(a, torch.Tensor)]
            held = {a.untyped_storage().data_ptr() for a in old}
            new = (
                isinstance(result, torch.Tensor) and result.untyped_storage().data_ptr() not in held
            )
            if new:
                self.made += 1
                if self.made == self.at:
                    raise torch.OutOfMemoryError
            return result

    def inserted(at: int) -> tuple[torch.Tensor, int, bool]:
        generator = torch.Generator().manual_seed(0)
        sums = slices.accumulator(8)
        spectrum = torch.randn(3, 5, dtype=torch.complex64, generator=generator)
        weight, frequency = (
            torch.rand(3, 5, generator=generator),
            torch.tensor([[0.0, 1], [1, 0], [1, 1], [2, 1], [1, 2]]),
        )
        full, failed = Full(at), False
        try:
            with full:
                slices.add_slices_(sums, spectrum, weight, torch.eye(3).repeat(3, 1, 1), frequency)
        except torch.OutOfMemoryError:
            failed = True
        return sums.sums, full.made, failed

    _, made, failed = inserted(10**6)
    assert not failed and made > 10
    for at in range(1, made + 1):
        sums, _, failed = inserted(at)
        assert failed and not sums.any(), at


def test_not_even_one_image() -> None:
    def step(_: Batch) -> None:
        raise torch.OutOfMemoryError

    batch = Batch(torch.arange(4), torch.zeros(4, 360, 360), 0)
    with pytest.raises(InputError, match="does not hold one particle of 360 pixels"):
        AdaptiveBatch()(step, batch)


def test_an_empty_batch_is_passed_on() -> None:
    seen: list[int] = []
    batch = Batch(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 1, 1), 0)
    AdaptiveBatch()(lambda b: seen.append(len(b.index)), batch)
    assert seen == [0]


def test_images_kept_on_the_device_go_before_an_image_is_given_up() -> None:
    """Of eight images three are done when not even one fits any more; the others follow once there is room."""
    done: list[int] = []
    room = [False]

    def step(batch: Batch) -> None:
        if len(batch.index) > 1 or (len(done) == 3 and not room[0]):
            raise torch.OutOfMemoryError
        done.extend(batch.index.tolist())

    def make_room() -> bool:
        before, room[0] = room[0], True
        return not before

    batch = Batch(torch.arange(8), torch.zeros(8, 2, 2), 0)
    AdaptiveBatch(make_room)(step, batch)
    assert done == list(range(8))
    done.clear()
    room[0] = False
    with pytest.raises(InputError, match="does not hold one particle"):
        AdaptiveBatch()(step, batch)
    assert done == [0, 1, 2]


def kept(world) -> Batches:
    batches = world.batches()
    batches.keep_on(CPU)
    assert not batches.keeps_images  # until they are read
    batches[0]
    assert batches.keeps_images
    return batches


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"),
    ],
)
def test_room_is_made_once_and_the_work_done_again(
    error: RuntimeError, simulate: Callable, caplog
) -> None:
    batches, calls = kept(simulate(20, None)), []

    def work() -> None:
        calls.append("work")
        if calls.count("work") == 1:
            raise error

    with caplog.at_level(logging.INFO, "cryotorch"):
        RetryWithoutCache(batches)(work, lambda: calls.append("put back"))
    assert calls == ["work", "put back", "work"] and not batches.keeps_images
    assert [r.message for r in caplog.records] == [
        "The memory of the device is full: images stay there no longer and are read in every iteration, the result stays the same"
    ]
    calls.clear()
    with pytest.raises(RuntimeError):  # nothing is left to let go of
        RetryWithoutCache(batches)(work)
    assert calls == ["work"]


def test_other_errors_are_not_tried_again(simulate: Callable) -> None:
    batches, calls = kept(simulate(20, None)), []

    def work() -> None:
        calls.append(0)
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        RetryWithoutCache(batches)(work)
    with pytest.raises(RuntimeError, match="shapes differ"), explain_out_of_memory(360):
        work()
    assert len(calls) == 2 and batches.keeps_images


def test_a_full_device_is_told_with_what_to_do(simulate: Callable) -> None:
    world = simulate(20, None)
    state, _ = initialise_state(
        world.blind, world.volume, world.batches(), world.settings, 24.0, CPU
    )
    for finished, cure in (
        (0, "choose a smaller box_size, .* add trainer=cpu"),
        (2, "to go on after iteration 2"),
    ):
        state.convergence.crossings = [5.0] * finished
        with (
            pytest.raises(InputError, match=f"too small for particles of 24 pixels: .*{cure}"),
            explain_out_of_memory(24, state),
        ):
            raise torch.OutOfMemoryError


def test_a_state_is_brought_back(simulate: Callable) -> None:
    world = simulate(20, None)
    state, _ = initialise_state(
        world.blind, world.volume, world.batches(), world.settings, 24.0, CPU
    )
    put_back, references = snapshot(state), state.references
    for _ in range(2):
        state.convergence.crossings.append(4.0)
        state.history.append({"iteration": 1})
        state.references, state.max_shell = references + 1, 7.0
        put_back()
        assert (
            state.references is references
            and state.max_shell == world.settings.schedule.first_limit
        )
        assert state.convergence.crossings == state.history == []


def test_later_batches_start_small() -> None:
    sizes: list[int] = []

    def step(batch: Batch) -> None:
        sizes.append(len(batch.index))
        if sizes[-1] > 3:
            raise torch.OutOfMemoryError

    portions, batch = AdaptiveBatch(), Batch(torch.arange(8), torch.zeros(8, 2, 2), 0)
    for _ in range(2):
        portions(step, batch)
    assert sizes == [8, 4, 2, 2, 2, 2] + [2, 2, 2, 2]


def test_images_stay_on_a_device_with_twice_their_room() -> None:
    size = 4 * 1000 * 64**2
    assert images_stay(1000, 64, 2 * size) and not images_stay(1000, 64, 2 * size - 2)


def test_images_at_once_follow_memory_and_box() -> None:
    gib = 2**30
    assert images_at_once(360, 16 * gib) == 129  # 33 MB each in a quarter of it
    assert images_at_once(180, 16 * gib) == 512 and images_at_once(64, 140 * gib) == 512
    assert images_at_once(1024, 2 * gib) == 16


def test_several_devices_plan_the_same_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """One device may fill its memory; of several, each with other memory free, all must deal out the same."""
    cuda = torch.device("cuda")
    for free, alone in ((2**33, 64), (2**37, 512)):
        monkeypatch.setattr(out_of_memory, "free_memory", lambda device, free=free: free)
        assert batch_size(360, cuda) == alone
        assert batch_size(360, cuda, ranks=4) == 129
    assert batch_size(360) == batch_size(360, torch.device("cpu"), 2) == 32
