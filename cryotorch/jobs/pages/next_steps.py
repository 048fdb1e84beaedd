"""What to go on with after a run, as its page says it."""

from __future__ import annotations

import shlex

from cryotorch.report import next_steps
from cryotorch.report.page.gathered import Command
from cryotorch.report.page.run_files import RunFiles


def commands(run: RunFiles) -> list[Command]:
    """What its summary supports, or that an unfinished run goes on; and a page with another run."""
    folder = str(run.place)
    found = [
        Command(step.purpose, step.command)
        for step in next_steps.next_steps(run.job, folder, run.summary, run.config)
    ]
    if not run.finished and any(name.startswith("checkpoints/") for name in run.names):
        command = f"cryotorch out={shlex.quote(folder)} resume=true"
        found = [Command("goes on with this run", command)]
    if run.job != "report":
        compare = f"cryotorch job=report runs=[{shlex.quote(folder)},<another run>]"
        found.append(Command("beside another run on one page", compare))
    return found
