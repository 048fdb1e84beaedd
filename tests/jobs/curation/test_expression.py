"""Conditions on columns against the same in NumPy, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cryotorch.errors import InputError
from cryotorch.jobs.curation.expression import Condition


@pytest.fixture
def some(make_list):
    return make_list(30)


def test_conditions_are_those_of_numpy(make_list) -> None:
    some = make_list(cryotorchScale=np.linspace(0.1, 2, 30), rlnClassNumber=np.arange(30) % 4)
    u, v = some.numbers("rlnDefocusU"), some.numbers("rlnDefocusV")
    x, y = some.shift().T
    scale, number = some.numbers("cryotorchScale"), np.arange(30) % 4
    expected = {
        "cryotorchScale > 0.7 and rlnDefocusU < 25000": (scale > 0.7) & (u < 25000),
        "_cryotorchScale >= 0.7 or not rlnDefocusU<25000": (scale >= 0.7) | ~(u < 25000),
        "12000 < rlnDefocusU <= 2 * rlnDefocusV - 1e3": (12000 < u) & (u <= 2 * v - 1e3),
        "hypot(rlnOriginXAngst, rlnOriginYAngst) < 3": np.hypot(x, y) < 3,
        "abs(rlnDefocusU - rlnDefocusV) / 2 > +100": np.abs(u - v) / 2 > 100,
        "rlnClassNumber in [1, 3]": np.isin(number, [1, 3]),
        "rlnClassNumber not in (1, 3) and rlnClassNumber != 0": number == 2,
        "rlnMicrographName == 'Micrographs/m1.mrc'": np.arange(30) // 10 == 1,
        'rlnMicrographName not in ["Micrographs/m1.mrc", "x"]': np.arange(30) // 10 != 1,
        "rlnImagePixelSize == 1.5": np.ones(30, bool),
        "rlnOpticsGroupName != 'opticsGroup1'": np.zeros(30, bool),
        "rlnDefocusU / 0 < 1": np.zeros(30, bool),
    }
    assert any(0 < rows.sum() < 30 for rows in expected.values())
    for text, rows in expected.items():
        assert np.array_equal(Condition(text).rows(some), rows), text


def test_fields_of_cryosparc_have_slashes(make_list) -> None:
    some = make_list(**{"cs/ctf/exp_group_id": np.arange(30), "cs/a": np.full(30, 2)})
    condition = Condition("cs/ctf/exp_group_id / cs/a > 5")
    assert condition.rows(some).sum() == 19
    assert condition.columns == ["cs/ctf/exp_group_id", "cs/a"]


PIECES = [
    *("rlnDefocusU", "_rlnDefocusV", "cs/x", "rlnImageName", "abs", "hypot", "x", "lambda", "if"),
    *("and", "or", "not", "in", "is", "<", "<=", "==", "!=", "=", ">", "+", "-", "*", "**", "/"),
    *("(", ")", "[", "]", "{", "}", ",", ".", ":", ":=", "~", "&", "'a'", '"', "\\", "#", "@"),
    *("1", "2.5", "1e400", "9" * 400, "3j", "0x1", "None", "True", "\0", "\n", "é", "await"),
]


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(pieces=st.lists(st.sampled_from(PIECES), min_size=1, max_size=12))
def test_any_text_is_a_condition_or_one_sentence(some, pieces: list[str]) -> None:
    try:
        rows = Condition(" ".join(pieces)).rows(some)
    except InputError:
        return
    assert rows.dtype == bool and rows.shape == (30,)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("__import__('os').system('touch hacked')", "is no condition"),
        ("__import__('os').system('touch hacked') == 0", "is neither a number, a column"),
        ("rlnDefocusU.__class__ > 1", "is neither a number, a column"),
        ("[x for x in (1,)] > 1", "is neither a number, a column"),
        ("(lambda: 1)() > 0", "is neither a number, a column"),
        ("abs(rlnDefocusU, 1) > 0", "is neither a number, a column"),
        ("f'{rlnDefocusU}' == 'a'", "compared with text"),
        ("rlnDefocusU ** 9 ** 9 > 1", "is neither a number, a column"),
        ("(x := 3) > 1", "is neither a number, a column"),
        ("True > 0", "is neither a number, a column"),
        ("rlnNope > 3", "has no column rlnNope"),
        ("rlnDefocu > 3", "did you mean rlnDefocus"),
        ("rlnDefocusU = 3", "== compares, = does not"),
        ("rlnDefocusU > ", "write a condition such as"),
        ("", "write a condition such as"),
        ("rlnDefocusU", "is no condition"),
        ("rlnDefocusU > 1 & rlnDefocusV > 1", "neither a number"),
        ("(rlnDefocusU > 1) & (rlnDefocusV > 1)", "write 'and'"),
        ("rlnDefocusU is 3", "in a way that is not known"),
        ("rlnMicrographName > 'a'", "== and != only"),
        ("rlnDefocusU in 3", "is no list"),
        ("rlnDefocusU in [rlnDefocusV]", "is no list of numbers"),
        ("someoneElsesColumn > 3", "'word0' in row 1 .*give a finite number"),
        ("1 < 2 and " * 1000 + "1 < 2", "more than 4000 characters"),
        ("not " * 70 + "1 < 2", "stand inside each other"),
        ("(" * 300 + "1" + ")" * 300 + " > 0", "write a condition such as"),
    ],
)
def test_what_is_no_condition_is_one_sentence(make_list, tmp_path, text: str, said: str) -> None:
    some = make_list()
    with pytest.raises(InputError, match=said) as refused:
        Condition(text).rows(some)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 400
    assert not list(tmp_path.glob("hacked"))
