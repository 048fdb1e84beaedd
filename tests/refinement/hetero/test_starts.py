"""What classes begin with."""

from __future__ import annotations

import torch

from cryotorch.refinement.hetero.starts import random_start
from tests.refinement.hetero.test_settings import made


def test_rows_of_an_image_begin_in_one_class() -> None:
    image = torch.arange(900) % 300
    unseen = image < 30
    draw = torch.Generator().manual_seed(0)
    share = random_start(image, unseen, made(n_classes=3), draw)
    assert torch.equal(share[:300], share[300:600])
    assert torch.allclose(share[unseen], torch.full((90, 3), 1 / 3))
    assert torch.equal(share[~unseen].amax(1), torch.ones(810))
    assert float(share[~unseen].mean(0).min()) > 0.25
