"""MRC headers, volumes and the writing of stacks.

The format: Cheng et al. 2015, doi:10.1016/j.jsb.2015.04.002. Real files break it in ways that are met here:
no "MAP " stamp, no or a wrong machine stamp, extended headers, permuted axes, no pixel size.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from mrcfile.dtypes import HEADER_DTYPE
from torch import Tensor

from cryotorch import version
from cryotorch.data.files import Unpacked, host_memory, open_input, replace_file
from cryotorch.errors import InputError

MAX_EDGE_RATIO = 8  # times its shortest edge is no map, to be padded into a cube
HEADER_BYTES = 1024
# Mode 0 is signed by the standard of 2014, unsigned by older writers: see ``_bytes``.
MODES = {0: np.int8, 1: np.int16, 2: np.float32, 6: np.uint16, 12: np.float16}
# IMOD's mark in words 39 and 40, and the bit that says that its bytes are signed (bio3d.colorado.edu/imod/doc/mrc_format.txt).
IMOD, IMOD_AT, IMOD_SIGNED = 1146047817, 152, 1
MAX_DENSITY = 1e15  # beyond any density, and its inverse below
MAX_EDGE = 1 << 20  # beyond any real box: tells a header of the other byte order


@dataclass(frozen=True)
class Header:
    """What is needed to find and understand the data of an MRC file.

    Attributes:
        shape: (sections, rows, columns) as stored.
        dtype: of the values, with byte order.
        offset: bytes before the data.
        axes: which axis (1 = x, 2 = y, 3 = z) sections, rows and columns run along.
        pixel_size: (x, y, z) Å; 0 where the header says nothing usable.
        corner: (x, y, z) Å, where the first voxel lies in the coordinates of an atomic model.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype
    offset: int
    axes: tuple[int, int, int]
    pixel_size: tuple[float, float, float]
    corner: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def image_bytes(self) -> int:
        return self.shape[1] * self.shape[2] * self.dtype.itemsize

    @property
    def size(self) -> tuple[int, int, int]:
        """Voxels along (x, y, z)."""
        x, y, z = (self.shape[self.axes.index(axis)] for axis in (1, 2, 3))
        return x, y, z

    @property
    def cube_corner(self) -> tuple[float, float, float]:
        """The corner, Å, of the cube that ``read_volume(pad=True)`` makes; that of a cubic map is its own."""
        box = max(self.size)
        rows = zip(self.corner, self.size, self.pixel_size, strict=True)
        x, y, z = (start - (box // 2 - n // 2) * step for start, n, step in rows)
        return x, y, z


def _plausible(header: np.ndarray) -> bool:
    edges = [int(header[name]) for name in ("nx", "ny", "nz")]
    return all(0 <= edge < MAX_EDGE for edge in edges) and 0 <= int(header["mode"]) < 256


def parse_header(raw: bytes, path: str | Path) -> Header:
    """The header in the first 1024 bytes of a file; ``path`` is for messages.

    The byte order that gives plausible numbers is taken, little endian first: stamps are missing or wrong in
    real files.

    Raises:
        InputError: too short, not MRC, or a mode that holds no real images.
    """
    if len(raw) < HEADER_BYTES:
        what = "is empty" if not raw else f"has {len(raw)} bytes, fewer than an MRC header's 1024"
        raise InputError(f"File {path} {what}: copy it again.")
    orders = [HEADER_DTYPE, HEADER_DTYPE.newbyteorder(">")]
    headers = [np.frombuffer(raw, order, 1)[0] for order in orders]
    header = next((h for h in headers if _plausible(h)), None)
    if header is None:
        raise InputError(
            f"File {path} is not an MRC file: its header makes no sense in either byte order."
        )
    mode = int(header["mode"])
    if mode not in MODES:
        known = ", ".join(f"{m} ({np.dtype(t).name})" for m, t in MODES.items())
        raise InputError(f"File {path} has MRC mode {mode}: convert it to one of {known}.")
    columns, rows, sections = (int(header[name]) for name in ("nx", "ny", "nz"))
    if min(columns, rows, sections) < 1:
        raise InputError(
            f"File {path} holds no image: its header says {columns} x {rows} x {sections}."
        )
    extended = int(header["nsymbt"])
    if extended < 0:
        raise InputError(
            f"File {path} has an extended header of {extended} bytes: its header is damaged."
        )
    axes = (int(header["maps"]), int(header["mapr"]), int(header["mapc"]))
    if axes == (0, 0, 0):  # left empty by old programs
        axes = (3, 2, 1)
    if sorted(axes) != [1, 2, 3]:
        raise InputError(f"File {path} has axis order {axes[::-1]}: rewrite it with 1, 2, 3.")
    order = ">" if header is headers[1] else "<"
    dtype = np.dtype(_bytes(header, raw, order) if mode == 0 else MODES[mode]).newbyteorder(order)
    size = _pixel_size(header)
    corner = _corner(header, axes, size)
    shape = (sections, rows, columns)
    return Header(shape, dtype, HEADER_BYTES + extended, axes, size, corner)


def _bytes(header: np.ndarray, raw: bytes, order: str) -> type[np.generic]:
    """The type of mode 0: what IMOD says of its own files, else the one that the header's range fits into, else signed."""
    stamp, flags = np.frombuffer(raw, f"{order}i4", 2, IMOD_AT).tolist()
    if stamp == IMOD:
        return np.int8 if flags & IMOD_SIGNED else np.uint8
    low, high = float(header["dmin"]), float(header["dmax"])
    return np.uint8 if 0 <= low < high and 127 < high <= 255 else np.int8


def _pixel_size(header: np.ndarray) -> tuple[float, float, float]:
    sizes = []
    for axis in "xyz":
        edge, cells = float(header["cella"][axis]), int(header[f"m{axis}"])
        size = edge / cells if cells > 0 and np.isfinite(edge) else 0.0
        sizes.append(size if 0 < size < 1e6 else 0.0)
    return tuple(sizes)


def _corner(
    header: np.ndarray, axes: tuple[int, ...], pixel_size: tuple[float, ...]
) -> tuple[float, float, float]:
    """The ORIGIN fields where they say something, else the start of columns, rows and sections in voxels.

    Maps cut out of larger ones and those of the EMDB carry one or the other; ChimeraX reads them in this order.
    """
    x, y, z = (float(header["origin"][axis]) for axis in "xyz")
    if (x or y or z) and np.isfinite([x, y, z]).all():
        return x, y, z
    starts = [int(header[name]) for name in ("nzstart", "nystart", "nxstart")]
    x, y, z = (starts[axes.index(axis)] * pixel_size[axis - 1] for axis in (1, 2, 3))
    return x, y, z


def read_header(path: str | Path) -> Header:
    """The header of a file, which may be gzipped."""
    with open_input(path) as file:
        return parse_header(file.read(HEADER_BYTES), path)


def read_corner(path: str | Path, pixel_size: float | None = None) -> tuple[float, float, float]:
    """Where the first voxel (x, y, z) of a map lies in the coordinates of atomic models, Å, as ChimeraX shows it.

    Of a map that is no cube: of the one that it is padded to. A ``pixel_size`` that takes the place of the header's
    moves the corner along.
    """
    header = read_header(path)
    stated = header.pixel_size[0] or pixel_size or 0.0
    scale = (pixel_size or stated) / stated if stated else 1.0
    x, y, z = replace(header, pixel_size=(stated,) * 3).cube_corner
    return x * scale, y * scale, z * scale


def read_volume(path: str | Path, pad: bool = False) -> tuple[Tensor, float | None]:
    """A cubic map: (d, d, d) float32 in (z, y, x) whatever the axis order in the file, and its pixel size in Å.

    ``.gz`` and ``.bz2`` are unpacked. The pixel size is None when the header has none; a 1.0 is passed on,
    though many programs write it without meaning it. Odd boxes are accepted. ``pad`` puts a map that is no cube
    into one as wide as its longest edge, voxel n // 2 of every axis on voxel d // 2, zeros around it.

    Raises:
        InputError: a stack of images, missing, truncated, not cubic, voxels not cubic, or values that are not finite.
    """
    with open_input(path) as file:
        header = parse_header(file.read(HEADER_BYTES), path)
        if ".mrcs" in Path(path).suffixes or max(header.shape) > MAX_EDGE_RATIO * min(header.shape):
            raise InputError(f"{path} is a stack of images: name a map")
        if len(set(header.shape)) != 1 and not pad:
            size = " x ".join(map(str, header.size))
            raise InputError(
                f"Volume {path} is {size} voxels, not a cube: pad it to one with job=volume_tools volume={path}"
            )
        wanted = header.shape[0] * header.image_bytes
        last = header.offset - HEADER_BYTES + wanted  # of the bytes behind the header
        if not isinstance(file.raw, Unpacked):
            last = min(last, os.path.getsize(path))  # a header may claim any number
        elif last > host_memory():
            raise InputError(
                f"Volume {path} is said by its header to take {last / 1e9:.3g} GB, more than this machine has memory: its header "
                "is damaged, or the map is to be cut first."
            )
        if isinstance(file.raw, Unpacked):  # a mask of zeros and ones shrinks to next to nothing
            file.raw.most = max(file.raw.most, HEADER_BYTES + last + 2**20)
        raw = file.read(last)
    present = max(len(raw) - (header.offset - HEADER_BYTES), 0)
    if present < wanted:
        raise InputError(
            f"Volume {path} is truncated: {present} of {wanted} bytes of data; copy it again."
        )
    count = math.prod(header.shape)
    stored = np.frombuffer(raw, header.dtype, count, header.offset - HEADER_BYTES).reshape(
        header.shape
    )
    # A copy: the bytes behind ``stored`` cannot be written to.
    stored = stored.transpose([header.axes.index(axis) for axis in (3, 2, 1)])
    volume = (
        np.array(stored, np.float32, order="C") if len(set(header.shape)) == 1 else _cube(stored)
    )
    _check_values(volume, path)
    x, y, z = header.pixel_size
    if min(x, y, z) > 0 and max(x, y, z) > 1.01 * min(x, y, z):
        raise InputError(
            f"Volume {path} has voxels of {x:.4g} x {y:.4g} x {z:.4g} Å, and only cubic ones are supported: resample it "
            f"in another program, with 'volume resample #1 spacing {min(x, y, z):.4g}' in ChimeraX for example"
        )
    return torch.from_numpy(volume), (x or None)


def _check_values(volume: np.ndarray, path: str | Path) -> None:
    bad = np.count_nonzero(~np.isfinite(volume))
    if bad:
        raise InputError(
            f"Volume {path} has {bad} voxels that are not finite (NaN or infinite): write it again with the program "
            "that made it, or set them to 0 there"
        )
    most = float(np.abs(volume).max(initial=0))
    if most > MAX_DENSITY or 0 < most < 1 / MAX_DENSITY:
        raise InputError(
            f"Volume {path} has values of up to {most:.2g}, which is no density: write it again with the program that made it, "
            "or bring its values to about 1 there"
        )


def _cube(values: np.ndarray) -> np.ndarray:
    box = max(values.shape)
    volume = np.zeros((box, box, box), np.float32)
    starts = [box // 2 - n // 2 for n in values.shape]
    volume[tuple(slice(at, at + n) for at, n in zip(starts, values.shape, strict=True))] = values
    return volume


def write_volume(
    path: str | Path,
    volume: Tensor | np.ndarray,
    pixel_size: float,
    corner: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> None:
    """Write a map (d, d, d), (z, y, x), as float32, pixel size in Å, atomically. Same input, same bytes.

    ``corner`` (x, y, z), Å, is where the first voxel lies in the coordinates of atomic models (MRC's ORIGIN).

    Raises:
        InputError: values that are not finite, or a place that cannot be written.
    """
    values = np.ascontiguousarray(torch.as_tensor(volume).detach().cpu().numpy(), dtype="<f4")
    if not np.isfinite(values).all():
        raise InputError(
            f"{path} is not written: {np.count_nonzero(~np.isfinite(values))} of its voxels are not finite (NaN, or beyond the range of "
            "float32): look for images or maps with a scale far from that of the others"
        )
    sections, rows, columns = values.shape
    header = _new_header(columns, rows, sections, 2, pixel_size, is_stack=False)
    for axis, start in zip("xyz", corner, strict=True):
        header["origin"][axis] = start
    wide = values.astype(np.float64)
    _set_statistics(header, wide.min(), wide.max(), wide.mean(), wide.std())
    with replace_file(path) as file:
        file.write(header.tobytes())
        file.write(values.data)


def write_stack(
    path: str | Path,
    chunks: Iterable[Tensor | np.ndarray],
    n: int,
    box: int,
    pixel_size: float,
    dtype: str | np.dtype = "float32",
) -> None:
    """Write n images, given in chunks (b, box, box), as one stack of float32 or float16, atomically.

    Raises:
        InputError: values that are not finite or do not fit into ``dtype``, or a place that cannot be written.
        ValueError: the chunks do not add up to n images of the box.
    """
    mode = {"float32": 2, "float16": 12}[np.dtype(dtype).name]
    header = _new_header(box, box, n, mode, pixel_size, is_stack=True)
    total, squares, low, high, seen = 0.0, 0.0, np.inf, -np.inf, 0
    with replace_file(path) as file:
        file.write(header.tobytes())
        for chunk in chunks:
            values = torch.as_tensor(chunk).detach().cpu().numpy()
            if values.shape[1:] != (box, box):
                raise ValueError(f"Images of {values.shape[1:]} pixels in a stack of box {box}.")
            with np.errstate(over="ignore"):
                stored = values.astype(MODES[mode])
            if not np.isfinite(stored).all():
                raise InputError(
                    f"{path} is not written: values up to {np.abs(values).max():.3g} are not finite or do not fit into {dtype}"
                )
            wide = stored.astype(np.float64)
            total, squares = total + wide.sum(), squares + (wide**2).sum()
            low, high = min(low, wide.min(initial=low)), max(high, wide.max(initial=high))
            seen += len(stored)
            _append(file, stored)
        if seen != n:
            raise ValueError(f"{seen} images were given for a stack of {n}.")
        mean = total / max(n * box * box, 1)
        rms = np.sqrt(max(squares / max(n * box * box, 1) - mean**2, 0))
        _set_statistics(header, low, high, mean, rms)
        file.seek(0)
        file.write(header.tobytes())


def stack_header(n: int, box: int, pixel_size: float, dtype: str, extended: int = 0) -> bytes:
    """The first 1024 bytes of a stack of float32 or float16 whose statistics are not known; ``extended`` bytes follow it."""
    mode = {"float32": 2, "float16": 12}[dtype]
    header = _new_header(box, box, n, mode, pixel_size, is_stack=True)
    header["nsymbt"] = extended
    _set_statistics(header, 0, -1, -2, -1)  # the format's way to say so
    return header.tobytes()


def _append(file: BinaryIO, values: np.ndarray) -> None:
    file.write(np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<")).data)


def _new_header(
    columns: int, rows: int, sections: int, mode: int, pixel_size: float, is_stack: bool
) -> np.ndarray:
    header = np.zeros((), HEADER_DTYPE)
    # In a stack z counts images, and a cell holds one of them.
    cells = {"x": columns, "y": rows, "z": 1 if is_stack else sections}
    for axis, size in {"x": columns, "y": rows, "z": sections}.items():
        header[f"n{axis}"] = size
        header[f"m{axis}"] = cells[axis]
        header["cella"][axis] = cells[axis] * pixel_size
    header["mode"], header["ispg"] = mode, 0 if is_stack else 1
    header["cellb"]["alpha"] = header["cellb"]["beta"] = header["cellb"]["gamma"] = 90
    header["mapc"], header["mapr"], header["maps"] = 1, 2, 3
    header["map"], header["machst"], header["nversion"] = b"MAP ", (0x44, 0x44, 0, 0), 20140
    header["nlabl"] = 1
    header["label"][0] = f"cryotorch {version.__version__}".encode()
    return header


def _set_statistics(header: np.ndarray, low: float, high: float, mean: float, rms: float) -> None:
    header["dmin"], header["dmax"], header["dmean"], header["rms"] = low, high, mean, rms
