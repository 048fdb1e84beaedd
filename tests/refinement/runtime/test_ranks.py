"""Ranks that share work end with the same as one process, each with all of it, bit by bit."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import cryotorch
from cryotorch.ops.fourier.filters import low_pass

PROGRAM = Path(__file__).with_name("shared_work.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture
def found(folder: Path, simulate: Callable) -> dict[int, list[dict]]:
    """By the number of ranks, what each of them found; all run once, at the same time."""
    names = {world: [folder / f"{world}_{rank}.pt" for rank in range(world)] for world in (1, 2, 3)}
    if not (folder / "scene.pt").exists():
        world = simulate(90, 4.0, symmetry="D2")
        scene = dict(settings=world.settings, blind=world.blind, images=world.images)
        torch.save({**scene, "volume": low_pass(world.volume, 4.0, 16.0)}, folder / "scene.pt")
        path = {"PYTHONPATH": str(Path(cryotorch.__file__).parents[1])}
        path |= dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
        command = [sys.executable, str(PROGRAM), str(folder)]
        subprocess.run(command, env={**os.environ, **path}, check=True, timeout=400)
    return {
        world: [torch.load(name, weights_only=False) for name in every]
        for world, every in names.items()
    }


def test_every_rank_has_the_results_of_all_pieces(found: dict) -> None:
    expected = found[1][0]["each"]
    assert expected[0][1:] == ("a word", None) and expected[3] == 7
    for world in (2, 3):
        for mine in found[world]:
            (wave, *rest), numbers, fit, seven = mine["each"]
            assert torch.equal(wave, expected[0][0]) and rest == ["a word", None] and seven == 7
            assert all(torch.equal(a, b) for a, b in zip(numbers, expected[1], strict=True))
            assert torch.equal(fit.used, expected[2].used) and fit.applied == 80.0
            assert mine["at the last"] == [world - 1]


def test_a_piece_that_runs_out_of_memory_is_done_again_where_it_was(found: dict) -> None:
    assert all(mine["attempts"] == [0, 2, 5] for world in (2, 3) for mine in found[world])


def test_the_sums_of_a_half_set_end_on_one_rank(found: dict) -> None:
    """Of two ranks the second has no images of A; of three the last one has none, and the last two have images of B."""
    for world, total_a, total_b in ((2, 1.0, 30.0), (3, 3.0, 50.0)):
        first, *others, last = [mine["halves"] for mine in found[world]]
        assert list(first) == [0] and list(last) == [1] and others == [{}] * (world - 2)
        assert torch.equal(first[0], torch.full((3, 2), total_a))
        assert torch.equal(last[1], torch.full((3, 2), total_b))
        assert {mine["owners"] for mine in found[world]} == {(0, world - 1)}
        handed = [mine["handed over"] for mine in found[world]]
        assert torch.equal(handed[0][0], torch.full((2,), float(world)))
        assert handed[1:] == [None] * (world - 1)


@pytest.mark.parametrize(("world", "rounding"), [(2, 0.0), (3, 1e-3)])
def test_two_iterations_are_those_of_one_process(found: dict, world: int, rounding: float) -> None:
    """Two ranks have a half set each, so that no sum is done in another order; of three, one has images of both."""
    expected, expected_state, both = found[1][0]["iteration"]
    assert both == [0, 1]
    (result, state, _), *others = [mine["iteration"] for mine in found[world]]
    assert [mine["iteration"][2] for mine in found[world]] == [[0], *[[]] * (world - 2), [1]]
    for other, its_state, _ in others:
        for name in ("half_maps", "map", "map_sharp", "mask_refine", "mask_fsc", "noise", "band"):
            assert torch.equal(getattr(other, name), getattr(result, name)), name
        assert torch.equal(its_state.references, state.references)
        assert torch.equal(its_state.particles.rotation, state.particles.rotation)
        assert other.messages == result.messages and other.resolution == result.resolution
        assert its_state.convergence == state.convergence
    for a, b in (
        (result.half_maps, expected.half_maps),
        (result.map, expected.map),
        (state.references, expected_state.references),
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=rounding * float(b.abs().max()))
    assert result.resolution == expected.resolution < 12
    assert [m.code for m in result.messages] == [m.code for m in expected.messages]
