"""Places that the user names, in voxels or Å: spheres to erase or keep, points in segments."""

from __future__ import annotations

import torch
from torch import Tensor

from cryotorch.errors import InputError
from cryotorch.jobs.config.parse import shown
from cryotorch.jobs.inputs.map_grid import point_text
from cryotorch.jobs.volume.inputs import Work
from cryotorch.jobs.volume.settings import VolumeTools, rows
from cryotorch.ops.masks import morphology


def cut_spheres(work: Work, settings: VolumeTools) -> None:
    """Set the inside or the outside of spheres to zero."""
    edge = settings.sphere_edge / work.pixel_size
    within_the_box(work, "sphere_edge", edge)
    for name, verb in (("erase", "Erased"), ("keep", "Kept what lies in")):
        table = in_voxels(work, rows(getattr(settings, name)))
        if not len(table):
            continue
        try:
            inside = morphology.spheres(work.box, table, edge, work.volume.device)
        except ValueError as error:
            raise misplaced(work, name, getattr(settings, name), error) from None
        work.volume = work.volume * (inside if name == "keep" else 1 - inside)
        said = "; ".join(_sphere(work, *row) for row in table.tolist())
        work.did(f"{verb} {len(table)} sphere{'s' if len(table) > 1 else ''}: {said}")
        if not bool(work.volume.any()):
            raise InputError(
                f"{name}={getattr(settings, name)} leaves nothing of the volume: check the coordinates"
            )


def in_voxels(work: Work, table: list[list[float]]) -> Tensor:
    """Rows (x, y, z) or (x, y, z, radius) in voxels from the corner; Å are those of atomic models."""
    found = torch.tensor(table, dtype=torch.float64)
    if len(found) and work.given.coordinates == "angstrom":
        found[:, :3] -= torch.tensor(work.corner, dtype=torch.float64)
        found /= work.pixel_size
    return found


def misplaced(work: Work, name: str, value: object, error: ValueError) -> InputError:
    """A point that lies where it cannot."""
    sentence = f"{name}={shown(value)} cannot be used: {error}"
    if work.given.coordinates == "angstrom":
        sentence += f" These are voxels from the corner of the box, which lies at {point_text(work.corner)} Å."
    return InputError(sentence)


def _sphere(work: Work, x: float, y: float, z: float, radius: float) -> str:
    at = (c + v * work.pixel_size for c, v in zip(work.corner, (x, y, z), strict=True))
    return f"radius {radius:.4g} voxels = {radius * work.pixel_size:.4g} Å about {point_text((x, y, z))} voxels = {point_text(at)} Å"


def within_the_box(work: Work, name: str, voxels: float) -> None:
    """Refuses a length, as it was typed, that is longer than half the box."""
    half = work.box * work.pixel_size / 2
    requirement = f"that is more than half the box, {work.box / 2:g} voxels or {half:.4g} Å"
    work.need(voxels <= work.box / 2, name, requirement)
