"""What memory a job will take, and whether maps of a given box, or a pose search, fit into it, asked before torch is."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from cryotorch.data.files import host_memory
from cryotorch.errors import InputError
from cryotorch.findings import Finding, remark
from cryotorch.ops.fourier.insertion_cpu import copies
from cryotorch.refinement.pose_search.local import SLICES_AT_ONCE
from cryotorch.refinement.pose_search.search import grid_step
from cryotorch.refinement.settings import EMSettings, SearchSettings

# The largest resident set of a job on a CPU, measured at boxes of 128 and 192: bytes that it takes for any box, and bytes per voxel.
NEEDS = {
    "refinement": (550e6, 139.0),
    "reconstruct": (800e6, 18.0),  # of the padded box
    "validation_fsc": (325e6, 52.0),
    "sharpen": (348e6, 48.0),
    "local_resolution": (418e6, 98.0),  # also where sharpen measures it
    "volume_tools": (360e6, 30.0),
    "orientation_diagnostics": (625e6, 29.0),
    "ctf_refine": (550e6, 139.0),  # not measured: references as in a refinement
    "create_templates": (476e6, 15.5),
    "subtract": (795e6, 186.0),
    "simulate": (600e6, 122.0),
    "classify": (600e6, 40.0),  # and what images and classes take
    "variability": (600e6, 100.0),  # and what its sums and images take
}
SYMMETRIC = 6.0  # bytes per voxel more of a reconstruction with a point group,
TIGHTENING = 47.0  # and of a validation that tightens its mask
# Bytes per voxel that the shortest job on one map takes at its peak, measured; one with segments takes 30.
BYTES_PER_VOXEL = 20
# Of a coarse search: for every rotation of the grid, for every coefficient of its slice, and for each that is scored.
PER_ROTATION, PER_COEFFICIENT, PER_SCORE = 400, 24, 8
SCORED = 4096  # slices whose scores of a batch are held at once


def require_room(box: int, device: torch.device, said: str, each: float = BYTES_PER_VOXEL) -> None:
    """InputError where maps of ``box`` voxels per edge, of ``each`` bytes, cannot fit; ``said`` is the parameter that asks for them."""
    need, there = each * box**3, memory_of(device)
    if need > there:
        raise InputError(
            f"{said} cannot be used: maps of {box} voxels per edge need at least {_gigabytes(need)} GB of memory, and there "
            f"are {_gigabytes(there)}; choose a smaller box or larger pixels"
        )


def memory_needed(job: str, box: int, device: torch.device, more: float = 0.0) -> Finding:
    """About what memory a job needs at its peak for a box of so many voxels per edge, and ``more`` bytes; a warning where the host has less.

    Of a CUDA device nothing is known: its host needs what the program takes.
    """
    program, each = NEEDS[job]
    need, there = program, memory_of(torch.device("cpu"))
    if device.type == "cpu":
        need += each * box**3 + more
    if need <= there:
        return remark("memory_needed", need=_gigabytes(need))
    return Finding("memory_short", need=_gigabytes(need), there=_gigabytes(there))


def sums_memory(box: int, padding: int = 1) -> float:
    """Bytes of the copies of a half set's sums beyond the first, which more threads need."""
    side = padding * box + 3
    size = 6 * side**2 * (side + 1)
    return (copies(size) - 1) * float(size)


def search_bytes(settings: EMSettings, batch: int) -> float:
    """About how much the coarse search of a batch takes at its peak: templates, scores, and the slices of the candidates."""
    search, local = settings.search, settings.local
    limit = min(search.coarse_limit, settings.schedule.highest_limit)
    m, step = math.pi / 2 * limit**2, grid_step(limit, search)
    if local is None:
        rotations = 4 * math.pi / step**2 * math.pi / step / len(settings.group) + 1
        together, extent, grid = batch, search.shift_extent, 0.0
    else:
        cube = (2 * math.floor(local.extent.rotation / step) + 1) ** 3
        rotations, grid = max(1.0, math.pi / 6 * cube), 60.0 * cube
        together, extent = max(1, SLICES_AT_ONCE // rotations), local.extent.shift
    moves = math.pi * (max(extent, 1.0) / max(1.0, settings.box / (4 * limit))) ** 2 + 1
    scored = min(rotations, SCORED) if local is None else rotations
    kept = min(search.candidates, 2 * rotations)
    return (
        grid
        + rotations * (PER_ROTATION + PER_COEFFICIENT * m)
        + together * moves * (PER_SCORE * scored + 3 * PER_SCORE * m)
        + batch * kept * (3 * PER_SCORE * (m + moves) + PER_ROTATION)
        + batch * 2 * rotations * PER_SCORE
    )


def require_search_room(settings: EMSettings, batch: int, device: torch.device) -> None:
    """InputError where the coarse search cannot fit; it names the parameter that asks for most, and the value that would fit."""
    there = memory_of(device)
    need = search_bytes(settings, batch)
    if need <= there:
        return
    usual, search = SearchSettings(), settings.search
    extent = 0.1 * settings.box
    for name, value, harmless, unit in (
        ("candidates", search.candidates, usual.candidates, 1.0),
        ("grid_step", search.grid_step, math.radians(12), math.degrees(1)),
        ("coarse_limit", search.coarse_limit, usual.coarse_limit, 1.0),
        ("shift_extent", search.shift_extent, extent, settings.pixel_size),
    ):
        if value is None:
            continue

        def fits(trial: float, name: str = name) -> bool:
            return (
                search_bytes(replace(settings, search=replace(search, **{name: trial})), batch)
                <= there
            )

        if fits(harmless):
            low, high = harmless, value
            for _ in range(60):  # halve what lies between
                middle = (low + high) / 2
                low, high = (middle, high) if fits(middle) else (low, middle)
            shown = low * unit
            whole = math.floor(shown) if value > harmless else math.ceil(10 * shown) / 10
            asks, would = f"search.{name}={value * unit:.6g}", f"{whole:.10g} would fit"
            break
    else:
        asks, would = f"minibatch_size={batch}", "choose a smaller one, or fewer search.candidates"
    raise InputError(
        f"{asks} cannot be used: the search needs about {_gigabytes(need)} GB of memory, and there are {_gigabytes(there)}; {would}"
    )


def memory_of(device: torch.device) -> int:
    """Bytes of memory of a device; of a host, what this process may have of it."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return host_memory()


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:,.0f}" if count >= 1e10 else f"{count / 1e9:.2g}"
