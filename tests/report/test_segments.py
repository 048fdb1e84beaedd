"""The figure of segments: colours, numbers, strong where kept."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.colors import to_rgb

from cryotorch.report.segments import COLOURS, segment_figure


def test_segments_are_coloured_and_numbered() -> None:
    volume, labels = torch.zeros(40, 40, 40), torch.zeros(40, 40, 40, dtype=torch.int32)
    labels[10:30, 5:15, 5:15] = 1
    labels[18:22, 26:34, 5:15] = 2
    labels[2:10, 5:15, 5:15] = 3  # below segment 1, thinner along z
    volume[labels > 0] = 1.0
    figure = segment_figure(volume, labels, [2], 2.0, "Three", (10, 10, 20))
    axes = figure.axes[0]
    images = [np.asarray(image.get_array()) for image in axes.get_images()]
    assert len(images) == 6 and all(image.shape == (40, 40, 3) for image in images)
    top = images[0]  # along z
    assert np.ptp(top[0, 0]) == 0  # grey where there is no segment
    for place, label, part in (((10, 10), 1, 0.2), ((30, 10), 2, 0.65)):
        grey = (top[place] - part * np.array(to_rgb(COLOURS[label - 1]))) / (1 - part)
        assert np.ptp(grey) < 1e-6, label
    texts = [text.get_text() for text in axes.texts]
    # along z 1 hides 3, along y it hides 2; the slice xz misses 2, the slice xy 3
    assert [texts.count(n) for n in "123"] == [6, 4, 4]
    assert figure.texts[0].get_text() == "Three"


def test_numbers_stand_apart_and_specks_have_none() -> None:
    labels = torch.zeros(64, 64, 64, dtype=torch.int32)
    labels[20:40, 20:40, 20:40], labels[20:40, 20:40, 40:60] = 1, 2
    labels[50, 50, 50] = 3
    labels[30, 29:31, 29:31] = 4
    axes = segment_figure(labels.float(), labels, [1, 2], 2.0, "t", (30, 30, 30)).axes[0]
    texts = [text.get_text() for text in axes.texts]
    assert "1" in texts and "2" in texts and "3" not in texts and "4" not in texts
