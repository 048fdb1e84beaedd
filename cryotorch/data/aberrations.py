"""Optics groups as columns of a STAR file's table: the lens, beam tilt, Zernike coefficients, magnification."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cryotorch.data.table import Table
from cryotorch.errors import InputError
from cryotorch.particles import Optics

LENS = ("rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast")
PIXEL = "rlnImagePixelSize"
TILT = ("rlnBeamTiltX", "rlnBeamTiltY")
ODD_ZERNIKE, EVEN_ZERNIKE = "rlnOddZernike", "rlnEvenZernike"
MAGNIFICATION = ("rlnMagMat00", "rlnMagMat01", "rlnMagMat10", "rlnMagMat11")
PREMULTIPLIED = "rlnCtfDataAreCtfPremultiplied"


def read_aberrations(optics: Table, path: Path) -> dict[str, Tensor]:
    """The aberrations of ``Optics`` by name; those that no group has are left out.

    beam_tilt (g, 2) mrad; odd_zernike (g, o) and even_zernike (g, e) rad; magnification (g, 2, 2); premultiplied (g,) bool.

    Missing elements of the magnification matrix are those of the unit matrix.

    Raises:
        InputError: a value that is not a number, or a matrix that magnifies more than twice one way or other.
    """
    n = optics.rows

    def columns(labels: tuple[str, ...], neutral: tuple[float, ...]) -> np.ndarray:
        values = [
            optics.floats(label, path) if label in optics else np.full(n, value)
            for label, value in zip(labels, neutral, strict=True)
        ]
        return np.stack(values, 1)

    matrix = columns(MAGNIFICATION, (1, 0, 0, 1)).reshape(n, 2, 2)
    stretch = np.linalg.svd(matrix, compute_uv=False)
    bad = (stretch.max(1) > 2) | (stretch.min(1) < 0.5) | (np.linalg.det(matrix) < 0)
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(
            f"The magnification matrix of row {row + 1} of data_optics in {path} is {matrix[row].tolist()}: correct "
            f"_{MAGNIFICATION[0]} to 11, they are near 1, 0, 0, 1."
        )
    found = {
        "beam_tilt": (columns(TILT, (0, 0)), 0),
        "odd_zernike": (
            optics.vectors(ODD_ZERNIKE, path) if ODD_ZERNIKE in optics else np.zeros(1),
            0,
        ),
        "even_zernike": (
            optics.vectors(EVEN_ZERNIKE, path) if EVEN_ZERNIKE in optics else np.zeros(1),
            0,
        ),
        "magnification": (matrix, np.eye(2)),
    }
    tensors = {
        name: torch.from_numpy(values.astype(np.float32))
        for name, (values, none) in found.items()
        if (values != none).any()
    }
    if PREMULTIPLIED in optics and optics.integers(PREMULTIPLIED, path).any():
        tensors["premultiplied"] = torch.from_numpy(optics.integers(PREMULTIPLIED, path) != 0)
    return tensors


def optics_columns(groups: Optics) -> dict[str, np.ndarray]:
    """Everything in ``groups`` that RELION has a column for, (g,) or (g, k) each; what is None gets none."""

    def numbers(values: Tensor) -> np.ndarray:
        return values.double().numpy()

    lens = (groups.voltage_kv, groups.spherical_aberration, groups.amplitude_contrast)
    columns = {label: numbers(values) for label, values in zip(LENS, lens, strict=True)}
    columns[PIXEL] = numbers(groups.pixel_size)
    if groups.premultiplied is not None:
        columns[PREMULTIPLIED] = groups.premultiplied.long().numpy()
    if groups.beam_tilt is not None:
        columns |= zip(TILT, numbers(groups.beam_tilt).T, strict=True)
    if groups.odd_zernike is not None:
        columns[ODD_ZERNIKE] = numbers(groups.odd_zernike)
    if groups.even_zernike is not None:
        columns[EVEN_ZERNIKE] = numbers(groups.even_zernike)
    if groups.magnification is not None:
        columns |= zip(MAGNIFICATION, numbers(groups.magnification.flatten(1)).T, strict=True)
    return columns


def updated_optics(table: Table, old: Optics, new: Optics) -> Table:
    """A table of optics, read as ``old``, with the values of ``new`` where they differ; the rest stays to the digit.

    What ``new`` leaves out (None) stays too: a job that ignores an aberration has not measured it as zero.
    """
    before = optics_columns(old)
    table = table.copy()
    for label, values in optics_columns(new).items():
        # what neither knows is NaN
        if label not in before or not np.array_equal(before[label], values, equal_nan=True):
            table[label] = values
    return table
