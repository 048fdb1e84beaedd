from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryotorch.data.decimals import read_decimals

LETTERS = st.text("0123456789.-+e_ ,n\0", max_size=20).map(str.encode)


def plain(text: bytes) -> float:
    try:
        return float(text) if b"_" not in text else float("nan")
    except ValueError:
        return float("nan")


@given(st.lists(LETTERS, min_size=1, max_size=5))
@settings(max_examples=300, deadline=None)
def test_as_python_reads_them_bit_by_bit(texts):
    column = np.array(texts, dtype=bytes)
    expected = np.array([plain(text) for text in column.tolist()])
    assert read_decimals(column).tobytes() == expected.tobytes()


@given(
    st.lists(st.integers(-(10**15) + 1, 10**15 - 1), min_size=1, max_size=20), st.integers(0, 15)
)
@settings(max_examples=200, deadline=None)
def test_up_to_fifteen_digits_are_rounded_once(whole, places):
    texts = [f"{'-' * (x < 0)}{abs(x):0{places + 1}d}" for x in whole]
    texts = [text[: len(text) - places] + "." + text[len(text) - places :] for text in texts]
    column = np.array([text.encode() for text in texts])
    assert read_decimals(column).tobytes() == np.array([float(text) for text in texts]).tobytes()


@pytest.mark.parametrize(
    "text", ["", "-", ".", "-.", "1.2.3", "--1", "1-2", "abc", "1_000", "0x10"]
)
def test_what_is_no_number(text):
    assert np.isnan(read_decimals(np.array([b"1.5", text.encode()]))).tolist() == [False, True]


def test_many_rows_are_read_in_pieces(monkeypatch):
    monkeypatch.setattr("cryotorch.data.decimals.ROWS_AT_ONCE", 7)
    column = np.array([f"{i / 8:.3f}".encode() for i in range(-50, 50)])
    assert read_decimals(column).tolist() == [i / 8 for i in range(-50, 50)]
    assert read_decimals(column[::2]).tolist() == [i / 8 for i in range(-50, 50, 2)]
    assert read_decimals(column[:0]).shape == (0,)
