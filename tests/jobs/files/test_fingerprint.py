"""Only what a run was made of can go on from its checkpoints, and its images stay what they were."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cryotorch.data.mrc import write_stack
from cryotorch.data.star import read_star, write_star
from cryotorch.errors import InputError
from cryotorch.jobs.files.fingerprint import ENTRIES, Fingerprint, OtherRun
from cryotorch.jobs.files.manifest import read_manifest
from cryotorch.refinement.runtime.checkpoints import AtomicCheckpoints
from cryotorch.report import tensorboard

BOX, PIXEL, N = 16, 6.0, 40  # of the particles of conftest.py


def test_a_stack_that_was_replaced_is_not_gone_on_with(
    inputs: Path, finished: Path, tmp_path: Path, refine: Callable, contents: Callable
) -> None:
    """The same names and sizes, but other pixels."""
    write_star(tmp_path / "particles.star", read_star(inputs / "particles.star"))
    noise = np.random.default_rng(0).normal(size=(N, BOX, BOX))
    write_stack(tmp_path / "particles.mrcs", [noise], N, BOX, PIXEL)
    before = contents(finished)
    changes = dict(particles=str(tmp_path / "particles.star"), max_iterations=2)
    with pytest.raises(InputError, match="the images are not the same"):
        refine(finished, resume=True, **changes)
    assert contents(finished) == before


def test_a_stack_that_changes_while_it_is_read_ends_the_run(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refine: Callable
) -> None:
    """Before anything of that iteration is written; the same images written again are nothing new."""
    write_star(tmp_path / "particles.star", read_star(inputs / "particles.star"))
    whole = (inputs / "particles.mrcs").read_bytes()
    stack, out = tmp_path / "particles.mrcs", tmp_path / "out"
    stack.write_bytes(whole)
    draw = tensorboard.draw

    def change(result: Any, names: Any) -> Any:
        stack.write_bytes(
            whole if result.iteration == 1 else whole[:1024] + whole[2048:] + whole[1024:2048]
        )
        return draw(result, names)

    given = dict(particles=str(stack.with_suffix(".star")), max_iterations=3)
    with monkeypatch.context() as patch:
        patch.setattr(tensorboard, "draw", change)
        with pytest.raises(
            InputError, match=r"particles\.mrcs was changed while the run was reading"
        ):
            refine(out, **given)
    assert (
        read_manifest(out).iterations
        == 2
        == json.loads((out / "summary.json").read_text())["iterations"]
    )


STATE = {"share": 1.0}


def belongs(**values: Any) -> Fingerprint:
    return Fingerprint(**{"box": 16, "symmetry": "C1", "images": "abc", **values})


@pytest.fixture
def checkpoint(tmp_path: Path) -> Callable[..., Path]:
    """checkpoint(**changes): a file with all that a trainer and a refinement write."""

    def checkpoint(**changes: Any) -> Path:
        path = tmp_path / "run" / "checkpoints" / "c.ckpt"
        values = {name: {} for name in ENTRIES} | {"refinement": STATE, "loops": {"epoch": [3]}}
        values["callbacks"] = {belongs().state_key: belongs().state_dict()}
        values |= changes
        AtomicCheckpoints().save_checkpoint(
            {name: value for name, value in values.items() if value is not None}, path
        )
        return path

    return checkpoint


def test_a_checkpoint_of_the_same_run_gives_its_state(checkpoint: Callable) -> None:
    assert belongs().check(checkpoint()) == STATE


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (dict(box=18), "box is 18, was 16"),
        (dict(symmetry="D2"), "symmetry is D2, was C1"),
        (dict(images="abd"), "the images are not the same"),
        (dict(invert=True), "invert is true, was null"),
    ],
)
def test_another_run_is_told_by_what_differs(
    checkpoint: Callable, changes: dict, said: str
) -> None:
    path = checkpoint()
    with pytest.raises(OtherRun, match=said) as caught:
        belongs(**changes).check(path)
    assert f"out={path.parents[1]}" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (dict(refinement=None), "lacks the state of a refinement"),
        (dict(refinement=3), "lacks the state of a refinement"),
        (dict(callbacks={}), "lacks the state of a refinement"),
        (dict(optimizer_states=None), "lacks optimizer_states"),
        (dict(loops={"epoch": 0.5}), "lacks the counts of the trainer"),
        (dict(loops={"epoch": [2**60]}), "lacks the counts of the trainer"),
    ],
)
def test_a_checkpoint_in_part_is_refused(checkpoint: Callable, changes: dict, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        belongs().check(checkpoint(**changes))
    assert not isinstance(caught.value, OtherRun)
