"""The examination: a line for each check, and one in the end that says whether all is well."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from cryotorch.jobs.doctor.machine import Check, checks
from cryotorch.jobs.doctor.self_test import self_test


def examine(folder: Path | None = None) -> int:
    """Print all checks of the machine and of the program; the exit code, 0 where all is well."""
    start = time.perf_counter()
    folder = Path.cwd() if folder is None else folder

    def all_checks() -> Iterator[Check]:
        yield from checks(folder)
        yield from self_test()

    wrong = told(all_checks())
    seconds = f"{time.perf_counter() - start:.0f} s"
    if not wrong:
        print(f"OK, {seconds}: installation and machine are fit for work")
        return 0
    print(f"To mend, {seconds}: {'; '.join(f'{check.name}: {check.mend}' for check in wrong)}")
    return 1


def told(given: Iterable[Check]) -> list[Check]:
    """Print each check as it is made; those with something to mend."""
    wrong = []
    for check in given:
        mark = "mend" if check.mend else "ok"
        print(f"{mark:5}{check.name:11}{check.found}", flush=True)
        if check.mend:
            wrong.append(check)
    return wrong
