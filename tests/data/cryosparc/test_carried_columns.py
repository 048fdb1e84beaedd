"""Fields as columns, and what their list says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cryotorch.data.cryosparc.carried_columns import (
    fields_table,
    from_column,
    guessed_fields,
    to_column,
)
from cryotorch.data.table import Table

PATH = Path("x.star")
TYPES = st.sampled_from("u1 u4 u8 i2 i8 f2 f4 f8 c8 b1 S1 S7".split())
SHAPES = st.tuples(st.integers(1, 4)).flatmap(
    lambda n: st.sampled_from([n, (*n, 1), (*n, 3), (*n, 2, 2)])
)


@settings(deadline=None, max_examples=300)
@given(TYPES.flatmap(lambda kind: arrays.arrays(kind, SHAPES)))
def test_any_array_comes_back_to_the_bit(values):
    """As it is kept in a table, and as text; only NaN may lose what no one reads, its payload."""
    values = np.where(values == values, values, values.dtype.type(0))
    table = Table({"cs/x": to_column(values)})
    listed = fields_table({"x": values})
    kind, shape = listed["cryosparcType"][0], values.shape[1:]
    texts = Table({"cs/x": table.raw("cs/x")})
    for each in (table, texts):
        again = from_column(each, "cs/x", str(kind), shape, PATH)
        assert again.dtype == values.dtype and again.tobytes() == values.tobytes()


@pytest.mark.parametrize(
    ("values", "written"),
    [
        (np.float32([0.1]), "0.1"),
        (np.float64([0.1 + 0.2]), "0.30000000000000004"),
        (np.uint64([2**64 - 1]), "18446744073709551615"),
        (np.float32([[1.5, -2e-9]]), "[1.5,-2e-09]"),
        (np.array([b"patch"]), "patch"),
        (np.array([b"a\nb"]), "610a62"),
        (np.array([[b"a"]]), "61"),
    ],
)
def test_columns_can_be_read_by_a_person(values, written):
    assert Table({"x": to_column(values)})["x"][0] == written


def test_types_are_guessed_where_the_list_was_lost():
    fields = {
        "uid": np.uint64([2**64 - 1, 0]),
        "blob/sign": np.float32([-1, 1]),
        "ctf/tilt_A": np.float32([[1, 2], [3, 4]]),
        "x/count": np.uint64([7, 8]),
        "x/number": np.float32([1e-20, 2]),
        "x/vector": np.float32([[1, 2, 3]] * 2),
        "x/text": np.array([b"a", b"bc"]),
    }
    table = Table({f"cs/{name}": to_column(values) for name, values in fields.items()})
    table = Table({label: table.raw(label) for label in table})
    guessed = guessed_fields(table)
    assert list(guessed) == list(fields)
    for name, (kind, shape) in guessed.items():
        again = from_column(table, f"cs/{name}", kind, shape, PATH)
        assert again.dtype == fields[name].dtype and np.array_equal(again, fields[name])
