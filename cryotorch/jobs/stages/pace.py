"""How long counted work takes, said as soon as its pace is known; a dry run ends there."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from cryotorch.errors import DryRun
from cryotorch.findings import remark
from cryotorch.report.sentences import line

log = logging.getLogger("cryotorch")
LOOKED_AT = 5.0  # seconds of work from which a pace is taken, after the first count, in which loops may be compiled
WORTH_SAYING = 10.0  # seconds that are left, at least


class Pace:
    """Hears how much was done, of ``whole`` in any unit, and passes it on to ``tell``.

    Args:
        begins: until so much is done the pace is another one; ends: of a dry run, which ends once it is known how long a run takes.
        now: seconds by a clock on the wall.
    """

    def __init__(
        self,
        tell: Callable[[float], object],
        whole: float,
        begins: float = 0.0,
        ends: bool = False,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.tell, self.whole, self.begins, self.ends, self.now = tell, whole, begins, ends, now
        self.done, self._said = 0.0, False
        self._from: tuple[float, float] | None = None  # seconds and what was done then

    def __call__(self, count: float) -> None:
        """So much more is done."""
        self.tell(count)
        self.done += count
        if self._said or count <= 0 or self.done < self.begins:
            return
        if self._from is None:
            self._from = self.now(), self.done
            return
        passed, more = self.now() - self._from[0], self.done - self._from[1]
        if passed < LOOKED_AT:
            return
        self._said = True
        left = passed / more * (self.whole - self.done)
        if left > WORTH_SAYING or self.ends:
            log.info(line(remark("time_counted", seconds=left)))
        if self.ends:
            raise DryRun
