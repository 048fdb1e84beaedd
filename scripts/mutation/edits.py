"""All small faults that can be made in a function, and its module's source with one of them."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass, field

OPERATORS = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.MatMult: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
COMPARISONS = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
NAMES = (
    ("sin", "cos"),
    ("min", "max"),
    ("amin", "amax"),
    ("argmin", "argmax"),
    ("minimum", "maximum"),
    ("clamp_min", "clamp_max"),
    ("real", "imag"),
    ("floor", "ceil"),
    ("zeros_like", "ones_like"),
    ("new_zeros", "new_ones"),
)
EXCHANGED = dict(NAMES) | {b: a for a, b in NAMES}


@dataclass(frozen=True)
class Edit:
    """A fault: ``before`` becomes ``after``, the smallest expression or statement around it.

    Attributes:
        statement: that it is part of.
        path: fields and places from the module down to the node that changes.
        new: what takes its place.
    """

    function: str
    line: int
    before: str
    after: str
    statement: str
    path: tuple = field(repr=False)
    new: ast.AST = field(repr=False, compare=False)

    def __str__(self) -> str:
        return f"{self.before}  ->  {self.after}"


def edits(tree: ast.Module, functions: tuple[str, ...]) -> list[Edit]:
    """Every fault in functions, "Class.method" and constants; ValueError for one it lacks."""
    found = {name: path for path, name in _definitions(tree)}
    missing = [name for name in functions if name not in found]
    if missing:
        raise ValueError(f"the module has no function {missing[0]}")
    return [edit for name in functions for edit in _in_function(tree, name, found[name])]


def changed(tree: ast.Module, edit: Edit) -> str:
    """The module's source with one fault."""
    other = copy.deepcopy(tree)
    _put(other, edit.path, edit.new)
    return ast.unparse(ast.fix_missing_locations(other))


def _definitions(tree: ast.Module) -> Iterator[tuple[tuple, str]]:
    for i, node in enumerate(tree.body):
        if isinstance(node, ast.FunctionDef):
            yield (("body", i),), node.name
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield (("body", i),), node.targets[0].id
        elif isinstance(node, ast.ClassDef):
            for j, method in enumerate(node.body):
                if isinstance(method, ast.FunctionDef):
                    yield (("body", i), ("body", j)), f"{node.name}.{method.name}"


def _in_function(tree: ast.Module, name: str, path: tuple) -> Iterator[Edit]:
    for place, node in _nodes(_get(tree, path), path):
        for new in _faults(node):
            around = _around(tree, place)
            before = _text(_get(tree, around))
            other = copy.deepcopy(_get(tree, around))
            rest = place[len(around) :]
            if rest:
                _put(other, rest, new)
            else:
                other = new
            statement = _text(_get(tree, _statement(tree, place)))
            yield Edit(name, node.lineno, before, _text(other), statement, place, new)


def _nodes(node: ast.AST, path: tuple) -> Iterator[tuple[tuple, ast.AST]]:
    """Nodes that make results: no annotation, docstring, decorator, error or ``strict=True``.

    ``shape[-1]`` is left as it is, for any other edge of a cube is as long.
    """
    if isinstance(node, ast.Subscript) and getattr(node.value, "attr", "") == "shape":
        return
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for i, child in enumerate(value if isinstance(value, list) else [value]):
            if not isinstance(child, ast.AST) or isinstance(child, ast.Raise | ast.JoinedStr):
                continue
            if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
                continue
            if isinstance(child, ast.keyword) and child.arg == "strict":
                continue
            here = (*path, (name, i if isinstance(value, list) else None))
            yield here, child
            yield from _nodes(child, here)


def _faults(node: ast.AST) -> Iterator[ast.AST]:
    """What may stand in a node's place."""
    if isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in OPERATORS:
        yield _with(node, op=OPERATORS[type(node.op)]())
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, ast.BoolOp):
        yield _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
    elif isinstance(node, ast.Compare):
        for i, op in enumerate(node.ops):
            yield _with(node, ops=[*node.ops[:i], COMPARISONS[type(op)](), *node.ops[i + 1 :]])
    elif isinstance(node, ast.Constant):
        yield from map(ast.Constant, _other_values(node.value))
    elif isinstance(node, ast.Name) and node.id in EXCHANGED:
        yield _with(node, id=EXCHANGED[node.id])
    elif isinstance(node, ast.Attribute) and node.attr in EXCHANGED:
        yield _with(node, attr=EXCHANGED[node.attr])


def _other_values(value: object) -> list[object]:
    """c + 1, 2 c and 0 of a number, which swaps columns 0 and 1; not of a truth value."""
    if isinstance(value, bool):
        return [not value]
    if not isinstance(value, int | float | complex):
        return []
    return [other for other in dict.fromkeys([value + 1, 2 * value, 0 * value]) if other != value]


def _with(node: ast.AST, **fields: object) -> ast.AST:
    other = copy.copy(node)
    for name, value in fields.items():
        setattr(other, name, value)
    return other


def _around(tree: ast.Module, path: tuple) -> tuple:
    """The path to the smallest expression around a node that tells more than a name or number."""
    small = ast.Constant | ast.Name | ast.UnaryOp
    while isinstance(node := _get(tree, path), small) or not isinstance(node, ast.expr | ast.stmt):
        path = path[:-1]
    return path


def _statement(tree: ast.Module, path: tuple) -> tuple:
    """The path to the statement that a node is part of."""
    while not isinstance(_get(tree, path), ast.stmt):
        path = path[:-1]
    return path


def _text(node: ast.AST) -> str:
    """On one line; of a loop or branch only its head, of a function its defaults."""
    if isinstance(node, ast.FunctionDef):
        given = node.args.defaults
        names = [arg.arg for arg in node.args.args[-len(given) :]]
        return ", ".join(f"{name}={ast.unparse(value)}" for name, value in zip(names, given))
    if isinstance(node, ast.For | ast.While | ast.If | ast.With):
        node = _with(node, body=[ast.Expr(ast.Constant(...))], orelse=[])
    return " ".join(ast.unparse(ast.fix_missing_locations(node)).split())


def _get(node: ast.AST, path: tuple) -> ast.AST:
    for name, i in path:
        value = getattr(node, name)
        node = value if i is None else value[i]
    return node


def _put(tree: ast.AST, path: tuple, new: ast.AST) -> None:
    parent, (name, i) = _get(tree, path[:-1]), path[-1]
    if i is None:
        setattr(parent, name, new)
    else:
        getattr(parent, name)[i] = new
