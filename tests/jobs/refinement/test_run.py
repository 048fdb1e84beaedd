"""How a refinement goes on, and which processes it may have."""

from __future__ import annotations

import pytest

from cryotorch.errors import InputError
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.refinement import run
from cryotorch.jobs.refinement.run import refuse_processes, resuming, watched


def test_how_to_go_on_is_a_command_that_a_shell_takes() -> None:
    assert resuming(make_settings("homo_refine", out="a b")) == (
        "to go on, cryotorch out='a b' resume=true"
    )


@pytest.mark.parametrize(
    ("by", "started", "devices", "said"),
    [
        ("", 1, 4, None),
        ("torchrun", 4, 4, None),
        ("torchrun", 2, 4, r"torchrun has started 2 processes, but trainer.devices=4 .* mean 4"),
        ("srun", 4, 4, r"srun does not say .* add --ntasks-per-node=4"),
    ],
)
def test_others_start_as_many_processes_as_are_meant(
    monkeypatch: pytest.MonkeyPatch, by: str, started: int, devices: int, said: str | None
) -> None:
    monkeypatch.delenv("SLURM_NTASKS_PER_NODE", raising=False)
    monkeypatch.setattr(run, "starter", lambda: by)
    monkeypatch.setattr(run, "started_processes", lambda: started)
    trainer = make_settings(
        "homo_refine", trainer__accelerator="cpu", trainer__devices=devices
    ).trainer
    if said is None:
        refuse_processes(trainer)
    else:
        with pytest.raises(InputError, match=said):
            refuse_processes(trainer)
    if by == "srun":
        monkeypatch.setenv("SLURM_NTASKS_PER_NODE", "4")
        refuse_processes(trainer)


def test_a_single_process_needs_nobody_to_look_after_it() -> None:
    given = make_settings("homo_refine", trainer__accelerator="cpu", trainer__devices=1)
    with watched(given) as watch:
        assert watch is None
