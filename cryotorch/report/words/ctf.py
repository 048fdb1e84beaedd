"""What is said of a CTF refinement: the numbers of optics groups, and what they rest on."""

from __future__ import annotations


def _number(name: str, value: float, sigma: float, unit: str) -> str:
    return f"{name} {value:.4g} ± {sigma:.2g}{unit and ' '}{unit}"


def _unclear(name: str, value: float, sigma: float, unit: str, level: float) -> str:
    text = _number(name, value, sigma, unit)
    return f"{text}, what was found is not {level:g} standard errors from zero: left as it was"


def _changed(name: str, value: float, sigma: float, unit: str, change: float) -> str:
    return f"{_number(name, value, sigma, unit)}, changed by {change:.4g}"


SAID = {
    "number_unknown": "{name} cannot be told (± {sigma:.2g} {unit}), left as it was",
    "number_unclear": _unclear,
    "number_changed": _changed,
    "aberrations_large": (
        "the aberrations change by up to {change:.1f} rad, and the half maps were made without that: new ones (job=reconstruct or a "
        "refinement, with the particles written here) will be better, and so will this job be with them"
    ),
    "group_small": "optics group {group} has only {particles} particles: {number}; join it with others",
    "group_not_fitted": (
        "optics group {group} ({particles} particles) was not fitted: its images end at {end:.2f} Å, two of its pixels, where "
        "optics_min_resolution={begin:g} only begins. Its {numbers} are left as they were; take a coarser optics_min_resolution"
    ),
    "group_vague": (
        "optics group {group} ({particles} particles) cannot tell its {numbers} with detail from {begin:g} to {end:.2f} Å: left as they "
        "were; join it with other groups, take a coarser optics_min_resolution, or switch that off"
    ),
    "defocus_at_border": (
        "{particles} particles end at the border of the search: raise defocus_range={range:g}, or lower it where "
        "there is too little signal to tell"
    ),
    "particles_hardly_match": (
        "the particles hardly match volume={volume} at their poses (correlation {match:.1f} standard errors above zero): do they "
        "belong together?"
    ),
    "resolution_as_told": "{reason}: max_resolution={resolution:g} is taken as told",
}
