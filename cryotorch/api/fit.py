"""Maps and atomic models fitted onto a map."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from cryotorch.api.calls import checked
from cryotorch.api.inputs import MapLike, Saved, files_of, saver, settings_of
from cryotorch.jobs.config.parse import require
from cryotorch.report.sentences import said

if TYPE_CHECKING:
    from cryotorch.jobs.volume.fitted import Fitted


@dataclass(frozen=True, eq=False)
class FitResult(Saved):
    """A map, or the density of a model, in its place on another map; ``found`` holds the fit.

    Attributes:
        map: (d, d, d) on the reference's grid; pixel_size: Å, of that.
        matrix: (3, 3) float64 and translation: (3,) float64, Å: x_reference = matrix x + translation in the coordinates of the files.
        mirrored: whether it is the map's other hand, det matrix = -1 then.
        correlation: with the reference, all shells alike; other_hand: of the other hand, None where it was not tried.
        warnings: what to look at, another fit that is about as good for example.
    """

    map: Tensor
    pixel_size: float
    matrix: Tensor
    translation: Tensor
    mirrored: bool
    correlation: float
    other_hand: float | None
    warnings: list[str]
    found: Fitted


@checked
def fit_map(
    volume: MapLike, fit: MapLike, pixel_size: float | None = None, **settings: Any
) -> FitResult:
    """A map, or an atomic model by its file, fitted onto another map: ``job=volume_tools`` with ``fit``.

    Args:
        fit: the map that it is fitted onto; pixel_size: Å, of maps in memory that are no ``Map``.
        settings: ``fit_resolution``, ``fit_hand``, ``select`` and the others of that job.

    Raises:
        InputError: a parameter, map or model cannot be used, or holds no density.
    """
    from cryotorch.jobs import volume_tools as job
    from cryotorch.jobs.inputs.device import pick_device
    from cryotorch.jobs.volume.fit import load
    from cryotorch.jobs.volume.results import write
    from cryotorch.jobs.volume.steps import edit

    started = time.perf_counter()
    with files_of(pixel_size) as named:
        paths = {"volume": named("volume", volume), "fit": named("fit", fit)}
        given = settings_of("volume_tools", settings | paths)
        require(given.volume is not None, "volume", None, "give a map or the file of a model")
        require(given.fit is not None, "fit", None, "give the map to fit onto")
        work = edit(load(given, pick_device(given.device)), given)
        fitted = work.fitted
        assert fitted is not None
        source, reference = (named.in_words(name) for name in (fitted.source, fitted.reference))
        work.fitted = fitted = replace(fitted, source=source, reference=reference)
        work.warnings = named.in_findings(work.warnings)
        work.steps = [named.in_words(step) for step in work.steps]
        given = named.forget(given)

    def write_all(given: Any, folder: Path) -> None:
        write(folder, work, given, started)

    return FitResult(
        work.volume.cpu(),
        work.pixel_size,
        fitted.matrix,
        fitted.translation,
        fitted.found.mirrored,
        fitted.found.correlation,
        fitted.mirror,
        said(work.warnings),
        fitted,
        _save=saver(given, job.FILES, write_all),
    )
