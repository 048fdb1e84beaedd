"""The house rules that a reader can rely on: imports point down only and go in no circle, each format lives in one place, functions stay short."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import cryotorch
from cryotorch.jobs.config import catalog

ROOT = Path(__file__).parents[1] / "cryotorch"
FILES = sorted(ROOT.rglob("*.py"))
BASE = {
    "cryotorch",
    "cryotorch.particles",
    "cryotorch.results",
    "cryotorch.errors",
    "cryotorch.version",
    "cryotorch.findings",
}

# Layer -> what of ours it may import besides itself and the conventions.
BELOW = {
    "ops": set(),
    "data": {"ops"},
    "refinement": {"ops"},
    "report": {"ops", "data"},
    "jobs": {"ops", "data", "refinement", "report"},
    "api": {"ops", "data", "refinement", "report", "jobs"},
}
# Library -> the only places that may import it.
HOME = {
    "hydra": {"__main__"},
    "omegaconf": {"__main__"},
    "matplotlib": {"report"},
    "mrcfile": {"data"},
    "gemmi": {"data"},
    "lightning": {"refinement", "report", "jobs"},
    "tensorboard": {"report"},
    "pandas": set(),
    "starfile": set(),
}
# ops is mathematics: torch, and scipy or numpy where a library function is the right tool.
MATHEMATICS = {"torch", "numpy", "scipy", "skimage", "jaxtyping", "numba"}

LONGEST, MOST_PARAMETERS = 60, 8
# What is longer, or takes more, and why. A function that shrinks leaves the list; a new one is to be split instead.
EXCUSED = {
    "api/projection.py:project": "the image model has so many parts; all but the first are named",
    "data/cryosparc/mapping.py:fields_of": "one RELION column after the other becomes a field; a table in the form of code",
    "data/particle_file.py:_from_blocks": "one column after the other becomes a tensor, each with its sentence when it is wrong",
    "jobs/ctf/results.py:write": "the list of the files that the job leaves",
    "jobs/orientation/diagnose.py:diagnose": "the steps of the job in order, half of it their results by name",
    "jobs/sharpening/sharpen_maps.py:sharpen_half_maps": "the steps of the job in order, half of it their results by name",
    "ops/fourier/slices_cpu.py:_ascend": "compiled by numba, which takes plain arrays",
    "ops/fourier/insertion_cpu.py:_insert": "compiled by numba, which takes plain arrays",
    "ops/fourier/slices_cpu.py:locate": "compiled by numba, which takes plain arrays",
    "ops/pose/scores_cuda.py:pose_gram_cuda": "compiled as a whole by torch: plain tensors one by one, without calls of ours",
    "ops/resolution/mask_tightening.py:tighten": "half of it says what the arguments are",
    "ops/resolution/nonuniform.py:local_cutoff": "half of it is the definition of the criterion; the loop shares seven arrays",
    "refinement/pose_search/branch_and_bound.py:bounded_search": "the arguments of every search, and a table of bounds",
    "refinement/pose_search/search.py:ascend": "the arguments of the climb, the same in its two forms",
    "refinement/pose_search/search.py:ascend_by_tensors": "the arguments of the climb, the same in its two forms",
}

# Source without a test file of its own under the same path, and why.
_CHECKED = "fields and checks only: {} and tests/jobs/config go through them"
EXCUSED_TWINS = {
    "__main__.py": "tests/test_cli.py runs it as a user does",
    "version.py": "a number, which tests/system/test_wheel.py compares",
    "jobs/classification3d/fixed_settings.py": _CHECKED.format("tests/jobs/test_classify.py"),
    "jobs/classification/settings.py": _CHECKED.format("tests/jobs/test_class2d.py"),
    "jobs/classification3d/searched_settings.py": _CHECKED.format(
        "tests/jobs/test_hetero_refine.py"
    ),
    "jobs/ctf/settings.py": _CHECKED.format("tests/jobs/test_ctf_refine.py"),
    "jobs/curation/settings.py": _CHECKED.format("tests/jobs/test_particles.py"),
    "jobs/fsc/settings.py": _CHECKED.format("tests/jobs/test_validation_fsc.py"),
    "jobs/orientation/settings.py": _CHECKED.format("tests/jobs/test_orientation_diagnostics.py"),
    "jobs/picking/settings.py": _CHECKED.format("tests/jobs/test_create_templates.py"),
    "jobs/reconstruction/settings.py": _CHECKED.format("tests/jobs/test_reconstruct.py"),
    "jobs/refinement/local_settings.py": _CHECKED.format("tests/jobs/test_local_refine.py"),
    "jobs/resolution_map/settings.py": _CHECKED.format("tests/jobs/test_local_resolution.py"),
    "jobs/sharpening/settings.py": _CHECKED.format("tests/jobs/test_sharpen.py"),
    "jobs/simulation/settings.py": _CHECKED.format("tests/jobs/test_simulate.py"),
}
# Tests of no one file of the package, and what of; tests/system and tests/truth are for such.
ACROSS = {
    "test_architecture.py": "the house",
    "test_benchmark.py": "scripts/benchmark",
    "test_benchmark_begin.py": "scripts/benchmark begin",
    "test_cli.py": "__main__.py",
    "test_configs.py": "configs/",
    "test_docstrings.py": "shapes and errors in docstrings",
    "test_mutation.py": "scripts/mutants",
    "data/test_real_particle_files.py": "files of other programs, whoever reads them",
    "jobs/test_symmetry_expansion.py": "what several jobs make of expanded particles",
}


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
    elif here == "__init__":  # names, for those who look; imported when asked for
        assert ours <= BASE | {"cryotorch.api"}
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


def test_every_source_file_has_its_twin() -> None:
    """cryotorch/<path>/<name>.py and tests/<path>/test_<name>.py, in both directions."""
    here = ROOT.parent / "tests"
    source = {str(p.relative_to(ROOT)) for p in FILES if p.name != "__init__.py"}
    tests = {str(p.relative_to(here)) for p in here.rglob("test_*.py")}

    def twin(name: str) -> str:
        return str(Path(name).with_name(f"test_{Path(name).name}"))

    missing = {name for name in source if twin(name) not in tests}
    assert missing - EXCUSED_TWINS.keys() == set(), "write a test file for these"
    assert EXCUSED_TWINS.keys() - missing == set(), "these have one by now: take them off the list"
    across = {
        t for t in tests - set(map(twin, source)) if Path(t).parts[0] not in ("system", "truth")
    }
    across = {name for name in across if not name.endswith("fuzzed.py")}
    assert across == ACROSS.keys(), "tests of one file lie under its path"


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The strongly connected components of more than one node (Tarjan 1972)."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        order[node] = lowest[node] = len(order)
        stack.append(node)
        for after in graph[node] & graph.keys():
            if after not in order:
                visit(after)
            if after in stack:
                lowest[node] = min(lowest[node], lowest[after])
        if lowest[node] == order[node]:
            at = stack.index(node)
            if len(stack) - at > 1:
                found.append(sorted(stack[at:]))
            del stack[at:]

    for node in graph:
        if node not in order:
            visit(node)
    return found


def test_no_circle_of_imports() -> None:
    """Among all files, imports inside functions and for types only included."""
    graph = {module_name(path): imports(path) - {module_name(path)} for path in FILES}
    assert sum(map(len, graph.values())) > 500
    assert circles(graph) == []


def test_circles_are_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": {"e"}, "e": set()}
    assert circles(graph) == [["a", "b", "c"]]


def test_every_file_in_jobs_is_a_job() -> None:
    """Parts of a job lie in a folder; what a user can ask for is what one sees."""
    files = {path.stem for path in (ROOT / "jobs").glob("*.py")} - {"__init__"}
    assert files == set(catalog.job_names())


def functions(node: ast.AST, inside: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    """Every function of a file with its name, ``Class.method`` for methods."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef):
            yield inside + child.name, child
        named = isinstance(child, (ast.FunctionDef, ast.ClassDef))
        yield from functions(child, f"{inside}{child.name}." if named else inside)


def test_functions_are_short() -> None:
    large = set()
    for path in FILES:
        for name, found in functions(ast.parse(path.read_text(encoding="utf-8"))):
            given = found.args
            listed = [*given.posonlyargs, *given.args, *given.kwonlyargs]
            names = [a.arg for a in (*listed, given.vararg, given.kwarg) if a is not None]
            parameters = len([n for n in names if n not in ("self", "cls")])
            lines = (found.end_lineno or 0) - found.lineno + 1
            if lines > LONGEST or parameters > MOST_PARAMETERS:
                large.add(f"{path.relative_to(ROOT)}:{name}")
    assert large - EXCUSED.keys() == set(), f"over {LONGEST} lines or {MOST_PARAMETERS} parameters"
    assert EXCUSED.keys() - large == set(), "these are short by now: take them off the list"


def test_the_method_can_be_read_in_an_hour() -> None:
    """CONTRIBUTING.md leads from the command to the M-step; what it names there exists and is short."""
    text = (ROOT.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    part = text.partition("## The method")[2].partition("\n## ")[0]
    files = re.findall(r"^\d+\. `(cryotorch/[\w/]+\.py)`", part, re.MULTILINE)
    assert 5 < len(files) <= 8
    assert sum(len((ROOT.parent / f).read_text("utf-8").splitlines()) for f in files) <= 1500


def test_contributing_is_true() -> None:
    """Every file and folder that CONTRIBUTING.md names is there."""
    text = (ROOT.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:cryotorch|configs|tests|scripts|docs)/[\w./]*)`", text)
    assert len(named) > 20
    assert [name for name in named if not (ROOT.parent / name).exists()] == []


def test_the_citation_names_this_version() -> None:
    text = (ROOT.parent / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {cryotorch.__version__}\n" in text


def test_docstrings_name_modules_that_are_there() -> None:
    """``ops.fourier.ewald`` and its like, in text."""
    lost = []
    for path in FILES:
        for name in re.findall(
            r"``((?:ops|data|refinement|report|jobs)(?:\.\w+)+)``", path.read_text("utf-8")
        ):
            parts = name.split(".")
            there = [ROOT.joinpath(*parts[:n]) for n in (len(parts), len(parts) - 1)]
            if not any(p.with_suffix(".py").is_file() or p.is_dir() for p in there):
                lost.append(f"{path.name}: {name}")
    assert lost == []
