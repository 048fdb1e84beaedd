"""What docstrings promise where tensors and files are handled: the shape of every array, and the errors that are raised."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1] / "cryotorch"
ROOMS = ("ops", "data", "refinement")
FILES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]

Node = ast.FunctionDef | ast.ClassDef

_ARRAY = re.compile(r"\b(Tensor|ndarray)\b")
# A length is one letter (not x, y, z: "(z, y, x)" names axes), a number, or one of these words.
_WORD = "bands|rings|levels|slots|copies|points|groups|rows|columns|images|box|n_groups|n_shells"
_TERM = rf"(?:(?:\d+ ?)?(?:[a-wP]|{_WORD})|\d+)"
_LENGTH = rf"(?:\*b|\.\.\.|{_TERM}(?: ?(?://|[-+*^]|\bor\b)? ?{_TERM})*)"
_SHAPE = re.compile(rf"(?<!\w)\({_LENGTH}(?:,|(?:, ?{_LENGTH})+,?)\)|\b(any shape|scalar|0-d)\b")


def has_shape(text: str) -> bool:
    """Whether a text says the shape of something: ``(b, d, d)``, ``(n,)``, ``(..., 3)``, "any shape", "a scalar"."""
    return _SHAPE.search(re.sub(r"\s+", " ", text)) is not None


def public(body: list[ast.stmt], inside: str = "") -> Iterator[tuple[str, Node]]:
    """What a file or class offers by name, ``Class.method`` for methods."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            yield inside + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, f"{inside}{node.name}.")


def arrays(node: Node) -> tuple[set[str], bool]:
    """The arguments, or fields of a dataclass, that are or hold arrays, and whether one is returned."""

    def is_array(annotation: ast.expr | None) -> bool:
        text = ast.unparse(annotation) if annotation is not None else ""
        return _ARRAY.search(text) is not None and "Callable" not in text

    if isinstance(node, ast.ClassDef):
        fields = [n for n in node.body if isinstance(n, ast.AnnAssign) and is_array(n.annotation)]
        marks = [ast.unparse(mark) for mark in (*node.decorator_list, *node.bases)]
        is_record = any("dataclass" in mark or "NamedTuple" in mark for mark in marks)
        return {ast.unparse(f.target) for f in fields} if is_record else set(), False
    given = node.args
    every = (*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg)
    return {a.arg for a in every if a and is_array(a.annotation)}, is_array(node.returns)


def lacks_shape(tree: ast.Module) -> list[str]:
    """The public functions, methods and dataclasses with arrays whose docstring says no shape.

    A method that takes no further arrays may leave the shapes to the docstring of its class. A dataclass must also name
    every field that is an array.
    """
    found = []
    text = {name: ast.get_docstring(node) or "" for name, node in public(tree.body)}
    for name, node in public(tree.body):
        names, returned = arrays(node)
        if not (names or returned):
            continue
        holder = "" if names else text.get(name.rpartition(".")[0], "")
        if not (has_shape(text[name]) or (text[name] and has_shape(holder))):
            found.append(name)
        elif isinstance(node, ast.ClassDef):
            said = text[name].lower().replace(" ", "_")
            found += [
                f"{name}.{n}" for n in sorted(names) if not re.search(rf"(?<![a-z]){n}", said)
            ]
    return found


def raised(node: ast.AST) -> set[str]:
    """The errors that a function raises by name in its own body, and does not catch there."""
    found: set[str] = set()
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.ClassDef, ast.Lambda)):
            continue
        if isinstance(child, ast.Raise) and isinstance(child.exc, ast.Call):
            found.add(ast.unparse(child.exc.func).rpartition(".")[2])
        found |= raised(child)
    if isinstance(node, ast.Try):
        caught = {ast.unparse(h.type) for h in node.handlers if h.type is not None}
        again = {name for handler in node.handlers for name in raised(handler)}
        found = {name for name in found if name not in caught or name in again}
    return {name for name in found if name.endswith("Error")}


def hides_error(tree: ast.Module) -> list[str]:
    """The public functions and methods that raise an error which their docstring does not name."""
    found = []
    for name, node in public(tree.body):
        if isinstance(node, ast.FunctionDef):
            text = ast.get_docstring(node) or ""
            found += [f"{name}: {e}" for e in sorted(raised(node)) if e not in text]
    return found


def of_files(fault: Callable[[ast.Module], list[str]]) -> list[str]:
    trees = {str(p.relative_to(ROOT)): ast.parse(p.read_text("utf-8")) for p in FILES}
    return [f"{name}:{what}" for name, tree in trees.items() for what in fault(tree)]


def test_shapes_stand_in_docstrings() -> None:
    assert of_files(lacks_shape) == []


def test_errors_stand_in_docstrings() -> None:
    assert of_files(hides_error) == []


def test_shapes_are_told_from_prose() -> None:
    for text in (
        "(n,)",
        "(b, d, d)",
        "(..., 3)",
        "(*b, p)",
        "(d // 2 + 1,)",
        "(d, d, d // 2 + 1)",
        "(2 r, 3, 3)",
    ):
        assert has_shape(f"Something {text} in Å."), text
    assert has_shape("Frequencies, any shape.") and has_shape("The voltage, a scalar.")
    for text in (
        "(x, y, z)",
        "(R, t)",
        "Z(1, 3)",
        "(Chen et al. 2013, doi:10.1016/j)",
        "(default)",
        "(b d)",
    ):
        assert not has_shape(f"Something {text} in Å."), text


def test_missing_shapes_and_errors_are_found() -> None:
    tree = ast.parse('''
@dataclass
class Told:
    """a: (n,)."""
    a: Tensor
    b: Tensor | None
    def all(self) -> list[Tensor]: "Both."
    def some(self, rows: Tensor) -> Tensor: "Some."
def told(a: Tensor) -> None: "a: (n,)."
def bare(a: dict[str, np.ndarray]) -> None: ...
def called(a: Callable[[Tensor], None]) -> None: ...
def _hidden(a: Tensor) -> None: ...
def fails() -> None:
    "Raises ValueError for all."
    def inner() -> None: raise KeyError()
    if True: raise errors.InputError("no")
    try: raise OSError("a pipe")
    except OSError: return
''')
    assert lacks_shape(tree) == ["Told.b", "Told.some", "bare"]
    assert hides_error(tree) == ["fails: InputError"]
