"""What posteriors of classes say: how many images each class has, and how far two assignments agree."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

EMPTY = 0.01  # of the images: a class with a smaller part of them has none


def effective_size(share: Tensor) -> Tensor:
    """(k,) effective number of images of each class, (sum w)^2 / sum w^2 of its posterior shares w (n, k)."""
    share = share.double()
    return share.sum(0).square() / share.square().sum(0).clamp_min(1e-30)


def of_images(share: Tensor) -> Tensor:
    """(k,) part of the images that are most probably in each class; share (n, k)."""
    return torch.bincount(share.argmax(1), minlength=share.shape[1]).double() / len(share)


@dataclass(frozen=True)
class Agreement:
    """Two assignments of the same images to classes, compared.

    Attributes:
        order: (k,) class of the second that stands for each class of the first, so that most images agree.
        table: (k, k) images by class of the first and of the second, in that order.
    """

    order: Tensor
    table: Tensor

    @property
    def share(self) -> float:
        """Part of the images in classes that stand for each other."""
        return float(self.table.diagonal().sum() / self.table.sum().clamp_min(1))

    @property
    def beyond_chance(self) -> float:
        """That, with 0 for what independent assignments of the same shares would reach, and 1 for all (Cohen's kappa)."""
        n = self.table.sum().clamp_min(1)
        chance = float((self.table.sum(0) / n) @ (self.table.sum(1) / n))
        return (self.share - chance) / (1 - chance) if chance < 1 else 0.0


def agreement(first: Tensor, second: Tensor, classes: int) -> Agreement:
    """How far the classes of images, ``first`` (n,) and ``second`` (n,), numbers below ``classes``, agree whatever they are called."""
    place = first.cpu() * classes + second.cpu()
    table = torch.bincount(place, minlength=classes**2).view(classes, classes).double()
    order = torch.from_numpy(linear_sum_assignment(table.numpy(), maximize=True)[1])
    return Agreement(order, table[:, order])
