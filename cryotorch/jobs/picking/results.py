"""What is written beside the stack of templates: the STAR file, the contact sheet, the summary."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from cryotorch.data.particle_file import new_particle_file
from cryotorch.data.star import write_star
from cryotorch.data.table import Table
from cryotorch.jobs.picking.templates import Measured, Templates
from cryotorch.particles import Optics, unposed
from cryotorch.report.figures import write_pictures
from cryotorch.report.job_tensorboard import write_tensorboard
from cryotorch.report.sentences import in_summary
from cryotorch.report.style import render
from cryotorch.report.summary import provenance, write_json
from cryotorch.report.templates import contact_sheet, shown, view_captions


def write_star_file(folder: Path, made: Templates) -> None:
    """``templates.star``: images and angles; their table comes first, as relion_autopick reads the first one.

    Cs and defocus 0 with an amplitude contrast of 1 make a CTF of 1 everywhere: the images have none, and a program
    that takes them for particles may apply it.
    """
    n = len(made.views)
    optics = Optics(*(torch.tensor([value]) for value in (300.0, 0.0, 1.0, made.pixel_size)))
    path, stack = folder / "templates.star", folder / "templates.mrcs"
    tables = new_particle_file(path, [stack], made.box, unposed(n, optics)).tables
    images = tables["particles"]
    columns = {"rlnReferenceImage": images.raw("rlnImageName")}
    columns |= {label: images.raw(label) for label in images}
    columns |= zip(("rlnAngleRot", "rlnAngleTilt"), made.angles.T.numpy(), strict=True)
    for label in ("rlnAnglePsi", "rlnOriginXAngst", "rlnOriginYAngst"):
        columns[label] = np.zeros(n)
    write_star(path, {"particles": Table(columns), "optics": tables["optics"]})


def draw(folder: Path, made: Templates, found: Measured) -> None:
    """The contact sheet, as a file and for TensorBoard."""
    s, n, few = made.settings, len(made.views), len(found.sheet)
    filtered = "" if s.low_pass is None else f" at {s.low_pass:g} Å"
    title = f"{n} template{'s' if n > 1 else ''}{filtered}" + (f", {few} shown" if few < n else "")
    subtitle = f"rot, tilt; {s.symmetry}; {made.box} px of {made.pixel_size:.4g} Å"
    captions = view_captions(made.angles[shown(n)])
    sheet = contact_sheet(found.sheet, captions, made.pixel_size, title, subtitle)
    pictures = {"templates": render(sheet)}
    write_pictures(pictures, folder)
    write_tensorboard(folder / "tensorboard", {"largest_gap_deg": made.gap}, pictures, {})


def write_summary(path: Path, made: Templates, found: Measured, seconds: float) -> None:
    """``summary.json``."""
    s = made.settings
    summary = {
        "templates": len(made.views),
        "volume": str(made.path.resolve()),
        "symmetry": s.symmetry,
        "symmetry_order": made.order,
        "box": made.box,
        "pixel_size": made.pixel_size,
        "low_pass": s.low_pass,
        "diameter": s.diameter,
        "inverted": s.invert,
        "grey_standard_deviation": found.spread,
        "largest_gap_deg": made.gap,
        "ideal_gap_deg": made.ideal,
        "angles_deg": made.angles,
        **in_summary(found.warnings),
        "seconds": {"total": round(seconds, 3)},
        **provenance(),
    }
    write_json(path, summary)
