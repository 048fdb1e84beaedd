"""What is said of the files that a job starts from: particles, images, maps and their symmetry."""

from __future__ import annotations

from pathlib import PurePath


def _images_damaged(damaged: int, images: int, examples: str, more: bool) -> str:
    look = "looks" if damaged == 1 else "look"
    return (
        f"{damaged} of {images} images {look} damaged: {examples}{' and others' if more else ''}. Pixels were mended, and what is too loud "
        "counts for less; damaged_images in summary.json lists all"
    )


def _map_not_symmetric(symmetry: str, correlation: float, shows: str) -> str:
    seen = f": it shows {shows}, give symmetry={shows} if that is theirs" if shows else ""
    return (
        f"The initial map is not {symmetry} about the axes that RELION uses: it correlates only {correlation:.2f} with its rotated copy. "
        f"Turn it onto the axes, or choose another symmetry{seen}. One that the particles lack makes a resolution that they do not have"
    )


def _from_half_maps(first: str, second: str, compared: bool) -> str:
    how = "is compared with" if compared else "starts from"
    return f"each half set {how} its own half map, {first} and {second}"


def _from_map(file: str, compared: bool) -> str:
    return f"both half sets {'with' if compared else 'start from'} the map {file}"


def _mask_keeps(share: float, all: bool) -> str:
    text = f"the mask keeps {share:.0%} of the density that both half maps share"
    if not all:
        return text
    return f"{text}: next to nothing is left to subtract, and it is the whole molecule that is refined, not a part of it"


def _earlier(job: str, run: str) -> str:
    place = f" in {PurePath(run).name}" if run else ""
    return f"{job}{place}, where this comes from,"


def _earlier_warning(job: str, run: str, of: str, said: str) -> str:
    return f"{_earlier(job, run)} warned: {said}"


def _earlier_unfinished(job: str, run: str, iterations: int | None) -> str:
    done = "" if iterations is None else f" (these are the results of iteration {iterations})"
    return f"{_earlier(job, run)} has not come to its end{done}, and what it may doubt is not known"


def _earlier_claims_none(job: str, run: str, said: str) -> str:
    return (
        f"{_earlier(job, run)} claims no resolution: {said}. What is claimed here rests on another mask or other parameters: say so "
        "wherever it is quoted"
    )


def _earlier_bars(job: str, run: str) -> str:
    return f"Nothing to claim: {_earlier(job, run)} claims no resolution for reasons that half maps do not show, see its warnings"


SAID = {
    # masks on a part
    "mask_keeps": _mask_keeps,
    "nothing_to_subtract": (
        "The mask keeps {share:.0%} of the density that both half maps share: next to nothing is subtracted. Give a mask around the part that is "
        "to be kept"
    ),
    # the runs before
    "earlier_warning": _earlier_warning,
    "earlier_unfinished": _earlier_unfinished,
    "earlier_claims_none": _earlier_claims_none,
    "earlier_bars": _earlier_bars,
    "images_damaged": _images_damaged,
    # half sets
    "half_sets_mixed": (
        "half_sets=resplit mixes the half sets: if these poses were found with these images, both new ones hold noise that "
        "the poses of the other have followed, and any resolution may be too good. Keep the half sets, or add "
        "shared_resolution=<Å>, the finest that the poses were aligned to"
    ),
    "shared_unknown": (
        "Up to which resolution the half sets of {file} were aligned to one map is not known ({column} in files of "
        "refinements): the resolution claimed presumes that poses of either half set owe nothing to images of the other. Where "
        "they do, add shared_resolution=<Å>"
    ),
    "shared_known": (
        "The half sets were aligned to one map up to {resolution:.4g} Å ({source}): what they have in common up to there is no resolution"
    ),
    # the initial map
    "poses_not_used": "orientations in {file} are not used, the search is global; it starts at the origins given there",
    "from_half_maps": _from_half_maps,
    "from_map": _from_map,
    "map_about_other_axes": (
        "The initial map is not {symmetry} about the axes that RELION uses, but is after {turn}: add symmetry_frame=auto, "
        "which makes it (correlations with turned copies, all shells alike: {as_is:.2f} as it is, {turned:.2f} after it)"
    ),
    "map_of_other_symmetry": (
        "The initial map is not {symmetry} about the axes that RELION uses: it shows {shows}, give symmetry={shows} if that is theirs "
        "(correlations with turned copies, all shells alike: {correlation:.2f} for {symmetry}, above {least:.2f} for {shows})"
    ),
    "map_not_symmetric": _map_not_symmetric,
    "volume_inverted": "volume={file} looks inverted, its strong densities are negative; masks need them positive",
    "mask_light": (
        "mask={file} holds {mass:.2g} kDa of protein, too little to align particles by: what is claimed may be aligned noise; "
        "choose a larger region"
    ),
    "given_mask_hard": "mask={file} has a hard edge: soften it, with job=volume_tools soften={soften:g} for example",
    "checkpoint_damaged": "{reason}: the run goes on from the one before",
    # masks and models of volume tools
    "atoms_cut": "{part:.0%} of {file} lies outside {box} and is cut off: {cure}",
    "fit_ambiguous": (
        "The fit onto {file} is not the only one: another, turned by {angle:.0f}°, correlates {runner_up:.3f} against {correlation:.3f}, which "
        "noise alone may decide: check it in ChimeraX, or compare finer detail with fit_resolution"
    ),
    "fit_inverted": "{file} looks inverted, its strong densities are negative; a fit needs bright protein in both maps",
    "fit_hand_unclear": (
        "The hand is open: both hands fit {file} about alike down to {resolution:.3g} Å ({correlation:.3f} and {mirror:.3f}); compare finer detail "
        "with fit_resolution, or say fit_hand=same"
    ),
    "fit_mirror_better": (
        "The mirror image of {file} would fit the model better ({mirror:.3f} against {correlation:.3f}): the map has the wrong hand, turn it "
        "over with job=volume_tools volume={file} flip_hand=true"
    ),
    "mask_near_border": (
        "What the mask grows from comes within {distance:.3g} Å of the border of the box, where there is hardly "
        "room for an edge: raise threshold, or keep_largest=true where it is noise; a molecule there needs particles in a larger box"
    ),
    "mask_made_hard": "The mask has a hard edge, which correlates half maps by itself: add soften={soften:g} before you use it",
    "mask_edge_narrow": "At {resolution:g} Å a soft edge of {soften:g} Å is advised: add soften={soften:g}",
    "mask_at_border": "The mask reaches the border of the box, which cuts it off: raise threshold, or add soften=15 to let it end there",
    # classes
    "classes_not_judged": (
        "Images were compared at too little detail to tell particles from aligned noise: no class has a resolution, and none is suggested. Add "
        "max_resolution={resolution:.3g} or finer, and keep box_size=auto"
    ),
    "classes_unresolved": (
        "None of the {classes} classes shows anything that the half sets do not share by being aligned to the same averages, up to "
        "{resolution:.3g} Å: these may be images of noise. Check invert, the CTF, mask_diameter and pixel size, or give more particles"
    ),
    # templates
    "templates_cut": (
        "{parameter}={size:g} cuts {part:.0%} off the power of a projection, where density lies at its border: use a larger one"
    ),
}
