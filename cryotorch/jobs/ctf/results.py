"""The results of a CTF refinement: the numbers of every optics group with their errors, particles, figures, summary."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cryotorch.data.particle_file import write_particles
from cryotorch.findings import Finding, remark
from cryotorch.jobs.ctf.inputs import SIGMAS, CtfInput
from cryotorch.jobs.inputs import damage
from cryotorch.jobs.inputs.source_run import doubts
from cryotorch.ops.ctf.aberration_fit import spherical_factor, tilt_factor
from cryotorch.ops.ctf.aberrations import antisymmetric_phase, symmetric_phase
from cryotorch.ops.ctf.defocus_fit import to_form
from cryotorch.particles import Optics
from cryotorch.refinement.ctf.apply import MIN_CS, Refined
from cryotorch.refinement.ctf.sums import CLEAR_ERRORS, GroupFit
from cryotorch.report import ctf
from cryotorch.report.figures import write_pictures
from cryotorch.report.job_tensorboard import write_tensorboard
from cryotorch.report.sentences import in_summary, line, say
from cryotorch.report.style import Picture, render
from cryotorch.report.summary import provenance, write_json

log = logging.getLogger("cryotorch")
COORDINATES = ("rlnCoordinateX", "rlnCoordinateY")
MAX_FIGURES = 12  # optics groups that get a figure
MIN_GROUP_PARTICLES = 50  # particles of an optics group that make a warning
# Parameters of the job and the numbers that they ask for.
SWITCHES = {
    "tilt": ("beam_tilt", "coma"),
    "trefoil": ("trefoil",),
    "tetra": ("tetrafoil", "secondary_astigmatism"),
    "anisomag": ("anisotropy",),
}
LARGE_PHASE = 0.5  # rad: what half maps made without such a phase have suffered from


@dataclass(frozen=True)
class Number:
    """A number of an optics group: what it is now, by how much it changed, the standard error, all in ``unit``.

    known: False where the data do not tell it, significant: False where it is not clear of its error; it was left as it was.
    """

    value: float
    change: float
    sigma: float
    unit: str
    known: bool
    significant: bool = True


def write(
    folder: Path,
    inputs: CtfInput,
    found: Refined,
    begun: Optics,
    seconds: Mapping[str, float],
    loud: Mapping[int, str],
) -> None:
    """All files of the job but its settings and log; ``begun``: the optics before the last pass; ``loud``: row -> why an image hardly counts."""
    settings, old = inputs.settings, inputs.particles
    new = found.particles.replace(half=inputs.file.particles.half)  # drawn ones mean nothing
    groups = _groups(inputs, found)
    phases = {g: _phases(fit, inputs, begun, g) for g, fit in enumerate(found.groups)}
    warnings = [*doubts(settings.particles, settings.volume)]
    warnings += _warnings(inputs, found, groups, phases)
    for group in groups:
        for name, number in group["numbers"].items():
            log.info("optics group %s: %s", group["name"], say(number_finding(name, number)))
    for switch in insignificant(groups):
        log.info(
            "all of that is within %g standard errors of zero, %s=false leaves it out",
            CLEAR_ERRORS,
            switch,
        )
    change = (to_form(new.defocus.double()) - to_form(old.defocus.double()))[:, 0]
    sigma = found.sigma
    summary = {"resolution_limit": inputs.limit, "optics_groups": _plain(groups)}
    scalars = {f"{g['name']}/{name}": n.value for g in groups for name, n in g["numbers"].items()}
    if settings.defocus:
        summary["defocus"] = about = {
            "rms_change": float(change.square().mean().sqrt()),
            "mean_change": float(change.mean()),
            "median_sigma": float(sigma[:, 0].median()),
            "spread_of_errors": found.prior,
            "at_end_of_range": int(found.at_end.sum()),
        }
        scalars |= {f"defocus/{name}": value for name, value in about.items()}
        log.info(
            "defocus changed by %.0f Å (root mean square), standard error %.0f Å (median)",
            *(about["rms_change"], about["median_sigma"]),
        )
    for warning in warnings:
        log.info(line(warning))
    damaged = damage.damaged_images(inputs.images, loud)
    if damaged:
        log.warning(line(damage.finding(damaged, len(new))))
    extra = {}
    if settings.defocus:
        extra[SIGMAS[0]] = sigma[:, 0].numpy()
    if settings.astigmatism != "none":
        extra[SIGMAS[1]] = sigma[:, 1:].square().mean(1).sqrt().numpy()
    for ending in dict.fromkeys(settings.write):
        name = f"particles.{ending}"
        for message in write_particles(folder / name, inputs.file, new, extra):
            # not the folder that the files are in while the job runs
            warnings.append(message.plus(file=str(Path(settings.out) / name)))
            log.info(line(warnings[-1]))
    pictures = _pictures(inputs, found, phases, groups, change)
    write_pictures(pictures, folder)
    write_tensorboard(folder / "tensorboard", scalars, pictures, inputs.curves)
    summary |= {
        "particles": len(new),
        "half_sets": [int((new.half == half).sum()) for half in (0, 1)],
        "box": inputs.grid.box,
        "pixel_size": inputs.grid.pixel_size,
        "passes": settings.passes,
        "device": str(inputs.references.device),
        "seconds": dict(seconds),
        **in_summary(warnings),
        damage.ENTRY: damaged,
        **provenance(),
    }
    write_json(folder / "summary.json", summary)


def number_finding(name: str, number: Number) -> Finding:
    """A number for the log."""
    about = dict(name=name.replace("_", " "), sigma=number.sigma, unit=number.unit)
    if not number.known:
        return remark("number_unknown", **about)
    about["value"] = number.value
    if not number.significant:
        return remark("number_unclear", **about, level=CLEAR_ERRORS)
    return remark("number_changed", **about, change=number.change)


def insignificant(groups: list[dict]) -> list[str]:
    """The parameters whose numbers, in all optics groups, are not told from zero."""
    found = []
    for switch, names in SWITCHES.items():
        numbers = [n for g in groups for name, n in g["numbers"].items() if name.startswith(names)]
        if numbers and all(n.known and not n.significant for n in numbers):
            found.append(switch)
    return found


def _groups(inputs: CtfInput, found: Refined) -> list[dict]:
    """Number, name, particles, finest detail that is fitted (Å) and numbers of every optics group with particles."""
    table = inputs.file.tables["optics"]
    ids = table.integers("rlnOpticsGroup")
    label = "rlnOpticsGroupName"
    names = table[label].tolist() if label in table else [str(i) for i in ids]
    old, new = inputs.particles.optics, found.particles.optics
    return [
        {
            "number": int(ids[g]),
            "name": str(names[g]),
            "particles": fit.particles,
            "resolution_limit": max(inputs.limit, 2 * float(old.pixel_size[g])),
            "numbers": numbers(fit, old, new, g),
        }
        for g, fit in enumerate(found.groups)
        if fit.particles
    ]


def numbers(fit: GroupFit, old: Optics, new: Optics, g: int) -> dict[str, Number]:
    """What was fitted about group ``g``, in the units of the files where they have a name, else monomials in rad Å^n."""
    voltage, result = float(new.voltage_kv[g]), {}

    def add(fitted: str, names: tuple[str, ...], read, unit: str, factor: float = 1.0) -> None:
        if fitted in fit.sigma:
            after, before, sigma = read(new), read(old), fit.sigma[fitted] / abs(factor)
            for i, name in enumerate(names):
                pair = float(after[i]), float(after[i] - before[i])
                known, clear = fitted not in fit.unknown, fitted in fit.values
                result[name] = Number(*pair, float(sigma[i]), unit, known, clear)

    def zernike(field: str, size: int, places: tuple[int, int], factor: float):
        def read(optics: Optics) -> Tensor:
            column = getattr(optics, field)
            row = torch.zeros(size) if column is None else column[g]
            row = torch.nn.functional.pad(row, (0, max(0, size - len(row))))
            return factor * row[list(places)].double()

        return read

    def pair(name: str) -> tuple[str, str]:
        return f"{name}_cos", f"{name}_sin"

    def tilt(optics: Optics) -> Tensor:
        return torch.zeros(2) if optics.beam_tilt is None else optics.beam_tilt[g].double()

    def stretch(optics: Optics) -> Tensor:
        (a, b), (c, d) = (
            torch.eye(2) if optics.magnification is None else optics.magnification[g]
        ).tolist()
        return torch.tensor([(a + d) / 2, (a - d) / 2, (b + c) / 2])

    cs = float(new.spherical_aberration[g])
    if abs(cs) >= MIN_CS:
        add("tilt", ("beam_tilt_x", "beam_tilt_y"), tilt, "mrad", tilt_factor(voltage, cs))
    else:
        add("tilt", pair("coma"), zernike("odd_zernike", 6, (4, 3), 3), "rad Å³")
    add("trefoil", pair("trefoil"), zernike("odd_zernike", 6, (5, 2), 1), "rad Å³")
    factor = spherical_factor(voltage)
    add(
        "spherical",
        ("spherical_aberration",),
        lambda o: o.spherical_aberration[g : g + 1],
        "mm",
        factor,
    )
    add("tetrafoil", pair("tetrafoil"), zernike("even_zernike", 9, (8, 4), 1), "rad Å⁴")
    second = zernike("even_zernike", 9, (7, 5), 4)
    add("secondary_astigmatism", pair("secondary_astigmatism"), second, "rad Å⁴")
    names = ("magnification", "anisotropy_cos", "anisotropy_sin")
    add("magnification", names, stretch, "")
    return result


def _plain(groups: list[dict]) -> list[dict]:
    return [g | {"numbers": {k: asdict(n) for k, n in g["numbers"].items()}} for g in groups]


def _warnings(inputs: CtfInput, found: Refined, groups: list[dict], phases: dict) -> list[Finding]:
    warnings = []
    changes = [float(np.abs(fit).max()) for p in phases.values() for _, _, fit in p.values()]
    if max(changes, default=0) > LARGE_PHASE and inputs.curves:
        warnings.append(Finding("aberrations_large", change=max(changes)))
    for group in groups:
        vague = [name for name, n in group["numbers"].items() if not n.known]
        if vague:
            warnings.append(untold(group, vague, inputs.settings.optics_min_resolution))
        elif group["particles"] < MIN_GROUP_PARTICLES and group["numbers"]:
            worst = next(iter(group["numbers"].items()))
            of = dict(group=group["name"], particles=group["particles"])
            warnings.append(Finding("group_small", **of, number=number_finding(*worst)))
    ended = int(found.at_end.sum())
    if ended > 0.01 * len(found.at_end):
        reach = inputs.settings.defocus_range
        warnings.append(Finding("defocus_at_border", particles=ended, range=reach))
    return warnings


def untold(group: dict, vague: list[str], begin: float) -> Finding:
    """Why an optics group does not tell some of its numbers, whose fits begin at so many Å."""
    listed = ", ".join(name.replace("_", " ") for name in vague)
    end = group["resolution_limit"]
    whose = dict(group=group["name"], particles=group["particles"], numbers=listed)
    if end >= begin:
        return Finding("group_not_fitted", **whose, begin=begin, end=end)
    return Finding("group_vague", **whose, begin=begin, end=end)


def _pictures(
    inputs: CtfInput, found: Refined, phases: dict, groups: list[dict], change: Tensor
) -> dict[str, Picture]:
    settings, pictures = inputs.settings, {}
    if settings.defocus:
        figure = ctf.defocus_figure(
            change.numpy(), found.sigma[:, 0].numpy(), found.prior, int(found.at_end.sum())
        )
        pictures["defocus"] = render(figure)
        table = inputs.file.tables["particles"]
        if all(name in table for name in COORDINATES):
            position = np.stack([table.floats(name) for name in COORDINATES], 1)
            if (position.max(0) > 0).all():
                pictures["positions"] = render(ctf.positions_figure(position, change.numpy()))
    for g, fit in [(g, fit) for g, fit in enumerate(found.groups) if fit.particles][:MAX_FIGURES]:
        shown = phases[g]
        if shown:
            group = groups[len([f for f in found.groups[:g] if f.particles])]
            title = f"Optics group {group['name']}, {fit.particles:,} particles"
            picture = ctf.phases_figure(title, shown, inputs.limit)
            pictures[f"optics_{group['number']}"] = render(picture)
    if settings.anisomag:
        optics = found.particles.optics
        matrices = optics.magnification
        if matrices is None:  # what was found is not clear of its error
            matrices = torch.eye(2).expand(len(optics), 2, 2)
        used = [
            m.double().numpy()
            for m, fit in zip(matrices, found.groups, strict=True)
            if fit.particles
        ]
        figure = ctf.magnification_figure(used, [g["name"] for g in groups])
        pictures["magnification"] = render(figure)
    return pictures


def _phases(fit: GroupFit, inputs: CtfInput, begun: Optics, g: int) -> dict:
    """Measured and fitted phases of group ``g`` against the optics of the input: those of the last pass and the ones before."""
    edge = inputs.grid.box * inputs.grid.pixel_size
    shown = {}
    for name, phases, of in (("odd", fit.odd, _odd), ("even", fit.even, _even)):
        if phases is not None:
            k = phases.frequency.double()
            before = of(begun, g, k) - of(inputs.particles.optics, g, k)
            measured = phases.measured * torch.polar(torch.ones_like(before), before)
            fitted = phases.fitted + before
            shown[name] = ((k * edge).numpy(), measured.numpy(), fitted.numpy())
    return shown


def _odd(optics: Optics, g: int, k: Tensor) -> Tensor:
    rows = (optics.beam_tilt, optics.odd_zernike, optics.voltage_kv, optics.spherical_aberration)
    rows = [None if v is None else v[g : g + 1].double() for v in rows]
    return antisymmetric_phase(k, *rows)[0]


def _even(optics: Optics, g: int, k: Tensor) -> Tensor:
    lens = spherical_factor(float(optics.voltage_kv[g])) * float(optics.spherical_aberration[g])
    phase = lens * k.square().sum(-1) ** 2
    if optics.even_zernike is not None:
        phase = phase + symmetric_phase(k, optics.even_zernike[g : g + 1].double())[0]
    return phase
