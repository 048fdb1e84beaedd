"""How the pictures of the pages look, and how they are saved: small, on white, the same bytes every time."""

from __future__ import annotations

import math
import re
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cryotorch.ops.geometry.rotations import euler_to_matrix

PICTURES = Path(__file__).parents[1] / "pictures"
INK, FAINT = "#37474f", "#90a4ae"
RED, GREEN, BLUE, ORANGE = "#d32f2f", "#2e7d32", "#1565c0", "#ef6c00"

CURVES = {
    "no_mask": ("no mask", BLUE, 1.2, "-"),
    "tight": ("in the mask", ORANGE, 1.2, "-"),
    "randomised": ("random phases, in the mask", FAINT, 1.0, "--"),
    "corrected": ("corrected", INK, 2.0, "-"),
}

matplotlib.use("Agg")
matplotlib.rcParams.update(
    {
        "font.size": 9,
        "text.color": INK,
        "axes.edgecolor": FAINT,
        "axes.labelcolor": INK,
        "axes.titlesize": 9.5,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "xtick.color": INK,
        "ytick.color": INK,
        "legend.frameon": False,
        "svg.hashsalt": "cryotorch",
        "figure.constrained_layout.use": True,
    }
)


def save(figure: Figure, name: str, dpi: int = 130) -> None:
    """Writes a picture of the pages; drawings as SVG, what holds images as PNG with a palette."""
    PICTURES.mkdir(exist_ok=True)
    path = PICTURES / name
    if path.suffix == ".svg":
        figure.savefig(path, metadata={"Date": None})
        path.write_text(re.sub(r"(\d*[1-9]\d*\.\d\d)\d+", r"\1", path.read_text()))
    else:
        from PIL import Image

        figure.savefig(path, dpi=dpi, metadata={"Software": None})
        Image.open(path).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(
            path, optimize=True
        )
    print(f"{name}: {path.stat().st_size / 1000:.0f} kB")


def bare(axes: Axes, title: str = "") -> Axes:
    """No ticks and no frame."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.set_title(title)
    return axes


def resolution_axis(axes: Axes, pixel_size: float) -> None:
    """1/Å below, from 0 to Nyquist, with Å as labels."""
    at = [r for r in (40, 20, 12, 8, 6, 5, 4) if r >= 2 * pixel_size]
    axes.set_xticks([1 / r for r in at], [f"{r}" for r in at])
    axes.set_xlim(0, 0.5 / pixel_size)
    axes.set_xlabel("resolution, Å")


def turn(rot: float, tilt: float, psi: float) -> torch.Tensor:
    """R (3, 3) of RELION's angles in degrees."""
    return euler_to_matrix(*(torch.tensor(math.radians(a)) for a in (rot, tilt, psi)))


def surface(volume: torch.Tensor, level: float, view: torch.Tensor, size: int = 220) -> np.ndarray:
    """A shaded surface of a map (d, d, d) as an image (size, size, 4), seen along z after the turn ``view`` (3, 3)."""
    grid = torch.linspace(-1, 1, size)
    z, y, x = torch.meshgrid(grid, grid, grid, indexing="ij")
    points = torch.stack([x, y, z], -1) @ view.to(x)  # R^T x: from the picture's frame to the map's
    field = torch.nn.functional.grid_sample(
        volume[None, None].float(), points[None], align_corners=True, mode="bilinear"
    )[0, 0]
    inside = field > level
    hit = inside.any(0)
    first = inside.float().argmax(0)
    slopes = torch.stack(torch.gradient(field)[::-1], 0)  # x, y, z
    normal = -torch.gather(slopes, 1, first.expand(3, 1, size, size))[:, 0]
    normal = normal / normal.norm(dim=0).clamp(min=1e-9)
    light = torch.tensor([-0.4, -0.5, -0.77])
    shade = 0.35 + 0.65 * (normal * light[:, None, None]).sum(0).clamp(min=0)
    depth = 1 - 0.35 * first / size
    colour = torch.tensor([0.55, 0.70, 0.80])
    image = (shade * depth)[..., None] * colour * 1.45
    return torch.cat([image.clamp(0, 1), hit[..., None].float()], -1).flip(0).numpy()
