"""The maps of a run as small grids of bytes, which a browser cuts and contours; and how well the half maps agree at each place."""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from cryotorch.data.mrc import read_header, read_volume
from cryotorch.errors import InputError
from cryotorch.ops.fourier.transforms import resize_volume
from cryotorch.report.mesh import DENSITY_SHARE
from cryotorch.report.page.run_files import RunFiles, number

MOST_VOXELS = 1_300_000  # of all maps of a page: two megabytes of noise, as text
FINEST, COARSEST = 96, 32  # voxels along an edge
MOST_MAPS = 8
MOST_BYTES = 2**31  # of a file that is read for the sake of a page
AGREEMENT_BOX = 48  # voxels along an edge: it is smooth
WINDOW = (
    2.0  # of the local correlation: standard deviation of the Gaussian, in voxels of AGREEMENT_BOX
)

# File -> what it is called, in the order of the page. Others are called as their files are.
LABELS = {
    "map.mrc": "Map",
    "map_sharp.mrc": "Sharpened map",
    "map_local_filtered.mrc": "Locally filtered map",
    "map_other_hand.mrc": "Map of the other hand",
    "truth.mrc": "Truth",
    "initial.mrc": "Initial map",
    "local_resolution.mrc": "Local resolution",
    "map_cutoff.mrc": "Cutoff of the local filter",
    "mask_refine.mrc": "Refinement mask",
    "mask_fsc.mrc": "FSC mask",
}
HALVES = ("map_half_A.mrc", "map_half_B.mrc")
IN_ANGSTROM = ("local_resolution.mrc", "map_cutoff.mrc")  # 0 where nothing is said
OTHER_HAND = "map_other_hand.mrc"  # the mirror image, which shows nothing more


@dataclass(frozen=True)
class Grid:
    """A map as bytes.

    Attributes:
        name: of the file; label: what it is called; kind: map, mask, difference or angstrom.
        values: (m, m, m) uint8: 0 stands for ``low`` and 255 for ``high``.
        window: bytes between which a grey scale runs.
        level: byte to contour at, or None.
        box: voxels of the file along an edge; edge: Å.
    """

    name: str
    label: str
    kind: str
    values: np.ndarray
    low: float
    high: float
    window: tuple[int, int]
    level: float | None
    box: int
    edge: float

    def plain(self) -> dict[str, Any]:
        """For a page."""
        entries = {"name": self.name, "label": self.label, "kind": self.kind}
        entries |= {"low": self.low, "high": self.high, "window": self.window, "level": self.level}
        size = {"m": len(self.values), "box": self.box, "edge": self.edge}
        return {**entries, **size, "data": packed(self.values)}


def packed(values: np.ndarray) -> str:
    """Bytes as text: deflated, then base64."""
    return base64.b64encode(zlib.compress(values.tobytes(), 6)).decode()


class Maps(NamedTuple):
    """The maps of a folder, and what their surfaces are coloured by, None for nothing."""

    grids: list[Grid]
    tint: dict[str, Any] | None


def maps(run: RunFiles, runs: int = 1) -> Maps:
    """Maps, masks and the difference of the half maps in the folder, as fine as a page of so many ``runs`` can hold.

    Surfaces are coloured by the local resolution, or where there is none by how well the half maps agree at each place up to
    the resolution that is claimed; where none is claimed, by nothing.
    """
    names = _names(run)
    halves = all(run.has(name) for name in HALVES)
    rough = sum(_kind(name) != "mask" for name in names) + halves
    room = (MOST_VOXELS / runs / max(rough, 1)) ** (1 / 3)
    m = int(min(max(room, COARSEST), FINEST)) // 2 * 2
    made = [(name, _grid(run, name, m)) for name in names]
    grids = [grid for _, grid in made if grid is not None]
    local = next((g for g in grids if g.name == "local_resolution.mrc"), None)
    tint = None if local is None else _of_resolution(local)
    pair = _halves(run, m) if halves else None
    if pair is not None:
        a, b, box, edge = pair
        grid = to_bytes(a - b, " − ".join(HALVES), "Half maps, difference", "difference", box, edge)
        place = sum(other.kind == "map" for other in grids)
        grids[place:place] = [] if grid is None else [grid]
        finest = number(run.summary.get("resolution"))
        tint = _of_agreement(a, b, edge, finest) if tint is None and finest else tint
    return Maps(grids, tint)


def _names(run: RunFiles) -> list[str]:
    there = [n for n in run.names if n.endswith(".mrc") and "/" not in n and n not in HALVES]
    if run.has("map.mrc") and OTHER_HAND in there:
        there.remove(OTHER_HAND)
    order = list(LABELS)
    masks = [n for n in there if n not in order and _kind(n) == "mask"]
    maps = [n for n in there if n not in order and n not in masks]
    maps.sort(key=lambda name: name.startswith("half"))  # halves of classes come after their maps
    known = [n for n in order if n in there]
    last = [n for n in known if _kind(n) != "map"] + masks
    chosen = [n for n in known if n not in last] + maps
    return (chosen[: MOST_MAPS - min(len(last), 3)] + last)[:MOST_MAPS]


def _kind(name: str) -> str:
    if name in IN_ANGSTROM:
        return "angstrom"
    return "mask" if name.startswith("mask") else "map"


def label(name: str) -> str:
    """What a map is called."""
    plain = Path(name).stem.replace("_", " ")
    return LABELS.get(name, plain[:1].upper() + plain[1:])


def _read(run: RunFiles, name: str) -> tuple[Tensor, float] | None:
    """A map and its pixel size, Å; None for one that cannot be read, is too large, or no map."""
    path = run.path / name
    try:
        header = read_header(path)
        if len(set(header.shape)) > 1 or path.stat().st_size > MOST_BYTES:
            return None
        volume, pixel_size = read_volume(path)
    except (InputError, OSError, ValueError):
        return None
    return volume, pixel_size or 1.0


def _grid(run: RunFiles, name: str, m: int) -> Grid | None:
    read = _read(run, name)
    if read is None:
        return None
    volume, pixel_size = read
    kind, box = _kind(name), volume.shape[-1]
    if kind == "angstrom":  # no waves: 0 says that there is no value
        step = np.linspace(0, box - 1, min(m, box)).round().astype(int)
        small = volume.numpy()[np.ix_(step, step, step)]
    else:
        small = resize_volume(volume, min(m, box)).numpy()
    return to_bytes(small, name, label(name), kind, box, box * pixel_size)


def to_bytes(
    small: np.ndarray, name: str, label: str, kind: str, box: int, edge: float
) -> Grid | None:
    """Values (m, m, m) as a ``Grid``; None where all are alike."""
    finite = np.nan_to_num(small)
    if kind == "mask":
        low, high = 0.0, 1.0
    elif kind == "angstrom":
        low, high = 0.0, float(finite.max())
    else:
        low, high = (float(v) for v in (np.percentile(finite, 0.02), finite.max()))
    if not high > low or finite.min() == finite.max():
        return None
    scale = 255 / (high - low)
    values = np.rint((finite - low) * scale).clip(0, 255).astype(np.uint8)
    ends = [0.0, 255.0]
    level = None
    if kind in ("map", "difference"):
        ends = [float(v) for v in (np.percentile(finite, (0.2, 99.8)) - low) * scale]
    if kind == "map":
        level = (DENSITY_SHARE * float(np.percentile(finite, 99.9)) - low) * scale
    elif kind == "mask":
        level = 127.5
    window = (int(max(ends[0], 0)), int(min(np.ceil(ends[1]), 255)))
    return Grid(name, label, kind, values, low, high, window, level, box, edge)


def _halves(run: RunFiles, m: int) -> tuple[np.ndarray, np.ndarray, int, float] | None:
    read = [_read(run, name) if run.has(name) else None for name in HALVES]
    first, second = read
    if first is None or second is None or first[0].shape != second[0].shape:
        return None
    box = first[0].shape[-1]
    a, b = (resize_volume(volume, min(m, box)).numpy() for volume, _ in (first, second))
    return a, b, box, box * first[1]


def _of_resolution(grid: Grid) -> dict[str, Any]:
    said = grid.values[grid.values > 0]
    ends = [float(v) for v in np.percentile(said, (1, 99))] if said.size else [0.0, 255.0]
    ends[1] = max(ends[1], ends[0] + 1)
    return {**grid.plain(), "label": "local resolution", "ends": ends}


def _of_agreement(a: np.ndarray, b: np.ndarray, edge: float, finest: float) -> dict[str, Any]:
    """How well half maps (m, m, m) agree at each place, on a grid of ``AGREEMENT_BOX``."""
    m = min(AGREEMENT_BOX, len(a))
    one, other = (resize_volume(torch.from_numpy(x), m).numpy() for x in (a, b))
    last = min(edge / finest, (m - 1) // 2)
    values = local_correlation(*flattened(one, other, last), WINDOW).clip(0, 1)
    text = f"local correlation of the half maps to {edge / last:.3g} Å, all shells weighted alike, in a window of {WINDOW * edge / m:.3g} Å"
    whole = {"label": text, "kind": "agreement", "low": 0.0, "high": 1.0, "ends": [0, 255]}
    return {**whole, "m": m, "edge": edge, "data": packed(np.rint(255 * values).astype(np.uint8))}


def flattened(a: np.ndarray, b: np.ndarray, last: float) -> tuple[np.ndarray, np.ndarray]:
    """Two maps (m, m, m) with the same mean power in every shell up to ``last`` (Fourier pixels), and none beyond or at the origin."""
    m = len(a)
    k = np.fft.fftfreq(m, 1 / m)
    shell = np.rint(np.sqrt((k[:, None, None] ** 2 + k[:, None] ** 2) + k**2)).astype(int)
    waves = [np.fft.fftn(x) for x in (a, b)]
    power = sum(np.bincount(shell.ravel(), (np.abs(w) ** 2).ravel()) for w in waves)
    gain = np.sqrt(np.bincount(shell.ravel()) / np.maximum(power, 1e-30))
    gain[0], gain[int(last) + 1 :] = 0, 0
    first, second = (np.fft.ifftn(w * gain[shell]).real for w in waves)
    return first, second


def local_correlation(a: np.ndarray, b: np.ndarray, window: float) -> np.ndarray:
    """<ab> / sqrt(<a²> <b²>) of two maps (m, m, m), means < > over a Gaussian of ``window`` voxels; 0 where a map is."""
    both, one, other = (gaussian_filter(x, window, mode="constant") for x in (a * b, a * a, b * b))
    scale = np.sqrt(np.maximum(one * other, 0))
    return np.divide(both, scale, out=np.zeros_like(both), where=scale > 1e-12 * scale.max())
