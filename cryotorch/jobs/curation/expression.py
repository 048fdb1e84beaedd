"""Conditions on columns, ``cryotorchScale > 0.7 and rlnDefocusU < 25000``: read by a parser, computed by a table of operations.

Python's grammar is used, nothing of Python is run: whatever is no comparison, ``and``, ``or``, ``not``, arithmetic, number, text or name of a
column is refused.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from cryotorch.errors import InputError
from cryotorch.jobs.curation.particle_list import ParticleList

LONGEST, DEEPEST = 4000, 60  # characters, and operations inside each other
COMPARED: dict[type, Callable] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
COMPUTED: dict[type, Callable] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
FUNCTIONS: dict[str, tuple[int, Callable]] = {"abs": (1, np.abs), "hypot": (2, np.hypot)}
EXAMPLE = "where='rlnDefocusU < 25000 and rlnClassNumber in [1,3]'"
# Fields of CryoSPARC have slashes in their names, and Python has not.
_FIELD = re.compile(r"\bcs/\w+(?:/\w+)*")


class Condition:
    """A condition that has been read.

    Attributes:
        text: as it was given.
        columns: the columns in it that are compared as numbers, in order, once ``rows`` has been called.
    """

    def __init__(self, text: str) -> None:
        self.text, self.columns = text, list[str]()
        self._fields: dict[str, str] = {}
        if len(text) > LONGEST:
            raise self._wrong(f"it has more than {LONGEST} characters")
        try:
            self._tree = ast.parse(_FIELD.sub(self._placeholder, text.strip()), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            said = "== compares, = does not: " if re.search(r"[^=<>!]=[^=]", text) else ""
            raise self._wrong(f"{said}write a condition such as {EXAMPLE}") from None

    def rows(self, particles: ParticleList) -> np.ndarray:
        """Whether it holds, (n,) bool.

        Raises:
            InputError: a column that is not there or holds other values, or something that is no condition.
        """
        self.columns = []
        with np.errstate(all="ignore"):  # what is divided by zero fulfils no comparison
            return self._truth(self._tree, particles, 0)

    def _placeholder(self, found: re.Match[str]) -> str:
        name = f"_cs{len(self._fields)}_"
        self._fields[name] = found[0]
        return name

    def _wrong(self, requirement: str) -> InputError:
        shown = self.text if len(self.text) <= 100 else self.text[:100] + "..."
        return InputError(f"where={shown} cannot be used: {requirement}")

    def _refused(self, node: ast.AST, requirement: str) -> InputError:
        found = ast.unparse(node)
        for name, field in self._fields.items():
            found = found.replace(name, field)
        return self._wrong(f"'{found[:60]}' {requirement}")

    def _truth(self, node: ast.expr, of: ParticleList, depth: int) -> np.ndarray:
        """A condition, (n,) bool."""
        self._check_depth(depth)
        if isinstance(node, ast.BoolOp):
            both = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
            found = self._truth(node.values[0], of, depth + 1)
            for value in node.values[1:]:
                found = both(found, self._truth(value, of, depth + 1))
            return found
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return ~self._truth(node.operand, of, depth + 1)
        if isinstance(node, ast.Compare):
            found, left = np.ones(len(of), bool), node.left
            for kind, right in zip(node.ops, node.comparators, strict=True):
                found &= self._compared(left, kind, right, of, depth)
                left = right
            return found
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.BitAnd, ast.BitOr)):
            raise self._refused(node, "is no condition: write 'and', 'or' instead of & and |")
        requirement = f"is no condition: compare a column with a number, {EXAMPLE}"
        raise self._refused(node, requirement)

    def _compared(
        self, left: ast.expr, kind: ast.cmpop, right: ast.expr, of: ParticleList, depth: int
    ) -> np.ndarray:
        if isinstance(kind, (ast.In, ast.NotIn)):
            found = np.isin(*self._listed(left, right, of, depth))
            return found if isinstance(kind, ast.In) else ~found
        if type(kind) not in COMPARED:
            raise self._refused(left, "is compared in a way that is not known: use < <= > >= == !=")
        if _is_text(left) or _is_text(right):
            if not isinstance(kind, (ast.Eq, ast.NotEq)):
                raise self._refused(right, "is text: it can be compared by == and != only")
            return COMPARED[type(kind)](self._text(left, of), self._text(right, of))
        sides = (self._number(side, of, depth + 1) for side in (left, right))
        return np.broadcast_to(COMPARED[type(kind)](*sides), len(of))

    def _listed(
        self, left: ast.expr, right: ast.expr, of: ParticleList, depth: int
    ) -> tuple[Any, Any]:
        """The two sides of ``in``."""
        plain = isinstance(right, (ast.List, ast.Tuple, ast.Set))
        if not plain or not right.elts:
            raise self._refused(right, "is no list: write rlnClassNumber in [1,3]")
        if all(map(_is_text, right.elts)):
            return self._text(left, of), np.array([self._text(x, of) for x in right.elts])
        values = [self._number(x, of, depth + 1) for x in right.elts]
        if any(np.ndim(value) for value in values):
            raise self._refused(right, "is no list of numbers: write rlnClassNumber in [1,3]")
        return np.broadcast_to(self._number(left, of, depth + 1), len(of)), np.array(values)

    def _number(self, node: ast.expr, of: ParticleList, depth: int) -> Any:
        """Arithmetic: a number, or one per row (n,)."""
        self._check_depth(depth)
        if isinstance(node, ast.Name):
            label = self._label(node, of)
            self.columns += [] if label in self.columns else [label]
            return of.numbers(label)
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            return float(node.value) if abs(node.value) < 1e300 else np.inf
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
            value = self._number(node.operand, of, depth + 1)
            return -value if isinstance(node.op, ast.USub) else value
        if isinstance(node, ast.BinOp) and type(node.op) in COMPUTED:
            sides = [self._number(side, of, depth + 1) for side in (node.left, node.right)]
            return COMPUTED[type(node.op)](*map(np.float64, sides))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            arity, function = FUNCTIONS.get(node.func.id, (-1, np.abs))
            if arity == len(node.args):
                return function(*(self._number(x, of, depth + 1) for x in node.args))
        known = ", ".join(f"{name}()" for name in FUNCTIONS)
        raise self._refused(node, f"is neither a number, a column, + - * / nor {known}")

    def _text(self, node: ast.expr, of: ParticleList) -> Any:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return node.value.encode("utf-8", "surrogateescape")
        if isinstance(node, ast.Name):
            return of.texts(self._label(node, of))
        raise self._refused(node, "is compared with text: name a column")

    def _label(self, node: ast.Name, of: ParticleList) -> str:
        label = self._fields.get(node.id, node.id)
        label = label if label in of.labels else label.removeprefix("_")
        if label in of.labels:
            return label
        try:
            of.texts(label)
        except InputError as error:
            raise self._wrong(str(error)) from None
        raise AssertionError(label)

    def _check_depth(self, depth: int) -> None:
        if depth > DEEPEST:
            raise self._wrong("too many operations stand inside each other")


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)
