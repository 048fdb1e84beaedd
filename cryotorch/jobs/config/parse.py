"""From a mapping of names and values to the typed dataclass of a job, or one sentence that says what is wrong.

A job's dataclass lists names and types; the defaults stand in ``configs/`` with their meaning. Types: bool, int,
float, str, ``X | None``, ``Literal``, lists, nested dataclasses, and the two quantities below.
"""

from __future__ import annotations

import difflib
import math
import os
import re
import types
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from cryotorch.errors import InputError
from cryotorch.jobs.config import limits
from cryotorch.jobs.config.units import in_pixels, parse_angle, parse_length

T = TypeVar("T")
MIN_DIAMETER = 4  # pixels of a particle
LONGEST_SHOWN = 80  # characters of a value in a sentence

# Å; a value in pixels stays text ("6px") until ``in_angstrom`` learns the pixel size.
Length = Annotated[float, "length"]
# Å too, for what gives pixels their size or is needed before that is known: no pixels.
Angstrom = Annotated[float, "angstrom"]
# degrees
Angle = Annotated[float, "angle"]


@dataclass(frozen=True)
class TrainerSettings:
    """What is handed on to ``lightning.Trainer``; meanings in ``configs/trainer/auto.yaml``."""

    accelerator: Literal["auto", "cpu", "gpu", "cuda"]
    devices: int | str | list[int]
    num_nodes: int
    precision: str
    strategy: Literal["auto", "ddp"]


def build(cls: type[T], values: Mapping[str, Any], job: str, prefix: str = "") -> T:
    """The dataclass ``cls`` from plain ``values``; raises InputError for unknown names, gaps and wrong types."""
    hints = {spelled(x): hint for x, hint in get_type_hints(cls, include_extras=True).items()}
    names = [spelled(field.name) for field in fields(cls)]
    for name in values:
        if name not in names:
            raise unknown(prefix + str(name), [prefix + known for known in names], job)
    missing = [prefix + name for name in names if name not in values]
    if missing:
        raise InputError(f"{job} needs a value for {missing[0]}: add {missing[0]}=<value>")
    given = [_convert(plain(values[n]), hints[n], prefix + n, job) for n in names]
    return cls(**dict(zip((field.name for field in fields(cls)), given, strict=True)))


def plain(value: Any) -> Any:
    """A value as a YAML file could hold it: numbers and lists of NumPy's and torch's, and text of a path."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value.tolist() if hasattr(value, "tolist") else value


def spelled(field: str) -> str:
    """A parameter as users write it: ``class`` for the field ``class_``, as Python keeps the word for itself."""
    return field.removesuffix("_")


def unknown(name: str, known: Iterable[str], job: str, remedy: str = "") -> InputError:
    """The sentence for a parameter that does not exist, with the closest one that does, else the ``remedy``."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if not near:  # `newton_steps` for `search.newton_steps`
        last = re.split(r"\.|__", name)[-1]
        near = [k for k in known if re.split(r"\.|__", k)[-1] == last][:1]
    hint = f"did you mean {near[0]}?" if near else remedy or f"list them with job={job} --help"
    return InputError(f"{job} has no parameter {name or repr(name)}: {hint}")


def closest(value: object, choices: Iterable[str]) -> str:
    """`` (did you mean x?)`` where one of the choices looks like the value, else nothing."""
    near = difflib.get_close_matches(str(value), list(choices), n=1, cutoff=0.6)
    return f" (did you mean {near[0]}?)" if near else ""


def in_angstrom(settings: T, pixel_size: float, prefix: str = "") -> T:
    """A copy in which every length that was given in pixels is in Å; raises InputError for one that is out of its limits then."""
    hints = get_type_hints(type(settings), include_extras=True)
    changed: dict[str, Any] = {}
    for field in fields(settings):
        value = getattr(settings, field.name)
        if is_dataclass(value):
            changed[field.name] = in_angstrom(value, pixel_size, f"{prefix}{field.name}.")
        elif in_pixels(value) and Length in (hints[field.name], *get_args(hints[field.name])):
            changed[field.name] = parse_length(value, pixel_size, field.name)
            limits.check(prefix + field.name, changed[field.name], value)
    return replace(settings, **changed)


def require(condition: bool, name: str, value: object, requirement: str) -> None:
    """Raises InputError ``<name>=<value> cannot be used: <requirement>`` unless the condition holds."""
    if not condition:
        raise InputError(f"{name}={shown(value)} cannot be used: {requirement}")


def circle_fits(diameter: float | None, box: int, pixel_size: float) -> None:
    """Raises InputError unless a ``particle_diameter``, Å, is one of a particle in a box of this many pixels."""
    name, edge, least = "particle_diameter", box * pixel_size, MIN_DIAMETER * pixel_size
    fits = diameter is None or diameter <= edge
    require(fits, name, diameter, f"the box is only {edge:.4g} Å wide")
    requirement = f"nothing is left of a particle in it, it must be at least {MIN_DIAMETER} pixels, {least:.4g} Å"
    require(diameter is None or diameter >= least, name, diameter, requirement)


def mask_widths(settings: Any) -> None:
    """Raises InputError unless mask_near < mask_far; pixels and Å are compared when ``in_angstrom`` has made all Å."""
    near, far = settings.mask_near, settings.mask_far
    low, high = (parse_length(value, 1.0) for value in (near, far))
    ordered = in_pixels(near) != in_pixels(far) or low < high
    require(ordered, "mask_far", far, f"it must be above mask_near={shown(near)}")


def ends_finer(first: Any, last: Any) -> None:
    """Raises InputError unless final_resolution is finer than initial_resolution, where that is a length; pixels and Å as for ``mask_widths``."""
    if first == "auto" or in_pixels(first) != in_pixels(last):
        return
    finer = parse_length(last, 1.0) < parse_length(first, 1.0)
    wish = f"it must be finer than initial_resolution={shown(first)}"
    require(finer, "final_resolution", last, wish)


def to_yaml(settings: object) -> str:
    """The settings as the text of a YAML file, for the run folder."""
    values = {spelled(name): value for name, value in asdict(settings).items()}
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def shown(value: object) -> str:
    """A value as it is written on the command line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.10g}"  # 12, as it was typed, not 12.0
    if isinstance(value, list | tuple):
        return f"[{','.join(map(shown, value))}]"
    return "null" if value is None else str(value)


def _convert(value: Any, hint: Any, name: str, job: str) -> Any:
    if is_dataclass(hint):
        if not isinstance(value, Mapping):
            inner = fields(hint)[0].name
            raise InputError(f"{name} is a group of parameters: write {name}.{inner}=<value>")
        return build(hint, value, job, name + ".")
    if isinstance(value, Mapping):
        raise InputError(f"{name} is one parameter, not a group: write {name}=<value>")
    if value == "":
        requirement = f"{name}=<value>"
        requirement += f" or {name}=null" if type(None) in _options(hint) else ""
        raise InputError(f"{name} is empty: write {requirement}, or leave it out")
    for option in _options(hint):
        accepted, converted = _match(value, option, name)
        if accepted:
            limits.check(name, converted, shown(value))
            return converted
    choices = [c for o in _options(hint) if get_origin(o) is Literal for c in get_args(o)]
    requirement = " or ".join(dict.fromkeys(_describe(option) for option in _options(hint)))
    hint_text = closest(value, [c for c in choices if isinstance(c, str)])
    got = shown(value)
    got = got if len(got) <= LONGEST_SHOWN else got[:LONGEST_SHOWN] + "..."
    raise InputError(f"{name} must be {requirement}, got {got!r}{hint_text}")


def _options(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _match(value: Any, hint: Any, name: str) -> tuple[bool, Any]:
    """Whether ``value`` is of this plain type, and the value in that type."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint == Length:
        if isinstance(value, str) or number:
            angstrom = parse_length(value, 1.0, name)
            return True, value if in_pixels(value) else angstrom
    elif hint == Angstrom:
        if isinstance(value, str) or number:
            return True, parse_length(value, None, name)
    elif hint == Angle:
        if isinstance(value, str) or number:
            return True, parse_angle(value, name)
    elif hint is int:
        whole = number and math.isfinite(value) and value == int(value)
        return whole, int(value) if whole else None
    elif hint is float:
        return number and math.isfinite(value), value if not number else float(value)
    elif hint is str:
        # A folder called 2024 arrives as a number; a fraction would lose its spelling.
        text = isinstance(value, str) or (number and isinstance(value, int))
        return text, str(value)
    elif hint in (None, type(None)):
        return value is None, None
    elif get_origin(hint) is Literal:
        if value == "gpu" and "cuda" in get_args(hint) and "gpu" not in get_args(hint):
            value = "cuda"
        return any(value == c and type(value) is type(c) for c in get_args(hint)), value
    elif get_origin(hint) is list:
        inner = get_args(hint)[0]
        if get_origin(inner) is Literal and isinstance(value, str):
            value = [value]  # one of the choices alone
        if isinstance(value, (list, tuple)):
            pairs = [_match(item, inner, name) for item in value]
            return all(ok for ok, _ in pairs), [item for _, item in pairs]
    else:
        return isinstance(value, hint), value
    return False, None


def _describe(hint: Any) -> str:
    if hint in (Length, Angstrom, Angle):
        return "an angle" if hint == Angle else "a length"
    if get_origin(hint) is Literal:
        return " or ".join(shown(choice) for choice in get_args(hint))
    if get_origin(hint) is list:
        inner = get_args(hint)[0]
        if get_origin(inner) is Literal:
            choices = [shown(choice) for choice in get_args(inner)]
            return f"{', '.join(f'[{choice}]' for choice in choices)} or [{','.join(choices)}]"
        if get_origin(inner) is list:
            return "a list of lists of plain numbers such as [[0,1],[2,3]]"
        plain = " of plain numbers" if inner in (int, float) else ""
        return f"a list{plain} such as {'[a,b]' if inner is str else '[0,1]'}"
    plain = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    return "null" if hint in (None, type(None)) else plain.get(hint, getattr(hint, "__name__", ""))
