"""The particles of a run for a page: where they were seen from, and how their numbers are spread."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cryotorch.data.particle_file import ParticleFile, read_particles
from cryotorch.errors import InputError
from cryotorch.ops.geometry.symmetry import point_group
from cryotorch.report import style
from cryotorch.report.page.run_files import RunFiles, number
from cryotorch.report.sphere import bandwidth, smooth_density, sphere_grid, viewing_directions

FILES = ("particles.star", "particles.cs", "truth.star", "selected.star")
MOST_BYTES = 300_000_000  # of a table that is read for the sake of a page
MOST_VIEWS = 2_000_000  # with their copies; of more, every second or third particle shows the same
LONGITUDES, LATITUDES = 120, 60
BINS = 48
# Column -> title and unit. What is positive and spread over decades is shown on a logarithmic axis.
COLUMNS = {
    "cryotorchScale": ("Scale (contrast relative to the mean)", ""),
    "cryotorchRotationSigma": ("Uncertainty of the rotation", "°"),
    "cryotorchShiftSigma": ("Uncertainty of the shift", "Å"),
    "cryotorchRotationChange": ("Rotation from the start", "°"),
    "cryotorchShiftChange": ("Shift from the start", "Å"),
    "cryotorchNoiseFactor": ("Loudness of the noise (relative to the mean)", ""),
    "rlnMaxValueProbDistribution": ("Probability of the best pose", ""),
    "rlnDefocusU": ("Defocus U", "Å"),
}
CLASS, MOST_CLASSES = "rlnClassNumber", 500  # of more, a chart shows nothing
JUNK = "junk"


@dataclass(frozen=True)
class ParticleNumbers:
    """What a page shows of a file of particles: its name, how many, the orientation density, histograms, or why none can be shown."""

    name: str
    count: int = 0
    orientations: dict[str, Any] | None = None
    histograms: tuple[dict[str, Any], ...] = ()
    refused: str = ""


def particles(run: RunFiles) -> ParticleNumbers | None:
    """Of the first file of particles in the folder; None where there is none."""
    sizes = dict(run.files)
    name = next((name for name in FILES if name in sizes), None)
    if name is None:
        return None
    if sizes[name] > MOST_BYTES:
        return ParticleNumbers(name, refused=f"{name} is too large to be drawn here")
    try:
        file = read_particles(run.path / name, need_images=False, need_half_sets=False)
    except (InputError, ValueError, LookupError) as error:
        reason = str(error).replace(str(run.path), str(run.place))
        return ParticleNumbers(name, refused=f"{name} cannot be read: {reason}")
    found = file.particles
    posed = found.has_pose and len(found) > 0
    seen = orientations(found.rotation.numpy(), _symmetry(run)) if posed else None
    return ParticleNumbers(name, len(found), seen, tuple(_histograms(file, run)))


def _symmetry(run: RunFiles) -> str:
    return str(run.summary.get("symmetry") or run.config.get("symmetry") or "C1")


def orientations(rotation: np.ndarray, symmetry: str = "C1") -> dict[str, Any]:
    """Density of viewing directions of rotations (n, 3, 3), each in all its symmetric copies, on a grid of longitude and latitude, as bytes; uniform = 1."""
    try:
        group = point_group(symmetry).numpy()
    except ValueError:
        symmetry, group = "C1", np.eye(3)[None]
    some = rotation[:: max(1, len(rotation) * len(group) // MOST_VIEWS)]
    direction = np.einsum("ni,gij->gnj", viewing_directions(some), group).reshape(-1, 3)
    _, edges, at = sphere_grid(LONGITUDES, LATITUDES)
    sigma = bandwidth(len(rotation))
    density = smooth_density(direction, None, at, sigma).clip(0)
    area = np.diff(np.sin(edges))[:, None] / 2 / LONGITUDES
    density /= max(float((area * density).sum()), 1e-30)  # the smoothing loses some of it
    highest = max(float(density.max()), 1e-6)
    values = np.rint(density / highest * 255).astype(np.uint8)
    text = base64.b64encode(values.tobytes()).decode()
    grid = {"longitudes": LONGITUDES, "latitudes": LATITUDES, "smoothing": float(np.degrees(sigma))}
    return {**grid, "highest": highest, "data": text, "count": len(rotation), "symmetry": symmetry}


def _histograms(file: ParticleFile, run: RunFiles) -> list[dict[str, Any]]:
    table, half = file.tables["particles"], file.particles.half.numpy()
    named = [(f"Half set {'AB'[h]}", half == h, c) for h, c in enumerate(style.HALF_COLOURS)]
    sets = [row for row in named if row[1].any()]
    if len(sets) < 2:
        sets = [("All", np.ones(len(half), bool), style.BLUE)]
    found = []
    for column, (title, unit) in COLUMNS.items():
        if column not in table:
            continue
        try:
            values = table.floats(column)
        except InputError:
            continue
        drawn = histogram(values, sets)
        if drawn is not None:
            found.append({"title": title, "unit": unit, **drawn})
    if CLASS in table:
        drawn = class_counts(table.integers(CLASS, run.place / "particles"), sets, _known(run))
        found += [] if drawn is None else [{"title": "Classes", "unit": "", **drawn}]
    return found


def _known(run: RunFiles) -> dict[int, str]:
    """The classes that the job of a run has made, by number: their names, and which of them is junk."""
    names = {k: str(k) for k in range(1, 1 + len(run.summary.get("classes") or []))}
    return {**names, len(names) + 1: JUNK} if number(run.summary.get(JUNK)) is not None else names


def class_counts(
    classes: np.ndarray, sets: list[tuple[str, np.ndarray, str]], known: Mapping[int, str]
) -> dict[str, Any] | None:
    """How many of each of the ``sets`` (see ``histogram``) are in which class: ``classes`` (n,), with the names that are ``known``; None of one class alone."""
    there = sorted({*known, *np.unique(classes).tolist()})
    if not 2 <= len(there) <= MOST_CLASSES:
        return None
    at = np.searchsorted(there, classes)
    series = [
        {"label": name, "colour": colour, "counts": np.bincount(at[members], minlength=len(there)).tolist()}
        for name, members, colour in sets
    ]  # fmt: skip
    return {"names": [known.get(k, str(k)) for k in there], "series": series}


def histogram(values: np.ndarray, sets: list[tuple[str, np.ndarray, str]]) -> dict[str, Any] | None:
    """Counts of values (n,) for each of the ``sets`` (name, members (n,) bool, colour); None where all values are the same.

    The axis is logarithmic where values spread over more than a decade; its ends hold all but a thousandth, and what lies beyond
    counts in the last bins.
    """
    finite = np.isfinite(values)
    if not finite.any() or np.ptp(values[finite]) == 0:
        return None
    low = float(np.percentile(values[finite], 0.1, method="higher"))
    high = float(np.percentile(values[finite], 99.9, method="lower"))
    high = high if high > low else float(values[finite].max())
    low = low if high > low else float(values[finite].min())
    whole = bool((values[finite] == np.rint(values[finite])).all()) and high - low < BINS
    logarithmic = low > 0 and high > 12 * low and not whole
    if whole:
        edges = np.arange(np.floor(low) - 0.5, np.ceil(high) + 1)
    elif logarithmic:
        edges = np.geomspace(low, high, BINS + 1)
    else:
        edges = np.linspace(low, high, BINS + 1)
    series = []
    for name, members, colour in sets:
        inside = values[members & finite]
        counts = np.histogram(inside.clip(edges[0], edges[-1]), edges)[0]
        middle = float(np.median(inside)) if inside.size else None
        series.append(
            {"label": name, "colour": colour, "counts": counts.tolist(), "median": middle}
        )
    return {"edges": [float(f"{e:.6g}") for e in edges], "log": logarithmic, "series": series}
