"""Which process of a run this is, and who has started the processes: torchrun, SLURM's srun, or the first of them."""

from __future__ import annotations

import os

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
