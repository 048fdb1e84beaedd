"""Which process of a run this is, and who has started the processes: torchrun, SLURM's srun, or the first of them."""

from __future__ import annotations

import os

from cryotorch.errors import InputError

_STEP = ("SLURM_STEP_ID", "SLURM_STEPID")
_SHELLS = ("bash", "interactive")  # names of SLURM jobs in which commands are typed


def starter() -> str:
    """ "torchrun", "srun", or "" where the first process starts the others.

    A batch script has most of srun's variables too, but is one process; so is a step of one task.
    """
    given = os.environ
    if "TORCHELASTIC_RUN_ID" in given:
        return "torchrun"
    if int(given.get("SLURM_NTASKS", "1")) < 2 or "SLURM_PROCID" not in given:
        return ""
    if given.get("SLURM_JOB_NAME") in _SHELLS:
        return ""
    step = given["SLURM_PROCID"] != "0" or any(name in given for name in _STEP)
    return "srun" if step else ""


def started() -> int:
    """How many processes torchrun or srun has started, else 1."""
    names = {"torchrun": "WORLD_SIZE", "srun": "SLURM_NTASKS"}
    return int(os.environ.get(names.get(starter(), ""), "1"))


def rank() -> int:
    """This process's number in a job of several, also before the trainer exists."""
    if starter() == "srun":
        return int(os.environ["SLURM_PROCID"])
    for name in ("RANK", "LOCAL_RANK"):
        if name in os.environ:
            return int(os.environ[name])
    return 0


def refuse_several(job: str) -> None:
    """Raises InputError where torchrun or srun has started several processes of a job that is one."""
    if started() > 1:
        raise InputError(
            f"{starter()} has started {started()} processes, but job={job} is one: start it without {starter()}"
        )


def processes(devices: int) -> int:
    """How many processes a job has that runs on so many ``devices`` of each machine.

    Raises:
        InputError: torchrun or srun has started others than these.
    """
    by = starter()
    if not by:
        return devices
    name = {"torchrun": "LOCAL_WORLD_SIZE", "srun": "SLURM_NTASKS_PER_NODE"}[by]
    if name not in os.environ:
        raise InputError(
            f"{by} does not say how many processes are on one machine: add --ntasks-per-node={devices} to it"
        )
    here = os.environ[name]
    if here != str(devices):
        raise InputError(
            f"{by} has started {here} processes on a machine, but devices={devices} means {devices}: make them agree"
        )
    return started()
