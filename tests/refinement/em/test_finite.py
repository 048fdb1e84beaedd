"""What is not finite is told with the image, half set or number it came from."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from cryotorch.errors import InputError
from cryotorch.refinement.em.finite import check_images, check_state, check_sums
from cryotorch.refinement.runtime.ranks import Ranks

SHAPES = dict(rotation=(6, 3, 3), shift=(6, 2), sigma=(6, 2), cross=(6,), power=(6,), ratio=(6, 4))


def found() -> SimpleNamespace:
    return SimpleNamespace(**{name: torch.ones(shape) for name, shape in SHAPES.items()})


@pytest.mark.parametrize("part", SHAPES)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_image_is_named_whatever_of_it_is_not_finite(part: str, value: float) -> None:
    check_images(found(), str)
    spoilt = found()
    getattr(spoilt, part)[4].view(-1)[-1] = value
    with pytest.raises(InputError, match=r"^image 4 gave values that are not finite: look at"):
        check_images(spoilt, lambda row: f"image {row}")


def test_three_images_are_named_and_the_others_counted() -> None:
    spoilt = found()
    spoilt.cross[1:] = torch.nan
    with pytest.raises(InputError, match=r"^1, 2, 3 and 2 more gave values"):
        check_images(spoilt, str)


def test_the_half_set_is_named() -> None:
    sums = {0: torch.ones(3, 4), 1: torch.ones(3, 4)}
    check_sums(sums, Ranks())
    sums[1][2, 0] = torch.inf
    with pytest.raises(InputError, match="the map of half set B is not finite"):
        check_sums(sums, Ranks())


@pytest.mark.parametrize(
    ("part", "name"),
    [("references", "reference"), ("noise", "noise level"), ("scale", "scale of a particle")],
)
def test_the_number_that_the_next_iteration_would_start_from_is_named(part: str, name: str) -> None:
    parts = {key: torch.ones(4) for key in ("references", "noise", "scale")}
    state = SimpleNamespace(iteration=3, particles=SimpleNamespace(scale=parts["scale"]), **parts)
    check_state(state)
    parts[part][2] = torch.nan
    with pytest.raises(InputError, match=f"after iteration 3 the {name} is not finite"):
        check_state(state)
