"""The mask behind the masked FSC curves: made of the density, given, or a sphere; tightened where asked for."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cryotorch.errors import InputError
from cryotorch.findings import Finding
from cryotorch.jobs.inputs.half_maps import HalfMaps
from cryotorch.jobs.inputs.maps import looks_inverted
from cryotorch.jobs.inputs.masks import load_mask
from cryotorch.ops.masks.soft import (
    density_region,
    distance_transform,
    grow_in_box,
    soft_mask,
    soft_sphere,
)
from cryotorch.ops.resolution.fsc import corrected_fsc, resolution
from cryotorch.ops.resolution.mask_tightening import Candidate, tighten
from cryotorch.report.sentences import say

if TYPE_CHECKING:
    from cryotorch.jobs.fsc.settings import ValidationFsc

log = logging.getLogger("cryotorch")
INVERTED = Finding("half_maps_inverted")
MASK_LOW_PASS = 12.0  # Å: noise in an unfiltered mean would fray the mask
HARD_EDGE = 0.05  # value of a mask on the faces of its box that makes a hard edge there
FOCUS = "focus"
GIVEN = ("given", FOCUS)  # kinds of masks that are read
FOCUSED = (
    "local_refine"  # the job whose half maps are worth something in a part of the molecule only
)
WIDEST = 20.0  # Å: a wider edge reaches far into the solvent and disturbs nothing less


@dataclass(frozen=True)
class FscMask:
    """A mask and how it came about.

    Attributes:
        mask: (d, d, d) from 0 to 1.
        kind: generated, given, focus (given, around a part of the molecule) or sphere.
        near, far: Å from ``region`` to where the mask begins and ends to fall; None where nobody said.
        region: (d, d, d) bool, the density that a generated mask grows around.
        tightened: whether it was; candidates: masks that were tried for it; reason: why that ended, else None.
        warnings: what is wrong with it.
    """

    mask: Tensor
    kind: str
    near: float | None = None
    far: float | None = None
    region: Tensor | None = None
    tightened: bool = False
    candidates: list[Candidate] = field(default_factory=list)
    reason: Finding | None = None
    warnings: list[Finding] = field(default_factory=list)

    @property
    def fraction(self) -> float:
        """The volume of the mask as a part of the box."""
        return float(self.mask.double().mean())

    def __str__(self) -> str:
        share = f"{self.fraction:.1%} of the box"
        if self.kind == "sphere":
            return f"a soft sphere, {share}"
        kind = "given, around a part" if self.kind == FOCUS else self.kind
        how = f"{kind}{', tightened' if self.tightened else ''}"
        if self.near is not None:
            of = " of its core" if self.kind in GIVEN else ""
            how += f", 1 within {self.near:.3g} Å and 0 beyond {self.far:.3g} Å{of}"
        return f"{how}, {share}"


def mask_summary(made: FscMask, file: str | None, pixel_size: float) -> dict[str, object]:
    """What ``summary.json`` says about a mask: lengths in Å, volume in Å³; ``file``: where it was read."""
    return {
        "kind": made.kind,
        "file": file,
        "near": made.near,
        "far": made.far,
        "fraction_of_box": made.fraction,
        "volume": made.fraction * made.mask.numel() * pixel_size**3,
    }


def make_mask(
    mean: Tensor,
    pixel_size: float,
    threshold: float,
    near: float,
    far: float,
    relative: bool = True,
) -> FscMask:
    """A mask around the density of a map (d, d, d), lengths in Å.

    Raises:
        InputError: the density makes none.
    """
    of = "of the high density" if relative else "(absolute)"
    log.info("Making a mask around density above %g %s: %s", threshold, of, _shape(near, far))
    try:
        region = density_region(mean, pixel_size, threshold, MASK_LOW_PASS, relative)
    except ValueError as refused:
        raise InputError(
            f"{refused} Change threshold, give mask=<file>, or add generate_mask=false."
        ) from None
    mask, _ = grow_in_box(region, near / pixel_size, far / pixel_size)
    warnings = [INVERTED] if looks_inverted(mean) else []
    return FscMask(mask, "generated", near, far, region, warnings=warnings)


def softened(made: FscMask, pixel_size: float, bare: float) -> FscMask:
    """A mask made here with an edge at least as wide as the resolution without a mask, ``bare`` Å.

    A narrower one carries signal into shells where there is none, which the correction takes off again. The mask
    stays as it is where it has such an edge, or no room for it in the box.
    """
    if made.region is None:
        return made
    near, far = made.near, made.near + min(bare, WIDEST)
    if far <= made.far:
        return made
    mask = soft_mask(made.region, near / pixel_size, far / pixel_size)
    if at_faces(mask) > HARD_EDGE:
        return made
    log.info(
        "The edge of the mask is made as wide as the resolution without a mask, %.2f Å: %s",
        *(far - near, _shape(near, far)),
    )
    return replace(made, mask=mask, far=far)


def _shape(near: float, far: float) -> str:
    return f"1 within {near:.3g} Å, 0 beyond {far:.3g} Å"


def given_mask(path: str, halves: HalfMaps, trusted: bool, device: torch.device) -> FscMask:
    """The mask in a file, on the grid of half maps; ``trusted``: its pixel size may differ, as the user gave one."""
    mask, warnings = load_mask(path, halves.grid, any_pixel_size=trusted)
    kind = FOCUS if halves.made_by == FOCUSED else "given"
    return FscMask(mask.to(device), kind, warnings=warnings)


def sphere_mask(like: Tensor) -> FscMask:
    """The sphere of the spherical curve, for those who want no other mask."""
    radius = len(like) / 2
    return FscMask(soft_sphere(len(like), 0.85 * radius, 0.15 * radius, like.device), "sphere")


def tightened(
    start: FscMask,
    maps: Tensor,
    pixel_size: float,
    onset: int,
    settings: ValidationFsc,
    no_mask: Tensor,
) -> FscMask:
    """The mask drawn in around its region as far as the corrected curve gains by it without a bias, else as it was.

    ``no_mask``: (d // 2 + 1,) the FSC of the maps without one.
    """
    log.info("Tightening it")
    near, far = settings.mask_near, settings.mask_far if start.far is None else start.far
    region = _core(start.mask, near, far, pixel_size) if start.region is None else start.region
    draw = torch.Generator().manual_seed(settings.seed)
    found = tighten(maps, pixel_size, region, onset, near, far, draw, _tell, no_mask)
    log.info("    %s", say(found.reason))
    tried = replace(start, candidates=list(found.candidates), reason=found.reason)
    if start.kind in GIVEN:
        reached = min(c.resolution for c in found.candidates if c.accepted)
        if reached >= _reached(start.mask, maps, pixel_size, onset, settings.seed, no_mask):
            log.info("    The given mask stays, none of these is better")
            return tried
    elif start.kind == "generated" and (found.near, found.far) == (near, far):
        return tried
    # what was said about the file is no longer true of the mask
    warnings = [] if start.kind in GIVEN else start.warnings
    shape = {"mask": found.mask, "near": found.near, "far": found.far}
    return replace(tried, **shape, tightened=True, warnings=warnings)


def _core(mask: Tensor, near: float, far: float, pixel_size: float) -> Tensor:
    """The region (d, d, d) bool around which a mask with these lengths, Å, passes 0.5 about where a given one does."""
    depth = 0.5 * (near + far) / pixel_size
    core = distance_transform(mask <= 0.5, depth + 1) > depth
    if not core.any():
        raise InputError(
            f"optimize_mask=true finds the given mask nowhere deeper than {0.5 * (near + far):g} Å: lower mask_near and "
            "mask_far, or leave optimize_mask out"
        )
    return core


def _reached(
    mask: Tensor, maps: Tensor, pixel_size: float, onset: int, seed: int, no_mask: Tensor
) -> float:
    """Resolution of the corrected curve, Å."""
    draw = torch.Generator().manual_seed(seed)
    corrected, _, _ = corrected_fsc(maps, mask, onset, draw, no_mask)
    return resolution(corrected, len(mask), pixel_size)


def find_mask(
    halves: HalfMaps,
    mean: Tensor,
    bare: float,
    given: str | None,
    trusted: bool,
    shape: tuple[float, float, float],
) -> tuple[FscMask, str | None]:
    """The mask given, that beside the half maps, or one made of the density; the file it was read from.

    Args:
        halves: where they come from; mean: (d, d, d) of both; bare: resolution without a mask, Å.
        given: file; trusted: its pixel size may differ, as the user gave one.
        shape: threshold, near and far (Å) of a mask that is made.
    """
    beside = None if halves.folder is None else halves.folder / "mask_fsc.mrc"
    path = given or (str(beside) if beside is not None and beside.is_file() else None)
    if path is not None:
        log.info("Mask %s", path)
        return given_mask(path, halves, trusted, mean.device), path
    return softened(make_mask(mean, halves.pixel_size, *shape), halves.pixel_size, bare), None


def at_faces(mask: Tensor, inside: int = 0) -> float:
    """The largest value of a mask (d, d, d) on the faces of its box, or so many voxels inside of them."""
    ends = [mask.select(axis, place) for axis in range(3) for place in (inside, -1 - inside)]
    return max(float(end.max()) for end in ends)


def _tell(tried: Candidate) -> None:
    log.info(
        "    1 within %4.1f Å, 0 beyond %4.1f Å, %4.1f %% of the box: %6.2f Å, random phases %5.2f%s",
        *(tried.near, tried.far, 100 * tried.fraction, tried.resolution, tried.randomised),
        "" if tried.accepted else "  (not taken)",
    )
