"""What classes begin with."""

from __future__ import annotations

import torch
from torch import Tensor

from cryotorch.refinement.hetero.settings import HeteroSettings


def random_start(
    image: Tensor, unseen: Tensor, settings: HeteroSettings, generator: torch.Generator
) -> Tensor:
    """Posteriors (n, k) of rows in classes at random, those of an image (n,) in one; ``unseen`` (n,) are as likely in all."""
    k = settings.n_classes
    _, place = image.cpu().unique(return_inverse=True)
    drawn = torch.randint(k, (int(place.max()) + 1,), generator=generator)[place]
    share = torch.nn.functional.one_hot(drawn, k).float().to(image.device)
    return torch.where(unseen[:, None], 1 / k, share)
