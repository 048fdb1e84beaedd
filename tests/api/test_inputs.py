"""The Python face as a whole: light to import, complete, documented."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import cryotorch as ct
from cryotorch import api


def test_the_import_is_light() -> None:
    code = "import sys, cryotorch; print([m for m in ('torch', 'numpy', 'lightning', 'cryotorch.api') if m in sys.modules])"
    root = str(Path(ct.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_package_and_its_face_name_the_same() -> None:
    assert set(ct.__all__) == {*api.__all__, "__version__"}
    assert set(ct.__all__) <= set(dir(ct))
    for name in api.__all__:
        assert getattr(ct, name) is getattr(api, name)
    with pytest.raises(AttributeError, match="nothing"):
        _ = ct.nothing


@pytest.mark.parametrize("name", api.__all__)
def test_everything_says_what_it_is(name: str) -> None:
    assert len(inspect.getdoc(getattr(api, name)) or "") > 40


def test_parameters_are_those_of_the_configs() -> None:
    found = {p.name: p for p in ct.parameters("sharpen")}
    assert found["bfactor"].default is None and "Å²" in found["bfactor"].meaning
