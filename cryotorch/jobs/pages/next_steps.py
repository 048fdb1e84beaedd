"""What to go on with after a run: commands that the files in its folder make possible."""

from __future__ import annotations

import shlex
from typing import NamedTuple

from cryotorch.report.page.gathered import Command
from cryotorch.report.page.run_files import RunFiles

HALVES = ("map_half_A.mrc", "map_half_B.mrc")
POSED = ("map.mrc", "particles.star")


class Step(NamedTuple):
    """A command: the files it needs, what it is for, its job, its parameters.

    In the parameters {run} is the folder, {symmetry} that of the run where it has one, and {classes} those that are suggested.
    """

    needs: tuple[str, ...]
    purpose: str
    job: str
    parameters: str


STEPS = (
    Step(
        ("particles.star", "initial.mrc"),
        "Refine the particles",
        "homo_refine",
        "particles={run}/particles.star volume={run}/initial.mrc{symmetry}",
    ),
    Step(
        POSED,
        "Refine from this map",
        "homo_refine",
        "particles={run}/particles.star volume={run}{symmetry}",
    ),
    Step(
        ("classes.star",),
        "Take the particles of some classes",
        "class2d",
        "particles={run} select=[{classes}]",
    ),
    Step(HALVES, "Judge the half maps, with another mask too", "validation_fsc", "volume={run}"),
    Step(HALVES, "Sharpen the map, by another B-factor too", "sharpen", "volume={run}"),
    Step(
        HALVES,
        "Resolution at each place, and a map filtered by it",
        "local_resolution",
        "volume={run}",
    ),
    Step(
        HALVES,
        "Whether all directions are resolved alike",
        "orientation_diagnostics",
        "volume={run}",
    ),
    Step(
        POSED,
        "Refine a region within a mask of your own",
        "local_refine",
        "particles={run}/particles.star volume={run} mask=<mask.mrc>{symmetry}",
    ),
    Step(
        POSED,
        "Refine defocus and aberrations",
        "ctf_refine",
        "particles={run}/particles.star volume={run}",
    ),
    Step(
        ("particles.star",),
        "Keep some of the particles, by their columns",
        "particles",
        "particles={run}/particles.star where='cryotorchScale > 0.7'",
    ),
    Step(
        ("particles.star",),
        "For CryoSPARC",
        "convert",
        "particles={run}/particles.star write=[cs]",
    ),
    Step(
        ("mask.mrc",),
        "Judge half maps within this mask",
        "validation_fsc",
        "volume=<run> mask={run}/mask.mrc",
    ),
)


def next_steps(run: RunFiles) -> list[Command]:
    """What can be done with the files of a run; first, what an unfinished one needs."""
    folder = shlex.quote(str(run.place))
    found = []
    if not run.finished and any(name.startswith("checkpoints/") for name in run.names):
        found.append(Command("Go on with this run", f"cryotorch out={folder} resume=true"))
    symmetry = run.config.get("symmetry")
    classes = run.summary.get("suggested")
    told = {
        "run": folder,
        "symmetry": "" if symmetry in (None, "C1") else f" symmetry={symmetry}",
        "classes": ",".join(map(str, classes)) if isinstance(classes, list) else "1,2",
    }
    for step in STEPS:
        again = step.job == run.job and step.job != "class2d"
        if again or not all(run.has(name) for name in step.needs):
            continue
        command = f"cryotorch job={step.job} {step.parameters.format(**told)}"
        found.append(Command(step.purpose, command))
    if run.job != "report":
        compare = f"cryotorch job=report runs=[{folder},<another run>]"
        found.append(Command("Compare with another run on one page", compare))
    return found
