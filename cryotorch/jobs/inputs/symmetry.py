"""The point group that a user named."""

from __future__ import annotations

from torch import Tensor

from cryotorch.errors import InputError
from cryotorch.ops.geometry.symmetry import point_group


def symmetry_group(symmetry: str) -> Tensor:
    """The point group (g, 3, 3) of ``symmetry=``; InputError where there is none of that name."""
    try:
        return point_group(symmetry)
    except ValueError as error:
        raise InputError(f"symmetry={symmetry} cannot be used: {error}") from None
