"""What to do after a job: commands made of what its summary and its settings say, none that these do not support."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

SMALL_CLASS, MOST_CLASSES = (
    0.05,
    3,
)  # part of the particles of a class that is proposed, and how many are
GOOD_FOR_CTF = 5.0  # Å; a coarser map says little about defocus and aberrations


@dataclass(frozen=True)
class Step:
    """A command, and what it is good for."""

    command: str
    purpose: str


@dataclass(frozen=True)
class Done:
    """A job that has ended.

    Attributes:
        out: its folder; summary: of ``summary.json``, empty where it writes none; settings: its parameters.
    """

    out: str
    summary: Mapping[str, Any]
    settings: Mapping[str, Any]

    @property
    def resolution(self) -> float | None:
        """Å that are claimed, else None."""
        return claimed(self.summary)

    @property
    def codes(self) -> set[str]:
        """Of the warnings."""
        return {str(finding.get("code")) for finding in self.summary.get("findings") or ()}

    def file(self, name: str) -> str:
        """The path of a file in the folder."""
        return f"{self.out.rstrip('/')}/{name}"

    def particles(self, stem: str = "particles") -> str:
        """The path of a list of particles, in a format that was written."""
        formats = self.settings.get("write") or ["star"]
        return self.file(f"{stem}.{formats[0]}")

    def symmetry(self) -> dict[str, Any]:
        """``symmetry=`` where it is not C1."""
        group = self.settings.get("symmetry") or self.summary.get("symmetry") or "C1"
        return {} if group == "C1" else {"symmetry": group}


def claimed(summary: Mapping[str, Any]) -> float | None:
    """The resolution in Å that a summary claims, None where it claims none."""
    value = summary.get("resolution")
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def next_steps(
    job: str, out: str, summary: Mapping[str, Any], settings: Mapping[str, Any]
) -> list[Step]:
    """The commands that make sense after a job, the first one first; none where the result supports none.

    Args:
        out: folder of the job, as commands are to name it.
        summary: what ``summary.json`` holds; settings: what ``config.yaml`` holds.
    """
    after = AFTER.get(job)
    return after(Done(out, summary, settings)) if after is not None else []


def _command(job: str, **parameters: Any) -> str:
    words = [f"{name}={_word(value)}" for name, value in parameters.items()]
    return " ".join(["cryotorch", f"job={job}", *words])


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else shlex.quote(str(value))


def _of_maps(done: Done) -> list[Step]:
    """What half maps whose resolution is claimed are asked for."""
    return [
        Step(_command("local_resolution", volume=done.out), "the resolution of each place"),
        Step(_command("orientation_diagnostics", volume=done.out), "whether all views are there"),
    ]


def _of_region(done: Done) -> Step:
    given = {"particles": done.particles(), "volume": done.out, "mask": "<mask.mrc>"}
    return Step(_command("local_refine", **given), "a region, in a mask of your own")


def _after_refinement(done: Done) -> list[Step]:
    steps = []
    if "not_converged" in done.codes:
        most, passes = (
            int(done.settings.get(name) or 0) for name in ("max_iterations", "extra_final_passes")
        )
        more = f"extra_final_passes={passes + 2}"
        if most and (done.summary.get("iterations") or 0) >= most:
            more = f"max_iterations={2 * most}"
        command = f"cryotorch out={shlex.quote(done.out)} resume=true {more}"
        steps.append(Step(command, "goes on, as it has not converged"))
    if done.resolution is None:
        particles = done.settings.get("particles")
        if particles and particles != "demo":
            command = _command("class2d", particles=particles)
            steps.append(Step(command, "whether the images show particles"))
        return steps
    if done.resolution <= GOOD_FOR_CTF and not done.settings.get("refine_defocus"):
        command = _command("ctf_refine", particles=done.particles(), volume=done.out)
        steps.append(Step(command, "defocus and aberrations from this map"))
    steps += [*_of_maps(done), _of_region(done)]
    if done.summary.get("junk_share"):
        where = "cryotorchParticleProbability > 0.5"
        command = _command("particles", particles=done.particles(), where=where)
        steps.append(Step(command, "without what matches the map badly, once you have looked"))
    return steps


def _after_ab_initio(done: Done) -> list[Step]:
    particles = done.settings.get("particles")
    if "no_structure" in done.codes:
        command = _command("class2d", particles=particles)
        return [Step(command, "whether the images show particles")] if particles else []
    classes = done.summary.get("classes") or []
    if len(classes) > 1:
        best = max(classes, key=lambda one: one.get("share") or 0.0)["class"]
        given = {"volume": done.file(f"map_class_{best}.mrc")} | done.symmetry()
        listed = done.particles(f"particles_class_{best}")
        return [Step(_command("homo_refine", particles=listed, **given), "the largest class")]
    given = {"volume": done.out} | done.symmetry()
    command = _command("homo_refine", particles=done.particles(), **given)
    return [Step(command, "a map with a resolution")]


def _after_class2d(done: Done) -> list[Step]:
    selected = done.settings.get("select") is not None
    if selected:
        command = _command("ab_initio", particles=done.particles("selected"))
        return [Step(command, "a first map of the chosen particles")]
    if not done.summary.get("suggested"):
        return []
    command = _command("class2d", particles=done.out, select="suggested")
    return [Step(command, "their particles, after a look at classes.png")]


def _after_convert(done: Done) -> list[Step]:
    name = next(iter(done.summary.get("files") or ()), None)
    if name is None or not done.summary.get("has_pose"):
        return []
    command = _command("reconstruct", particles=done.file(name))
    return [Step(command, "the map of its poses, with its symmetry=")]


def _after_ctf(done: Done) -> list[Step]:
    command = _command("reconstruct", particles=done.particles())
    return [Step(command, "the map with the new CTF, with its symmetry=")]


def _after_particles(done: Done) -> list[Step]:
    halves = done.summary.get("half_sets") or []
    if not done.summary.get("particles") or not halves or not all(halves):
        return []
    name = next((n for n in done.summary.get("files") or () if n.startswith("particles.")), None)
    if name is None or done.settings.get("expand_symmetry"):
        return []
    command = _command("reconstruct", particles=done.file(name))
    return [Step(command, "the map of these particles, with its symmetry=")]


def _after_reconstruct(done: Done) -> list[Step]:
    if done.resolution is not None:
        return _of_maps(done)
    given = {"volume": done.out} | done.symmetry()
    command = _command("homo_refine", particles=done.particles(), **given)
    return [Step(command, "new poses, from this map")]


def _after_simulate(done: Done) -> list[Step]:
    given = {"volume": done.file("initial.mrc")} | done.symmetry()
    command = _command("homo_refine", particles=done.file("particles.star"), **given)
    return [Step(command, "finds the poses, which truth.star holds")]


def _halves(done: Done) -> dict[str, Any]:
    """The half maps of the settings, and what is known of them, as another job takes them."""
    names = ("volume", "half_map_a", "half_map_b", "pixel_size", "symmetry")
    return {name: done.settings[name] for name in names if done.settings.get(name)}


def _after_validation(done: Done) -> list[Step]:
    if done.resolution is None:
        return []
    given = _halves(done) | {"mask": done.file("mask_fsc.mrc")}
    return [
        Step(_command("sharpen", **given), "a map to look at"),
        Step(_command("local_resolution", **given), "the resolution of each place"),
    ]


def _after_sharpen(done: Done) -> list[Step]:
    if done.resolution is None or done.settings.get("local"):
        return []
    mask = {"mask": done.settings["mask"]} if done.settings.get("mask") else {}
    command = _command("sharpen", **_halves(done), **mask, local=True)
    return [Step(command, "filtered by the local resolution")]


def _after_local_resolution(done: Done) -> list[Step]:
    script = shlex.quote(done.file("local_resolution.cxc"))
    return [Step(f"chimerax {script}", "the map, coloured by its local resolution")]


def _after_volume_tools(done: Done) -> list[Step]:
    if done.summary.get("result") != "mask.mrc":
        return []
    command = _command("validation_fsc", volume="<run folder>", mask=done.file("mask.mrc"))
    return [Step(command, "the FSC of half maps inside this mask")]


def _after_classes(done: Done) -> list[Step]:
    """The largest classes, each refined by itself, where the images ask for several."""
    classes = done.summary.get("classes") or []
    if done.summary.get("second_state") is False:
        return []
    filled = [one for one in classes if (one.get("share") or 0.0) >= SMALL_CLASS]
    steps = []
    for one in sorted(filled, key=lambda one: -one["share"])[:MOST_CLASSES]:
        number = one["class"]
        given = {"volume": done.file(f"map_class_{number}.mrc")} | done.symmetry()
        listed = done.particles(f"particles_class_{number}")
        command = _command("homo_refine", particles=listed, **given)
        steps.append(Step(command, f"class {number} by itself"))
    return steps


def _after_subtract(done: Done) -> list[Step]:
    particles = done.particles()
    return [
        Step(_command("reconstruct", particles=particles), "the map of what is kept"),
        Step(_command("classify", particles=particles), "classes of what is kept"),
        Step(_command("particles", particles=particles, originals=True), "and back"),
    ]


def _after_variability(done: Done) -> list[Step]:
    if not done.summary.get("real"):
        return []
    particles = done.particles()
    where = "cryotorchComponent1 > 1"
    return [
        Step(f"chimerax {shlex.quote(done.file('components.cxc'))}", "the motion, played"),
        Step(_command("particles", particles=particles, where=where), "one end of it"),
    ]


def _nothing(done: Done) -> list[Step]:
    """What comes next depends on what the user looks for."""
    return []


# A row for each job.
AFTER: dict[str, Callable[[Done], list[Step]]] = {
    "ab_initio": _after_ab_initio,
    "class2d": _after_class2d,
    "classify": _after_classes,
    "convert": _after_convert,
    "create_templates": _nothing,
    "ctf_refine": _after_ctf,
    "hetero_refine": _after_classes,
    "homo_refine": _after_refinement,
    "local_refine": _after_refinement,
    "local_resolution": _after_local_resolution,
    "orientation_diagnostics": _nothing,
    "particles": _after_particles,
    "reconstruct": _after_reconstruct,
    "report": _nothing,
    "sharpen": _after_sharpen,
    "simulate": _after_simulate,
    "subtract": _after_subtract,
    "validation_fsc": _after_validation,
    "variability": _after_variability,
    "volume_tools": _after_volume_tools,
}
