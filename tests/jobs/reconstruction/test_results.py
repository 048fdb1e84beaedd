"""The mask that a reconstruction makes for its curves."""

from __future__ import annotations

from pathlib import Path

import torch

from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.inputs.half_maps import HalfMaps
from cryotorch.jobs.reconstruction.results import mask_threshold
from cryotorch.ops.models.gaussians import gaussian_density
from cryotorch.ops.resolution.fsc import shell_correlation

BOX, PIXEL = 40, 3.0


def test_the_threshold_of_the_mask_falls_until_nothing_is_left_out() -> None:
    """A weaker domain beside the core, 0.45 as dense, that a threshold of 0.5 misses and one of 0.4 thinks too small."""
    at = torch.tensor([[-20.0, 0, 0], [25, 0, 0]])
    noise = torch.randn(2, BOX, BOX, BOX, generator=torch.Generator().manual_seed(1))
    chosen = make_settings("validation_fsc")
    for weak, expected in ((0.45, 0.3), (0.0, 0.5)):
        two = gaussian_density(at, torch.tensor([1.0, weak]), torch.full((2,), 10.0), BOX, PIXEL)
        halves = HalfMaps(two + 0.02 * two.max() * noise, PIXEL, (Path(), Path()))
        assert mask_threshold(chosen, halves, shell_correlation(*halves.maps)) == expected
