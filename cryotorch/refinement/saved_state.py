"""Whether the state in a checkpoint can be gone on with: its entries, their types and shapes, and their values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from cryotorch.errors import InputError

# What a state may have none of, besides parts of the optics: letters for its shape, n particles and d pixels; "" = a number.
_OPTIONAL = {
    "mask": "ddd",
    "subtracted_reference": "2ddd",
    "anchor_rotation": "n33",
    "anchor_shift": "n2",
    "centre_rotation": "n33",
    "centre_shift": "n2",
    "mask_radius": "",
}
_OF_GROUPS = {"magnification": 3, "premultiplied": 1}  # dimensions of parts of the optics, else 2
# Tensors with NaN for what is not known, and the smallest and largest of the numbers.
_UNKNOWN = ("anchor_rotation", "anchor_shift")
LARGEST_VALUE = (
    1e9,
    1e25,
)  # of poses, defocus and optics in their units; of maps and noise, in grey values
_RANGES = {
    "max_shell": (0.0, 1e6),
    "share": (0.0, 1.0),
    "mask_radius": (0.0, 1e6),
    "scale_spread": (0.0, 1e6),
    "defocus_sigma": (0.0, 1e9),
}


def check_saved(known: Mapping[str, Any], saved: Any) -> None:
    """Raises InputError for a saved state that the state ``known`` of the same particles cannot take over."""
    _same_kinds(known, saved)
    n, box = len(known["has_pose"]), known["references"].shape[-1]
    sizes = {"n": n, "d": box, "2": 2, "3": 3}
    for name, letters in _OPTIONAL.items():
        value = saved[name]
        if value is not None:
            _require(isinstance(value, Tensor if letters else int | float), name)
            shape = tuple(sizes[letter] for letter in letters)
            _require(not letters or (value.shape == shape and value.is_floating_point()), name)
    groups = len(known["optics"]["voltage_kv"])
    for name, value in saved["optics"].items():
        usual = known["optics"][name]
        if value is not None and (usual is None or usual.shape != value.shape):
            dimensions = _OF_GROUPS.get(name, 2)
            _require(isinstance(value, Tensor) and value.ndim == dimensions, name)
            _require(len(value) == groups and dimensions > 1, name)
    for place in (saved, saved["poses"], saved["optics"]):
        for name, value in place.items():
            if isinstance(value, Tensor) and value.is_floating_point():
                largest = LARGEST_VALUE[place is saved]
                bad = (
                    value.isnan()
                    if name == "max_power_ratio"
                    else ~(value.isfinite() & (value.abs() <= largest))
                )
                _require(name in _UNKNOWN or not bool(bad.any()), name)
    for name, (low, high) in _RANGES.items():
        _require(saved[name] is None or low <= saved[name] <= high, name)
    _require(bool((saved["poses"]["half"] == known["poses"]["half"]).all()), "half")
    for name in ("noise", "max_power_ratio"):
        _require(bool((saved[name] > 0).all()), name)
    for name in ("voltage_kv", "pixel_size"):
        _require(bool((saved["optics"][name] > 0).all()), name)
    _check_history(saved["history"], len(saved["convergence"]["crossings"]))


def _check_history(history: list, iterations: int) -> None:
    """One dict of numbers for each iteration."""
    _require(len(history) == iterations, "history")
    for row in history:
        _require(isinstance(row, Mapping) and {"iteration", "resolution"} <= row.keys(), "history")
        _require(all(isinstance(value, int | float) for value in row.values()), "history")
        _require(all(isinstance(name, str) for name in row), "history")


def _require(good: bool, name: str) -> None:
    if not good:
        raise InputError(f"the checkpoint cannot be used: {name} is not what it was")


def _same_kinds(known: Mapping[str, Any], saved: Any, place: str = "the state") -> None:
    """Refuse a saved state that lacks an entry, or has one of another type, or a tensor of another kind or shape."""
    names = saved.keys() if isinstance(saved, Mapping) else ()
    for name in known.keys() ^ names:
        lacks = "lacks" if name in known else "has an unknown"
        raise InputError(f"the checkpoint cannot be used: {place} {lacks} {name}")
    for name, now in known.items():
        then = saved[name]
        if isinstance(now, Mapping):
            _same_kinds(now, then, name)
        elif now is None or then is None:
            optional = place == "optics" or name in _OPTIONAL
            if not optional or not isinstance(then, Tensor | float | int | None):
                raise InputError(f"the checkpoint cannot be used: {place} has no value for {name}")
        elif isinstance(now, Tensor):
            _require(isinstance(then, Tensor) and now.dtype == then.dtype, name)
            _require(now.layout == then.layout, name)
            # of the optics coefficients may have been added
            _require(place == "optics" or now.shape == then.shape, name)
        else:
            kind = (int, float) if isinstance(now, int | float) else type(now)
            _require(isinstance(then, kind), name)
