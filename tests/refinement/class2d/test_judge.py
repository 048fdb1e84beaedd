"""What may be claimed of a class, and signs of junk."""

from __future__ import annotations

from dataclasses import replace

import torch

from cryotorch.refinement.class2d.averages import mask_of
from cryotorch.refinement.class2d.judge import agreeing_shell, edge_variance

BOX = 32


def test_the_last_shell_that_is_clear_of_noise(how) -> None:
    how = replace(how, shared_limit=2.0, last_limit=14.0)
    curves = torch.zeros(4, BOX // 2 + 1).double()
    curves[0, :13] = 0.9  # up to shell 12
    curves[1] = 0.9  # up to the limit
    curves[2:, :13] = 0.45  # clear of noise that covers half the box
    curves[2:, :9] = 0.9
    support = torch.tensor([0.5, 0.5, 0.5, 0.2])
    assert agreeing_shell(curves, support, how).tolist() == [12, 14, 12, 8]


def test_density_outside_of_the_mask(patterns, how) -> None:
    mask = mask_of(how, torch.device("cpu"))
    torch.manual_seed(0)
    inside, everywhere = patterns.picture(0, 0.0, (0.0, 0.0)), torch.randn(BOX, BOX)
    found = edge_variance(torch.stack([inside, everywhere]), mask)
    assert float(found[0]) < 0.02 and 0.6 < float(found[1]) < 1.6
