"""Lightning without what it imports and refinements never call: 1.3 instead of 5 seconds of every start."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Compiled:
    """What nothing is an instance of before ``torch.compile`` was imported."""


def _disable(fn: Any = None, *_: Any, **__: Any) -> Any:
    """``torch._dynamo.disable`` where nothing is compiled; as a decorator with and without arguments."""
    return fn if fn is not None else _disable


# torchmetrics asks whether SciPy still has a window of that name; Lightning looks whether a model was compiled.
STAND_INS: dict[str, dict[str, Any]] = {
    "scipy.signal": {"hamming": None},
    "torch._dynamo": {"OptimizedModule": _Compiled, "disable": _disable},
}
PACKAGES = ("lightning", "torchmetrics", "lightning_utilities")


def import_lightning() -> None:
    """Import Lightning with stand-ins for modules that it reads one name of; they are gone afterwards, and others import the real ones.

    Where a version of Lightning needs more of them, it is imported as usual.
    """
    if "lightning" in sys.modules:
        return
    before = set(sys.modules)
    absent = [name for name in STAND_INS if name not in sys.modules]
    for name in absent:
        sys.modules[name] = ModuleType(name)
        sys.modules[name].__dict__.update(STAND_INS[name])
    try:
        import lightning  # noqa: F401
    except (ImportError, AttributeError):
        for name in set(sys.modules) - before:
            if name.partition(".")[0] in PACKAGES:
                del sys.modules[name]
    finally:
        for name in absent:
            del sys.modules[name]
