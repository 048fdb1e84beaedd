"""What volume tools print and write: the map or mask, its numbers, its picture."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import torch
from torch import Tensor

from cryotorch.data.moved_model import is_cif, write_moved_model
from cryotorch.data.mrc import write_volume
from cryotorch.findings import Finding
from cryotorch.jobs.fsc.mask import WIDEST
from cryotorch.jobs.inputs.masks import HARD, SOFT
from cryotorch.jobs.volume.fitted import Fitted
from cryotorch.jobs.volume.inputs import Work
from cryotorch.jobs.volume.settings import VolumeTools
from cryotorch.ops.geometry.placement import centre_of_mass
from cryotorch.ops.masks.soft import edge_width, high_percentile
from cryotorch.report.figures import write_pictures
from cryotorch.report.maps import mask_figure, slice_figure
from cryotorch.report.segments import segment_figure
from cryotorch.report.sentences import in_summary
from cryotorch.report.style import Picture, render
from cryotorch.report.summary import provenance, write_json

log = logging.getLogger("cryotorch")
# Å³ per Da of protein: partial specific volume 0.73 cm³/g = 0.73e24 / 6.022e23.
VOLUME_PER_DALTON = 1.21
# Width of a soft edge by resolution: narrower ones disturb the Fourier shells at that resolution; none need be wider than WIDEST.
EDGE_PER_RESOLUTION = 5
# Part of the high density above which a volume counts for its centre of mass: below lie solvent in a map, ripples in
# the density of a model.
BACKGROUND = {"map": 0.2, "model": 0.02, "mask": 0.02}
LISTED_SEGMENTS = 20  # segments listed in the log


def write(folder: Path, work: Work, settings: VolumeTools, started: float) -> None:
    """Everything but the settings into a folder, and the numbers into the log."""
    as_map = work.mask is None or settings.write == "map"
    result = work.volume if work.mask is None else work.mask
    if as_map and work.mask is not None:
        result = work.volume * work.mask
        work.did("Multiplied the map by the mask")
    name = "map.mrc" if as_map else "mask.mrc"
    place = _centre(work)
    numbers = _numbers(work, result, place, settings)
    for line in _segment_lines(work):
        log.info("%s", line)
    write_volume(folder / name, result, work.pixel_size, work.corner)
    if work.fitted is not None:
        _write_fit(folder, work.fitted)
    pictures = {"slices": _picture(work, name, result, place)}
    if work.labels is not None:
        write_volume(folder / "segments.mrc", work.labels.float(), work.pixel_size, work.corner)
        through = _voxel(work, place)
        title = f"{len(work.segments)} segments, {len(work.kept)} kept"
        cut = segment_figure(work.volume, work.labels, work.kept, work.pixel_size, title, through)
        pictures["segments"] = render(cut)
    write_pictures(pictures, folder)
    summary = {
        "result": name,
        "input": settings.volume,
        "read_as": work.kind,
        "box": work.box,
        "pixel_size": work.pixel_size,
        "corner": work.corner,
        **numbers,
        **({} if work.fitted is None else {"fit": work.fitted.json}),
        "steps": work.steps,
        **in_summary(work.warnings),
        "device": str(work.volume.device),
        "seconds": {"total": round(time.perf_counter() - started, 3)},
        **provenance(),
    }
    write_json(folder / "summary.json", summary)


def _write_fit(folder: Path, fitted: Fitted) -> None:
    """The motion, and an atomic model that made it."""
    write_json(folder / "fit.json", fitted.json)
    if fitted.model:
        name = "fitted.cif" if is_cif(fitted.source) else "fitted.pdb"
        write_moved_model(fitted.source, folder / name, fitted.matrix, fitted.translation)
        log.info("The whole model in its new place: %s", name)


def _centre(work: Work) -> Tensor:
    """Centre of mass (x, y, z) in voxels from the corner: of the mask, else of the density above the background."""
    if work.mask is not None:
        return centre_of_mass(work.mask)
    density = work.volume.clamp(min=0)
    background = BACKGROUND[work.kind] * high_percentile(density)
    density = torch.where(density > background, density, 0.0)
    # a map without density above zero has its centre in the middle
    return centre_of_mass(density if bool(density.any()) else torch.ones_like(density))


def _numbers(work: Work, result: Tensor, place: Tensor, settings: VolumeTools) -> dict:
    """The numbers for summary.json, each said in the log as well."""
    voxel, said = work.pixel_size**3, dict[str, object]()
    angstrom = place * work.pixel_size + torch.tensor(work.corner, dtype=place.dtype)
    wide = result.double()
    said["values"] = {
        "min": float(result.min()),
        "max": float(result.max()),
        "mean": float(wide.mean()),
        "std": float(wide.std(correction=0)),
    }
    if work.mask is not None:
        count, share = int((work.mask > 0.5).sum()), float(work.mask.double().mean())
        region = count if work.region is None else int(work.region.sum())
        # the outside of a molecule is none
        mass = None if settings.invert else region * voxel / VOLUME_PER_DALTON / 1000
        width = edge_width(work.mask)
        said["mask"] = {
            "voxels": count,
            "volume": count * voxel,
            "fraction_of_box": share,
            "voxels_above_threshold": region,
            "protein_mass_kda": mass,
            "edge_width": width,
        }
        said_mass = (
            f"; {_subject(work)} has room for about {_short(mass)} kDa of protein" if mass else ""
        )
        log.info(
            "Mask: %d voxels above 0.5, %.4g Å³; mean %.1f%% of the box%s",
            *(count, count * voxel, 100 * share, said_mass),
        )
        _softness(work, width, settings)
        _at_border(work)
    else:
        log.info(
            "Map: values %.4g to %.4g, mean %.4g, standard deviation %.4g", *said["values"].values()
        )
    log.info(
        "Centre of mass (as a fulcrum): %.2f, %.2f, %.2f voxels from the corner (x, y, z), %s %.2f, %.2f, %.2f Å",
        *(
            *place.tolist(),
            "in ChimeraX" if any(work.corner) else "that is",
            *(round(v, 2) + 0.0 for v in angstrom.tolist()),
        ),
    )
    said["centre_of_mass"] = {"voxels": place, "angstrom": angstrom}
    if work.labels is not None:
        said["segments"] = [
            {
                **segment._asdict(),
                "volume": segment.voxels * voxel,
                "kept": segment.label in work.kept,
            }
            for segment in work.segments
        ]
    return said


def _subject(work: Work) -> str:
    """What the voxels are that the mass is counted from."""
    if work.region is None:
        return "it"
    return "what lies above the threshold" if work.given.threshold is not None else "the mask read"


def _short(value: float) -> str:
    """Three digits at least, and no power of ten."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _softness(work: Work, width: float, settings: VolumeTools) -> None:
    """Whether the soft edge suits the resolution, as far as that is known."""
    # that of a model's density says nothing about the map that the mask is for
    pixel_size, finest = work.pixel_size, None if work.kind == "model" else settings.resolution
    if width < HARD:
        need = SOFT if finest is None else _edge(finest)
        work.warn(Finding("mask_made_hard", soften=need))
        return
    wide = width * pixel_size
    said = f"Soft edge: about {width:.1f} voxels ({wide:.1f} Å)"
    log.info("%s; five times the resolution is advised, %g Å at most", said, WIDEST)
    if finest is not None and wide < 0.9 * _edge(finest):
        need = _edge(finest)
        work.warn(Finding("mask_edge_narrow", resolution=finest, soften=need))


def _edge(finest: float) -> float:
    """The soft edge, Å, for maps of this resolution."""
    return min(float(round(EDGE_PER_RESOLUTION * finest)), WIDEST)


def _at_border(work: Work) -> None:
    mask = work.mask
    faces = [mask.select(axis, place) for axis in range(3) for place in (0, -1)]
    if max(float(face.max()) for face in faces) > 0.05 and float(mask.mean()) < 0.5:
        work.warn(Finding("mask_at_border"))


def _segment_lines(work: Work) -> list[str]:
    """The table of segments for the log."""
    if work.labels is None:
        return []
    lines = ["segment   voxels       Å³     kDa   centre (x, y, z), voxels     highest"]
    for segment in work.segments[:LISTED_SEGMENTS]:
        volume = segment.voxels * work.pixel_size**3
        x, y, z = segment.centre
        mark = " kept" if segment.label in work.kept else ""
        lines.append(
            f"{segment.label:7d} {segment.voxels:8d} {volume:8.4g} {volume / VOLUME_PER_DALTON / 1000:7.1f}   "
            f"{x:7.1f} {y:7.1f} {z:7.1f}   {segment.peak:10.4g}{mark}"
        )
    if len(work.segments) > LISTED_SEGMENTS:
        lines.append(
            f"    and {len(work.segments) - LISTED_SEGMENTS} smaller ones, see summary.json"
        )
    return lines


def _voxel(work: Work, place: Tensor) -> tuple[int, int, int]:
    return tuple(round(c) for c in place.clamp(0, work.box - 1).tolist())


def _picture(work: Work, name: str, result: Tensor, place: Tensor) -> Picture:
    """Slices through the centre of mass; a model's over the map whose grid it was put on."""
    through = _voxel(work, place)
    title = f"{name}: slices through {through}"
    if work.mask is None:
        volumes = {"Map" if work.fitted is None else "Fitted": result.cpu()}
        if work.background is not None:
            volumes["Map of like" if work.fitted is None else "Reference"] = work.background
        subtitle = f"{work.box} voxels of {work.pixel_size:.4g} Å"
        return render(slice_figure(volumes, work.pixel_size, title, subtitle, through))
    below = work.volume if work.background is None else work.background
    masks = {"Mask": work.mask.cpu()}
    return render(mask_figure(below.cpu(), masks, work.pixel_size, title, through))
