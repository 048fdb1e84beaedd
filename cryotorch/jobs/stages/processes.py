"""The processes of a job on several devices: started, or met where torchrun or srun has started them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from cryotorch.errors import Stopped
from cryotorch.jobs.config.parse import require
from cryotorch.jobs.files.ranks import processes, rank, starter
from cryotorch.jobs.inputs.device import pick_device
from cryotorch.refinement.runtime.team import Team
from cryotorch.refinement.runtime.watch import Launcher, Watch, end_with_the_lost

MOST_ON_FEW = 8  # processes that may be asked for on a machine with fewer processors
PATIENCE = timedelta(days=30)  # that a process waits for another; ``Watch`` sees those that end


@contextmanager
def team_of(
    name: str, devices: int, resume: str, alone: bool = False
) -> Iterator[tuple[Team, torch.device]]:
    """The processes of a job on so many ``devices`` of each machine, of the kind ``name``, and the device of this one.

    Args:
        resume: how to go on with the run, for the sentence.
        alone: start and meet no others, as for a dry run.

    Raises:
        InputError: there are no such devices, or another process was lost.
        Stopped: by a signal.
    """
    device, world = pick_device(name), processes(devices)
    cuda, there = device.type == "cuda", max(os.cpu_count() or 1, MOST_ON_FEW)
    there, kind = (torch.cuda.device_count(), "CUDA devices") if cuda else (there, "processors")
    require(devices <= there, "devices", devices, f"there are no more than {there} {kind}")
    watch = Watch(0 if starter() else rank(), resume) if world > 1 and not alone else None
    with watch or nullcontext():
        try:
            if watch is None:
                yield Team(), device
            else:
                yield from _several(watch, device, devices, world)
        except KeyboardInterrupt as stop:
            code = (watch and watch.code) or getattr(stop, "code", 130)
            raise Stopped(resume, code=code) from None


def _several(
    watch: Watch, device: torch.device, devices: int, world: int
) -> Iterator[tuple[Team, torch.device]]:
    """Start the others, unless that is done, meet them, and let them go in the end."""
    by = starter()
    environment: ClusterEnvironment = LightningEnvironment()
    if by:
        elastic = by == "torchrun"
        environment = TorchElasticEnvironment() if elastic else SLURMEnvironment(auto_requeue=False)
    Launcher(watch, environment, devices, world // devices).launch(lambda: None)
    if device.type == "cuda":
        device = torch.device("cuda", environment.local_rank())
        torch.cuda.set_device(device)
    place = {"MASTER_ADDR": environment.main_address, "MASTER_PORT": str(environment.main_port)}
    os.environ |= place
    torch.distributed.init_process_group("gloo", rank=rank(), world_size=world, timeout=PATIENCE)
    team = Team(rank(), world)
    try:
        yield team, device
        if team.rank == 0:
            team.dismiss()
    except RuntimeError as error:
        end_with_the_lost(error, watch)
        raise
    torch.distributed.destroy_process_group()
