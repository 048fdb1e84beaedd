"""What may be claimed of a class, and signs of junk."""

from __future__ import annotations

import torch

from cryotorch.refinement.class2d.averages import mask_of
from cryotorch.refinement.class2d.judge import NEXT_TO_SHARED, edge_variance, resolved_shell

BOX = 32


def test_the_last_shell_clear_of_noise_and_of_what_is_shared(patterns, how) -> None:
    from dataclasses import replace

    how = replace(how, shared_limit=2.0, last_limit=14.0)
    mask = mask_of(how, torch.device("cpu"))
    curves = torch.zeros(4, BOX // 2 + 1).double()
    curves[0, :13] = 0.9  # up to shell 12
    curves[1, :6] = 0.9  # no further than what leaks from the shared shells
    curves[2] = 0.9  # up to the limit
    curves[3, :13] = 0.25  # noise may do that
    assert NEXT_TO_SHARED == 6
    assert resolved_shell(curves, mask, how).tolist() == [12, 0, 14, 0]


def test_density_outside_of_the_mask(patterns, how) -> None:
    mask = mask_of(how, torch.device("cpu"))
    torch.manual_seed(0)
    inside, everywhere = patterns.picture(0, 0.0, (0.0, 0.0)), torch.randn(BOX, BOX)
    found = edge_variance(torch.stack([inside, everywhere]), mask)
    assert float(found[0]) < 0.02 and 0.6 < float(found[1]) < 1.6
