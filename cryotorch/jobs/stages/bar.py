"""How far a stage is, on the screen, and how long it may take, in the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from tqdm import tqdm

from cryotorch.findings import remark
from cryotorch.report.sentences import line

log = logging.getLogger("cryotorch")
BAR = "{desc} {percentage:3.0f}% |{bar:30}| {elapsed}, {remaining} left"  # of tqdm
LOOKED_AT = 10.0  # seconds of a stage from which its pace is taken
WORTH_SAYING = 20.0  # seconds that are left, at least


class StageBar:
    """A bar per stage with the time left; of long ones a line says it too.

    Args:
        now: seconds by a clock on the wall.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._bar: tqdm | None = None
        self._stage, self._now, self._said = "", now, False
        self._since = now()  # of the stage

    def __call__(self, stage: str, done: float) -> None:
        """A stage is done so far, 0 to 1."""
        if self._bar is None or stage != self._stage:
            if self._stage:  # the first began with the bar
                self._since = self._now()
            self.close()
            self._bar = tqdm(total=1000, desc=stage, bar_format=BAR, disable=None)
            self._stage, self._said = stage, False
        self._tell(done)
        self._bar.update(round(1000 * done) - self._bar.n)

    def _tell(self, done: float) -> None:
        passed = self._now() - self._since
        if self._said or done <= 0 or passed < LOOKED_AT:
            return
        self._said, left = True, passed * (1 - done) / done
        if left > WORTH_SAYING:
            log.info(line(remark("stage_left", stage=self._stage, seconds=left)))

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()
