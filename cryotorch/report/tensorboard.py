"""TensorBoard: what can be watched while a refinement runs.

Steps are iteration numbers. The FSC curves also stand as numbers in one child run per iteration
(``iteration_003``), where the step is the shell, so that the scalar view overlays the iterations. TensorBoard
keeps 10 images and meshes per tag unless it is started with ``--samples_per_plugin images=200,mesh=200,text=200``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter

from cryotorch.report.figures import FIGURES, draw, write_pictures
from cryotorch.report.job_tensorboard import add_pictures, write_curves
from cryotorch.report.mesh import isosurface
from cryotorch.report.sentences import line
from cryotorch.report.style import Picture
from cryotorch.report.summary import median, seconds_of
from cryotorch.results import IterationResult

FIRST_GUESS = 1.0  # seconds that drawing takes, before it is known
LIVE = ("fsc", "slices", "mask", "orientations")
_LAYOUT = {
    "Refinement": {
        "Resolution (Å)": ["Multiline", [r"^resolution/"]],
        "Change of the poses": ["Multiline", [r"^change/"]],
        "Seconds": ["Multiline", [r"^seconds/"]],
        "Seconds left": ["Multiline", [r"^seconds_left/"]],
    },
    "FSC over shell, one run per iteration": {
        "Corrected": ["Multiline", [r"^fsc/corrected$"]],
        "All curves": ["Multiline", [r"^fsc/"]],
    },
}
_MATERIAL = {
    "camera": {"cls": "PerspectiveCamera", "fov": 40},
    "lights": [
        {"cls": "AmbientLight", "color": "#ffffff", "intensity": 0.65},
        {"cls": "DirectionalLight", "color": "#ffffff", "intensity": 0.6, "position": [1, 1, 2]},
    ],
    "material": {
        "cls": "MeshStandardMaterial",
        "color": "#ffffff",  # multiplies the vertex colours
        "roughness": 0.8,
        "metalness": 0,
        "side": 2,
    },
}


def scalars(result: IterationResult) -> dict[str, float]:
    """Tag -> number of an iteration; numbers that are not finite are left out."""
    sigma = result.particles.pose_sigma
    found = {
        "resolution/claimed": result.resolution,
        **{f"resolution/{name}": value for name, value in result.resolutions.items()},
        "change/rotation_deg": median(result.rotation_change),
        "change/shift_A": median(result.shift_change),
        "uncertainty/rotation_deg": math.degrees(median(sigma[:, 0])),
        "uncertainty/shift_A": median(sigma[:, 1]),
        "scale/spread": float(result.particles.scale.std(correction=0)),
        "seconds/total": seconds_of(result),
        **{f"seconds/{phase}": value for phase, value in result.seconds.items()},
    }
    found["bfactor"] = result.guinier.applied
    if result.time_left is not None:
        ends = zip(("least", "most"), result.time_left.seconds, strict=True)
        found |= {f"seconds_left/{name}": seconds for name, seconds in ends}
    if result.guinier.bfactor is not None:
        found["bfactor_fitted"] = result.guinier.bfactor
    known = ("iteration", "resolution", "rotation_change", "shift_change")
    last = result.history[-1] if result.history else {}
    news = (n for n in last if n not in known and not n.startswith("seconds"))
    found |= {f"progress/{name}": last[name] for name in news}
    return {tag: float(value) for tag, value in found.items() if math.isfinite(value)}


def write_iteration(
    writer: SummaryWriter, result: IterationResult, pictures: Mapping[str, Picture]
) -> None:
    """Write scalars, curves, images and the surface of an iteration, and flush."""
    step = result.iteration
    for tag, value in scalars(result).items():
        writer.add_scalar(tag, value, step)
    add_pictures(writer, pictures, step)
    write_surface(writer, result)
    if result.messages:
        writer.add_text("messages", "\n".join(f"* {line(m)}" for m in result.messages), step)
    drawn = {**result.curves, **({} if result.band is None else {"noise_band": result.band})}
    write_curves(Path(writer.log_dir) / f"iteration_{step:03d}", drawn)
    writer.flush()


def write_surface(writer: SummaryWriter, result: IterationResult) -> None:
    """Add the map as a mesh, when it has a surface."""
    mesh = isosurface(result.map, result.mask_fsc, result.pixel_size)
    if mesh is None:
        return
    vertices, faces, colours = (torch.from_numpy(part)[None] for part in mesh)
    writer.add_mesh("map", vertices, colours, faces, _MATERIAL, global_step=result.iteration)


class TensorBoardReport(Callback):
    """Draws ``pl_module.result`` (an ``IterationResult``) after each iteration, on rank 0.

    Figures that are watched live are drawn after iterations and the others at the end, once for the PNG files and for
    TensorBoard. Iterations that are short beside their drawing get numbers and curves only. Without a
    ``TensorBoardLogger`` only the files are written.

    Args:
        plots: folder of the PNG files, or None for none.
        live: names of the figures (see ``figures.FIGURES``) of an iteration.
        share: most of the time that drawing may take.
    """

    def __init__(
        self, plots: Path | None = None, live: Sequence[str] = LIVE, share: float = 0.1
    ) -> None:
        self.plots = plots
        self.live = tuple(live)
        self.share = share
        self.seconds: list[float] = []
        self._rested = time.perf_counter()
        self._drawn: tuple[IterationResult, tuple[str, ...]] | None = None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        result = getattr(pl_module, "result", None)
        if trainer.is_global_zero and result is not None:
            self._report(trainer, result, tuple(FIGURES) if result.final else self._affordable())

    def _affordable(self) -> tuple[str, ...]:
        """The live figures, if drawing them again takes no more than its share of the time since they were drawn last."""
        cost = self.seconds[-1] if self.seconds else FIRST_GUESS
        return self.live if cost <= self.share * (time.perf_counter() - self._rested) else ()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        result = getattr(pl_module, "result", None)
        if trainer.is_global_zero and result is not None:
            self._report(trainer, result, tuple(FIGURES))

    def _report(self, trainer: Trainer, result: IterationResult, names: tuple[str, ...]) -> None:
        again = self._drawn is not None and self._drawn[0] is result
        missing = tuple(n for n in names if not again or n not in self._drawn[1])
        if again and not missing:
            return
        start = time.perf_counter()
        pictures = draw(result, missing)
        if self.plots is not None:
            write_pictures(pictures, self.plots)
        loggers = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        for writer in (logger.experiment for logger in loggers):
            if self._drawn is None:
                writer.add_custom_scalars(_LAYOUT)
            if again:
                add_pictures(writer, pictures, result.iteration)
                writer.flush()
            else:
                write_iteration(writer, result, pictures)
        self._drawn = (result, names)
        if names:
            self._rested = time.perf_counter()
            self.seconds.append(self._rested - start)
