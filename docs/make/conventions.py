"""Drawings of the conventions; what can be computed is computed by the package itself."""

from __future__ import annotations

import look
import numpy as np
import torch
from look import BLUE, FAINT, GREEN, INK, RED
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import cryotorch as ct
from cryotorch.ops.ctf.transfer import contrast_transfer

COLOURS = {"x": RED, "y": GREEN, "z": BLUE}
LENGTHS = {"x": 22.0, "y": 16.0, "z": 10.0}  # voxels of the bars along the axes


def bars(box: int = 64) -> torch.Tensor:
    """A map (d, d, d) with a bar along each axis from the middle on, of different lengths."""
    axis = torch.arange(box) - box // 2.0
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    places = {"x": (x, y, z), "y": (y, x, z), "z": (z, x, y)}
    volume = torch.zeros(box, box, box)
    for name, (along, one, two) in places.items():
        ends = torch.sigmoid(2 * along) * torch.sigmoid(2 * (LENGTHS[name] - along))
        volume += ends * torch.exp(-(one**2 + two**2) / 4.5)
    return volume


def rotations() -> None:
    """Projections of the bars at four sets of Euler angles, with R times the axes drawn into them."""
    volume = bars()
    figure = Figure(figsize=(9.2, 2.7))
    cases = [
        ((0, 0, 0), "rot 0, tilt 0, psi 0"),
        ((30, 0, 0), "rot 30°"),
        ((0, 30, 0), "tilt 30°"),
        ((0, 30, 60), "tilt 30°, then psi 60°"),
    ]
    for axes, (angles, title) in zip(figure.subplots(1, 4), cases, strict=True):
        turn = look.turn(*angles)
        image = ct.project(volume, turn[None], pixel_size=1.0)[0]
        box = len(image)
        look.bare(axes, title)
        extent = (-box // 2 - 0.5, box // 2 - 0.5) * 2
        axes.imshow(image, cmap="gray_r", origin="lower", extent=extent, vmax=image.max() * 1.8)
        for i, (name, colour) in enumerate(COLOURS.items()):
            tip = (turn[:2, i] * (LENGTHS[name] + 5)).numpy()
            if np.hypot(*tip) > 1:
                axes.annotate(
                    "", tip, (0, 0), arrowprops=dict(arrowstyle="-|>", color=colour, lw=1.6)
                )
            axes.text(*(tip * 1.12 + [-1.5, -2.8 if not tip.any() else 0]), name, color=colour)
        axes.set_xlim(-30, 30)
        axes.set_ylim(-30, 30)
    look.save(figure, "conventions_rotation.svg")


def shift() -> None:
    """A particle at -s from the origin, and the image moved by +s."""
    volume = bars()
    s = torch.tensor([[10.0, 6.0]])
    figure = Figure(figsize=(6.2, 2.9))
    titles = ("as it is: the particle sits at −s", "moved by +s: centred")
    for axes, title, by in zip(figure.subplots(1, 2), titles, (s, 0 * s), strict=True):
        image = ct.project(volume, torch.eye(3)[None], shift=by, pixel_size=1.0)[0]
        look.bare(axes, title)
        axes.imshow(image, cmap="gray_r", origin="lower", extent=(-32.5, 31.5) * 2, vmax=14)
        axes.axhline(0, color=FAINT, lw=0.7)
        axes.axvline(0, color=FAINT, lw=0.7)
        if by.any():
            axes.annotate(
                "", (0, 0), -by[0].numpy(), arrowprops=dict(arrowstyle="-|>", color=RED, lw=1.8)
            )
            axes.text(-6, -17, "s = rlnOriginX/YAngst", color=RED)
        axes.text(22, -3.5, "x", color=INK)
        axes.text(1, 22, "y", color=INK)
        axes.set_xlim(-28, 26)
        axes.set_ylim(-20, 26)
    look.save(figure, "conventions_shift.svg")


def box_centre() -> None:
    """The origin of an even and of an odd box."""
    figure = Figure(figsize=(6.2, 3.0))
    for axes, box in zip(figure.subplots(1, 2), (8, 7), strict=True):
        look.bare(axes, f"box of {box} pixels: origin = pixel {box} // 2 = {box // 2}")
        for x in range(box):
            for y in range(box):
                here = x == y == box // 2
                axes.add_patch(
                    Rectangle((x - 0.5, y - 0.5), 1, 1, fc=RED if here else "none", ec=FAINT)
                )
            axes.text(x, -1, f"{x}", ha="center", va="center", fontsize=7)
            axes.text(-1, x, f"{x}", ha="center", va="center", fontsize=7)
        middle = (box - 1) / 2
        axes.plot(middle, middle, "+", color=BLUE, ms=11, mew=1.6)
        axes.text(0, box, "+ middle of the square", color=BLUE, fontsize=8)
        axes.text(box / 2, -2.1, "x →", ha="center")
        axes.text(-2.1, box / 2, "y →", va="center", rotation=90, ha="center")
        axes.set_xlim(-2.6, 8)
        axes.set_ylim(-2.6, 8.6)
        axes.set_aspect("equal")
    look.save(figure, "conventions_box.svg")


def hand() -> None:
    """A map and its mirror image, and projections that cannot tell them apart."""
    made = ct.simulate(box_size=64, pixel_size=3.0, n_particles=1, snr=None, seed=3)
    volume = made.map
    mirror = volume.flip(0).roll(1, 0)  # z -> -z
    turn = look.turn(40, 60, 20)
    flip = torch.diag(torch.tensor([1.0, 1.0, -1.0]))
    poses = turn, flip @ turn @ flip
    figure = Figure(figsize=(8.6, 2.5))
    axes = figure.subplots(1, 4)
    names = "a map V(x, y, z)", "its mirror image V(x, y, −z)"
    for i, (which, pose) in enumerate(zip((volume, mirror), poses, strict=True)):
        level = float(which.quantile(0.985))
        look.bare(axes[2 * i], names[i]).imshow(
            look.surface(which, level, torch.eye(3)), origin="lower"
        )
        image = ct.project(which, pose[None], pixel_size=3.0)[0]
        look.bare(axes[2 * i + 1], ("its image at R", "its image at S R S")[i])
        axes[2 * i + 1].imshow(image, cmap="gray", origin="lower")
    look.save(figure, "conventions_hand.png", dpi=110)


def contrast() -> None:
    """The CTF at two defocus values: +sin(chi), which starts positive."""
    k = torch.linspace(0, 0.2, 800)
    frequency = torch.stack([k, 0 * k], -1)
    lens = [torch.tensor([v]) for v in (0.0, 300.0, 2.7, 0.1)]  # phase shift, kV, mm, amplitude
    figure = Figure(figsize=(6.2, 2.3))
    axes = figure.subplots()
    for defocus, colour in ((8000, RED), (20000, BLUE)):
        values = torch.tensor([[defocus, defocus, 0.0]])
        ctf = contrast_transfer(frequency, values, *lens)[0]
        axes.plot(k, ctf, color=colour, label=f"defocus {defocus:,} Å", lw=1.3)
    axes.axhline(0, color=FAINT, lw=0.7)
    axes.plot(0, 0.1, "o", color=INK, ms=4, clip_on=False)
    axes.annotate(
        "amplitude contrast 0.1 at k = 0",
        (0, 0.1),
        (0.012, -0.55),
        color=INK,
        arrowprops=dict(arrowstyle="-", color=FAINT),
    )
    look.resolution_axis(axes, 2.5)
    axes.set_ylabel("CTF")
    axes.legend(loc="upper right", ncols=2)
    axes.set_ylim(-1.1, 1.5)
    look.save(figure, "conventions_ctf.svg")


def make() -> None:
    for draw in (rotations, shift, box_centre, hand, contrast):
        draw()
