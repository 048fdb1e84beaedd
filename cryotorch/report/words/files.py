"""What is said of particle files: what is assumed, overruled or not applied, and what another format cannot hold."""

from __future__ import annotations


def _range(low: float, high: float) -> str:
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _several_grids(
    file: str,
    least_size: float,
    most_size: float,
    least_box: int,
    most_box: int,
    size: float,
    box: int,
) -> str:
    return (
        f"The images of {file} have {_range(least_size, most_size)} Å per pixel and {_range(least_box, most_box)} pixels: all are brought "
        f"to {size:g} Å and {box} pixels, those of the largest optics group."
    )


def _grids_joined(least_size: float, most_size: float, least_box: int, most_box: int) -> str:
    boxes = f" and {_range(least_box, most_box)} pixels" if most_box else ""
    return f"The images have {_range(least_size, most_size)} Å per pixel{boxes}: they stay as they are, jobs bring them to one grid."


def _dry_run(out: str, files: str, replaced: int, goes_on: bool) -> str:
    there = ""
    if replaced:
        there = (
            " and go on with the run there"
            if goes_on
            else f" and replace {replaced} files of a run there"
        )
    return f"Dry run: parameters and inputs can be used, nothing was written. A run would write into {out}{there}: {files}"


SAID = {
    # the page of a run
    "page_failed": "{reason}: there is no report.html in {folder}, whose results that does not touch. job=report runs=[<folder>] tries again.",
    # memory
    "dry_run": _dry_run,
    "memory_needed": "needs about {need} GB of memory",
    "memory_short": (
        "needs about {need} GB of memory, and there are {there}: choose a smaller box or larger pixels, or a machine with more"
    ),
    # half sets
    "half_sets_unknown": "{reason}: no half sets are known.",
    "half_sets_named": (
        "{column} of {file} is {first} or {second}: {first} is taken as half set A, {second} as half set B "
        "({usual_first} and {usual_second} as a rule)."
    ),
    # rows and images
    "images_of_few": (
        "The {images:,} images of {file} were made of {originals:,} ({column}), whose noise they share: those of "
        "one belong into one half set."
    ),
    "rows_expanded": (
        "{rows:,} rows of {file} show {images:,} images, each {times} times: they are taken as symmetry-expanded particles."
    ),
    "rows_partly_expanded": (
        "{rows:,} rows of {file} show {images:,} images, each up to {times} times: they are taken as some of symmetry-expanded "
        "particles. Where they are not, keep one row of each image, job=particles one_per_image=true."
    ),
    "uid_twice": "{reason}",
    "class_taken": "Of the {particles} particles of {file} only the {taken} of class {class} are taken.",
    # optics and CTF
    "no_ctf": "{reason}",
    "overfocused": "All particles of {file} are overfocused: {column} is negative (underfocus is positive).",
    "bfactors_negative": (
        "{column} is negative for {particles} particles of {file}: their CTF grows with "
        "resolution, as in RELION; change the sign where a decay is meant."
    ),
    "columns_not_applied": "{columns} of the particles of {file} is not applied: since RELION 3.1 data_optics counts.",
    "mtf_not_applied": "The MTF {mtf} of {file} is not applied: {column} is missing in data_optics.",
    "mtf_missing": "The MTF {mtf} of {file} does not exist: it is not applied; put the file beside the STAR file to have it.",
    "pixel_sizes_differ": (
        "The pixel size is {stated:g} Å in {file} but {header:g} Å in the header of {stack}"
        " ({differing} of {stacks} stacks differ): the STAR file's is used."
    ),
    "several_grids": _several_grids,
    # .cs files as they are read
    "fields_joined": "Fields that {file} lacks are taken from {other}: {fields}.",
    "passthrough_unused": "{other} beside {file} is not used: {reason}",
    "class_poses_unused": (
        "{file} holds the poses of several classes too ({family}), which are kept but not used, as alignments3D/pose "
        "is there: class=<number> takes those of a class."
    ),
    "likeliest_class": (
        "Each particle of {file} takes the {what} of its most probable class ({family}), particles by class: {counts}. "
        "class=<number> takes those of one class."
    ),
    "origins_of_2d": (
        "{file} has no alignments3D/pose: origins, in-plane angles and class numbers are those of 2D classification "
        "(alignments2D), and a search starts at these origins."
    ),
    "shifts_in_pixels": "{file} has no {field}: shifts are taken to be in pixels of the images.",
    "some_shifts_in_pixels": (
        "{field} of {file} is {value:g} for {unknown} of {particles} particles: their shifts are "
        "taken to be in pixels of the images."
    ),
    "magnification_read": (
        "Anisotropic magnification of {file} is taken as RELION's matrix = inverse of (1 + ctf/anisomag); whether it "
        "should be transposed is not known: compare refinements with and without it."
    ),
    "field_not_applied": "{field} of {file} is kept but not applied: its sign and scale in CryoSPARC are not documented.",
    "fields_unused": "Fields of {file} that are kept but not used: {fields}.",
    # files as they are written
    "tables_lost": "{tables} cannot be kept in {file}: keep the STAR file.",
    "columns_unseen": "CryoSPARC will not see {columns}: {file} carries what it has no word of known meaning for.",
    "box_unseen": "{file} has no blob/shape, as the box is not known: add _rlnImageSize to the STAR file where CryoSPARC asks for it.",
    "positions_carried": (
        "{x} and {y} are carried in {file}, not converted: CryoSPARC counts positions as "
        "fractions of the micrograph, whose size is not known."
    ),
    "positions_upside_down": (
        "_rlnCoordinateY counts from above, location/center_y_frac of CryoSPARC from below: micrographs of Patch "
        "Motion Correction are upside down to RELION's own, so look at some positions before you extract."
    ),
    "groups_lost": "Optics groups without particles are not in {file}: {groups}.",
    "magnification_written": (
        "Anisotropic magnification is written to {file} as ctf/anisomag = inverse of RELION's matrix - 1; whether it "
        "should be transposed is not known: check it in CryoSPARC."
    ),
    "dark_on_bright": "The images of {file} are dark on bright: cryotorch heeds its column {column}, RELION needs inverted images.",
    "names_absolute": (
        "Images are named by their whole path, as relative names such as {name} are not found from {folder}: for names that "
        "are relative to a folder, add project=<folder>."
    ),
    "names_lost": (
        "Images with relative names such as {name} are not found from {folder}: name the project folder that they are relative "
        "to, project=<folder>, or use the new file in it."
    ),
    # lists of particles, joined and chosen
    "grids_joined": _grids_joined,
    "columns_filled": "Not all files have {columns}: particles of the others hold 0 or None there.",
    "table_of_one": "The table {table} of {file} differs from that of the file before and is left out.",
    "images_joined_twice": (
        "{images:,} rows show an image that another file has too: one_per_image=true keeps one row of each, as half sets that share images "
        "share their noise."
    ),
    "nothing_in_common": (
        "No image of the list is in {file} by their {by} ({one} here, {other} there): where image files have moved, use match_by=name or "
        "match_by=uid."
    ),
    "mixture_fitted": "Gaussians in {column}, mean +- standard deviation: {gaussians}.",
    "mixture_not_seen": (
        "The values of {column} are described no better by {count} Gaussians than by one: what is taken for one of them is no group of its own."
    ),
    "movie_pixels": (
        "Positions are taken to be counted in pixels of {column}: where movies were binned, add micrograph_pixel_size=<Å of the binned pixels>."
    ),
    "halves_shared": (
        "{pairs:,} pairs of particles closer than {distance:g} Å were in different half sets: the FSC of what was refined with them is too good, "
        "refine again with the list that is left."
    ),
    "expanded_now": (
        "Go on with local searches or without any, in C1: a global search finds one pose for all rows of a particle. one_per_image=true goes back."
    ),
    # images that were made of others
    "originals_again": "{file} leads to the original images again: poses found since then are counted from their middle and their map.",
    "originals_as_posed": (
        "{file} does not say whether its images were centred anew: poses are taken to be those of the original images. Where another program "
        "moved them (--recenter_on_mask in RELION), go back with that program."
    ),
    "one_map_subtracted": (
        "{file} is one map for both half sets: what it shows outside the mask, its noise and errors included, is subtracted from "
        "both and is common to them afterwards, so that a resolution found with these images may be too good near the edge of the mask. Give the run folder, "
        "with a half map for each half set, where it is to be claimed."
    ),
    "subtraction_incomplete": (
        "After the subtraction the images still show {left:+.0%} of what was subtracted (negative: too much was): poses, CTF or scales are not "
        "those that the map was made with, or the mask cuts through what moves."
    ),
    "images_wrapped": (
        "{images:,} of {of:,} new images reach beyond the old ones: there they show what lies at the other border, as Fourier transforms "
        "take images to go on; a smaller box_size avoids it."
    ),
    "centred_on_mask": (
        "The middle of the new images and of their poses is what was {place} Å from the middle of the map: maps and masks for them are moved "
        "along, with job=volume_tools shift={back} box_size={box}; job=particles originals=true goes back."
    ),
    "half_set_empty": "No particle of half set {empty} is left: refinements need both, add half_sets=resplit there.",
}
