"""The results of orientation diagnostics: lines for the terminal, the page, the curves and the summary."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cryotorch.data.files import replace_file
from cryotorch.data.mrc import write_volume
from cryotorch.jobs.fsc.mask import mask_summary
from cryotorch.jobs.inputs.half_maps import HalfMaps
from cryotorch.jobs.orientation.diagnose import EVEN_CFAR, EVEN_SCF, Diagnosis
from cryotorch.ops.resolution.claims import ENDED
from cryotorch.ops.resolution.conical_fsc import curve_area, limits
from cryotorch.ops.resolution.fsc import THRESHOLD
from cryotorch.report.figures import write_pictures
from cryotorch.report.job_tensorboard import write_tensorboard
from cryotorch.report.orientation import band_figure, resolution_figure, sampling_figure
from cryotorch.report.orientation_page import Page, Score, page_picture
from cryotorch.report.poses import viewing_figure
from cryotorch.report.sentences import in_summary, said, say
from cryotorch.report.style import Picture, render
from cryotorch.report.summary import provenance, write_json
from cryotorch.results import told

if TYPE_CHECKING:
    from cryotorch.jobs.orientation.settings import OrientationDiagnostics

KIND = "with the mask, not corrected for it"  # of all but the resolution that is claimed
EXPLANATIONS = (
    "cFAR, the conical FSC area ratio: the FSC of the masked half maps within double cones around each direction; the area of a "
    f"curve is the sum of FSC(s) s² over the shells s before the first with FSC ≤ {THRESHOLD:g} or within noise (the shells 1 to 3 do not end "
    f"it); cFAR = smallest / largest area. Below {EVEN_CFAR:g} the resolution depends on the direction.",
    "SCF*, the sampling compensation factor (Baldwin & Lyumkis 2020 and 2021): with s(u) the slices through point u of a Fourier "
    "sphere, 1 / SCF* = <s> (Σ 1/s + n₀/2) / (n − n₀), n₀ of n points without any. 1 for uniform views, 8/π² = 0.81 for pure side "
    "views, less for worse. It sees the poses only: a junk particle counts like a good one.",
    "Noise: a cone holds few of a shell's numbers, so that noise alone correlates there, up to the grey band in the figure (3 standard errors, "
    f"with mask and symmetry). A direction's resolution is where its curve falls below {THRESHOLD:g} or into that band, whichever comes first, and a "
    "direction whose curve never leaves the band has none. So is that of all directions together, which they are to be held against.",
    f"Corrected and not: the curves of directions, and of all together, are {KIND}. What the mask itself correlates (random phases) is taken "
    "off one curve of whole shells only, that of job=validation_fsc, and its resolution alone is one to claim. Where it is much coarser than that of "
    "all directions together, it is the mask that correlates, in the cones too.",
    "Chance lowers both scores: few coefficients lie in the cones of a small box, and few slices of few particles pass a point. "
    "Compare scores of the same box, cone angle, mask, radius and number of particles only.",
)


def table(found: Diagnosis) -> list[str]:
    """The scores and the directional resolution, for the terminal."""
    lines = ["cFAR: none"]
    if found.cfar is not None:
        best, median, worst = map(told, _resolutions(found).values())
        spread = f"Resolution by direction: {best} to {worst}, median {median}; of all together {told(found.together)} ({KIND})"
        lines = [f"Resolution: {_claimed(found)}", f"cFAR: {found.cfar:.2f}"]
        lines = [spread, *lines] if found.claims else lines
    if found.sampling is not None:
        lines[-1] += f"     SCF*: {found.sampling.scf_star:.2f}"
        lines[-1] += f" ({found.sampling.unsampled:.1%} of the sphere without any slice)"
    return [*lines, say(found.reading)]


def _claimed(found: Diagnosis) -> str:
    """What validation_fsc says of the same half maps and mask."""
    if not found.ended_by:
        return "none can be claimed"
    return f"{found.resolution:.2f} Å (corrected for the mask; {ENDED[found.ended_by]})"


def _resolutions(found: Diagnosis) -> dict[str, float]:
    r = found.resolutions
    # the worst is none where a direction never leaves the noise
    return {
        "best": float(r.nan_to_num(math.inf).min()),
        "median": float(r.nanmedian()),
        "worst": float(r.max()),
    }


def write(
    folder: Path, found: Diagnosis, halves: HalfMaps, settings: OrientationDiagnostics
) -> None:
    """Mask, curves, pictures and TensorBoard run."""
    pixel_size = halves.pixel_size
    write_volume(folder / "mask_fsc.mrc", found.mask.mask, pixel_size, halves.corner)
    with replace_file(folder / "conical_fsc.csv") as file:
        file.write(conical_csv(found).encode())
    pictures, page = _pictures(found, halves, settings), _page(found, halves, settings)
    whole = {"orientation_diagnostics": page_picture(page, pictures)}
    write_pictures({**pictures, **whole}, folder)
    scalars = {}
    if found.cfar is not None:
        numbers = _resolutions(found)
        scalars = {f"resolution/{n}": r for n, r in numbers.items() if math.isfinite(r)}
        every = {"all_together": found.together, "corrected": found.resolution}
        scalars |= {f"resolution/{n}": r for n, r in every.items() if math.isfinite(r)}
        scalars["scores/cfar"] = found.cfar
    if found.sampling is not None:
        scalars["scores/scf_star"] = found.sampling.scf_star
    curves = {"overall": found.fsc, "cone_mean": found.curves.mean(0)}
    curves |= {"cone_min": found.curves.amin(0), "cone_max": found.curves.amax(0)}
    curves["cone_noise_band"] = found.band.mean(0)
    write_tensorboard(folder / "tensorboard", scalars, pictures, curves)


def conical_csv(found: Diagnosis) -> str:
    """One row per direction: unit vector, RELION's rot and tilt (°), resolution (Å), area, whether there is next to no power (1) or not (0), and the curve from shell 0 on."""
    x, y, z = found.directions.T.numpy()
    rot, tilt = np.degrees(np.arctan2(y, x)), np.degrees(np.arccos(z.clip(-1, 1)))
    rest = (
        found.resolutions.numpy(),
        curve_area(found.curves, limits(found.band)).numpy(),
        found.empty.numpy(),
    )
    text = StringIO()
    rows = csv.writer(text, lineterminator="\n")
    names = [f"fsc_{shell}" for shell in range(found.curves.shape[1])]
    rows.writerow(["x", "y", "z", "rot", "tilt", "resolution", "area", "empty", *names])
    for first, curve in zip(np.stack([x, y, z, rot, tilt, *rest], 1), found.curves.tolist()):
        rows.writerow([f"{v:.6g}" for v in first] + [f"{v:.5f}" for v in curve])
    return text.getvalue()


def _pictures(
    found: Diagnosis, halves: HalfMaps, settings: OrientationDiagnostics
) -> dict[str, Picture]:
    pixel_size, edge = halves.pixel_size, halves.maps.shape[-1] * halves.pixel_size
    score = "no score" if found.cfar is None else f"cFAR {found.cfar:.2f}"
    cones = f"{len(found.directions):,} pairs of directions, cones of {settings.cone_angle:g}°"
    figures = {
        "conical_fsc": band_figure(
            found.curves,
            found.band.mean(0),
            found.fsc,
            edge,
            pixel_size,
            f"Conical Fourier shell correlation: {score}",
            f"{cones}; {KIND}: {found.mask}",
        ),
    }
    unknown = found.resolutions.isnan()
    if found.cfar is not None and not unknown.all():
        figures["directional_resolution"] = resolution_figure(
            found.directions,
            found.resolutions,
            found.empty | unknown,
            found.together,
            2 * pixel_size,
            f"{cones}, {KIND}; Fourier space along z; angle = rot, circles: latitude 90° − tilt",
        )
    if found.views is not None and found.slices is not None and found.sampling is not None:
        views = found.views
        group = views.group.numpy()
        direction = views.direction.numpy()
        figures["viewing_directions"] = viewing_figure(direction, views.error.numpy(), group)
        figures["sampling"] = sampling_figure(
            found.directions,
            found.slices,
            f"Sampling of Fourier space: SCF* {found.sampling.scf_star:.2f}",
            f"{found.counted:,} particles, symmetry {views.symmetry}, radius {settings.sampling_radius:g} Fourier pixels",
        )
    return {name: render(figure) for name, figure in figures.items()}


def _page(found: Diagnosis, halves: HalfMaps, settings: OrientationDiagnostics) -> Page:
    box, pixel_size = halves.maps.shape[-1], halves.pixel_size
    cfar, sampling, views = found.cfar, found.sampling, found.views
    scores = [Score("cFAR", "none", "the half maps allow no score", False)]
    if cfar is not None:
        good = cfar >= EVEN_CFAR
        scores = [Score("cFAR", f"{cfar:.2f}", f"even from {EVEN_CFAR:g} on", good)]
    facts = {
        "Half maps": " and ".join(str(path) for path in halves.paths or ("tensors",)),
        "Box": f"{box} voxels of {pixel_size:.4g} Å",
        "Mask": str(found.mask) + (f", {found.mask_file}" if found.mask_file else ""),
        "Directions": f"{settings.n_directions:,} (opposite ones are equal), cones of {settings.cone_angle:g}°",
    }
    if sampling is not None and views is not None:
        note = f"even from {EVEN_SCF:g} on"
        good = sampling.scf_star >= EVEN_SCF
        scores.append(Score("SCF*", f"{sampling.scf_star:.2f}", note, good))
        facts["Particles"] = (
            f"{views.path}: {found.counted:,} of {len(views.direction):,} counted, symmetry {views.symmetry}"
        )
        facts["Sampling"] = (
            f"radius {settings.sampling_radius:g} Fourier pixels, {sampling.mean:.1f} slices per point, {sampling.unsampled:.1%} "
            "of the sphere without any"
        )
    if cfar is not None and found.claims:
        best, median, worst = map(told, _resolutions(found).values())
        note = f"median {median}, together {told(found.together)}; uncorrected"
        facts["Curves of directions"] = f"{KIND}, all together {told(found.together)}"
        span = f"{best.removesuffix(' Å')} – {worst}"
        scores.append(Score("Resolution by direction", span, note, None))
        facts["Noise in a cone"] = _noise_in_cones(found, box * pixel_size)
    if cfar is not None:
        facts["Resolution"] = _claimed(found)
    place = halves.folder or (halves.paths[0].parent if halves.paths else None)
    origin = f"Half maps of {place}" if place else "Half maps in memory"
    return Page(origin, scores, say(found.reading), said(found.warnings), facts, EXPLANATIONS)


def _noise_in_cones(found: Diagnosis, edge: float) -> str:
    """What noise may reach where directions end, and how many never leave it."""
    median, unknown = _resolutions(found)["median"], found.resolutions.isnan()
    none = f"{float(unknown.double().mean()):.0%} of the directions never leave it"
    if not math.isfinite(median):
        return none
    shell = min(round(edge / median), found.band.shape[1] - 1)
    return f"up to an FSC of {float(found.band[:, shell].mean()):.2f} at {median:.2f} Å; {none}"


def write_summary(
    folder: Path,
    found: Diagnosis,
    halves: HalfMaps,
    settings: OrientationDiagnostics,
    extras: Mapping[str, object],
) -> None:
    """``summary.json``: the scores, what they rest on, and where the map is worst."""
    box, pixel_size = halves.maps.shape[-1], halves.pixel_size
    sampling, views = found.sampling, found.views
    counted = None
    if sampling is not None and views is not None:
        counted = {
            "particles_file": str(views.path.resolve()),
            "particles": len(views.direction),
            "counted": found.counted,
            "symmetry": views.symmetry,
            "radius": settings.sampling_radius,
            "slices_per_point": sampling.mean,
            "unsampled": sampling.unsampled,
        }
    summary = {
        "cfar": found.cfar,
        "scf_star": None if sampling is None else sampling.scf_star,
        "reading": say(found.reading),
        "even_from": {"cfar": EVEN_CFAR, "scf_star": EVEN_SCF},
        **_of_directions(found, box * pixel_size),
        "unresolved_directions": float(found.resolutions.isnan().double().mean())
        if found.claims
        else None,
        "empty_directions": float(found.empty.double().mean()),
        "threshold": THRESHOLD,
        "cone_angle": settings.cone_angle,
        "n_directions": settings.n_directions,
        "sampling": counted,
        "mask": mask_summary(found.mask, found.mask_file, pixel_size),
        "facts": _page(found, halves, settings).facts,
        "explanations": EXPLANATIONS,
        **halves.in_summary,
        **in_summary(found.warnings),
        **extras,
        **provenance(),
    }
    write_json(folder / "summary.json", summary)


def _of_directions(found: Diagnosis, edge: float) -> dict[str, object]:
    """Resolutions in Å, the direction of the worst in degrees, and the resolutions of whole shells; null without a score."""
    names = ("directional_resolution", "worst_direction", "resolution_all_together", "resolution")
    if found.cfar is None or not found.claims:
        return {name: None for name in names}
    x, y, z = found.directions[int(found.resolutions.argmax())].tolist()
    worst = {"rot": math.degrees(math.atan2(y, x)), "tilt": math.degrees(math.acos(z))}
    values = (_resolutions(found), worst, found.together, found.resolution)
    kinds = {"directional": KIND, "all_together": KIND, "resolution": "corrected for the mask"}
    return {
        **dict(zip(names, values, strict=True)),
        "ended_by": found.ended_by or None,
        "kinds": kinds,
    }
