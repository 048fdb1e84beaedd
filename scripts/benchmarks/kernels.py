"""The inner loops one by one: coarse search, slices, polish, M-step.

The timed work depends on shapes and not on values: a random blob stands for the map, its noisy
projections for images.
"""

from __future__ import annotations

import math
import resource
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from benchmarks.timing import measure, race
from cryotorch.ops.fourier.image_model import predict
from cryotorch.ops.fourier.reconstruct import collect, shell_mean_weight, solve
from cryotorch.ops.fourier.slices import (
    accumulator,
    add_slices_,
    extract_slices,
    insert_slices_,
    insert_spread_,
    projector,
    sample,
    slice_coordinates,
)
from cryotorch.ops.fourier.symmetrise import symmetrise
from cryotorch.ops.fourier.transforms import half_plane, shift_phase
from cryotorch.ops.geometry.rotations import from_rotation_vector, random_rotations
from cryotorch.ops.geometry.symmetry import point_group
from cryotorch.ops.masks.soft import soft_sphere
from cryotorch.ops.pose.precision import coarse_dtype
from cryotorch.ops.pose.scores import (
    Observation,
    Templates,
    gram_of_tensors,
    grid_scores,
    pose_terms,
)
from cryotorch.refinement.pose_search.finders import RELOCATE
from cryotorch.refinement.pose_search.search import ascend, polish, prepare_reference, shift_grid
from cryotorch.refinement.settings import SearchSettings

Row = dict[str, object]
CLIMB = 5  # steps
COARSE_LIMITS = (6.0, 12.0)  # Fourier pixels: about those of the first and of the later iterations


@dataclass(frozen=True)
class Effort:
    """How much is done per timing.

    Attributes:
        images: per batch of the coarse search; points: coefficients per call of the others;
        square: edge of the large matmul; seconds: spent on each timing at least.
    """

    images: int = 128
    points: int = 1 << 19
    square: int = 2048
    seconds: float = 0.3

    @classmethod
    def on(cls, device: str) -> Effort:
        """Enough to fill the device."""
        return cls() if device == "cpu" else cls(images=256, points=1 << 24, square=8192)


@dataclass(frozen=True)
class Problem:
    """A map, its noisy images and their poses on a device."""

    device: str
    box: int
    volume: Tensor
    seen: Observation
    rotation: Tensor
    shift_px: Tensor


def run(
    boxes: Sequence[int], devices: Sequence[str], effort: Effort | None = None
) -> dict[str, list[Row]]:
    """Title -> rows of every table."""
    tables: dict[str, list[Row]] = {}
    for device in devices:
        e = effort or Effort.on(device)
        for box in boxes:
            p = problem(box, device, e.images)
            found = {"Coarse search": coarse_rows(p, e), "Slices and poses": slice_rows(p, e)}
            found |= {"Polish": polish_rows(p, e), "M-step, per half map": mstep_rows(p, e)}
            found |= {"Insertion over a posterior": posterior_rows(p, e)}
            found |= {"Symmetry, per half map": symmetry_rows(p, e)}
            memory: Row = {"device": device, "box": box, "peak so far, MiB": peak_memory(device)}
            found["Memory"] = [memory]
            for title, rows in found.items():
                tables.setdefault(title, []).extend(rows)
    return tables


def problem(box: int, device: str, n: int) -> Problem:
    """Projections of a random blob at SNR about 1."""
    draw = torch.Generator().manual_seed(box)
    volume = torch.randn(box, box, box, generator=draw) * soft_sphere(box, 0.3 * box, 2)
    volume = volume.to(device)
    rotation = random_rotations(n, draw).to(device)
    shift = torch.randn(n, 2, generator=draw).to(device)
    m = len(half_plane(box).frequency)
    gain = torch.ones(n, m, device=device)
    clean = predict(projector(volume), rotation, shift, gain)
    noise = torch.randn(n, m, 2, generator=draw).to(device)
    level = clean.abs().square().mean().sqrt()
    spectrum = clean + torch.view_as_complex(noise) * level / 2**0.5
    return Problem(
        device, box, volume, Observation(spectrum, gain, gain / level**2, box), rotation, shift
    )


def coarse_rows(p: Problem, e: Effort) -> list[Row]:
    """Scores of all grid poses, in turns with plain matrix products."""
    rows = []
    dtype = coarse_dtype(p.device)
    group = torch.eye(3, dtype=torch.float64)[None]
    for limit in (limit for limit in COARSE_LIMITS if limit <= p.box / 2 - 1):
        grid = prepare_reference(p.volume, limit, SearchSettings(), group, dtype).grid
        (m, half), r = grid.norm.shape, len(grid.rotation)
        low = p.seen.limited(m)
        step = max(1.0, p.box / (4 * limit))
        shifts = p.shift_px[:, None] + shift_grid(max(RELOCATE, step), step, p.device)
        b, t, _ = shifts.shape
        shapes = [(b * t, m, half), (b * t, 2 * m, r), (e.square,) * 3]
        products = [_matmul(*shape, dtype, p.device) for shape in shapes]
        ours = partial(grid_scores, low, shifts, grid)
        spent, *plain = race([ours, *products], p.device, e.seconds)
        rate = 2 * (2 * b * t * m * half + b * m * half) / spent.best
        same, whole, square = (
            2 * math.prod(s) / q.best for s, q in zip(shapes, plain, strict=True)
        )
        rows.append(
            {
                "device": p.device,
                "box": p.box,
                "limit": int(limit),
                "images x shifts x rotations": f"{b} x {t} x {r}",
                **spent.rates("poses", b * t * r),
                "images/s": b / spent.best,
                "dtype": str(dtype).removeprefix("torch."),
                "operations/s": rate,
                "of a matmul this shape": rate / same,
                "poses/s, of one matmul for all": 4 * b * t * m * r / spent.best / whole,
                "of a large square one": rate / square,
                "float32's best among 8": _kept(low, shifts, p, limit, grid),
            }
        )
    return rows


def _kept(low: Observation, shifts: Tensor, p: Problem, limit: float, grid: Templates) -> float:
    """Share of images whose best rotation in float32 is among the eight best of the search."""
    few, n = slice(0, 16), 8
    exact = prepare_reference(
        p.volume, limit, SearchSettings(), torch.eye(3)[None].double(), torch.float32
    )
    low, shifts = low.of(torch.arange(len(shifts))[few].to(p.device)), shifts[few]
    best = grid_scores(low, shifts, exact.grid).argmax(1, keepdim=True)
    top = grid_scores(low, shifts, grid).topk(n, 1).indices
    return float((top == best).any(1).float().mean())


def _matmul(
    rows: int, inner: int, columns: int, dtype: torch.dtype, device: str
) -> Callable[[], Tensor]:
    """A plain matmul of that shape, into memory that is there already."""
    a = torch.randn(rows, inner, device=device).to(dtype)
    b = torch.randn(inner, columns, device=device).to(dtype)
    out = torch.empty(rows, columns, dtype=dtype, device=device)
    return partial(torch.matmul, a, b, out=out)


def fine_limits(box: int) -> list[float]:
    """Where the finer kernels are timed, Fourier pixels: the coarse limit, half of Nyquist, all."""
    last = box / 2 - 1
    return sorted({min(12.0, last), box / 4, last})


def slice_rows(p: Problem, e: Effort) -> list[Row]:
    """Extraction, insertion, ``pose_terms`` (slices with derivatives against images), and a climb.

    Each beside tensor operations that do the same, of a climb its evaluations, and a copy of the
    bytes that it moves.
    """
    rows = []
    sums, plain = (accumulator(p.box, device=p.device) for _ in range(2))
    for limit in fine_limits(p.box):
        frequency = half_plane(p.box, p.device).frequency
        frequency = frequency[: half_plane(p.box).count(limit)]
        m = len(frequency)
        n = max(1, e.points // m)
        image = torch.arange(n, device=p.device) % len(p.rotation)
        rotation, shift = p.rotation[image], p.shift_px[image]
        slices, low = projector(p.volume, limit), p.seen.limited(m)
        spectrum, weight = low.spectrum[image], low.precision[image]
        added = (spectrum, weight, rotation, frequency)
        parts = [slice(i, i + 64) for i in range(0, n, 64)]  # tensor operations have temporaries

        def tensor_slices(r=rotation, f=frequency, t=slices, parts=parts) -> None:
            for part in parts:
                sample(t, slice_coordinates(r[part], f))

        def tensor_insert(added=added, parts=parts) -> None:
            for part in parts:
                add_slices_(plain, *(v[part] for v in added[:3]), added[3])

        def tensor_terms(t=slices, low=low, poses=(image, rotation, shift), parts=parts) -> None:
            for part in parts:
                gram_of_tensors(t, low, *(v[part] for v in poses))

        # bytes per point: four rows of 16 read and 8 written; eight cells of 12 read and written;
        # four rows and the image read
        terms = (image, rotation, shift)

        def tensor_climb(evaluate=tensor_terms) -> None:
            for _ in range(CLIMB + 1):
                evaluate()

        calls = {
            "extract": (partial(extract_slices, slices, rotation, frequency), tensor_slices, 72),
            "insert": (partial(insert_slices_, sums, *added), tensor_insert, 208),
            "pose_terms": (
                partial(pose_terms, slices, low, *terms),
                tensor_terms,
                80,
            ),
            "climb": (partial(ascend, slices, low, *terms, CLIMB), tensor_climb, 80 * (CLIMB + 1)),
        }
        for name, (ours, tensors, size) in calls.items():
            a = torch.zeros(n * m * size // 8, device=p.device)  # a copy reads and writes
            spent, other, copied = race(
                [ours, tensors, partial(a.copy_, a + 1)], p.device, e.seconds
            )
            row: Row = {"device": p.device, "kernel": name, "box": p.box, "limit": int(limit)}
            each = n * (CLIMB + 1 if name == "climb" else 1)
            row |= {"points": m, **spent.rates("slices", each)}
            row |= {"points/s": each * m / spent.best}
            row |= {"times tensor operations": other.best / spent.best}
            rows.append(row | {"of a copy of the bytes": copied.best / spent.best})
    return sorted(rows, key=lambda row: str(row["kernel"]))  # and by limit, as they came


def polish_rows(p: Problem, e: Effort) -> list[Row]:
    """From the candidates of the coarse search, and the previous pose, to one pose."""
    rows = []
    settings = SearchSettings()
    group = torch.eye(3, dtype=torch.float64)[None]
    coarse = min(settings.coarse_limit, p.box / 2 - 1)
    # polish does not look at the templates: the coarsest grid will do
    reference = prepare_reference(
        p.volume, coarse, replace(settings, grid_step=1.0), group, torch.float32
    )
    k = settings.candidates + 1
    draw = torch.Generator().manual_seed(0)
    for limit in fine_limits(p.box):
        m = half_plane(p.box).count(limit)
        n = max(2, min(len(p.rotation), e.points // (2 * m)))
        start = from_rotation_vector(0.1 * torch.randn(n * k, 3, generator=draw).to(p.device))
        image = torch.arange(n, device=p.device).repeat_interleave(k)
        low = p.seen.of(torch.arange(n, device=p.device)).limited(m)
        here = replace(reference, slices=projector(p.volume, limit), limit=limit)
        start, shift = start @ p.rotation[image], p.shift_px[image]
        call = partial(polish, here, low, image, start, shift, settings)
        spent = measure(call, p.device, e.seconds)
        row: Row = {"device": p.device, "box": p.box, "limit": int(limit), "candidates": k}
        rows.append(row | {"images": n, **spent.rates("images", n)})
    return rows


def mstep_rows(p: Problem, e: Effort) -> list[Row]:
    """Fold the sums of one half map, and solve for it."""
    sums = accumulator(p.box, device=p.device)
    frequency = half_plane(p.box, p.device).frequency
    insert_slices_(sums, p.seen.spectrum, p.seen.precision, p.rotation, frequency)
    folded = measure(lambda: collect(sums), p.device, e.seconds)
    done = collect(sums)
    prior = 0.05 * shell_mean_weight(done)
    solved = measure(lambda: solve(done, prior), p.device, e.seconds)
    row: Row = {"device": p.device, "box": p.box}
    row |= {"collect, s": folded.best, "collect, s median": folded.median}
    row |= {"solve, s": solved.best, "solve, s median": solved.median}
    return [row | {"both, s": folded.best + solved.best}]


def posterior_rows(p: Problem, e: Effort) -> list[Row]:
    """Insertion at six poses of a posterior half a degree wide, in one call and pose by pose."""
    plane = half_plane(p.box, p.device).frequency
    n, poses = max(2, min(len(p.rotation), e.points // len(plane))), 6
    draw = torch.Generator().manual_seed(0)
    turn = 0.5 * math.pi / 180 * torch.randn(n * poses, 3, generator=draw).to(p.device)
    rotation = from_rotation_vector(turn).unflatten(0, (n, poses)) @ p.rotation[:n, None]
    offset = 0.2 * torch.randn(n, poses, 2, generator=draw).to(p.device)
    spectrum, weight = p.seen.spectrum[:n], p.seen.precision[:n]
    sums = accumulator(p.box, device=p.device)

    def one_by_one() -> None:
        for q in range(poses):
            moved = spectrum * shift_phase(-offset[:, q], p.box)
            insert_slices_(sums, moved, weight, rotation[:, q], plane)

    together = partial(insert_spread_, sums, spectrum, weight, rotation, offset)
    spent, other = race([together, one_by_one], p.device, e.seconds)
    each = n * poses
    row: Row = {"device": p.device, "box": p.box, **spent.rates("poses", each)}
    row |= {"ns per point": 1e9 * spent.best / each / len(plane)}
    return [row | {"times pose by pose": other.best / spent.best}]


def symmetry_rows(p: Problem, e: Effort) -> list[Row]:
    """Symmetry on the sums of one half map."""
    sums = accumulator(p.box, device=p.device)
    plane = half_plane(p.box, p.device).frequency
    insert_slices_(sums, p.seen.spectrum, p.seen.precision, p.rotation, plane)
    inserted, rows = collect(sums), []
    for name in ("C4", "C7", "D7", "T", "O", "I"):
        call = partial(symmetrise, inserted, point_group(name))
        spent = measure(call, p.device, e.seconds)
        rows.append({"device": p.device, "box": p.box, "symmetry": name, "s": spent.best})
    return rows


def peak_memory(device: str) -> int:
    """MiB: this process's largest resident set, or the most that torch had on the device."""
    if device != "cpu":
        return round(torch.cuda.max_memory_allocated(device) / 2**20)
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)
