"""What is said of classes of 3D maps: whether the images ask for them, and what each of them is."""

from __future__ import annotations

import math

from cryotorch.ops.resolution.claims import LIMIT_ENDS


def _class(
    number: int, share: float, size: float, resolution: float, ended_by: str, reason: object
) -> str:
    reached = f"{resolution:.2f} Å"
    if not math.isfinite(resolution):
        reached = f"no resolution can be claimed of it here. {reason or ''}".rstrip(". ")
    if ended_by == LIMIT_ENDS:
        reached += " or better: the search went no further than final_resolution"
    return f"class {number}: {share:.1%} of the particles, effective number {size:,.0f}, {reached}"


SAID = {
    "class_3d": _class,
    "junk_class": (
        "junk: {share:.1%} of {particles:,} particles are explained better by an object of unknown shape, or by nothing, than by any map at any pose"
    ),
    "junk_most": (
        "{share:.0%} of the particles are called junk: if the images look sound, the initial maps or the symmetry are not theirs, or final_resolution "
        "or particle_diameter is wrong"
    ),
    "second_state": (
        "particles that are in no map prefer {classes} maps to one, of any contrast, sharpness and size, by {lead:.1f} standard errors ({gain:.3g} "
        "each, {images:,} of them): more than one state is seen. Whether it is of the molecule, or of images, such as wrong poses, neighbours or "
        "damage, the difference maps show"
    ),
    "no_second_state": (
        "No second state is seen: {images:,} particles that are in no map prefer {classes} maps to one, of any contrast, sharpness and size, by "
        "{lead:.1f} standard errors only, and 5 are asked for. The classes are no more than a division of alike particles: do not use them. More particles, a focus mask or another "
        "resolution may show one"
    ),
    "classes_repeat": (
        "a second run, of other random beginnings, puts {share:.1%} of the particles into the same classes, {kappa:.2f} beyond chance: "
        "they come back, which does not make them right"
    ),
    "classes_differ": (
        "A second run, of other random beginnings, puts only {share:.1%} of the particles into the same classes, {kappa:.2f} beyond chance: which "
        "particle is in which class depends on the draw. Try another n_classes, or more particles in each"
    ),
    "maps_alike": (
        "The maps of classes {first} and {second} differ no more than their half maps do: the particles do not support {classes} classes"
    ),
    "maps_moved": (
        "The map of class {second} is that of class {first}, turned by {angle:.3g}° and moved by {shift:.3g} Å: these are not two states but "
        "particles whose poses are wrong. Find them anew, with job=homo_refine or hetero_refine"
    ),
    "classes_go_with": (
        "The classes go with the {what} of the particles, {lead:.0f} standard deviations beyond chance. Unless the specimen is not the same there, "
        "they may show what else is not: magnification, defocus, B-factor, ice, neighbours"
    ),
    "classes_unsettled": (
        "The passes ended before the classes had settled: {changed:.1%} of the particles changed class in the last of {passes}, so that shares and "
        "maps may still move. Add a larger max_passes"
    ),
    "class_unjudged": "Class {number} could not be judged: {reason}",
}
