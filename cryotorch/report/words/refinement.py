"""What is said of a refinement: its iterations, its half sets and their symmetry and hand, and its end."""

from __future__ import annotations

from cryotorch.results import told


def _half_sets(how: str, seed: int, drawn: int, first: int, second: int) -> str:
    said = {
        "drawn": f"half sets drawn with seed {seed}",
        "kept": "half sets kept as in the input",
        "completed": f"half sets kept, and drawn with seed {seed} for the {drawn} particles without one",
    }
    return f"{said[how]}: {first} and {second} particles"


def _grey_scale(factor: float, match: float | None) -> str:
    note = f"grey scale of the initial map multiplied by {factor:.3g}"
    if match is not None:
        note += f"; WARNING: the poses hardly match the map (correlation {match:.1f} standard errors above zero)"
    return note


def _frame(mirrored: bool) -> str:
    return "mirror image" if mirrored else "copy turned by a pseudo-symmetry"


def _half_set_moved(half: str, other: str, mirrored: bool, errors: float) -> str:
    return (
        f"half map {half} agrees better with half map {other} as its {_frame(mirrored)} ({errors:.0f} standard errors): "
        f"the poses of half set {half} are carried over"
    )


def _both_moved(mirrored: bool, errors: float) -> str:
    return (
        f"both half maps agree better with the initial map as their {_frame(mirrored)} ({errors:.0f} standard errors): all poses are "
        "carried over"
    )


def _other_size(factor: float) -> str:
    return (
        f"The map is {factor:.3f} times as large as the initial map: the pixel size of one of them is wrong. Where it is that of the initial map, "
        f"correct its header; where it is that of the particles, it is {1 / factor:.3f} times what they say, and their CTF is wrong too: "
        "correct them, and refine again"
    )


def _no_hand(resolution: float, symmetry: str) -> str:
    return (
        f"the half maps agree up to {resolution:.3g} Å and show no hand there, which every protein has: the "
        f"poses may be a mixture of both hands, or symmetry={symmetry or 'as given'} is not theirs; no resolution describes such a "
        "map: run with symmetry=C1 to see which there is, or start from a finer initial map, with a smaller initial_resolution"
    )


def _symmetry_not_shown(
    symmetry: str, resolution: float, lowest: float, highest: float, remedies: str
) -> str:
    low, high = (f"{value:.0%}" for value in (lowest, highest))
    return (
        f"The particles do not show symmetry {symmetry} about the axes that RELION uses: without symmetry half maps agree to "
        f"{resolution:.3g} Å, with their turned copies only {low if low == high else f'{low} to {high}'} as well as with each other"
        f"; {remedies or 'no other symmetry is seen to fit about these axes: take C1'}"
    )


def _turn_fits(turn: str, symmetry: str) -> str:
    also = f", or give symmetry={symmetry}" if symmetry else ""
    return f"after {turn} they do: add symmetry_frame=auto, which makes it{also}"


def _optics_changed(tilt: bool, trefoil: bool, tilts: str) -> str:
    tilted = [f"beam tilt {tilts} mrad" if tilts else "tilt changed"] if tilt else []
    return ", ".join([*tilted, "trefoil changed"] if trefoil else tilted)


def _twins(images: int, twice: int, across: int, one: str, other: str) -> str:
    seen = (
        f"{twice} of {images} images hold the same pixels as another one, {one} as {other} for example, and "
        f"{across} of them as one of the other half set"
    )
    if across:
        seen += ": the half maps share their noise, which passes for resolution"
    return f"{seen}. Remove duplicates: particles that were picked or extracted twice, or files that were joined twice"


def _not_converged(resolution: str | None, poses: str | None) -> str:
    seen = [reason for reason in (resolution, poses) if reason is not None]
    return (
        f"Not converged, in the last iteration {' and '.join(seen)}: map and resolution are not final. Add resume=true with a "
        "higher max_iterations and extra_final_passes; where that does not settle it, check initial map, symmetry and particle_diameter"
    )


COUNTED = (0.7, 1.3)  # by how much what the first images take is off


def lasting(seconds: float) -> str:
    """About so long: a number of two digits with its unit."""
    for unit, size, most in (("s", 1, 90), ("min", 60, 90), ("h", 3600, 48)):
        if seconds < most * size:
            return f"{float(f'{seconds / size:.2g}'):g} {unit}"
    return f"{float(f'{seconds / 86400:.2g}'):g} days"


def _between(least: float, most: float) -> str:
    low, high = lasting(least), lasting(most)
    if low == high:
        return f"about {low}"
    number, unit = low.split()
    return f"{number if unit == high.split()[1] else low} to {high}"


def _iterations(fewest: int, many: int) -> str:
    return (
        f"{fewest} to {many} iterations" if fewest < many else f"{many} iteration{'s'[: many - 1]}"
    )


def _time_left(least: float, most: float, fewest: int, many: int, ctf: bool) -> str:
    besides = ", what refining the CTF takes not counted" if ctf else ""
    return f"{_between(least, most)} left, for {_iterations(fewest, many)}{besides}"


def _time_guessed(limit: float, images: float) -> str:
    return f"About {lasting(images)} for the images of this iteration, at {limit:.3g} Å; when all will be done is foreseen at its end"


def _time_foreseen(
    limit: float,
    images: float,
    least: float,
    most: float,
    fewest: int,
    many: int,
    ctf: bool,
    solved: bool,
) -> str:
    left_out = [*([] if solved else ["M-steps"]), *(["what refining the CTF takes"] if ctf else [])]
    besides = f"; {' and '.join(left_out)} not counted" if left_out else ""
    return (
        f"About {lasting(images)} for the images of the first iteration, at {limit:.3g} Å; {_between(least, most)} for all, as "
        f"{_iterations(fewest, many)} may do and finer ones take longer{besides}. Other work on this machine lengthens it"
    )


def _time_counted(seconds: float) -> str:
    least, most = (lasting(seconds * factor) for factor in COUNTED)
    return f"The images take {least if least == most else f'{least} to {most}'} from here, by the first of them; other work on this machine lengthens it"


def _stage_left(stage: str, seconds: float) -> str:
    return f"{stage}: {lasting(seconds)} more at this pace, less where it ends before all its passes are made"


def _resolution_jumped(before: float, now: float) -> str:
    return f"the resolution went from {told(before)} to {told(now)}"


SAID = {
    # before the first iteration
    "half_sets": _half_sets,
    "counted_over": (
        "{copies:,} of {particles:,} particles are copies that symmetry={symmetry} makes of others, as they are "
        "symmetry-expanded, and it is applied to the map once more: their images count more than once, which adds nothing, and "
        "numbers of particles and views say more than there is. Use symmetry=C1, or the particles before expansion"
    ),
    "grey_scale": _grey_scale,
    # an iteration
    "time_guessed": _time_guessed,
    "time_foreseen": _time_foreseen,
    "time_counted": _time_counted,
    "stage_left": _stage_left,
    "time_unknown": "How long it takes nobody knows before its first passes are made: the log says it then, stage by stage",
    "time_left": _time_left,
    "pruning": (
        "Branch and bound: {by_bound:.1%} of the hypotheses discarded by the bound, {by_cap:.1%} by the cap "
        "(active for {cap_active:.0%} of the particles), {evaluations:.0f} evaluations per particle"
    ),
    "some_particles": "with {seen} of the {particles} particles",
    "fsc_mask_sphere": "The FSC mask is a soft sphere: {reason}",
    "next_refines_ctf": "converged; the next iteration refines the CTF",
    "final_passes": "converged; {passes} extra final passes follow",
    "poses_at_extent": (
        "{share:.0%} of the particles stopped at the {extent} extent: widen it, or check that the map is that of "
        "these particles"
    ),
    # the CTF
    "ctf_refined": "CTF refined: {changes}",
    "ctf_not_refined": "{reasons}",
    "map_too_coarse_for_ctf": "the map is too coarse to refine the {what} with, {reached:.3g} Å where {needed:.3g} Å are needed",
    "defocus_changed": "defocus changed by {rms:.0f} Å (rms)",
    "no_aberration": "no aberration {level:g} standard errors from zero, the optics stay",
    "optics_changed": _optics_changed,
    # symmetry, frame and hand
    "symmetry_not_shown": _symmetry_not_shown,
    "other_symmetry_fits": "symmetry={symmetry} fits as they are",
    "turn_fits": _turn_fits,
    "frames_changed": "{changes}",
    "half_set_moved": _half_set_moved,
    "both_half_sets_moved": _both_moved,
    "hands_differ": (
        "half map B agrees better with half map A as its mirror image ({errors:.0f} standard errors): no resolution "
        "describes them; start from a finer initial map, with a smaller initial_resolution"
    ),
    "no_hand": _no_hand,
    "too_coarse_for_hand": "The half maps are too coarse to show a hand",
    "hand_of_initial_map": (
        "Both half maps have the same hand ({errors:.0f} standard errors), that of the initial map ({shown:.0f} standard errors)"
    ),
    "hand_put_in": (
        "Both half maps have the same hand ({errors:.0f} standard errors), that of the initial map: at {resolution:.3g} Å {power:.1%} of the "
        "power tells it from its mirror image"
    ),
    "hand_unknown": (
        "Both half maps have the same hand ({errors:.0f} standard errors); which of the two mirror images is right neither the images nor "
        "the initial map can tell: compare the map with a known structure; job=volume_tools flip_hand=true makes the other, "
        "job=reconstruct flip_hand=true with its poses"
    ),
    # the end
    "finished": "Finished: {reason}.",
    "most_iterations": "max_iterations={iterations} reached; raise it if the resolution still improves",
    "no_gain": "the FSC no longer improves by {gain} shell",
    "run_not_sharpened": (
        "map_sharp.mrc is weighted and filtered but not sharpened: {reason}; job=sharpen makes others (fit_from=15, bfactor=<Å²>)."
    ),
    "run_bfactor_uncertain": (
        "map_sharp.mrc has the fitted B-factor of {bfactor:.0f} ± {error:.0f} Å², which is uncertain, {doubts}: look at guinier.png "
        "and slices.png; job=sharpen volume=<this folder> bfactor=<Å²> makes others"
    ),
    "junk": (
        "About {share:.1%} of the particles match this map badly and stand apart from the others: junk does (noise, dirt, neighbours), and so do another "
        "species, a molecule that lacks a part, and a particle whose pose was not found, far from the middle of its box for example. Look at "
        "some of them, or ask job=hetero_refine junk=1, before they go: cryotorch job=particles particles=<this folder>/particles.star "
        "where='cryotorchParticleProbability > {cut:g}' leaves {out:.1%} out"
    ),
    "junk_too_few": (
        "About {images} of {particles} images match the map worse than the others, too few to tell junk from particles whose pose was not "
        "found, so cryotorchParticleProbability is not written"
    ),
    "no_junk_apart": (
        "No images stand apart from the others as junk by how well they match the map, so cryotorchParticleProbability is not written"
    ),
    "junk_not_told": (
        "Images that match the map badly do not stand apart from the others: which particles are junk cannot be told one by one; "
        "job=class2d, or job=ab_initio with n_classes, may tell by many together"
    ),
    "not_converged": _not_converged,
    "resolution_jumped": _resolution_jumped,
    "poses_restless": "half of the particles turned by more than {turn:.1f}°, {sigma:.1f}° is their standard error",
    "images_twice": _twins,
    "other_size": _other_size,
    "other_map": (
        "The map agrees with the initial map to {resolution:.3g} Å only, though the search began with {first:.3g} Å of it: the "
        "initial map is of another molecule or state, or has the wrong symmetry or a poor start, or the map is wrong. It may be the mirror "
        "image, which no resolution tells, and lie turned: compare it with a known structure, and start again from this map or a better one"
    ),
    "views_uneven": (
        "The views are uneven: they leave {unseen:.0%} of Fourier space at {resolution:.3g} Å unseen and sample it with "
        "SCF* {scf:.2f}, as many random views {unseen_by_chance:.0%} and {scf_by_chance:.2f}. The resolution is that of what was seen; "
        "elsewhere the map is smeared, and may be wrong. Preferred orientation: take particles of other views, tilt, or other grids; "
        "job=orientation_diagnostics volume=<this folder> shows the directions"
    ),
}
