"""What is said of variability: which components are real."""

from __future__ import annotations


def _real(real: int, looked: int, needed: float) -> str:
    return (
        f"{real} of {looked} components {'is' if real == 1 else 'are'} real: with those of one half set the images of the other are "
        f"better explained than with noise, by {needed:g} standard errors at least"
    )


SAID = {
    "components_real": _real,
    "no_component": (
        "No component is real: of {looked} that were looked for the best explains images that it was not made of better than noise "
        "does by {best:.1f} standard errors, and {needed:g} are needed. At these poses, in this mask and at this detail the particles show "
        "no variability; more particles, a mask on the part in question, or a coarser max_resolution may show some"
    ),
    "component_by_faults": (
        "Component {number} is what faults of the images make, for {part:.0%} of its power: errors of rotation and shift, or "
        "differences in contrast and sharpness. No part need move for that; a mask on the part in question, with poses of "
        "job=local_refine for the rest, tells more"
    ),
    "component_coarse": (
        "The half sets agree on component {number} to {reached:.3g} Å only. So coarse a difference may be one of background, ice or "
        "neighbours, or of views that are missing, as in symmetric particles that were not expanded: look whether it stays with a tight "
        "mask and high_pass=40"
    ),
    "component_faint": (
        "Component {number} is there in all images together, and hardly in any one: the coordinate of a particle has an error of {sigma:.2f} "
        "where the coordinates spread by 1. Do not sort particles by it"
    ),
    "variability_mask_sphere": "The mask is a soft sphere: {reason}",
    "variability_too_fine": (
        "max_resolution={asked:.3g} is finer than the {agree:.3g} Å that the half maps agree to at these poses: beyond that there is noise only"
    ),
}
