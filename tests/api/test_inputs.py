"""The Python face as a whole: light to import, complete, documented."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import cryotorch as ct
from cryotorch import api
from cryotorch.report.sentences import said


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


def test_a_part_that_is_not_imported_is_no_name_of_the_face() -> None:
    """``from cryotorch import jobs`` must not take the second that torch takes."""
    code = "import sys; from cryotorch import jobs, errors; print('torch' in sys.modules)"
    root = str(Path(ct.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_values_of_numpy_and_torch_are_plain_numbers() -> None:
    given = dict(box_size=np.int64(24), n_particles=torch.tensor(3), pixel_size=np.float32(4.0))
    made = ct.simulate(**given, source=np.str_("phantom"))
    assert made.images.shape == (3, 24, 24) and type(made.pixel_size) is float


def test_sentences_name_arguments_and_no_temporary_files(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    noise = torch.randn(2, 16, 16, 16, generator=torch.Generator().manual_seed(1))
    hard = torch.zeros(16, 16, 16)
    hard[4:12, 4:12, 4:12] = 1
    found = ct.fsc(*noise, pixel_size=2.0, mask=hard)
    assert any(text.startswith("mask ") for text in found.warnings)
    assert found.warnings == said(found.found.warnings)
    for text in (*found.warnings, *caplog.messages):
        assert "/cryotorch-" not in text
    for wrong in (torch.ones(16, 16, 16), 1e30 * noise[0], noise[1]):
        with pytest.raises(ct.InputError) as caught:
            ct.fsc(wrong, noise[1], 2.0)
        assert "half_map_a" in str(caught.value) and "cryotorch-" not in str(caught.value)


def test_parameters_of_a_function_are_those_of_its_job() -> None:
    assert ct.parameters(ct.refine) == ct.parameters("refine") == ct.parameters("homo_refine")


def test_parameters_are_those_of_the_configs() -> None:
    found = {p.name: p for p in ct.parameters("sharpen")}
    assert found["bfactor"].default is None and "Å²" in found["bfactor"].meaning
