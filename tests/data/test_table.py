from __future__ import annotations

import numpy as np
import pytest

from cryotorch.data.table import Table
from cryotorch.errors import InputError


def test_values_become_text_and_numbers_again():
    table = Table(
        {"name": ["a", "µm", ""], "x": np.array([1.5, -2, 1e-7]), "i": np.array([1, 2, 3])}
    )
    assert table["name"].tolist() == ["a", "µm", ""]
    assert table["x"].tolist() == ["1.500000", "-2.000000", "0.000000"]
    assert table["i"].tolist() == ["1", "2", "3"]
    assert table.floats("x").tolist() == [1.5, -2, 0]
    assert table.integers("i").dtype == np.int64
    assert Table({"i": ["3.0"]}).integers("i").tolist() == [3]


@pytest.mark.parametrize("text", ["abc", "nan", "inf", "-inf", "1e999", "", "1,5"])
def test_what_is_no_number_is_named_with_its_row(text):
    with pytest.raises(InputError, match=r"_x is '.*' in row 2 of f\.star: give a finite number"):
        Table({"x": ["1", text]}).floats("x", "f.star")


def test_fractions_are_no_integers():
    with pytest.raises(InputError, match=r"_x is '1\.5' in row 1"):
        Table({"x": ["1.5"]}).integers("x")


def test_changing_a_copy_leaves_the_original():
    table = Table({"a": ["1"], "b": ["2"]})
    other = table.copy()
    other["a"] = ["9"]
    assert (table["a"][0], other["a"][0], list(other)) == ("1", "9", ["a", "b"])
    assert list(table.rename({"a": "z"})) == ["z", "b"]
    assert table != other
    assert table == Table({"a": ["1"], "b": ["2"]})


def test_columns_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="2 values in a table of 1 rows"):
        Table({"a": ["1"]})["b"] = ["1", "2"]
