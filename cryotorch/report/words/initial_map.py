"""What is said of maps that were made without an initial one: their starts, axes, and hand."""

from __future__ import annotations


def _starts(starts: int, best: int, alike: int, low: float, high: float, imposed: bool) -> str:
    without = "without symmetry: " if imposed else ""
    if starts == 1:
        return f"{without}one random start, with a score of {high:.3g}: whether others lead to the same map is not known"
    goes_on = "starts with the symmetry imposed begin from it" if imposed else "goes on"
    return (
        f"{without}start {best} of {starts} {'is the best, ' if imposed else ''}{goes_on}; {alike} of them show one map. Scores, the mean "
        f"log-likelihood of particles that no start has seen, from {low:.3g} to {high:.3g}"
    )


def _hand_fitted(given: str, mirrored: bool, correlation: float, other: float | None) -> str:
    text = f"map.mrc is in the hand that fits {given}=, correlation "
    text += f"{correlation:.2f}" + ("" if other is None else f", the other hand {other:.2f}")
    return text + (": it was mirrored, and the poses with it" if mirrored else "")


def _symmetric_starts(
    starts: int, best: int, alike: int, lead: float, low: float, high: float
) -> str:
    text = (
        f"with the symmetry imposed: start {best} of {starts} goes on, which particles that it has not seen prefer to a shapeless map by "
        f"{lead:.1f} standard errors (scores from {low:.4g} to {high:.4g}, not to be compared with those of starts without symmetry); "
    )
    if alike > 1:
        return f"{text}{alike} of them show one map"
    return (
        f"W{text[1:]}the others do not show its detail, so that it may be wrong. All particles made the map from there: refine it, and "
        "where that reaches no finer detail try another seed"
    )


def _class(number: int, share: float, size: float, lead: float, shapeless: bool) -> str:
    text = f"class {number}: {share:.1%} of the particles, effective number {size:,.0f}; particles that its start had not seen prefer "
    by = f"its map to a shapeless one by {lead:.1f} standard errors"
    return text + by + (": as noise or junk does" if shapeless else "")


SAID = {
    "class": _class,
    "classes_empty": (
        "{empty} of {classes} classes have less than 1 % of the particles: they do not support so many, fewer classes are enough"
    ),
    "classes_alike": (
        "Classes {first} and {second} show the same map as far as can be seen, their correlation after a fit is {correlation:.2f}: the "
        "particles do not support {classes} classes. Join the lists of both to refine them"
    ),
    "symmetric_starts": _symmetric_starts,
    "starts": _starts,
    "no_structure": (
        "No structure was found: particles that were left out prefer the map to a shapeless one by {lead:.1f} standard errors only, which noise "
        "gives too. Do not use it; try more or cleaner particles, invert=true where the protein is dark, particle_diameter, "
        "or a coarser initial_resolution"
    ),
    "structure_lost": (
        "With the symmetry imposed particles that were left out prefer the map to a shapeless one by {lead:.1f} standard errors only, without it "
        "by {before:.1f}: the symmetry may not be theirs, try symmetry=C1"
    ),
    "contrast_inverted": (
        "The strong densities of the map are negative, the protein is dark in it: try invert={invert}"
    ),
    "starts_disagree": (
        "The {starts} random starts led to different maps, so that the best one may be wrong: look at starts.png, and try more "
        "particles, another seed, particle_diameter, or a coarser initial_resolution"
    ),
    "axes_found": (
        "the symmetry axes were found: the map agrees with its turned copies to {correlation:.2f}, at least {lowest:.2f}, in random "
        "frames to {chance:.2f}"
    ),
    "axes_not_shown": (
        "The map does not show the symmetry beyond doubt: it agrees with its turned copies to {correlation:.2f}, at least {lowest:.2f}, as maps "
        "without it may. The symmetry was imposed all the same, so the map may be wrong: try symmetry=C1 and look at it, or another symmetry"
    ),
    "axes_of_ball": (
        "without symmetry the starts show no more than a ball; what it looks like, and where its axes lie, was found with the symmetry "
        "imposed. A refinement has to see that much of it, initial_resolution={initial:.2g}, and does so where volume is this run's folder"
    ),
    "either_hand": (
        "images cannot tell the hand: map.mrc and map_other_hand.mrc explain them alike; like=<map> or model=<PDB> picks the hand of a known "
        "structure, and alpha helices at better than 8 Å tell it too"
    ),
    "hand_fitted": _hand_fitted,
}
