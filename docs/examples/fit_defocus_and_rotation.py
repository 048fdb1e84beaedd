"""Train through the image model: find a defocus and a small rotation of noisy images by gradient descent.

    python docs/examples/fit_defocus_and_rotation.py

The images are simulated with the truth at hand, so that the errors before and after can be printed. Half a minute on two cores.
"""

from __future__ import annotations

import torch

import cryotorch as ct


def main(steps: int = 60) -> tuple[float, float]:
    """The remaining errors: Å of defocus, degrees of rotation."""
    made = ct.simulate(box_size=48, pixel_size=3.0, n_particles=8, snr=1.0, shift_sigma=0.0, seed=1)
    truth, lens = made.particles, dict(pixel_size=made.pixel_size)
    off = torch.tensor([0.03, -0.02, 0.04])  # radians, the same turn for all
    start = turned(truth.rotation, off)

    turn = torch.zeros(3, requires_grad=True)
    defocus = torch.tensor(500.0, requires_grad=True)  # Å, a common error of all images
    optimizer = torch.optim.Adam(
        [dict(params=[turn], lr=3e-3), dict(params=[defocus], lr=20.0)], betas=(0.8, 0.95)
    )
    for _ in range(steps):
        optimizer.zero_grad()
        change = torch.stack([defocus, defocus, torch.zeros(())])
        images = ct.project(
            made.map, turned(start, turn), truth.shift, truth.defocus + change, **lens
        )
        loss = (images - made.images).square().mean()
        loss.backward()
        optimizer.step()
    left = torch.linalg.matrix_exp(cross(turn.detach())) @ torch.linalg.matrix_exp(cross(off))
    angle = torch.acos(((left.trace() - 1) / 2).clamp(-1, 1)).rad2deg()
    return abs(float(defocus.detach())), float(angle)


def turned(rotation: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
    """exp(w) R for rotations (b, 3, 3) and a rotation vector w in radians."""
    return torch.linalg.matrix_exp(cross(vector)) @ rotation


def cross(vector: torch.Tensor) -> torch.Tensor:
    """The matrix (3, 3) of the cross product with a vector."""
    x, y, z = vector
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero]).reshape(3, 3)


if __name__ == "__main__":
    torch.manual_seed(0)
    print("defocus off by {:.0f} Å (500 before), rotation by {:.2f}° (3.09 before)".format(*main()))
