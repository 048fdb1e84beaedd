"""Calls that do not fit a function: one sentence, as for values that do not fit."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from cryotorch.errors import InputError
from cryotorch.jobs.config.parse import unknown

P = ParamSpec("P")
R = TypeVar("R")


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """The same function, which raises InputError for arguments that it has not, or that it lacks."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: P.args, **named: P.kwargs) -> R:
        try:
            signature.bind(*args, **named)
        except TypeError:
            raise _misfit(function.__name__, signature, len(args), list(named)) from None
        return function(*args, **named)

    return call


def _misfit(name: str, signature: inspect.Signature, given: int, named: list[str]) -> InputError:
    """What is wrong with a call of ``given`` arguments without a name and those ``named``."""
    known = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    names = [p.name for p in known]
    placed = [p.name for p in known if p.kind is p.POSITIONAL_OR_KEYWORD]
    if given > len(placed):
        first = f"only {', '.join(placed)} can be given" if placed else "nothing can be given"
        return InputError(f"{name}: {first} without its name, write <name>=<value> for the others")
    twice = [p for p in placed[:given] if p in named]
    if twice:
        return InputError(f"{name} is given {twice[0]} twice, by its place and by its name")
    missing = [p.name for p in known if p.default is p.empty and p.name not in named]
    missing = [p for p in missing if p not in placed[:given]]
    others = [p for p in named if p not in names]
    for other in others:
        if not missing or difflib.get_close_matches(other, missing, cutoff=0.5):
            return unknown(other, missing or names, name, f"it has {', '.join(names)}")
    return InputError(f"{name} needs {missing[0]}: add {missing[0]}=<value>")
