"""The figure of classes, pass by pass."""

from __future__ import annotations

import torch

from cryotorch.report.class_flow import flow_figure


def test_each_class_has_a_line_and_the_changes_too() -> None:
    shares = torch.tensor([[0.5, 0.5], [0.6, 0.4], [0.7, 0.3]])
    lines = (
        flow_figure(shares, torch.tensor([0.4, 0.2, 0.01]), ["class 1", "junk"]).axes[0].get_lines()
    )
    assert [line.get_label() for line in lines] == ["class 1", "junk", "changed class"]
    assert [list(line.get_xdata()) for line in lines] == [[1, 2, 3]] * 3
    assert lines[0].get_ydata()[2] == torch.tensor(0.7)
