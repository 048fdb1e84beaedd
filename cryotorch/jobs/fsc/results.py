"""The results of a validation: the table for the terminal, and the files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from cryotorch.data.mrc import write_volume
from cryotorch.jobs.fsc.mask import GIVEN, mask_summary
from cryotorch.jobs.fsc.validate import STRICTER, Validation
from cryotorch.jobs.inputs.half_maps import HalfMaps
from cryotorch.ops.fourier.filters import low_pass
from cryotorch.ops.resolution.claims import ENDED
from cryotorch.ops.resolution.fsc import THRESHOLD
from cryotorch.report.curves import CURVE_LOOK, fsc_figure
from cryotorch.report.figures import write_pictures
from cryotorch.report.fsc_files import write_fsc_files
from cryotorch.report.job_tensorboard import write_tensorboard
from cryotorch.report.maps import mask_figure
from cryotorch.report.sentences import in_summary, say
from cryotorch.report.style import Picture, render
from cryotorch.report.summary import provenance, write_json
from cryotorch.results import told

if TYPE_CHECKING:
    from cryotorch.jobs.fsc.settings import ValidationFsc


def table(found: Validation) -> list[str]:
    """Curve by curve the resolutions, where one is claimed, and the mask that was used."""
    lines = [f"{'':18}FSC = {THRESHOLD:g}     FSC = {STRICTER:g}"] if found.claims else []
    for name, curve in found.curves.items():
        if found.claims and name in found.resolutions[THRESHOLD]:
            cells = [_cell(curve, t, reached[name]) for t, reached in found.resolutions.items()]
            lines.append(f"{CURVE_LOOK[name][0]:18}{cells[0]:>11}{cells[1]:>14}")
    lines.append(f"Mask: {found.mask}")
    reason = f" ({ENDED[found.ended_by]})" if found.claims else ""
    claim = f"{found.resolution:.2f} Å" if found.claims else "none can be claimed"
    lines.append(f"Resolution: {claim}{reason}")
    return lines


def _cell(curve: Tensor, threshold: float, reached: float) -> str:
    """A resolution; that of the last shell with a sign where the curve ends above the threshold."""
    ends_above = bool((curve[1:] >= threshold).all())
    return f"{'≤ ' if ends_above else ''}{reached:.2f} Å" if math.isfinite(reached) else "none"


def write(folder: Path, found: Validation, halves: HalfMaps, relabelled: bool) -> None:
    """Mask, curves, pictures and TensorBoard run; half maps too when their pixel size was corrected."""
    box, pixel_size, corner = halves.maps.shape[-1], halves.pixel_size, halves.corner
    write_volume(folder / "mask_fsc.mrc", found.mask.mask, pixel_size, corner)
    if relabelled:
        for name, half_map in zip("AB", halves.maps, strict=True):
            write_volume(folder / f"map_half_{name}.mrc", half_map, pixel_size, corner)
    write_fsc_files(folder, found.curves, box, pixel_size, found.band)
    pictures = _pictures(found, halves)
    write_pictures(pictures, folder)
    reached = found.resolutions[THRESHOLD]
    known = {name: value for name, value in reached.items() if math.isfinite(value)}
    scalars = {f"resolution/{name}": value for name, value in known.items()}
    curves = {**found.curves, "noise_band": found.band}
    write_tensorboard(folder / "tensorboard", scalars, pictures, curves)


def _pictures(found: Validation, halves: HalfMaps) -> dict[str, Picture]:
    box, pixel_size = halves.maps.shape[-1], halves.pixel_size
    reached = found.resolutions[THRESHOLD]
    claimed = told(found.resolution)
    curves = fsc_figure(
        found.curves,
        reached,
        box,
        pixel_size,
        f"Fourier shell correlation: {claimed}",
        f"Half maps, FSC = {THRESHOLD:g} or noise; mask: {found.mask}",
        onset=found.onset,
        band=found.band,
    )
    # finer than the half maps agree there is noise only, which would hide the density
    mean = low_pass(
        halves.maps.mean(0), pixel_size, max(box * pixel_size / found.last, 2 * pixel_size)
    )
    masks = {"FSC mask": found.mask.mask.cpu()}
    if found.mask.tightened:
        masks = {"Before tightening": found.first.mask.cpu(), **masks}
    over = mask_figure(mean, masks, pixel_size, "The mask over the mean of the half maps")
    return {"fsc": render(curves), "mask": render(over)}


def write_summary(
    folder: Path,
    found: Validation,
    halves: HalfMaps,
    settings: ValidationFsc,
    extras: Mapping[str, object],
) -> None:
    """``summary.json``: everything that a person, a script or a deposition asks for."""
    box, pixel_size, last = halves.maps.shape[-1], halves.pixel_size, found.last
    random = found.onset <= box // 2
    summary = {
        "resolution": found.resolution,
        "resolutions": found.resolutions[THRESHOLD],
        "threshold": THRESHOLD,
        "ended_by": found.ended_by or None,
        f"resolutions_at_{STRICTER:g}": found.resolutions[STRICTER],
        "limited_by_nyquist": last == box // 2 if found.claims else None,
        "random_phases": {
            "from_shell": found.onset if random else None,
            "from_resolution": box * pixel_size / found.onset if random else None,
            "fsc_at_resolution": float(found.curves["randomised"][last]) if found.claims else None,
        },
        "mask": _mask_summary(found, settings, pixel_size),
        "symmetry": found.known.symmetry,
        "shells": {"shared": found.known.shared, "inserted": found.known.inserted},
        **halves.in_summary,
        "pixel_size_corrected": settings.pixel_size is not None,
        **in_summary(found.warnings),
        **extras,
        **provenance(),
    }
    write_json(folder / "summary.json", summary)


def _mask_summary(
    found: Validation, settings: ValidationFsc, pixel_size: float
) -> dict[str, object]:
    mask, generated = found.mask, found.mask.kind == "generated"
    file = settings.mask if mask.kind in GIVEN else None
    return mask_summary(mask, file, pixel_size) | {
        "threshold": settings.threshold if generated else None,
        "relative_threshold": settings.relative_threshold if generated else None,
        "tightened": mask.tightened,
        "tightening_ended": mask.reason and say(mask.reason),
        "candidates": [candidate._asdict() for candidate in mask.candidates],
    }
