"""Who has started the processes of a run, as the environment tells it."""

from __future__ import annotations

import pytest

from cryotorch.errors import InputError
from cryotorch.jobs.config.parse import TrainerSettings
from cryotorch.jobs.files.ranks import processes, rank, refuse_several, started, starter
from cryotorch.jobs.refinement.run import refuse_processes

BATCH = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}
SRUN = {**BATCH, "SLURM_STEP_ID": "0", "SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "2"}
TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4"}
CASES = [
    ({}, "", 0, 1),
    ({"LOCAL_RANK": "1", "WORLD_SIZE": "2"}, "", 1, 1),
    (TORCHRUN, "torchrun", 3, 4),
    ({**SRUN, **TORCHRUN}, "torchrun", 3, 4),
    (SRUN, "srun", 0, 4),
    ({**SRUN, "SLURM_PROCID": "2"}, "srun", 2, 4),
    ({**SRUN, "SLURM_NTASKS": "1"}, "", 0, 1),
    ({**SRUN, "SLURM_JOB_NAME": "bash"}, "", 0, 1),
    # A batch script, and a rank that the process in it has started.
    ({**BATCH, "SLURM_NTASKS": "4"}, "", 0, 1),
    ({**BATCH, "SLURM_NTASKS": "4", "LOCAL_RANK": "1"}, "", 1, 1),
]


@pytest.fixture
def tell(monkeypatch: pytest.MonkeyPatch):
    """Set the environment that tells it, and nothing else that does."""

    def put(given: dict[str, str]) -> None:
        names = {*SRUN, *TORCHRUN, "LOCAL_WORLD_SIZE", "SLURM_STEPID", "SLURM_JOB_NAME"}
        for name in names:
            monkeypatch.delenv(name, raising=False)
        for name, value in given.items():
            monkeypatch.setenv(name, value)

    return put


@pytest.mark.parametrize(("given", "by", "number", "processes"), CASES)
def test_who_has_started_what(tell, given: dict, by: str, number: int, processes: int) -> None:
    tell(given)
    assert (starter(), rank(), started()) == (by, number, processes)


@pytest.mark.parametrize("given", [SRUN, TORCHRUN])
def test_others_than_the_trainer_means_are_refused(tell, given: dict) -> None:
    tell(given)
    refuse_processes(TrainerSettings("cpu", 2, 2, "32-true", "ddp"))
    with pytest.raises(InputError, match=r"has started 4 processes.*devices=1.*num_nodes=1 mean 1"):
        refuse_processes(TrainerSettings("cpu", 1, 1, "32-true", "auto"))
    tell({})
    refuse_processes(TrainerSettings("cpu", 1, 1, "32-true", "auto"))


def test_srun_must_tell_what_is_on_one_machine(tell) -> None:
    tell({name: value for name, value in SRUN.items() if name != "SLURM_NTASKS_PER_NODE"})
    with pytest.raises(InputError, match="add --ntasks-per-node=2"):
        refuse_processes(TrainerSettings("cpu", 2, 2, "32-true", "ddp"))


@pytest.mark.parametrize("given", [SRUN, TORCHRUN | {"LOCAL_WORLD_SIZE": "2"}])
def test_devices_of_each_machine(tell, given: dict) -> None:
    """Two machines with two processes each."""
    tell(given)
    assert processes(2) == 4
    with pytest.raises(InputError, match=r"has started 2 processes on a machine, but devices=4"):
        processes(4)
    with pytest.raises(InputError, match=r"has started 4 processes, but job=sharpen is one"):
        refuse_several("sharpen")
    tell({})
    assert (processes(1), processes(3)) == (1, 3)
    refuse_several("sharpen")


def test_devices_where_srun_does_not_tell(tell) -> None:
    tell({name: value for name, value in SRUN.items() if name != "SLURM_NTASKS_PER_NODE"})
    with pytest.raises(InputError, match="add --ntasks-per-node=2"):
        processes(2)
