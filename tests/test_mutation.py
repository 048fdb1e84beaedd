"""scripts/mutants: which faults it makes, and that it tells caught ones from those that no test sees."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
SCRIPTS = REPOSITORY / "scripts"


@pytest.fixture(autouse=True)
def scripts_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))


SOURCE = '''
def half(x: int = 1) -> float:
    """No 7 of this sentence."""
    if x < 0 and x.shape[-1] == 3:
        raise ValueError(f"{x + 1} is below 0")
    return -sin(x) / 2


class Box:
    def edge(self):
        return self.size[0]
'''
FAULTS = """
x=1  ->  x=2
x=1  ->  x=0
x < 0 and x.shape[-1] == 3  ->  x < 0 or x.shape[-1] == 3
x < 0  ->  x <= 0
x < 0  ->  x < 1
x.shape[-1] == 3  ->  x.shape[-1] != 3
x.shape[-1] == 3  ->  x.shape[-1] == 4
x.shape[-1] == 3  ->  x.shape[-1] == 6
x.shape[-1] == 3  ->  x.shape[-1] == 0
-sin(x) / 2  ->  -sin(x) * 2
-sin(x) / 2  ->  sin(x) / 2
sin(x)  ->  cos(x)
-sin(x) / 2  ->  -sin(x) / 3
-sin(x) / 2  ->  -sin(x) / 4
-sin(x) / 2  ->  -sin(x) / 0
self.size[0]  ->  self.size[1]
"""


def test_faults() -> None:
    from mutation.edits import changed, edits

    tree = ast.parse(SOURCE)
    found = edits(tree, ("half", "Box.edge"))
    assert [str(edit) for edit in found] == FAULTS.strip().splitlines()
    assert {edit.line for edit in found} == {2, 4, 6, 11}
    whole = ast.unparse(tree)
    for edit in found:
        other = changed(tree, edit)
        different = [
            pair for pair in zip(whole.splitlines(), other.splitlines()) if len({*pair}) > 1
        ]
        assert len(different) == 1 and len(whole.splitlines()) == len(other.splitlines())
    assert ast.unparse(tree) == whole
    with pytest.raises(ValueError, match="no function third"):
        edits(tree, ("third",))


def test_the_table_is_true() -> None:
    """Rows of functions and tests that exist; what is said to change nothing is still in the source."""
    from mutation.core import CORE, SAME, is_same
    from mutation.edits import edits

    assert len({core.name for core in CORE}) == 22
    every = []
    for core in CORE:
        tree = ast.parse((REPOSITORY / core.path).read_text(encoding="utf-8"))
        every += [(core.module, edit) for edit in edits(tree, core.functions)]
        assert all((REPOSITORY / name).is_file() for name in core.tests)
    for same in SAME:
        assert any(same.says(*edit) for edit in every), same
    assert sum(is_same(*edit) for edit in every) < 0.02 * len(every)


TESTS = """
import os, signal
from cryotorch.ops.resolution.fsc import length

def test_length():
    value = length(3)
    if value < 0:
        os.kill(os.getpid(), signal.SIGSEGV)
    while value == 0:
        pass
    assert value > 3
"""
TRIALS = """
import json, sys
from pathlib import Path
from mutation.trial import Copy

copy = Copy(Path(sys.argv[1]), Path(sys.argv[2]))
found = [copy.unchanged(("tests/test_fsc.py",), 60)]
module = "cryotorch/ops/resolution/fsc.py"
for result, seconds in (("9", 60), ("3", 60), ("0", 3), ("-1", 60), ("1 +", 60)):
    with copy.changed(module, f"def length(x): return {result}") as compiled:
        found.append(copy.run(("tests/test_fsc.py",), seconds, compiled))
found.append(copy.unchanged(("tests/test_fsc.py",), 60))
print(json.dumps(found))
"""


def test_trials(tmp_path: Path) -> None:
    """In another process, as this one has loaded the package that trials load anew."""
    repository, copy = tmp_path / "repository", tmp_path / "copy"
    for folder in ("cryotorch/ops/resolution", "configs", "tests", "scripts"):
        (repository / folder).mkdir(parents=True)
    copy.mkdir()
    (repository / "cryotorch/ops/resolution/fsc.py").write_text("def length(x): return 2 * x\n")
    (repository / "tests/test_fsc.py").write_text(TESTS)
    (repository / "pyproject.toml").write_text('[tool.pytest.ini_options]\nmarkers = ["slow"]\n')
    for name in ("README.md", "cryotorch/__init__.py", "cryotorch/ops/__init__.py"):
        (repository / name).write_text("")
    done = subprocess.run(
        [sys.executable, "-c", TRIALS, repository, copy],
        cwd=SCRIPTS,
        env={"PYTHONPATH": str(SCRIPTS), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    kinds = ["survived", "survived", "caught", "hung", "crashed", "caught", "survived"]
    assert json.loads(done.stdout) == kinds
    assert (copy / "cryotorch/ops/resolution/fsc.py").read_text() == "def length(x): return 2 * x\n"
