"""The house rules that imports can break: they point down only, and each format lives in one place."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "cryotorch"
FILES = sorted(ROOT.rglob("*.py"))
BASE = {
    "cryotorch",
    "cryotorch.particles",
    "cryotorch.results",
    "cryotorch.errors",
    "cryotorch.findings",
}

# Layer -> what of ours it may import besides itself and the conventions.
BELOW = {
    "ops": set(),
    "data": {"ops"},
    "refine": {"ops"},
    "report": {"ops", "data"},
    "jobs": {"ops", "data", "refine", "report"},
}
# Library -> the only places that may import it.
HOME = {
    "hydra": {"__main__"},
    "omegaconf": {"__main__"},
    "matplotlib": {"report"},
    "mrcfile": {"data"},
    "gemmi": {"data"},
    "lightning": {"refine", "report", "jobs"},
    "tensorboard": {"report"},
    "pandas": set(),
    "starfile": set(),
}
# ops is mathematics: torch, and scipy or numpy where a library function is the right tool.
MATHEMATICS = {"torch", "numpy", "scipy", "skimage", "jaxtyping", "numba"}


def imports(path: Path) -> set[str]:
    """Every module that a file imports, at the top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the layer"
            # `from cryotorch import errors` names a module, `from cryotorch import __version__` does not.
            parts = [f"{node.module}.{alias.name}" for alias in node.names]
            submodules = [p for p in parts if p.startswith("cryotorch.") and is_module(p)]
            found |= set(submodules) or {node.module}
    return found


def is_module(name: str) -> bool:
    path = ROOT.parent.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or path.is_dir()


def layer(path: Path) -> str:
    parts = path.relative_to(ROOT).parts
    return parts[0] if len(parts) > 1 else path.stem


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down_only(path: Path) -> None:
    here = layer(path)
    ours = {name for name in imports(path) if name.split(".")[0] == "cryotorch"}
    if here in BELOW:
        allowed = {here} | BELOW[here]
        wrong = {n for n in ours if n not in BASE and n.split(".")[1] not in allowed}
        assert not wrong, f"{here} must not import {sorted(wrong)}"
    elif here == "__main__":
        wrong = {n for n in ours if n not in BASE and n.split(".")[1] != "jobs"}
        assert not wrong, f"the command line knows jobs only, not {sorted(wrong)}"
    else:
        assert ours <= BASE, f"{path.name} lies below all layers, yet imports {sorted(ours - BASE)}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_libraries_stay_at_home(path: Path) -> None:
    outside = {name.split(".")[0] for name in imports(path)}
    for library in outside & HOME.keys():
        assert layer(path) in HOME[library], f"{library} belongs to {HOME[library] or 'tests'}"
    if layer(path) == "ops":
        foreign = outside - set(sys.stdlib_module_names) - MATHEMATICS - {"cryotorch"}
        assert not foreign, f"ops is mathematics only, yet imports {sorted(foreign)}"


def test_importing_from_the_top_package_names_the_module() -> None:
    """The rules above rest on this: ``from cryotorch.data import mrc`` counts as cryotorch.data.mrc."""
    assert "cryotorch.jobs.config.catalog" in imports(ROOT / "__main__.py")


def test_every_folder_says_what_lives_there() -> None:
    for folder in sorted({path.parent for path in FILES}):
        start = folder / "__init__.py"
        assert start.is_file(), f"{folder.name} lacks an __init__.py"
        assert ast.get_docstring(ast.parse(start.read_text(encoding="utf-8"))), start


def test_no_file_without_an_idea() -> None:
    vague = {"utils.py", "helpers.py", "common.py", "misc.py"}
    assert not [path for path in FILES if path.name in vague]


def test_no_file_where_many_ideas_met() -> None:
    lengths = {str(p.relative_to(ROOT)): len(p.read_text("utf-8").splitlines()) for p in FILES}
    assert {name: n for name, n in lengths.items() if n > 400} == {}
