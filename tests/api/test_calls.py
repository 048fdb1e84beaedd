"""A call that does not fit says so in one sentence."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import cryotorch as ct
from cryotorch.api.calls import checked


@checked
def cook(dish: str, salt: float = 0.1, **more: Any) -> str:
    """What is served."""
    return f"{dish} {salt} {sorted(more)}"


@checked
def taste(*, dish: str) -> str:
    """What it is like."""
    return dish


def test_what_fits_is_passed_on() -> None:
    assert cook("rice", pepper=1, salt=0.2) == "rice 0.2 ['pepper']"
    assert cook.__doc__ == "What is served." and "dish" in inspect.signature(cook).parameters


def test_errors_from_within_stay_what_they_are() -> None:
    def broken() -> None:
        raise TypeError("within")

    with pytest.raises(TypeError, match="within"):
        checked(broken)()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: cook(), "cook needs dish: add dish=<value>"),
        (lambda: cook(dich="rice"), "cook has no parameter dich: did you mean dish?"),
        (lambda: cook(pepper=1), "cook needs dish"),
        (lambda: cook("rice", dish="soup"), "cook is given dish twice"),
        (lambda: cook("rice", 1, 2), "cook: only dish, salt can be given without its name"),
        (lambda: taste("rice"), "taste: nothing can be given without its name"),
        (lambda: taste(dish="rice", wine=1), "taste has no parameter wine: it has dish"),
        (lambda: ct.refine(particls="a.star", volume="b.mrc"), "did you mean particles?"),
        (lambda: ct.refine("a.star", "b.mrc", sym="C4"), "did you mean symmetry?"),
        (lambda: ct.write_map("a.mrc", volum=1), "write_map has no parameter volum: did you mean"),
    ],
)
def test_what_does_not_fit_is_one_sentence(call, said: str) -> None:
    with pytest.raises(ct.InputError) as caught:
        call()
    assert said in str(caught.value) and "\n" not in str(caught.value)
