"""Modulation transfer functions of detectors, from the files that RELION's optics tables name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cryotorch.data.image_names import find_stacks
from cryotorch.data.star import read_star
from cryotorch.data.table import Table
from cryotorch.errors import InputError
from cryotorch.findings import Finding, remark

MTF_FILE = "rlnMtfFileName"
# Pixel size of the detector; the second label is of older files.
DETECTOR_PIXEL = ("rlnMicrographOriginalPixelSize", "rlnMicrographPixelSize")
FREQUENCY, VALUE = "rlnResolutionInversePixel", "rlnMtfValue"
CURVE_POINTS = 257  # of a curve: an MTF is smooth


def read_mtf(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies (q,) in 1/pixel of the detector, increasing, and the MTF (q,) there.

    Raises:
        InputError: no such table, or values that no detector has.
    """
    tables = [t for t in read_star(path).values() if FREQUENCY in t and VALUE in t]
    if not tables or not tables[0].rows:
        raise InputError(
            f"{path} is no MTF: it has no table with _{FREQUENCY} and _{VALUE}; name the right file."
        )
    frequency, value = (tables[0].floats(label, path) for label in (FREQUENCY, VALUE))
    if (value < 0).any() or (value > 1.5).any() or not value.any():
        wrong = value[(value < 0) | (value > 1.5)][:1].sum()
        raise InputError(f"_{VALUE} is {wrong:g} in {path}: an MTF goes from 1 towards 0.")
    order = np.argsort(frequency)
    return frequency[order], value[order]


def mtf_of_groups(
    optics: Table,
    pixel_size: np.ndarray,
    star: Path,
    project: str | Path | None,
) -> tuple[Tensor | None, list[Finding]]:
    """``Optics.mtf`` (g, q): each group's MTF at equally spaced frequencies from 0 to its Nyquist frequency, and what is not applied.

    ``pixel_size`` (g,) Å, of the images. None where no group has one. Files are looked for where image stacks are; one that is missing, or a group
    without the detector's pixel size, is told, and the group's MTF is 1.

    Raises InputError for a pixel size of the detector that is not above 0.
    """
    if MTF_FILE not in optics:
        return None, []
    names = optics[MTF_FILE].tolist()
    detector = next((label for label in DETECTOR_PIXEL if label in optics), None)
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    told: list[Finding] = []
    for name in dict.fromkeys(name for name in names if name not in ("", "None")):
        if detector is None:
            what = dict(mtf=name, file=str(star), column=f"_{DETECTOR_PIXEL[0]}")
            told.append(remark("mtf_not_applied", **what))
            continue
        try:
            file = find_stacks([name], star, project)[0]
        except InputError:
            told.append(remark("mtf_missing", mtf=name, file=str(star)))
            continue
        found[name] = read_mtf(file)
    if not found or detector is None:
        return None, told
    curves = np.ones((len(names), CURVE_POINTS), dtype=np.float32)
    pixels = optics.floats(detector, star)
    if (pixels <= 0).any():
        raise InputError(f"_{detector} is {pixels.min():g} in {star}: give the detector's, in Å.")
    for group, name in enumerate(names):
        if name in found:
            inverse = np.linspace(0, 0.5, CURVE_POINTS) / pixel_size[group]  # 1/Å
            curves[group] = np.interp(inverse * pixels[group], *found[name])
    return torch.from_numpy(curves), told
