"""Lightning comes without the slowest of its imports, and they come as themselves when somebody asks for them."""

from __future__ import annotations

import subprocess
import sys

import pytest

LOAD = "from cryotorch.refinement.runtime import lean_lightning as lean\n"


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", LOAD + code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_what_is_slow_is_not_imported_and_can_be() -> None:
    """Neither the jobs' modules nor the M-step as an optimizer bring it back; who asks for it gets it."""
    code = """
import sys
lean.import_lightning()
import lightning.pytorch as pl
import cryotorch.jobs.refinement.run
from cryotorch.refinement.em.map_solve import MapSolve
solve = MapSolve(lambda: None)
solve.step()
print(*(name in sys.modules for name in lean.STAND_INS))
import scipy, torch, torch._dynamo
print(scipy.signal.fftconvolve([1.0, 2.0], [3.0])[0], torch._dynamo.OptimizedModule is not lean._Compiled)
print(float(torch.compile(lambda x: x + 1, backend="eager")(torch.ones(()))), pl.Trainer is not None)
"""
    assert run(code).split("\n") == ["False False", "3.0 True", "2.0 True"]


@pytest.mark.parametrize("name", ["scipy.signal", "torch._dynamo"])
def test_a_lightning_that_needs_more_gets_it(name: str) -> None:
    code = f"""
import sys
lean.STAND_INS["{name}"].clear()
lean.import_lightning()
import lightning
print(hasattr(lightning.Trainer, "fit"))
"""
    assert run(code) == "True"


def test_what_is_there_stays() -> None:
    code = """
import scipy.signal, sys
real = sys.modules["scipy.signal"]
lean.import_lightning()
print(sys.modules["scipy.signal"] is real, "torch._dynamo" in sys.modules)
"""
    assert run(code) == "True False"
