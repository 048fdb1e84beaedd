"""What a run found, in numbers with their units, and what to doubt: the top of a page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from cryotorch.ops.resolution.claims import LIMIT_ENDS, NOISE_ENDS, NYQUIST_ENDS
from cryotorch.report.page.run_files import RunFiles, number

SPREAD = ("percentiles", "threshold")
MOST_CLASSES = 6  # that are shown
NO_CLAIM = "Nothing to claim"  # what such a warning begins with
REASON = "no_resolution"  # entry of a summary, or of a class in it, that says why none is claimed
# Findings that end a claim, the gravest first.
REFUSE = (
    *("same_map", "masked_before", "frames_differ", "nothing_shared", "agree_coarsely"),
    *("aligned_to_one_map", "within_noise", "mask_correlates", "images_twice"),
    *("hands_differ", "no_hand"),
)
# Findings by which a number that is claimed may be that of another map than it seems, or of noise.
DOUBTS = (
    *("map_of_other_symmetry", "map_not_symmetric", "symmetry_not_shown", "other_map"),
    *("other_size", "poses_at_extent", "not_converged", "half_sets_mixed", "mask_light"),
    *("earlier_warning", "earlier_claims_none", "earlier_unfinished"),
)
BIASED = 0.5  # FSC of random phases at a resolution, from which on the mask shows more than the map


class Tile(NamedTuple):
    """A number to be seen first: its name, itself with its unit, what to know about it, and whether it is to be doubted."""

    name: str
    value: str
    note: str = ""
    doubtful: bool = False


def _length(digits: int) -> Callable[[float], str]:
    return lambda value: f"{value:.{digits}f} Å"


def _count(value: float) -> str:
    return f"{value:,.0f}"


def seconds(value: float) -> str:
    """A time in the unit that fits it."""
    if value < 100:
        return f"{value:.1f} s"
    return f"{value / 60:.1f} min" if value < 6000 else f"{value / 3600:.1f} h"


# Entry of summary.json (dots lead into groups) -> name and form.
NUMBERS: dict[str, tuple[str, Callable[[float], str]]] = {
    "cfar": ("Evenness of the resolution (cFAR)", "{:.2f}".format),
    "scf_star": ("Evenness of the sampling (SCF*)", "{:.2f}".format),
    "directional_resolution.best": ("Resolution in the best direction", _length(2)),
    "directional_resolution.worst": ("Resolution in the worst direction", _length(2)),
    "local_resolution.median": ("Local resolution, median", _length(2)),
    "bfactor": ("B-factor applied", lambda value: f"{value:.0f} Å²".replace("-", "−")),
    "real": ("Components that are real", _count),
    "left": ("Left of what was subtracted", "{:.1%}".format),
    "junk_share": ("Match the map badly", lambda value: f"{value:.1%}" if value else "none apart"),
    "particles": ("Particles", _count),
    "templates": ("Templates", _count),
    "iterations": ("Iterations", _count),
    "box": ("Box", lambda value: f"{value:.0f} px"),
    "pixel_size": ("Pixel size", lambda value: f"{value:.4g} Å"),
    "rotation_change_deg": ("Rotation change, median", lambda value: f"{value:.3g}°"),
    "shift_change": ("Shift change, median", lambda value: f"{value:.3g} Å"),
    "mask.volume": ("Volume of the mask", lambda value: f"{value / 1000:,.0f} nm³"),
    "defocus.rms_change": ("Defocus change, root mean square", lambda value: f"{value:.0f} Å"),
    "peak_memory_mib.host": ("Memory at most", lambda value: f"{value / 1024:.1f} GiB"),
    "peak_memory_mib.cuda": (
        "Memory of a device at most",
        lambda value: f"{value / 1024:.1f} GiB",
    ),
}


def look_up(summary: dict[str, Any], name: str) -> Any:
    """An entry by its dotted name, None where it is not there."""
    value: Any = summary
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def warnings(run: RunFiles) -> list[str]:
    """What the user must look at, as the summary says it; an unfinished run is one."""
    said = run.summary.get("warnings")
    found = [str(text) for text in said] if isinstance(said, list) else []
    lost = "it is damaged, and what it held is missing here"
    found = [f"{name} of this run cannot be read: {lost}" for name in run.damaged] + found
    if not run.finished:
        done = run.summary.get("iterations")
        got = f"these are the results of iteration {done}" if done else "it has no results yet"
        found.insert(0, f"This run has not come to its end: {got}")
    return found


def tiles(run: RunFiles, count: int = 0) -> list[Tile]:
    """The numbers of a run that a reader looks for first; ``count``: particles of its file, where the summary does not tell them."""
    found = [tile for tile in (_resolution(run), _states(run)) if tile is not None]
    found += _classes(run)
    for name, (title, form) in NUMBERS.items():
        value = number(look_up(run.summary, name))
        if value is not None:
            even = number(look_up(run.summary, f"even_from.{name}"))
            doubtful = even is not None and value < even
            note = _note(run, name) if even is None else f"even from {even:g} on"
            found.append(Tile(title, form(value), note, doubtful))
    if count and not any(tile.name == "Particles" for tile in found):
        found.append(Tile("Particles", _count(count)))
    total = _total(run)
    if total is not None:
        found.append(Tile("Time", seconds(total)))
    return found


def _classes(run: RunFiles) -> list[Tile]:
    """Share of the classes of maps, with what is claimed of each."""
    found = []
    for one in (run.summary.get("classes") or [])[:MOST_CLASSES]:
        share, claimed = number(one.get("share")), number(one.get("resolution"))
        if share is not None and "resolution" in one:
            why = f": {short_reason(str(one[REASON]))}" if one.get(REASON) else ""
            note = f"no resolution is claimed{why}" if claimed is None else f"{claimed:.2f} Å"
            note += ", or better" if one.get("ended_by") == LIMIT_ENDS else ""
            found.append(Tile(f"Class {one.get('class')}", f"{share:.1%}", note, claimed is None))
    junk = number(run.summary.get("junk"))
    return found if junk is None else [*found, Tile("Junk", f"{junk:.1%}")]


def _states(run: RunFiles) -> Tile | None:
    """Whether images that were in no map ask for several."""
    seen, lead = run.summary.get("second_state"), number(run.summary.get("lead_standard_errors"))
    if not isinstance(seen, bool):
        return None
    note = "" if lead is None else f"by {lead:.1f} standard errors, of 5 that are asked for"
    return Tile("A second state", "seen" if seen else "not seen", note, not seen)


def _note(run: RunFiles, name: str) -> str:
    if name.startswith("directional_resolution"):
        together = number(run.summary.get("resolution_all_together"))
        all_of_them = "" if together is None else f"; all together {together:.2f} Å"
        return f"not corrected for the mask{all_of_them}"
    if name == "particles":
        sets = run.summary.get("half_sets")
        if isinstance(sets, list) and len(sets) == 2 and any(sets):
            return f"half sets of {sets[0]:,} and {sets[1]:,}"
        before = number(run.summary.get("of"))
        return "" if before is None else f"of {before:,.0f}"
    if name == "local_resolution.median":
        spread, level = (look_up(run.summary, f"local_resolution.{n}") for n in SPREAD)
        ends = [number(spread.get(p)) for p in ("5", "95")] if isinstance(spread, dict) else []
        known = [f"{end:.2f}" for end in ends if end is not None]
        return f"5 to 95 %: {' to '.join(known)} Å; local FSC = {level}" if len(known) == 2 else ""
    if name == "defocus.rms_change":
        error = number(look_up(run.summary, "defocus.median_sigma"))
        return "" if error is None else f"standard error of one: {error:.0f} Å"
    if name == "real":
        return f"of {len(run.summary.get('components') or [])} looked for"
    if name == "left":
        return "below zero: too much was taken" if number(run.summary["left"]) < 0 else ""
    if name == "junk_share":
        alike = "so do a second species, a molecule without a part, and a pose that was not found"
        return alike if run.summary.get(name) else ""
    if name == "bfactor":
        error = number(run.summary.get("bfactor_error"))
        fitted = number(run.summary.get("bfactor_fitted"))
        if fitted is not None and error is not None:
            return f"fitted: {fitted:.0f} ± {error:.0f} Å²".replace("-", "−")
        refused = run.summary.get("bfactor_refused")
        return f"not fitted: {refused}" if refused else ""
    return ""


def _total(run: RunFiles) -> float | None:
    parts = run.summary.get("seconds")
    total = number(run.summary.get("wall_seconds"))
    if total is not None or not isinstance(parts, dict):
        return total
    total = number(parts.get("total"))
    return sum(filter(None, map(number, parts.values()))) if total is None else total


def _resolution(run: RunFiles) -> Tile | None:
    """What is claimed, or that nothing is and why; None of a job that judges none, or several at once."""
    summary = run.summary
    if "resolution" not in summary or isinstance(summary["resolution"], list | dict):
        return None
    value = number(summary["resolution"])
    if value is None:
        return Tile("Resolution", "no resolution is claimed", _reason(run), True)
    ends = {
        LIMIT_ENDS: "or better: images were used no further",
        NYQUIST_ENDS: "limited by the pixel size: the curve has not fallen at Nyquist",
        NOISE_ENDS: "beyond it the half maps agree no further than noise may",
    }
    threshold, nyquist = (number(summary.get(name)) for name in ("threshold", "nyquist"))
    end = str(summary.get("ended_by"))
    if nyquist is not None and value < 1.001 * nyquist:
        end = NYQUIST_ENDS
    fallen = f"FSC = {threshold or 0.143:g}, corrected for the mask"
    doubtful = any(map(_is_doubt, summary.get("findings") or []))
    note = ends.get(end, fallen) + ("; to be doubted, see the warnings" if doubtful else "")
    return Tile("Resolution", f"{value:.2f} Å", note, doubtful)


def _is_doubt(finding: dict[str, Any]) -> bool:
    """Whether a finding of a summary casts doubt on a resolution that is claimed."""
    code, agreement = finding.get("code"), number(finding.get("fsc"))
    return code in DOUBTS or (
        code == "random_phases_agree" and agreement is not None and agreement > BIASED
    )


def _reason(run: RunFiles) -> str:
    told = [text for text in warnings(run) if text.startswith(NO_CLAIM)]
    said, found = (run.summary.get(name) or [] for name in ("warnings", "findings"))
    codes = {finding.get("code"): text for finding, text in zip(found, said, strict=False)}
    told += [codes[code] for code in REFUSE if code in codes]
    if told:
        return short_reason(told[0])
    return str(run.summary.get(REASON) or "the summary does not say why")


def short_reason(text: str) -> str:
    """What a warning says is the matter, without what may be done about it."""
    matter = text.removeprefix(NO_CLAIM).lstrip(": ")
    return matter.partition(": ")[0].partition(". ")[0]
