"""cryotorch, but one rank waits where a test wants it, for a signal to find it there: at a function, once there is a checkpoint.

    STOPS_AT="<rank> <module>:<function> <folder of the run>" python stops_at.py job=...

It says so by a file ``stopped`` beside that folder.
"""

from __future__ import annotations

import importlib
import os
import time
from operator import attrgetter
from pathlib import Path
from typing import Any

from cryotorch.__main__ import main

RANKS = ("RANK", "SLURM_PROCID", "LOCAL_RANK")


def stop_at(place: str, out: Path) -> None:
    """Wrap the function of a module, or the method of a class in it."""
    module, _, name = place.partition(":")
    owner: Any = importlib.import_module(module)
    *classes, name = name.split(".")
    if classes:
        owner = attrgetter(".".join(classes))(owner)
    function = getattr(owner, name)

    def stopping(*args: Any, **options: Any) -> Any:
        if list(out.glob("checkpoints/*.ckpt")):
            out.with_name("stopped").touch()
            time.sleep(300)
        return function(*args, **options)

    setattr(owner, name, stopping)


if __name__ == "__main__":
    rank, place, out = os.environ["STOPS_AT"].split(" ", 2)
    if rank == next((os.environ[n] for n in RANKS if n in os.environ), "0"):
        stop_at(place, Path(out))
    main()
