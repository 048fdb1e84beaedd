"""What refinements claim and report beside the truth, and what noise reaches.

Sets are those of ``../shared/data``, simulated ones of 64 pixels, and white noise.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks import refinement
from benchmarks.real import FOLDER, shell
from benchmarks.refinement import Data

Row = dict[str, object]
SETS = {"relion_c1": "C1", "relion_c4": "C4", "relion_hires": "C1"}  # with their point groups
POSES = dict(n_particles=500, box_size=64, pixel_size=3, seed=1)
ERRORS = (1, 2, 3)
MAPS = 14  # 91 pairs


def shared(name: str) -> Data:
    """A set of ../shared/data."""
    folder = FOLDER.parent / name
    start = next(path for path in sorted(folder.glob("init.mrc*")))
    truth = (folder / "truth" / "truth.mrc.gz", folder / "truth" / "truth.star")
    return Data(folder / "particles.star", start, *truth, SETS[name])


def simulated(snr: float, folder: Path) -> Data:
    """500 particles of 64 pixels."""
    settings = [f"{name}={value}" for name, value in (POSES | {"snr": snr}).items()]
    return refinement.simulated(folder, settings, "C1")


def against_truth(name: str, data: Data, out: Path, changes: Sequence[str]) -> Row:
    """A refinement: claimed and true shell in its own mask, reported and true errors of poses.

    The true shell is the last one before the FSC of map and truth falls below 0.5.
    """
    done = refinement.refine(data, out, changes)
    from benchmarks.score import error_ratios, own_mask_shell

    summary = json.loads((out / "summary.json").read_text())
    edge = summary["box"] * summary["pixel_size"]
    return {
        "set": name,
        "claim, Å": summary["resolution"],
        "shell claimed": shell(edge, summary["resolution"]),
        "shell true": own_mask_shell(out, data.truth_map),
        **error_ratios(out / "particles.star", data.truth_star, data.symmetry),
        "iterations": summary["iterations"],
        "seconds": done.seconds,
    }


def noise_set(
    n: int, box: int, symmetry: str, seed: int, changes: Sequence[str], folder: Path
) -> Row:
    """White noise with the CTFs and the initial map of a molecule: refined and reconstructed."""
    settings = dict(n_particles=n, box_size=box, pixel_size=192 / box, seed=seed)
    given = [f"{name}={value}" for name, value in settings.items()]
    data = replace(refinement.simulated(folder / "data", given, symmetry), truth_map=None)
    import numpy as np

    from cryotorch.data.mrc import write_stack

    draw = np.random.default_rng(seed)
    images = (draw.standard_normal((1, box, box), np.float32) for _ in range(n))
    write_stack(data.particles.with_suffix(".mrcs"), images, n, box, 192 / box)
    done = refinement.refine(data, folder / "refined", changes)
    found = folder / "refined" / "particles.star"
    again = (f"particles={found}", f"symmetry={symmetry}", f"out={folder / 'again'}")
    refinement.finish(refinement.cryotorch("reconstruct", *again), folder / "again.log")
    claims = {
        name: json.loads((folder / name / "summary.json").read_text())
        for name in ("refined", "again")
    }
    return {
        "particles x pixels": f"{n} x {box}",
        "symmetry": symmetry,
        "claim, Å": claims["refined"]["resolution"],
        "claim of reconstruct at these poses, Å": claims["again"]["resolution"],
        "iterations": claims["refined"]["iterations"],
        "seconds": done.seconds,
    }


def noise_band(box: int, symmetries: Sequence[str]) -> list[Row]:
    """The FSC of white noise in masks: its scatter by that of the band, and how often it passes.

    Shells with more than four independent numbers but for the last two, all pairs of 14 maps. Of
    Gaussian numbers 16, 2.3 and 0.13 % exceed one, two and three standard errors.
    """
    import torch

    from benchmarks.noise import fsc_of_pairs, masks, white
    from cryotorch.ops.geometry.symmetry import point_group
    from cryotorch.ops.resolution.significance import independent_numbers
    from cryotorch.ops.resolution.significance import noise_band as band

    rows = []
    for symmetry in symmetries:
        group = point_group(symmetry)
        maps = white(box, group, MAPS)
        for kind, mask in masks(box).items():
            if len(group) > 1 and kind not in ("spherical", "small sphere"):
                continue
            numbers = independent_numbers(mask, group)
            curves = fsc_of_pairs(maps, mask)
            used = (numbers > 4) & (torch.arange(len(numbers)) < len(numbers) - 2)
            ratio = curves.square().mean(0).sqrt() * numbers.sqrt()
            beyond = {
                f"beyond {e} standard error{'s' * (e > 1)}, %": 100
                * float((curves > band(numbers, e))[:, used].double().mean())
                for e in ERRORS
            }
            spread = math.sqrt(float(ratio[used].square().mean()))
            rows.append({"symmetry": symmetry, "mask": kind, "scatter / expected": spread} | beyond)
    return rows
