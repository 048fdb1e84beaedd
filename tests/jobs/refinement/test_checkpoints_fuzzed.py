"""Checkpoints with something wrong in any place, checksum right or not: a run goes on from them, or says why not in one sentence."""

from __future__ import annotations

import math
import pickle
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cryotorch.data.mrc import read_volume
from cryotorch.errors import InputError
from cryotorch.jobs import homo_refine, simulate
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.files.run_folder import checkpoints
from cryotorch.refinement.runtime.checkpoints import AtomicCheckpoints, read_checkpoint
from cryotorch.report.tensorboard import TensorBoardReport

FAST = dict(
    split_resolution=25,
    trainer__accelerator="cpu",
    search__candidates=2,
    search__newton_steps=1,
)
BAD = [
    *(None, 0, -1, 1.5, 10**6, 2**70, math.nan, math.inf, -math.inf, "x", "", b"x", True),
    *([], [None], ["x"], [math.nan] * 2, {}, {"a": 1}, (1, 2), [[[]]]),
    *(torch.zeros(3), torch.tensor(math.nan)),
]


def refine(files: Path, out: Path, **changes: Any) -> None:
    given = dict(particles=str(files / "particles.star"), volume=str(files / "initial.mrc"))
    homo_refine.run(make_settings("homo_refine", out=str(out), **given, **FAST, **changes))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, bytes]]:
    """Particles, the folder of a run of one iteration, and the half maps of the second."""
    folder = tmp_path_factory.mktemp("checkpoints")
    size = dict(box_size=16, pixel_size=6.0, n_particles=24, snr=4.0, shift_sigma=3)
    simulate.run(make_settings("simulate", out=str(folder / "set"), **size))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TensorBoardReport, "on_train_epoch_end", lambda *_: None)
        refine(folder / "set", folder / "run", max_iterations=1)
        shutil.copytree(folder / "run", folder / "whole")
        refine(folder / "set", folder / "whole", max_iterations=2, resume=True)
    return folder / "set", folder / "run", maps(folder / "whole")


@pytest.fixture(autouse=True)
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TensorBoardReport, "on_train_epoch_end", lambda *_: None)


def maps(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.glob("map_half_*.mrc")}


def go_on(files: Path, out: Path) -> bool:
    """Whether a second iteration was done; its maps are finite. Otherwise one sentence was said."""
    try:
        refine(files, out, max_iterations=2, resume=True)
    except InputError as error:
        said = str(error)
        assert "\n" not in said and ("checkpoint" in said or "resume=true" in said)
        return False
    for path in out.glob("*.mrc"):
        read_volume(path)  # refuses what is not finite
    return True


def places(values: Any, at: tuple = ()) -> list[tuple]:
    """The way to every value."""
    items: Any = values.items() if isinstance(values, dict) else ()
    if isinstance(values, list):
        items = enumerate(values)
    found = []
    for key, value in items:
        found += [(*at, key), *places(value, (*at, key))]
    return found


def other(x: Tensor, draw: random.Random) -> Tensor:
    """A tensor of other values, another type, or another shape."""
    values = [math.nan, math.inf, 3e38, 1e6, -1.0, 0.0] if x.is_floating_point() else [-1, 0, 2, 99]
    return draw.choice(
        [
            *(torch.full_like(x, value) for value in values),
            *(x.to(kind) for kind in (torch.float64, torch.float16, torch.int32, torch.complex64)),
            *(x[:1], x.reshape(-1), torch.cat([x, x]), x[None], x.to_sparse(), x[:0]),
        ]
    )


def spoil(saved: dict, draw: random.Random) -> tuple:
    """Change one value, most often of the state."""
    inside = draw.choice([{"refinement"}, {"refinement"}, saved.keys() - {"loops"}, saved.keys()])
    way = draw.choice([way for way in places(saved) if way[0] in inside])
    values = saved
    for key in way[:-1]:
        values = values[key]
    key, kind = way[-1], draw.choice(["remove", "add", "exchange", "exchange", "exchange"])
    if kind == "remove":
        del values[key]
    elif kind == "add" and isinstance(values, dict):
        values["added"] = draw.choice(BAD)
    elif isinstance(values[key], Tensor) and values[key].ndim and draw.random() < 0.8:
        values[key] = other(values[key], draw)
    else:
        values[key] = draw.choice(BAD)
    return (*way, kind, str(values.get(key) if isinstance(values, dict) else values)[:80])


def _any_value(world, tmp_path: Path, seed: int) -> None:
    files, run, _ = world
    draw, out = random.Random(seed), tmp_path / "out"
    shutil.rmtree(out, ignore_errors=True)
    path = checkpoints(Path(shutil.copytree(run, out)))[0]
    saved = read_checkpoint(path)
    said = [spoil(saved, draw) for _ in range(draw.choice([1, 1, 1, 2]))]
    AtomicCheckpoints().save_checkpoint(saved, path)
    print(seed, said, go_on(files, out))


def test_an_unchanged_checkpoint_gives_the_same_maps(world, tmp_path: Path) -> None:
    """Saved again, and with bytes behind it that nobody reads."""
    files, run, second = world
    out = Path(shutil.copytree(run, tmp_path / "out"))
    path = checkpoints(out)[0]
    AtomicCheckpoints().save_checkpoint(read_checkpoint(path), path)
    with open(path, "ab") as file:
        file.write(bytes(99))
    assert go_on(files, out) and maps(out) == second


# Tracebacks, or maps of it, before.
KNOWN = {
    "a time that is a list": ("refinement", "history", 0, "seconds_solve", [None]),
    "a resolution that is a dict": ("refinement", "history", 0, "resolution", {}),
    "a crossing that is a tensor": ("refinement", "convergence", "crossings", 0, torch.zeros(3)),
    "a coefficient that is true": ("refinement", "optics", "odd_zernike", True),
    "a pixel size below zero": ("refinement", "optics", "pixel_size", torch.tensor([-1.0])),
    "a share below zero": ("refinement", "share", -math.inf),
    "a limit of NaN": ("refinement", "max_shell", math.nan),
    "maps of NaN": ("refinement", "references", torch.full((2, 16, 16, 16), math.nan)),
    "half sets that are none": ("refinement", "poses", "half", torch.full((24,), 7)),
    "a count that is a text": (
        *("loops", "fit_loop", "epoch_loop.manual_optimization.optim_step_progress"),
        *("total", "ready", "x"),
    ),
    "more iterations than were done": (
        *("loops", "fit_loop", "epoch_progress", "current", "processed", 10**6),
    ),
    "a fingerprint of tensors": ("callbacks", "Fingerprint", "box", torch.zeros(3)),
}


@pytest.mark.parametrize("name", KNOWN)
def test_values_that_no_run_writes(world, tmp_path: Path, name: str) -> None:
    files, run, _ = world
    out = Path(shutil.copytree(run, tmp_path / "out"))
    path = checkpoints(out)[0]
    values = saved = read_checkpoint(path)
    *way, key, value = KNOWN[name]
    for step in way:
        values = values[step]
    values[key] = value
    AtomicCheckpoints().save_checkpoint(saved, path)
    assert not go_on(files, out)


@pytest.mark.parametrize("seed", range(4))
def test_any_value_may_be_anything(world, tmp_path: Path, seed: int) -> None:
    _any_value(world, tmp_path, seed)


@pytest.mark.slow
def test_any_value_may_be_anything_often(world, tmp_path: Path) -> None:
    for seed in range(4, 100):
        _any_value(world, tmp_path, seed)


def torn(whole: bytes, way: str, draw: random.Random) -> bytes:
    """The bytes of a file, damaged."""
    at = draw.randrange(len(whole))
    if way == "cut":
        return whole[:at]
    if way == "flipped":
        return whole[:at] + bytes([whole[at] ^ 1 << draw.randrange(8)]) + whole[at + 1 :]
    if way == "zeros":
        return whole[:at] + bytes(draw.randrange(1, 4096)) + whole[at + 4096 :]
    if way == "inserted":
        return whole[:at] + draw.randbytes(draw.randrange(1, 99)) + whole[at:]
    if way == "before":
        return draw.randbytes(99) + whole
    return pickle.dumps({"a": draw.random()})


def _any_bytes(world, tmp_path: Path, way: str, seed: int) -> None:
    files, run, second = world
    out = tmp_path / "out"
    shutil.rmtree(out, ignore_errors=True)
    path = checkpoints(Path(shutil.copytree(run, out)))[0]
    path.write_bytes(torn(path.read_bytes(), way, random.Random(seed)))
    if go_on(files, out):
        assert maps(out) == second


WAYS = ["cut", "flipped", "zeros", "inserted", "before", "another file"]


@pytest.mark.parametrize("way", WAYS)
def test_any_bytes(world, tmp_path: Path, way: str) -> None:
    _any_bytes(world, tmp_path, way, 0)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_any_bytes_often(world, tmp_path: Path, way: str) -> None:
    for seed in range(1, 10):
        _any_bytes(world, tmp_path, way, seed)
