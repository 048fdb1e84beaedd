"""Columns of decimal numbers as text, read many at a time."""

from __future__ import annotations

import numpy as np

ROWS_AT_ONCE = 65536
# Longer ones are not read quicker: 10^15 < 2^53 and 10^22 are the last that float64 holds exactly.
MAX_DIGITS = 15
MAX_LETTERS = 18
_TENS = np.array([10**i for i in range(MAX_LETTERS)], dtype=np.float64)


def read_decimals(column: np.ndarray) -> np.ndarray:
    """Text (n,) of bytes as float64, NaN for what is no number.

    Numbers such as -12.345000 are the quotient of two exact ones, 12345000 / 10^6: one rounding gives the float64
    that is nearest (Clinger 1990, doi:10.1145/93542.93557). All others go through Python's ``float``.
    """
    numbers = np.empty(len(column))
    for start in range(0, len(column), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        numbers[part] = _read(column[part])
    return numbers


def _read(column: np.ndarray) -> np.ndarray:
    if column.itemsize > MAX_LETTERS:
        return np.array([_float(text) for text in column.tolist()])
    letters = np.ascontiguousarray(column).view(np.uint8).reshape(len(column), -1).T.copy()
    minus = letters[0] == ord("-")
    letters[0][minus] = ord("0")
    whole = np.zeros(len(column), dtype=np.int64)
    digits = minus * np.int8(-1)
    places = np.zeros(len(column), dtype=np.int8)
    points = np.zeros(len(column), dtype=np.int8)
    ended = np.zeros(len(column), dtype=bool)
    plain = np.ones(len(column), dtype=bool)
    for letter in letters:
        digit = letter - np.uint8(ord("0"))  # wraps around below it
        is_digit = digit < 10
        point = letter == ord(".")
        whole = np.where(is_digit, 10 * whole + digit, whole)
        digits += is_digit
        places += is_digit & (points > 0)
        points += point
        plain &= np.where(ended, letter == 0, is_digit | point | (letter == 0))
        ended |= letter == 0
    plain &= (points < 2) & (digits > 0) & (digits <= MAX_DIGITS)
    numbers = whole / _TENS[places]
    np.negative(numbers, where=minus, out=numbers)
    for row in np.flatnonzero(~plain):
        numbers[row] = _float(column[row])
    return numbers


def _float(text: bytes) -> float:
    try:
        return float(text) if b"_" not in text else float("nan")  # Python alone reads 1_000
    except ValueError:
        return float("nan")
