"""All figures of an iteration: which exist, drawn once and handed to files and TensorBoard alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from matplotlib.figure import Figure

from cryotorch.data.files import replace_file
from cryotorch.report import curves, local_resolution, maps, poses
from cryotorch.report.style import Picture, render
from cryotorch.results import IterationResult

FIGURES: dict[str, Callable[[IterationResult], Figure]] = {
    "fsc": curves.fsc,
    "slices": maps.slices,
    "mask": maps.masks,
    "orientations": poses.orientations,
    "resolution": curves.progress,
    "guinier": curves.guinier,
    "noise": curves.noise,
    "scales": poses.scales,
    "poses": poses.pose_changes,
    "departures": poses.departures,
    "cutoff": local_resolution.cutoff,
}
OPTIONAL = ("departures", "cutoff")  # of what only some refinements have, under the same name


def draw(result: IterationResult, names: Iterable[str] = tuple(FIGURES)) -> dict[str, Picture]:
    """The named figures, drawn, as far as the result has what they show."""
    known = (n for n in names if n not in OPTIONAL or getattr(result, n) is not None)
    return {name: render(FIGURES[name](result)) for name in known}


def write_pictures(pictures: dict[str, Picture], folder: Path) -> list[Path]:
    """Write each picture as ``<name>.png``, atomically, over an older one."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.png" for name in pictures]
    for path, picture in zip(paths, pictures.values(), strict=True):
        with replace_file(path) as file:
            file.write(picture.png)
    return paths
