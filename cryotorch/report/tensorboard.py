"""TensorBoard: what can be watched while a refinement runs.

Steps are iteration numbers. TensorBoard gives a run one colour, so the resolution under each mask is a run of its own, named by
the mask: a chart shows them together, told apart by colour, with their names beside it. It keeps 10 images and meshes per tag
unless it is started with ``--samples_per_plugin images=200,mesh=200,text=200``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter

from cryotorch.report.figures import FIGURES, OPTIONAL, draw, write_pictures
from cryotorch.report.job_tensorboard import add_pictures, add_settings
from cryotorch.report.mesh import Mesh, isosurface
from cryotorch.report.sentences import line
from cryotorch.report.style import Picture
from cryotorch.report.summary import median, seconds_of
from cryotorch.results import IterationResult

FIRST_GUESS = 0.3  # seconds that drawing a figure takes, before it is known
ALWAYS = "fsc"  # the figure of every iteration, however short
MAP = "map, from red near its middle to blue far from it"  # TensorBoard shows the tag above the surface
FIELD, MARGIN = (
    40,
    1.08,
)  # degrees from the lower to the upper edge of the view; room around the map
BY_MASK = "resolution_by_mask"
RUNS = {
    "no_mask": "no_mask",
    "spherical": "spherical_mask",
    "loose": "loose_mask",
    "tight": "tight_mask",
    "corrected": "corrected",
}
# Charts of a value with margins, which are the value itself: so it is drawn as it is. Of a chart of the usual kind TensorBoard leaves
# out the first iterations, as outliers, and smooths the rest. It shows the last chart first.
_CHARTS = {
    "Seconds left, at most": "seconds_left/most",
    "Seconds of an iteration": "seconds/total",
    "Uncertainty of the rotation (°), median": "uncertainty/rotation_deg",
    "Shift change (Å), median": "change/shift_A",
    "Rotation change (°), median": "change/rotation_deg",
    "Resolution (Å), a colour for each mask": BY_MASK,
}
_LAYOUT = {"Refinement": {title: ["Margin", [tag] * 3] for title, tag in _CHARTS.items()}}
READING = """*Custom scalars*: a colour for each mask, by the names of the runs. *Scalars* and *Time series* draw other numbers than there are and
leave the first ones out until *Smoothing* is 0 and *Ignore outliers* unticked, which are TensorBoard's defaults: the address
`http://localhost:6006/?smoothing=0#timeseries` begins without smoothing. *Images* has all FSC curves of an iteration in one figure with an
axis in Å, and the resolution of all iterations; the other figures are drawn as far as that takes a twentieth of the time, in quick runs only at
the end. *HPARAMS*, of a sweep's folder, is its table. *Mesh*: the map at 22 % of its high
density, inside the FSC mask; the colour is the distance from the middle of the box, red near it, blue far from it."""
_MATERIAL = {
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
    found["sharpening/bfactor"] = result.guinier.applied
    if result.time_left is not None:
        ends = zip(("least", "most"), result.time_left.seconds, strict=True)
        found |= {f"seconds_left/{name}": seconds for name, seconds in ends}
    if result.guinier.bfactor is not None:
        found["sharpening/bfactor_fitted"] = result.guinier.bfactor
    known = ("iteration", "resolution", "rotation_change", "shift_change")
    last = result.history[-1] if result.history else {}
    news = (n for n in last if n not in known and not n.startswith("seconds"))
    found |= {f"progress/{name}": last[name] for name in news}
    return {tag: float(value) for tag, value in found.items() if math.isfinite(value)}


def write_iteration(
    writer: SummaryWriter, result: IterationResult, pictures: Mapping[str, Picture]
) -> None:
    """Write scalars, images, the surface and the messages of an iteration, and flush."""
    step = result.iteration
    for tag, value in scalars(result).items():
        writer.add_scalar(tag, value, step)
    add_pictures(writer, pictures, step)
    write_surface(writer, result)
    left = [n for n in FIGURES if n not in (*pictures, *OPTIONAL)]
    said = [line(message) for message in result.messages]
    if left:
        said.append(f"figures that would have slowed the run down, not drawn: {', '.join(left)}")
    if said:
        writer.add_text("messages", "\n".join(f"* {text}" for text in said), step)
    writer.flush()


def write_surface(writer: SummaryWriter, result: IterationResult) -> None:
    """Add the map as a mesh, when it has a surface."""
    mesh = isosurface(result.map, result.mask_fsc, result.pixel_size)
    if mesh is None:
        return
    vertices, faces, colours = (torch.from_numpy(part)[None] for part in mesh)
    config = {**_MATERIAL, "camera": camera(mesh)}
    writer.add_mesh(MAP, vertices, colours, faces, config, global_step=result.iteration)


def camera(mesh: Mesh) -> dict[str, object]:
    """On the z axis of the map, as near as all of it can be seen: |y| <= tan(field / 2) (distance - z) for each vertex."""
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    middle = (low + high) / 2
    across = np.abs(mesh.vertices - middle)[:, :2].max(1)
    slope = math.tan(math.radians(FIELD / 2)) / MARGIN
    distance = float((mesh.vertices[:, 2] + across / slope).max())
    place = [float(middle[0]), float(middle[1]), distance]
    return {
        **{"cls": "PerspectiveCamera", "fov": FIELD, "position": place},
        **{"lookAt": middle.tolist(), "near": 1, "far": 10 * abs(distance)},
    }


class TensorBoardReport(Callback):
    """Draws ``pl_module.result`` (an ``IterationResult``) after each iteration, on rank 0.

    The FSC is drawn after every iteration, the other figures as far as drawing takes no more than its share of the time, those first that
    were not drawn for longest; at the end all, once for the PNG files and for TensorBoard. Without a ``TensorBoardLogger`` only the
    files are written.

    Args:
        plots: folder of the PNG files, or None for none; settings are shown that lie beside it.
        share: most of the time that drawing may take before the end.
    """

    def __init__(self, plots: Path | None = None, share: float = 0.05) -> None:
        self.plots = plots
        self.share = share
        self.seconds: list[float] = []
        self.costs: dict[str, float] = {}  # seconds of the figures when they were drawn last
        self._drawn_at: dict[str, int] = {}
        self._started = time.perf_counter()
        self._drawn: tuple[IterationResult, tuple[str, ...]] | None = None
        self._masks: dict[str, SummaryWriter] = {}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        result = getattr(pl_module, "result", None)
        if trainer.is_global_zero and result is not None:
            self._report(trainer, result, tuple(FIGURES) if result.final else self._affordable())

    def _affordable(self) -> tuple[str, ...]:
        """The figure that is always drawn, and those for which there is time."""
        elapsed = time.perf_counter() - self._started
        left = self.share * elapsed - sum(self.seconds) - self.costs.get(ALWAYS, FIRST_GUESS)
        chosen = [ALWAYS]
        for name in sorted(FIGURES, key=lambda name: self._drawn_at.get(name, 0)):
            cost = self.costs.get(name, FIRST_GUESS)
            if name != ALWAYS and cost <= left:
                chosen.append(name)
                left -= cost
        return tuple(chosen)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        result = getattr(pl_module, "result", None)
        if trainer.is_global_zero and result is not None:
            self._report(trainer, result, tuple(FIGURES))
        for writer in self._masks.values():
            writer.close()

    def _report(self, trainer: Trainer, result: IterationResult, names: tuple[str, ...]) -> None:
        again = self._drawn is not None and self._drawn[0] is result
        missing = tuple(n for n in names if not again or n not in self._drawn[1])
        if again and not missing:
            return
        start = time.perf_counter()
        pictures = self._draw(result, missing)
        if self.plots is not None:
            write_pictures(pictures, self.plots)
        loggers = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        for writer in (logger.experiment for logger in loggers):
            if self._drawn is None:
                writer.add_custom_scalars(_LAYOUT)
                writer.add_text("how to read this", READING, 0)
                add_settings(writer, self.plots and self.plots.parent)
            if again:
                add_pictures(writer, pictures, result.iteration)
                writer.flush()
            else:
                write_iteration(writer, result, pictures)
                self._write_by_mask(Path(writer.log_dir), result)
        self._drawn = (result, names)
        self.seconds.append(time.perf_counter() - start)

    def _draw(self, result: IterationResult, names: tuple[str, ...]) -> dict[str, Picture]:
        pictures = {}
        for name in names:
            start = time.perf_counter()
            pictures |= draw(result, [name])
            self.costs[name] = time.perf_counter() - start
            self._drawn_at[name] = result.iteration
        return pictures

    def _write_by_mask(self, folder: Path, result: IterationResult) -> None:
        """The resolution of every curve, each into a run of its own."""
        known = {n: r for n, r in result.resolutions.items() if n in RUNS and math.isfinite(r)}
        for name, value in known.items():
            if name not in self._masks:
                self._masks[name] = SummaryWriter(str(folder / RUNS[name]))
            self._masks[name].add_scalar(BY_MASK, value, result.iteration)
            self._masks[name].flush()
