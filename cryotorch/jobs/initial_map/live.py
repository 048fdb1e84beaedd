"""What can be watched in TensorBoard while maps are made: every start and every pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from cryotorch.jobs.initial_map.inputs import Inputs
from cryotorch.refinement.ab_initio.narrow_stage import Narrow, limit_of
from cryotorch.refinement.ab_initio.trials import Trial
from cryotorch.refinement.class_search import Found
from cryotorch.report.job_tensorboard import LiveBoard
from cryotorch.report.maps import central_slices, image_figure, projections
from cryotorch.report.style import Picture, render

SHOWN = 5  # classes in a figure, at most
PICTURES = {"starts": "start", "symmetry": "symmetric_start"}


class Live:
    """Hears of what stages have made, by name, and writes it into ``folder``; steps are the numbers of starts and passes."""

    def __init__(self, folder: Path, inputs: Inputs) -> None:
        self.board, self.inputs = LiveBoard(folder), inputs

    def __call__(self, name: str, value: Any) -> None:
        """A stage has ended."""
        stage, _, number = name.partition("/")
        if isinstance(value, Trial):
            judged, step = value.judgement, int(number) + 1
            scalars = {f"{stage}/score": judged.score, f"{stage}/lead": judged.lead}
            title = (
                f"{PICTURES[stage].replace('_', ' ').capitalize()} {step}, score {judged.score:.3g}"
            )
            pictures = self._pictures(PICTURES[stage], value.soft.maps.volumes, judged.share, title)
            self._add(step, scalars | _shares(stage, judged.share), pictures)
        elif isinstance(value, Narrow):
            resolution = self._resolution(value.passes - 1)
            title = f"After pass {value.passes}, images used to {resolution:.3g} Å"
            scalars = {"passes/resolution": resolution, **_shares("passes", value.share)}
            pictures = self._pictures("pass", value.maps, value.share, title)
            self._add(value.passes, scalars, pictures)
        elif isinstance(value, Found):
            scalars = {"passes/correlation": float(value.correlation.mean())}
            self._add(self.inputs.algorithm.passes + 1, scalars, dict)

    def _add(
        self, step: int, scalars: dict[str, float], draw: Callable[[], Mapping[str, Picture]]
    ) -> None:
        known = {tag: value for tag, value in scalars.items() if math.isfinite(value)}
        self.board.add(step, known, draw)

    def _pictures(
        self, name: str, maps: Tensor, share: Tensor, title: str
    ) -> Callable[[], Mapping[str, Picture]]:
        edge = self.inputs.images.box * self.inputs.images.pixel_size
        rows = {}
        for number, (volume, part) in enumerate(zip(maps.cpu(), share.tolist(), strict=True), 1):
            if number <= SHOWN:
                rows[f"Class {number}, {part:.0%}, slices"] = central_slices(volume)
                rows[f"Class {number}, projections"] = projections(volume)
        return lambda: {name: render(image_figure(rows, edge, title))}

    def _resolution(self, number: int) -> float:
        """Å up to which images are used in a pass."""
        images = self.inputs.images
        return images.box * images.pixel_size / limit_of(self.inputs.algorithm, number)


def _shares(stage: str, share: Tensor) -> dict[str, float]:
    return {f"{stage}/share_class_{k}": part for k, part in enumerate(share.tolist(), 1)}
