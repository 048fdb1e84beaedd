"""A number for the pixels of an image, by which the same image is known again."""

from __future__ import annotations

import hashlib

import numpy as np


def marks_of(images: np.ndarray) -> np.ndarray:
    """Of images (b, d, d), (b,) uint64 from their middle row: noise is never twice the same there."""
    middle = np.ascontiguousarray(images[:, images.shape[1] // 2])
    marks = [hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in middle]
    return np.frombuffer(b"".join(marks), np.uint64)
