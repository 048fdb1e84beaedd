"""Reading particles: from their stack and from the cache, off the disk and out of memory.

Rates of bytes are those of the file, so that they compare with a plain reader of the same file,
which takes large blocks one after the other into the same memory, as dd does. From float16 twice
as many bytes come out as go in.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from benchmarks.timing import Timing, measure, race
from cryotorch.data.images import ParticleImages
from cryotorch.data.mrc import write_stack
from cryotorch.data.particle_file import ParticleFile, new_particle_file
from cryotorch.particles import Optics, unposed
from cryotorch.refinement.em.out_of_memory import batch_size
from cryotorch.refinement.runtime.distributed import plan_batches

Row = dict[str, object]
PIXEL_SIZE = 3.0
BLOCK = 1 << 20  # bytes that the plain reader takes at once, dd bs=1M


def run(
    boxes: Sequence[int], folder: Path | None = None, megabytes: int = 256, seconds: float = 2.0
) -> dict[str, list[Row]]:
    """Title -> rows of every table.

    Args:
        folder: on the disk to measure; None = that of temporary files.
        megabytes: of the stack; what is called warm must fit the system's file cache.
        seconds: spent on each comparison at least.
    """
    made, read = [], []
    for box in boxes:
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            file = _particles(Path(temporary), box, max(64, megabytes * 2**18 // box**2))
            for dtype in (None, "float32", "float16"):
                start = time.perf_counter()
                cache = Path(temporary) / "cache" if dtype else None
                images = ParticleImages(file, cache_dir=cache, cache_dtype=dtype or "float32")
                spent = time.perf_counter() - start
                path = file.stacks[0] if dtype is None else _entry(cache, dtype)
                if dtype is not None:
                    made.append(_making(box, dtype, len(images), path, spent))
                read += _reading(images, path, dtype, seconds)
                images.close()
    return {"Reading particles": read, "Making the cache": made}


def _particles(folder: Path, box: int, n: int) -> ParticleFile:
    """n images of noise in one float32 stack."""
    draw = torch.Generator().manual_seed(0)
    optics = Optics(*(torch.tensor([v]) for v in (300.0, 2.7, 0.1, PIXEL_SIZE)))
    stack = folder / "particles.mrcs"
    chunks = (
        torch.randn(len(part), box, box, generator=draw) for part in torch.arange(n).split(64)
    )
    write_stack(stack, chunks, n, box, PIXEL_SIZE)
    return new_particle_file(folder / "particles.star", [stack], box, unposed(n, optics))


def _entry(cache: Path, dtype: str) -> Path:
    """The file of that type: the larger one is float32."""
    by_size = sorted(cache.glob("*.mrcs"), key=lambda path: path.stat().st_size)
    return by_size[-1 if dtype == "float32" else 0]


def _making(box: int, dtype: str, n: int, path: Path, spent: float) -> Row:
    row: Row = {"box": box, "type": dtype, "images": n, "seconds": spent}
    return row | {"images/s": n / spent, "bytes/s": path.stat().st_size / spent}


def _reading(images: ParticleImages, path: Path, dtype: str | None, seconds: float) -> list[Row]:
    """Batches in file order; and those of two random half sets in turn, as in an iteration."""
    n, size = len(images), path.stat().st_size
    batch = batch_size(images.box)
    half = torch.randint(2, (n,), generator=torch.Generator().manual_seed(1))
    orders = {
        "file": plan_batches(torch.zeros(n), batch),
        "half sets": plan_batches(half, batch),
    }
    calls: list[Callable[[], object]] = [_plain(path)]
    for batches in orders.values():
        calls.append(lambda batches=batches: [images[rows] for rows in batches])
    found = {"warm": race(calls, "cpu", seconds)}
    if hasattr(os, "posix_fadvise"):
        cold = [measure(call, "cpu", 0, before=lambda: forget(path)) for call in calls[:2]]
        found["cold"] = cold
    rows = []
    for source, (plain, *ours) in found.items():
        for order, spent in zip(orders, ours, strict=False):
            row = _row(images.box, "stack" if dtype is None else f"cache, {dtype}", source, order)
            rows.append(row | _rates(spent, plain, n, size))
    return rows


def _row(box: int, source: str, where: str, order: str) -> Row:
    return {"box": box, "from": source, "file is": where, "order": order}


def _rates(spent: Timing, plain: Timing, n: int, size: int) -> Row:
    rates = {"images/s": n / spent.best, "bytes/s": size / spent.best}
    return rates | {
        "plain bytes/s": size / plain.best,
        "of the plain rate": plain.best / spent.best,
    }


def _plain(path: Path) -> Callable[[], None]:
    """Reads a file as fast as the system gives it."""
    block = memoryview(bytearray(BLOCK))

    def read() -> None:
        with open(path, "rb", buffering=0) as file:
            while file.readinto(block):
                pass

    return read


def forget(path: Path) -> None:
    """Ask the system to drop a file from its cache."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
