"""The compiled loop by itself; against tensor operations and a closed form it is tested in ``test_symmetrise``."""

from __future__ import annotations

import torch

from cryotorch.ops.fourier.symmetrise_cpu import add_copies
from cryotorch.ops.geometry.symmetry import point_group

EDGE, RIM = 6, 2


def test_a_point_of_the_band_comes_to_lie_at_all_of_its_orbit() -> None:
    table = torch.zeros(2 * EDGE + 1, 2 * EDGE + 1, EDGE + 2, 3)
    table[EDGE + 1, EDGE + 2, 1 + 3] = torch.tensor([1.0, 2.0, 4.0])  # k = (3, 2, 1)
    group = point_group("O")
    total = add_copies([table], 4.0, RIM, group.round(), group[:1])
    points = group.round().long() @ torch.tensor([3, 2, 1])
    for x, y, z in points.tolist():
        sign = 1 if x > 0 else -1
        found = total[EDGE + sign * z, EDGE + sign * y, 1 + sign * x]
        assert found.tolist() == [1.0, 2.0 * sign, 4.0]
    # half of the orbit lies at x < 0, where it stands for its mirror image; x = 0 is not among them
    assert int(total[:, :, 1:, 0].count_nonzero()) == 24
    assert torch.equal(table[..., 2].sum(), torch.tensor(4.0)), "what is read is not written"


def test_a_point_on_an_axis_counts_once_for_every_rotation() -> None:
    table = torch.zeros(2 * EDGE + 1, 2 * EDGE + 1, EDGE + 2, 3)
    table[EDGE + 3, EDGE, 1] = table[EDGE - 3, EDGE, 1] = torch.tensor([1.0, 0.0, 1.0])
    group = point_group("C4")
    total = add_copies([table], 4.0, RIM, group.round(), group[:1])
    assert torch.equal(total, 4 * table)


def test_weights_do_not_fall_below_zero() -> None:
    table = torch.zeros(2 * EDGE + 1, 2 * EDGE + 1, EDGE + 2, 3)
    table[EDGE, EDGE, 1 + 3] = torch.tensor([0.0, 0.0, 1.0])
    group = point_group("C3")
    total = add_copies([table], 4.0, RIM, group[:1], group)
    assert total[..., 2].min() == 0 and total[..., 2].max() > 0.9
