"""What ``sharpen`` leaves: maps, figures, summary."""

from __future__ import annotations

from pathlib import Path

from cryotorch.data.mrc import write_volume
from cryotorch.jobs.fsc.mask import mask_summary
from cryotorch.jobs.inputs.half_maps import HalfMaps
from cryotorch.jobs.resolution_map.results import Shown, write_local
from cryotorch.jobs.sharpening.settings import Sharpen
from cryotorch.jobs.sharpening.sharpen_maps import Sharpened
from cryotorch.ops.resolution.fsc import THRESHOLD
from cryotorch.report.curves import fsc_figure, guinier_figure
from cryotorch.report.figures import write_pictures
from cryotorch.report.maps import sharp_name, slice_figure
from cryotorch.report.sentences import in_summary, say
from cryotorch.report.style import render
from cryotorch.report.summary import provenance, write_json
from cryotorch.results import told

PICTURED = 4  # sharpened maps that slices.png has room for


def file_name(bfactor: float, alone: bool) -> str:
    """Of the map sharpened with a B-factor."""
    return "map_sharp.mrc" if alone else f"map_sharp_B{bfactor:g}.mrc"


def write(folder: Path, found: Sharpened, halves: HalfMaps, guinier_map: str) -> None:
    """The maps and the figures."""
    pixel_size, corner = halves.pixel_size, halves.corner
    box, alone = len(found.mean), len(found.maps) == 1
    for bfactor, volume in found.maps.items():
        write_volume(folder / file_name(bfactor, alone), volume, pixel_size, corner)
    if found.mask_file is None:
        write_volume(folder / "mask_fsc.mrc", found.mask, pixel_size, corner)
    rows = {"Half maps, mean": found.mean}
    for bfactor, volume in list(found.maps.items())[:PICTURED]:
        name = f"B = {bfactor:.4g} Å²".replace("-", "\N{MINUS SIGN}")
        rows[name if bfactor else sharp_name(bfactor)] = volume
    whole = "Sharpened map" if any(found.maps) else "Filtered map, not sharpened"
    size = f"{box} px of {pixel_size:.4g} Å"
    if len(found.maps) > PICTURED:
        size += f", the first {PICTURED} of {len(found.maps)} B-factors"
    title = f"Fourier shell correlation: {told(found.resolution)}"
    applied = ", ".join(f"{b:.4g}" for b in found.maps).replace("-", "\N{MINUS SIGN}")
    fitted = f"{found.fit.bfactor or 0:.1f}".replace("-", "\N{MINUS SIGN}")
    pictures = {
        "fsc": fsc_figure(
            found.curves,
            found.resolutions,
            box,
            pixel_size,
            title,
            f"Half maps; mask: {found.made}",
            onset=found.onset,
            band=found.band,
        ),
        "guinier": guinier_figure(
            found.fit,
            (found.fit.reason and say(found.fit.reason))
            or f"{guinier_map.capitalize()} mean of the half maps, weighted by the FSC; fitted: {fitted} ± {found.fit.error or 0:.1f} Å²",
            f"Guinier plot: applied B = {applied} Å²",
        ),
        "slices": slice_figure(rows, pixel_size, f"{whole}, {told(found.resolution)}", size),
    }
    rendered = {name: render(figure) for name, figure in pictures.items()}
    if found.local is not None:
        name, volume = next(iter(found.maps.items()))
        shown = Shown(volume, whole.lower(), file_name(name, alone))
        rendered["local_resolution"] = write_local(folder, found.local, shown, pixel_size, corner)
    write_pictures(rendered, folder)


def write_summary(
    folder: Path,
    settings: Sharpen,
    found: Sharpened,
    halves: HalfMaps,
    seconds: dict[str, float],
) -> None:

    fit, alone = found.fit, len(found.maps) == 1
    ends = fit.inverse_d2[fit.used].rsqrt()[[0, -1]].tolist() if fit.used.any() else [None, None]
    other = "whole" if settings.guinier_map == "masked" else "masked"
    summary: dict[str, object] = {
        "resolution": found.resolution,
        "resolutions": found.resolutions,
        "threshold": THRESHOLD,
        "ended_by": found.ended_by or None,
        "bfactor": next(iter(found.maps)) if alone else list(found.maps),
        "bfactor_fitted": fit.bfactor,
        "bfactor_error": fit.error,
        "bfactor_refused": fit.reason and say(fit.reason),
        "guinier": {
            "map": settings.guinier_map,
            "bfactor": fit.bfactor,
            "error": fit.error,
            "intercept": fit.intercept,
            "from": ends[0],
            "to": ends[1],
            "shells": int(fit.used.sum()),
            "refused": fit.reason and say(fit.reason),
            f"bfactor_of_{other}_map": found.other,
        },
        "fsc_weight": settings.fsc_weight,
        "filter": {"resolution": found.filter_resolution, "order": settings.filter_order},
        "local_resolution": found.local and found.local.numbers,
        "maps": [file_name(bfactor, alone) for bfactor in found.maps],
        "mask": mask_summary(found.made, found.mask_file, halves.pixel_size),
        "symmetry": halves.known.symmetry,
        **halves.in_summary,
        **in_summary(found.warnings),
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        **provenance(),
    }
    write_json(folder / "summary.json", summary)
