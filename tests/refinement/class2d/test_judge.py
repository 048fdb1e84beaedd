"""What may be claimed of a class, and signs of junk."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from cryotorch.refinement.class2d.averages import Averages, mask_of
from cryotorch.refinement.class2d.judge import agreeing_shell, edge_variance, noise_numbers

BOX = 32


def test_the_last_shell_that_is_clear_of_noise(how) -> None:
    how = replace(how, shared_limit=2.0, last_limit=14.0)
    curves = torch.zeros(4, BOX // 2 + 1).double()
    curves[0, :13] = 0.9  # up to shell 12
    curves[1] = 0.9  # up to the limit
    curves[2:, :13] = 0.45  # clear of noise that covers half the box
    curves[2:, :9] = 0.9
    support = torch.tensor([0.5, 0.5, 0.5, 0.2])
    numbers = 6 * math.pi * torch.arange(BOX // 2 + 1).double() * support[:, None]
    assert agreeing_shell(curves, numbers, how).tolist() == [12, 14, 12, 8]


def test_density_outside_of_the_mask(patterns, how) -> None:
    mask = mask_of(how, torch.device("cpu"))
    torch.manual_seed(0)
    inside, everywhere = patterns.picture(0, 0.0, (0.0, 0.0)), torch.randn(BOX, BOX)
    found = edge_variance(torch.stack([inside, everywhere]), mask)
    assert float(found[0]) < 0.02 and 0.6 < float(found[1]) < 1.6


def test_round_noise_has_few_numbers(how) -> None:
    """A shell of an image that no turn changes is one number, whatever its radius."""
    torch.manual_seed(0)
    line = (torch.arange(BOX) - BOX // 2).float()
    radius = torch.hypot(line[:, None], line)
    rings = (radius * 1.9).cos() * torch.exp(-(radius**2) / 100)
    noise = torch.randn(BOX, BOX) * mask_of(how, torch.device("cpu"))
    halves = torch.stack([torch.stack([rings, noise]), torch.zeros(2, BOX, BOX)])
    averages = Averages(halves, halves[0], torch.zeros(2, BOX // 2 + 1), torch.tensor([0.5, 0.5]))
    found = noise_numbers(averages, how)
    assert float(found[0, 8]) < 4 < 30 < float(found[1, 8]) <= 6 * math.pi * 8 * 0.5
