from __future__ import annotations

import numpy as np
import pytest

from cryotorch.data.table import Table
from cryotorch.errors import InputError


def test_values_become_text_and_stay_the_numbers_they_are():
    table = Table(
        {"name": ["a", "µm", ""], "x": np.array([1.5, -2, 1e-7]), "i": np.array([1, 2, 3])}
    )
    assert table["name"].tolist() == ["a", "µm", ""]
    assert table["x"].tolist() == ["1.500000", "-2.000000", "0.000000"]
    assert table["i"].tolist() == ["1", "2", "3"]
    assert table.floats("x").tolist() == [1.5, -2, 1e-7]
    assert table.integers("i").dtype == np.int64
    assert Table({"i": ["3.0"]}).integers("i").tolist() == [3]
    assert table == Table(
        {label: table[label].tolist() for label in table}
    )  # the same when written


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (np.array([0.1, 1 / 3, 16777217], np.float32), ["0.1", "0.33333334", "1.6777216e+07"]),
        (np.array([2**64 - 1, 7], np.uint64), ["18446744073709551615", "7"]),
        (np.array([-128, 127], np.int8), ["-128", "127"]),
        (np.array([True, False]), ["1", "0"]),
        (np.array([[1, -2], [3, 4]], np.int16), ["[1,-2]", "[3,4]"]),
        (np.array([[0.5, 0.1, 2]], np.float32), ["[0.5,0.1,2.0]"]),
        (np.array([[0.5, 1e-7]]), ["[0.500000,0.000000]"]),
        (np.zeros((0, 3)), []),
    ],
)
def test_numbers_of_every_kind_as_text(values, text):
    table = Table({"x": values})
    assert table["x"].tolist() == text
    assert table.raw("x", 1).tolist() == [value.encode() for value in text[1:]]
    again = table.vectors("x") if values.ndim == 2 else table.floats("x")
    assert again.dtype == np.float64
    np.testing.assert_array_equal(again, values.astype(np.float64))


def test_every_float32_survives_being_text():
    bits = np.random.default_rng(0).integers(0, 2**32, 20000, dtype=np.uint32)
    values = bits.view(np.float32)
    values = values[np.abs(values) < 1e30]  # also drops NaN
    text = Table({"x": Table({"x": values}).raw("x")})
    assert (text.floats("x").astype(np.float32) == values).all()


def test_vectors_are_read_from_text():
    table = Table({"x": ["[1,-2.5e1,0]", " [4, 5,6] "]})
    assert table.vectors("x").tolist() == [[1, -25, 0], [4, 5, 6]]
    assert Table({"x": []}).vectors("x").shape == (0, 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", r"_x is '\[1\]' in row 2 of f\.star: give 2 numbers as \[a,b,c\]"),
        ("[1,2,3]", "give 2 numbers as"),
        ("1,2", "give 2 numbers as"),
        ("[1,2", "give 2 numbers as"),
        ("[", "give 2 numbers as"),
        ("[1,nan]", r"'\[1,nan\]' in row 2 of f\.star: give finite numbers"),
        ("[1,x]", "give finite numbers"),
        ("[1,]", "give finite numbers"),
    ],
)
def test_what_is_no_vector_is_named_with_its_row(text, message):
    with pytest.raises(InputError, match=message):
        Table({"x": ["[1,2]", text]}).vectors("x", "f.star")


def test_a_vector_is_no_number_and_a_number_no_vector():
    with pytest.raises(InputError, match=r"_x is '\[1,2\]' in row 1 of f: give a finite number"):
        Table({"x": np.array([[1, 2]])}).floats("x", "f")
    with pytest.raises(InputError, match=r"_x is '3' in row 1 of f: give some numbers as"):
        Table({"x": [3]}).vectors("x", "f")
    with pytest.raises(InputError, match=r"_x is '\[inf,0\.0\]' in row 2"):
        Table({"x": np.array([[1, 1], [np.inf, 0]], np.float32)}).vectors("x")


def test_numbers_that_are_not_finite_are_refused_as_in_text():
    with pytest.raises(InputError, match="_x is 'nan' in row 2 of f: give a finite number"):
        Table({"x": np.array([0, np.nan])}).floats("x", "f")
    with pytest.raises(InputError, match="_x is '18446744073709551615' in row 1"):
        Table({"x": np.array([2**64 - 1], np.uint64)}).integers("x")


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


@pytest.mark.parametrize("values", [np.zeros((1, 1, 1)), np.array([[b"a"]]), np.array(1.0)])
def test_other_shapes_are_refused(values):
    with pytest.raises(ValueError, match="A column has one dimension"):
        Table({"a": values})
