"""What templates are made from, what they are made onto, and their images."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from cryotorch.data.mrc import read_header
from cryotorch.errors import InputError
from cryotorch.findings import Finding
from cryotorch.jobs.config.parse import require
from cryotorch.jobs.inputs.maps import load_map
from cryotorch.jobs.inputs.symmetry import symmetry_group
from cryotorch.jobs.picking.settings import CreateTemplates
from cryotorch.ops.fourier.transforms import resize_volume
from cryotorch.ops.geometry.directions import even_views, ideal_gap, largest_gap
from cryotorch.ops.geometry.rotations import euler_to_matrix
from cryotorch.ops.geometry.symmetry import symmetry_correlation
from cryotorch.ops.masks.soft import soft_circle
from cryotorch.ops.models.templates import template_images
from cryotorch.report.sentences import line
from cryotorch.report.templates import shown

log = logging.getLogger("cryotorch")
EDGE_SHARE = 0.2  # of the diameter, over which the mask falls to zero
MIN_POWER_LEFT = 0.95  # part of a projection's power that must be left of it
MIN_SYMMETRY = 0.9  # correlation of a map with its turned copies
COARSE_LOW_PASS = 20.0  # Å that they are compared at, unless the low-pass is coarser


@dataclass(frozen=True)
class Templates:
    """A map, the views of it, and the grid of their images.

    Attributes:
        settings: of the job.
        path, volume, stated: the map's file, voxels (d, d, d) and pixel size, Å.
        order: of the point group.
        views: (n, 3) directions; gap, ideal: the largest angle between a direction and the nearest view, and between
            hexagons, degrees.
        box, pixel_size: of the images.
    """

    settings: CreateTemplates
    path: Path
    volume: Tensor
    stated: float
    order: int
    views: Tensor
    gap: float
    ideal: float
    box: int
    pixel_size: float

    @property
    def angles(self) -> Tensor:
        """(n, 2) float64: RELION's rot and tilt, degrees; psi is 0."""
        x, y, z = self.views.unbind(1)
        return torch.stack([torch.atan2(y, x), z.clamp(-1, 1).acos()], 1).rad2deg()

    def images(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of templates (b, box, box), masked and with the sign asked for, and how much of their power is left (b,)."""
        s, radius = self.settings, (self.settings.diameter or math.inf) / 2 / self.pixel_size
        mask = torch.ones(self.box, self.box)
        if s.diameter is not None:
            mask = soft_circle(self.box, radius, EDGE_SHARE * radius)
        sign = -1.0 if s.invert else 1.0
        rot, tilt = self.angles.deg2rad().unbind(1)
        rotation = euler_to_matrix(rot, tilt, torch.zeros_like(rot)).float()
        onto = (self.box, self.pixel_size, s.low_pass)
        for images, held in template_images(self.volume, self.stated, rotation, *onto):
            masked = images * mask
            inside = masked.square().sum((1, 2)) / images.square().sum((1, 2)).clamp(min=1e-30)
            yield sign * masked, held * inside


@dataclass(frozen=True)
class Measured:
    """What is known once all templates were made.

    Attributes:
        sheet: (k, box, box) the templates that ``report.templates.shown`` picks, on the grey scale of the files.
        factor: what the images are multiplied by.
        spread: standard deviation of the grey values in the circle, mean of all templates.
        warnings: what the user should look at.
    """

    sheet: Tensor
    factor: float
    spread: float
    warnings: list[Finding]


def arrange(path: Path, settings: CreateTemplates) -> Templates:
    """The map with its views and the grid of the images.

    Raises:
        InputError: no map that can be projected, or none with the symmetry asked for.
    """
    name = f"volume={path}"
    group = symmetry_group(settings.symmetry)
    if not read_header(path).pixel_size[0]:
        raise InputError(
            f"{name} does not state its pixel size: write it into the header with job=volume_tools "
            f"volume={path} pixel_size=<Å>"
        )
    volume, stated = load_map(path, "volume")
    log.info("Map %s: %d voxels per edge, %.4g Å per voxel", path, len(volume), stated)
    width, diameter = len(volume) * stated, settings.diameter
    requirement = f"the map is only {width:.4g} Å wide"
    require(diameter is None or diameter <= width, "diameter", diameter, requirement)
    if len(group) > 1:
        _check_symmetry(volume, stated, group, settings, name)
    size = settings.pixel_size or stated
    small = f"nothing is left of a particle in it, it must be at least 4 pixels, {4 * size:.4g} Å"
    require(diameter is None or diameter >= 4 * size, "diameter", diameter, small)
    finest, low_pass = 2 * max(size, stated), settings.low_pass
    requirement = f"pixels of {max(size, stated):.4g} Å hold nothing finer than {finest:.4g} Å: use at least that, or null"
    if size > stated:
        requirement += ", or a smaller pixel_size"
    require(low_pass is None or low_pass >= 0.999 * finest, "low_pass", low_pass, requirement)
    box = settings.box_size or max(16, 2 * round(width / size / 2))
    views = even_views(settings.n_templates, group)
    angles = (largest_gap(views, group), ideal_gap(len(views), len(group)))
    gap, ideal = (math.degrees(angle) for angle in angles)
    log.info(
        "%d views, evenly spaced in the asymmetric unit of %s: no direction is farther than %.1f° from one (%.1f° if "
        "all cells were hexagons)",
        *(len(views), settings.symmetry, gap, ideal),
    )
    rest = (len(group), views, gap, ideal, box, size)
    return Templates(settings, path, volume, stated, *rest)


def _check_symmetry(
    volume: Tensor, pixel_size: float, group: Tensor, settings: CreateTemplates, name: str
) -> None:
    # at the resolution of templates: a finer grid takes longer, and its noise is not symmetric
    finest = max(settings.low_pass or 0.0, COARSE_LOW_PASS)
    box = min(len(volume), max(32, 2 * math.ceil(len(volume) * pixel_size / finest)))
    worst = float(symmetry_correlation(resize_volume(volume, box), group).min())
    if worst < MIN_SYMMETRY:
        raise InputError(
            f"{name} does not have symmetry={settings.symmetry} about its centre (correlation {worst:.2f} with a turned "
            "copy): turn it onto the axes, or use symmetry=C1"
        )


def measure(made: Templates) -> Measured:
    """Make all templates once, for what depends on all of them."""
    s = made.settings
    radius = min(made.box / 2, (s.diameter or math.inf) / 2 / made.pixel_size)
    circle = soft_circle(made.box, radius, 0) > 0.5
    wanted, seen = set(shown(len(made.views)).tolist()), 0
    sheet: list[Tensor] = []
    kept: list[Tensor] = []
    spread: list[Tensor] = []
    for images, held in made.images():
        sheet += [image for i, image in enumerate(images, seen) if i in wanted]
        seen += len(images)
        kept.append(held)
        spread.append(images[:, circle].std(1))
    present = float(torch.cat(spread).mean())
    least, warnings = float(torch.cat(kept).min()), list[Finding]()
    if least < MIN_POWER_LEFT:
        given = ("box_size", made.box) if s.diameter is None else ("diameter", s.diameter)
        size = dict(zip(("parameter", "size"), given, strict=True))
        warnings.append(Finding("templates_cut", **size, part=1 - least))
    for warning in warnings:
        log.info(line(warning))
    if s.contrast is None:
        log.info("Grey values: standard deviation %.3g, as the map says", present)
    factor = 1.0 if s.contrast is None else s.contrast / present
    return Measured(torch.stack(sheet) * factor, factor, present * factor, warnings)
