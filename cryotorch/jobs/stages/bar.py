"""How far a stage is, on the screen."""

from __future__ import annotations

from tqdm import tqdm


class StageBar:
    """A bar per stage with the time left."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._stage = ""

    def __call__(self, stage: str, done: float) -> None:
        """A stage is done so far, 0 to 1."""
        if self._bar is None or stage != self._stage:
            self.close()
            form = "{desc} {percentage:3.0f}% |{bar:30}| {elapsed}, {remaining} left"
            self._bar = tqdm(total=1000, desc=stage, bar_format=form, disable=None)
            self._stage = stage
        self._bar.update(round(1000 * done) - self._bar.n)

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()
