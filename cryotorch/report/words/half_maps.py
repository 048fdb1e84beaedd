"""What is said of half maps, their curves and masks, and of sharpening and directions."""

from __future__ import annotations

from typing import NamedTuple


class Remedy(NamedTuple):
    """What makes a mask wider, softer, smaller, or hold more density."""

    wider: str
    softer: str
    smaller: str
    more: str


VALIDATE = "job=validation_fsc volume=<this folder> with"
# By the kind of mask; "fixed" is one made by a job that has no parameters for it.
REMEDIES = {
    "generated": Remedy(
        "lower threshold, larger mask_near",
        "lower threshold, larger mask_far",
        "lower mask_far, raise threshold",
        "lower threshold",
    ),
    "given": Remedy(
        "job=volume_tools volume=<mask> dilate=6 soften=15",
        "job=volume_tools volume=<mask> soften=15",
        "give a smaller mask",
        "give another",
    ),
    "fixed": Remedy(
        f"{VALIDATE} a lower threshold makes one",
        f"{VALIDATE} a lower threshold and a larger mask_far makes one",
        f"{VALIDATE} a higher threshold makes a smaller one",
        f"{VALIDATE} a lower threshold makes one that holds more",
    ),
}
REMEDIES["focus"] = REMEDIES["given"]  # one around a part of the molecule
SHARED_IMAGES = ". Few data are so good: check that no particle is in both half sets"


def remedy(kind: str) -> Remedy:
    """That of a mask; a sphere is one that was not made yet."""
    return REMEDIES.get(kind, REMEDIES["generated"])


def _within_noise(level: float, resolution: float, symmetric: bool) -> str:
    why = " and this symmetry" if symmetric else ""
    return (
        f"Nothing to claim: the half maps agree no further than noise may, whose FSC under this mask{why} reaches {level:.2f} at "
        f"{resolution:.3g} Å (3 standard errors): more particles, or a wider mask, are needed"
    )


def _never_falls(threshold: float, nyquist: float, resolution: float, doubtful: bool) -> str:
    return (
        f"The corrected FSC never falls below {threshold:g}, it is {nyquist:.2f} at Nyquist: the pixel "
        f"size limits the resolution to {resolution:.2f} Å, extract the particles with smaller pixels"
    ) + (SHARED_IMAGES if doubtful else "")


def _dips(curve: str, level: float, fall: float, rise: float, kind: str) -> str:
    which = "without a mask" if curve == "no_mask" else "with the mask"
    reason = "the mask is not the reason, look at the half maps for ice, missing views or a filter"
    if curve != "no_mask":
        reason = f"often the mask is too tight, take a wider one ({remedy(kind).wider})"
    return f"The FSC {which} falls below {level:g} at {fall:.2f} Å and is above it again at {rise:.2f} Å: {reason}"


def _random_phases_agree(fsc: float, level: float, kind: str) -> str:
    return (
        f"The FSC of randomised phases is {fsc:.2f} at the resolution, above {level:g}: the mask is too tight "
        f"or too sharp, take a wider and softer one ({remedy(kind).softer})"
    )


def _mask_cuts(resolution: float, kind: str) -> str:
    if kind == "focus":
        return f"Without the mask the half maps agree further, to {resolution:.2f} Å: the part inside it is resolved worse than what lies around it"
    return (
        f"Without a mask the half maps agree further, to {resolution:.2f} Å: the mask cuts density off, give or "
        f"make a wider one ({remedy(kind).wider})"
    )


def _mask_at_faces(value: float, kind: str) -> str:
    return (
        f"The mask reaches the edge of the box with a value of {value:.2f}: {remedy(kind).smaller}, or extract the particles in a "
        "larger box"
    )


def _mask_tiny(fraction: float, kind: str) -> str:
    check = "check that the mask belongs to this map"
    return (
        f"The mask covers {fraction:.2%} of the box only: "
        f"{check if kind in ('given', 'focus') else f'{remedy(kind).more}, or {check}'}"
    )


def _mask_leaves_out(share: float, kind: str) -> str:
    cure = f"{remedy(kind).more}, unless what is missing is solvent or micelle"
    if kind == "given":
        cure = f"take a wider one ({remedy(kind).wider}), unless it is to cover a part"
    return (
        f"The mask leaves out {share:.0%} of the density that both half maps share, and the curves say nothing about "
        f"that: {cure}"
    )


def _bfactor_uncertain(bfactor: float, error: float, doubts: str, wider: float | None) -> str:
    return f"The fitted B-factor of {bfactor:.0f} ± {error:.0f} Å² is uncertain, {doubts}: look at guinier.png and slices.png, {_choose(wider)}"


def _fit_refused(reason: str, wider: float | None) -> str:
    return f"The Guinier fit was refused, {reason}: the map is weighted and filtered but not sharpened, {_choose(wider)}"


def _choose(wider: float | None) -> str:
    """What to do about a B-factor; ``wider``: Å from which a fit has shells enough, None where none has."""
    return "give bfactor=<Å²>" + ("" if wider is None else f", or fit_from={wider:g}")


ALIKE = "the map is resolved alike in all directions"
NEARLY = "directions differ, but by less than preferred orientations make them, cFAR {cfar:.2f} where 1 is alike"
# Whether the map is resolved alike, and the views sampled evenly (None: not known) -> what that means.
READINGS = {
    (
        True,
        True,
    ): "No orientation bias that the scores see: {alike}, and Fourier space is sampled evenly.",
    (
        False,
        True,
    ): "The resolution depends on the direction although the views are spread evenly: junk, damaged or wrongly "
    "aligned particles are likely. Classify the particles, then refine again.",
    (
        False,
        False,
    ): "The resolution depends on the direction and Fourier space is sampled unevenly: preferred orientation, "
    "junk particles, or both. Look at the viewing directions; more or tilted views, or other grids, would help.",
    (
        True,
        False,
    ): "Inconclusive: Fourier space is sampled unevenly, but the half maps do not show it. Doubt the poses, or "
    "check that these particles made these half maps.",
    (
        True,
        None,
    ): "As to the resolution, {alike}. With particles=<STAR or .cs> the sampling can be judged too.",
    (
        False,
        None,
    ): "The resolution depends on the direction. Give particles=<STAR or .cs> to tell preferred orientation "
    "from junk particles.",
}


def _directions(cfar: float, resolved: bool, alike: bool, sampled: bool | None) -> str:
    return READINGS[resolved, sampled].format(alike=ALIKE if alike else NEARLY.format(cfar=cfar))


SAID = {
    # the half maps
    "same_map": "The FSC is above {level:g} in every shell: the half maps are almost the same map, not two independent ones",
    "masked_before": (
        "Both half maps are constant in {share:.0%} of their sphere: they were masked before, and share the mask, which "
        "no FSC without a mask can tell from signal. Give the half maps as the refinement left them"
    ),
    "unequal_power": (
        "Half map {half} has {ratio:.3g} times the power of the other at {resolution:.3g} Å: their mean is nearly that one alone, and no "
        "FSC sees it. Give both on one grey scale, neither filtered nor sharpened, of half sets of like size"
    ),
    "solvent_offset": (
        "The solvent of both half maps is far from zero, {ratio:.1f} times the signal in the mask: the mask cuts a step there that "
        "both have in common. Subtract the constant"
    ),
    "half_maps_inverted": (
        "The half maps look inverted, their strong densities are negative: masks are made of positive "
        "density, multiply the maps by -1"
    ),
    # that they do not agree, and why
    "nothing_shared": (
        "No resolution can be claimed, without a mask the half maps share next to nothing (their FSC stays below "
        "{level:g} from the second shell on): {cause}"
    ),
    "agree_coarsely": "The half maps agree to {resolution:.3g} Å only, which is no resolution to claim: {cause}",
    "frames_differ": "The half maps do not lie on each other, and the resolution says nothing: {cause}",
    "half_map_mirrored": "half map B is the mirror image of half map A: flip one with job=volume_tools flip_hand=true",
    "half_map_shifted": "half map B is shifted by about {distance:.0f} Å against half map A: move it with job=volume_tools shift",
    "cause_unknown": (
        "check that both are of one refinement, of the same hand and in the same frame (neither shifted nor turned), and "
        "that there is a particle in them"
    ),
    # that nothing can be claimed
    "within_noise": _within_noise,
    "aligned_to_one_map": (
        "Nothing to claim: the half maps agree to {resolution:.3g} Å, and both were aligned to one map up to "
        "{shared:.3g} Å, which they have in common whatever the images hold. Check that the images hold the "
        "particle, start from a coarser map and take a coarser split_resolution"
    ),
    "mask_correlates": (
        "Nothing to claim: {masked:.2f} Å with the mask is far finer than the {bare:.2f} Å without, where the half "
        "maps should still share {expected:.2f} and share {seen:.2f}: it is the mask that correlates. Take a wider and softer one, and "
        "look at both half maps"
    ),
    # the curves
    "never_falls": _never_falls,
    "curve_dips": _dips,
    "random_phases_agree": _random_phases_agree,
    "random_phases_late": (
        "Random phases begin at {begin:.2f} Å, where the FSC without a mask is below {level:g} already: what the mask "
        "adds before that is not corrected, give a coarser randomize_below, or 0.8"
    ),
    # the mask
    "mask_cuts": _mask_cuts,
    "mask_at_faces": _mask_at_faces,
    "mask_tiny": _mask_tiny,
    "mask_leaves_out": _mask_leaves_out,
    "mask_hard": (
        "{file} has a hard edge ({width:.1f} voxels wide), which correlates the half maps by itself: soften it with "
        "job=volume_tools soften={soften:g}"
    ),
    "density_cut": "{part:.0%} of the strong density of {file} lies outside the box and is cut off",
    "no_mask_made": "the density makes no mask, a soft sphere takes its place: {reason}",
    "map_inverted": "The map looks inverted, its strong densities are negative: add {cure}",
    # why its tightening ended
    "tightening_at_nyquist": "The corrected curve reaches Nyquist, which no tighter mask improves.",
    "tightening_untold": (
        "Too few shells lie between the onset of random phases ({begin:.3g} Å) and the "
        "resolution ({resolution:.3g} Å) to tell a better mask from a bias."
    ),
    "tightening_tried": "{masks} masks were tried.",
    "tighter_loses_density": "A mask that ends at {far:.3g} Å leaves out more than {most:.0%} of the density.",
    "tighter_loses_signal": "A mask that ends at {far:.3g} Å loses as much signal as noise.",
    "tighter_too_sharp": (
        "Any mask tighter than one that ends at {far:.3g} Å would have an edge narrower than the resolution of {resolution:.3g} Å."
    ),
    # the Guinier fit and the sharpened map
    "fit_coarse": "the resolution of {resolution:.1f} Å is worse than {coarsest:g} Å",
    "fit_short": "of the shells only {shells} lie between {coarsest:g} Å and {resolution:.1f} Å",
    "nothing_claimed": "no resolution can be claimed",
    "few_shells": "it rests on {shells} shells from {coarse:.1f} to {fine:.1f} Å",
    "undetermined": "it is less than two standard errors from zero, so that the fit does not determine it",
    "steep": "below {limit:g} Å² a map is mostly its noise",
    "other_bfactor": "the {map} map has {bfactor:.0f} Å²",
    "fit_refused": _fit_refused,
    "bfactor_positive": (
        "The fitted B-factor of {bfactor:.0f} Å² is positive and blurs the map: were the half maps sharpened "
        "before? Give unsharpened ones, or bfactor=0"
    ),
    "bfactor_uncertain": _bfactor_uncertain,
    "filter_fine": (
        "filter_resolution={wanted:g} is finer than the {resolution:.2f} Å of the half maps: what "
        "lies beyond is weak, as fsc_weight=true weighs it, and mostly noise"
    ),
    "map_not_sharpened": "map_sharp.mrc is weighted and filtered but not sharpened: {reason}; job=sharpen makes others",
    # local resolution
    "no_local_resolution": (
        "local=true is not done: there is no local resolution without one to claim, the whole map has one filter"
    ),
    "local_threshold_low": (
        "local_threshold={threshold:g} is one that noise passes by chance, whose local FSC reaches {noise:.2f} (3 standard deviations), "
        "and fine values here and there mean nothing: take 0.5"
    ),
    "local_not_said": (
        "{part:.0%} of the mask has no local resolution: the half maps part there before {shared:.3g} Å, up to which both were aligned to "
        "one map, whose detail they may share whatever the images hold"
    ),
    "local_at_finest": (
        "{part:.0%} of the mask is resolved to {resolution:.2f} Å, what may be claimed of the whole, or better: nothing finer is said"
    ),
    "local_at_coarsest": (
        "{part:.0%} of the mask is resolved to {resolution:.3g} Å or worse, or not at all: that value stands for all of it"
    ),
    # directions
    "directions": _directions,
    "directions_untold": "No score: the half maps do not share enough to compare directions.",
    "empty_directions": (
        "In {share:.1%} of the directions (grey dots in the map) the half maps hold less than "
        "{level:.0%} of the mean power, as where no particle was seen from the side that shows them: their FSC is what "
        "the mask smears in from other directions, alike in both, and the map is worse there than any of the curves says"
    ),
    "few_slices": (
        "{particles} particles make {slices:.1f} slices per point only, so that chance changes SCF*: compare it with that "
        "of as many particles, or take a smaller sampling_radius"
    ),
}
