"""A wrong value is told before a folder that is taken."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from cryotorch.errors import InputError
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.files.manifest import Manifest

HALVES = dict(half_map_a="there.mrc", half_map_b="there.mrc")


@pytest.fixture(autouse=True)
def taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that no job may write to, and a file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    Manifest("somebody", iterations=1).write(_folder("out"))
    for name in ("there.mrc", "there.star"):
        Path(name).write_text("no more than a name\n")


def _folder(name: str) -> Path:
    Path(name).mkdir()
    return Path(name)


@pytest.mark.parametrize(
    ("job", "given", "said"),
    [
        ("validation_fsc", HALVES | dict(symmetry="Q7"), "symmetry=Q7 cannot"),
        ("validation_fsc", HALVES | dict(device="cuda"), "device=cuda cannot .*device=cpu"),
        ("validation_fsc", dict(half_map_a="there.mrc"), "add half_map_b="),
        ("validation_fsc", HALVES | dict(mask="gone.mrc"), "gone.mrc does not exist"),
        ("sharpen", {}, "Two half maps are needed"),
        ("local_resolution", dict(half_map_b="there.mrc"), "add half_map_a="),
        ("local_resolution", HALVES | dict(map="gone.mrc"), "gone.mrc does not exist"),
        ("orientation_diagnostics", dict(volume="gone"), "volume=gone is not a folder"),
        ("reconstruct", dict(particles="there.star", symmetry="Q8"), "symmetry=Q8 cannot"),
        ("create_templates", dict(volume="gone.mrc"), "gone.mrc does not exist"),
        ("classify", dict(particles="gone.star"), "gone.star does not exist"),
        ("classify", dict(particles="there.star", symmetry="Z"), "symmetry=Z cannot"),
        ("class2d", dict(particles="gone.star"), "gone.star does not exist"),
        ("class2d", dict(particles="there.star", device="cuda"), "device=cuda cannot"),
        ("volume_tools", dict(volume="there.mrc", symmetry="Z"), "symmetry=Z cannot"),
        ("simulate", dict(symmetry="Z"), "symmetry=Z cannot"),
        (
            "homo_refine",
            dict(particles="there.star", volume="there.mrc", trainer={"accelerator": "gpu"}),
            "trainer.accelerator=gpu cannot be used: torch finds no CUDA device",
        ),
        ("ab_initio", dict(particles="there.star", symmetry="Z"), "symmetry=Z cannot"),
        ("ab_initio", dict(particles="there.star", device="cuda"), "device=cuda cannot"),
        ("ab_initio", dict(particles="there.star", like="gone"), "gone does not exist"),
        ("hetero_refine", dict(particles="there.star", volume="gone.mrc"), "gone.mrc does not"),
        ("hetero_refine", dict(particles="there.star"), "volume=null cannot"),
        ("particles", dict(particles=["there.star", "gone.star"]), "gone.star does not exist"),
        ("particles", dict(particles="there.star", expand_symmetry="Z"), "symmetry=Z cannot"),
        ("particles", dict(particles="there.star", subtract="gone.cs"), "gone.cs does not exist"),
        ("homo_refine", dict(particles="gone.star", volume="there.mrc"), "gone.star does not"),
    ],
)
def test_values_come_first(job: str, given: dict[str, Any], said: str) -> None:
    run = importlib.import_module(f"cryotorch.jobs.{job}").run
    flat = {f"trainer__{k}": v for k, v in given.pop("trainer", {}).items()}
    with pytest.raises(InputError, match=said):
        run(make_settings(job, out="out", **given, **flat))


def test_the_folder_comes_second(tmp_path: Path) -> None:
    run = importlib.import_module("cryotorch.jobs.validation_fsc").run
    with pytest.raises(InputError, match="out=out holds a run of job=somebody"):
        run(make_settings("validation_fsc", out="out", **HALVES))
