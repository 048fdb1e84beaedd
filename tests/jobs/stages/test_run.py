"""A run of stages is stopped and goes on: the same results, and nothing of another run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mrcfile
import pytest
import torch

from cryotorch.data.star import read_star, write_star
from cryotorch.errors import InputError
from cryotorch.jobs.files.manifest import Manifest, read_manifest
from cryotorch.jobs.files.run_folder import checkpoints
from cryotorch.refinement.runtime.checkpoints import AtomicCheckpoints, read_checkpoint

RESULTS = ("map.mrc", "map_other_hand.mrc", "particles.star")


def same(one: Path, other: Path, names: tuple[str, ...] = RESULTS) -> bool:
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in names)


@pytest.fixture(scope="module")
def whole(begin: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody stopped, of two starts and two passes, with particles that its map was not made of; not to be changed."""
    return begin(tmp_path_factory.mktemp("whole") / "run", **GIVEN).out


GIVEN: dict[str, Any] = dict(steps=3, passes=2, n_starts=2, max_particles=150)
STAGES = 7  # two starts, two passes, poses, those of the others, and that all is written


def test_the_last_two_checkpoints_are_kept(whole: Path) -> None:
    assert [path.stem for path in checkpoints(whole)] == ["iteration_006", "iteration_007"]
    assert read_manifest(whole).iterations == STAGES
    assert "checkpoints/iteration_007.ckpt" in read_manifest(whole).files


@pytest.mark.parametrize("stage", (1, 4, 6, STAGES))
def test_stopped_after_any_stage(
    whole: Path, tmp_path: Path, begin: Callable, stopped: Callable, stage: int
) -> None:
    out = tmp_path / "run"
    with stopped(stage):
        begin(out, **GIVEN)
    assert (out / "summary.json").exists() == (stage == STAGES)
    if stage < STAGES:
        begin(out, resume=True, **GIVEN)
    assert same(out, whole) and len(checkpoints(out)) == 2


def test_a_finished_run_is_left_alone(
    whole: Path, begin: Callable, contents: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(whole)
    begin(whole, resume=True, **GIVEN)
    assert "has finished already" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"already holds a run: .*add resume=true to go on"):
        begin(whole, **GIVEN)
    assert contents(whole) == before


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (dict(seed=3), "seed is 3, was 0"),
        (dict(n_starts=3), "n_starts is 3, was 2"),
        (dict(symmetry="C2"), "symmetry is C2, was C1"),
        (dict(final_resolution=16), "final_resolution is 16, was 15"),
        (dict(invert=True), "images are not the same|invert is true, was false"),
        (dict(box_size=20, final_resolution=16), "box is 20, was 24"),
    ],
    ids=str,
)
def test_other_settings_are_refused(
    whole: Path, begin: Callable, contents: Callable, changes: dict[str, Any], said: str
) -> None:
    before = contents(whole)
    with pytest.raises(InputError, match=said) as caught:
        begin(whole, resume=True, **(GIVEN | changes))
    assert "resume=true cannot go on with the run" in str(caught.value)
    assert contents(whole) == before


def test_other_particles_are_refused(
    whole: Path, begun: Any, begin: Callable, tmp_path: Path, contents: Callable
) -> None:
    """Other images under the same names, and others of them."""
    images = mrcfile.read(begun.data / "particles.mrcs").copy()
    with mrcfile.new(tmp_path / "particles.mrcs", images[::-1].copy()) as file:
        file.voxel_size = 6.0
    table, star = read_star(begun.data / "particles.star"), tmp_path / "particles.star"
    write_star(star, table)
    before = contents(whole)
    with pytest.raises(InputError, match="the images are not the same"):
        begin(whole, resume=True, **GIVEN, particles=str(star))
    table["particles"]["rlnDefocusU"] = [15000.0] * 200
    write_star(star, table)
    with pytest.raises(InputError, match="the particles are not the same"):
        begin(whole, resume=True, **GIVEN, particles=str(star))
    assert contents(whole) == before


def test_the_hand_can_be_chosen_afterwards(
    whole: Path, begun: Any, begin: Callable, tmp_path: Path, stopped: Callable, contents: Callable
) -> None:
    out = tmp_path / "run"
    with stopped(6):
        begin(out, **GIVEN)
    like = str(begun.out / "map.mrc")
    made = begin(out, resume=True, like=like, **GIVEN)
    assert made.made.fit is not None and f"like={like} instead of null" in (
        (out / "log.txt").read_text()
    )
    # and once more, when all was written
    again = begin(out, resume=True, like=str(begun.out / "map_other_hand.mrc"), **GIVEN)
    assert again.made.fit[0] == pytest.approx(made.made.fit[0], abs=1e-3)
    assert not same(out, whole) or made.made.findings != again.made.findings


def test_damaged_and_foreign_checkpoints(
    whole: Path, begin: Callable, stopped: Callable, tmp_path: Path, capsys
) -> None:
    """The one before goes on; without one a sentence."""
    out = tmp_path / "run"
    with stopped(4):
        begin(out, **GIVEN)
    third, fourth = checkpoints(out)
    fourth.write_bytes(fourth.read_bytes()[:5000])
    third_bytes = third.read_bytes()
    third.write_text("not a checkpoint")
    with pytest.raises(InputError, match=r"cannot be read .*none before it is whole.*overwrite"):
        begin(out, resume=True, **GIVEN)
    third.write_bytes(third_bytes)
    capsys.readouterr()
    begin(out, resume=True, **GIVEN)
    assert "iteration_004.ckpt cannot be read" in capsys.readouterr().out
    assert same(out, whole)


def test_a_checkpoint_with_something_else_in_it(
    whole: Path, begin: Callable, stopped: Callable, tmp_path: Path
) -> None:
    """Whole, but made by hand: values of another type, and tensors of another shape."""
    out = tmp_path / "run"
    with stopped(3):
        begin(out, **GIVEN)
    last = checkpoints(out)[-1]
    saved = read_checkpoint(last)
    share, saved["stages"]["narrow"]["share"] = saved["stages"]["narrow"]["share"], 3
    AtomicCheckpoints().save_checkpoint(saved, last)
    with pytest.raises(InputError, match=r"cannot be used: narrow\.share is not what it was"):
        begin(out, resume=True, **GIVEN)
    saved["stages"]["narrow"] |= {"share": share, "maps": torch.zeros(3, 5)}
    AtomicCheckpoints().save_checkpoint(saved, last)
    with pytest.raises(InputError, match=r"003\.ckpt cannot be gone on with .*overwrite=true"):
        begin(out, resume=True, **GIVEN)
    begin(out, overwrite=True, **GIVEN)
    assert same(out, whole)


def test_results_without_checkpoints_are_kept(
    begin: Callable, tmp_path: Path, contents: Callable
) -> None:
    """Those that Python saved, or a version before this one wrote."""
    out = tmp_path / "saved"
    out.mkdir()
    for name in ("map.mrc", "summary.json"):
        (out / name).write_text("worth keeping")
    Manifest("ab_initio", ("map.mrc", "summary.json")).write(out)
    before = contents(out)
    with pytest.raises(InputError, match="already holds a run"):
        begin(out, **GIVEN)
    with pytest.raises(InputError, match=r"finds no checkpoint in out=.*overwrite=true"):
        begin(out, resume=True, **GIVEN)
    assert contents(out) == before


def test_a_failure_before_the_first_stage_leaves_what_was_there(
    begin: Callable, tmp_path: Path, contents: Callable
) -> None:
    with pytest.raises(InputError, match="holds no map"):
        begin(tmp_path / "new" / "run", like=str(tmp_path), **GIVEN)
    assert not (tmp_path / "new").exists()
