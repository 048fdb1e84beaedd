"""What columns of a refinement's particles tell of junk, and whether a probability is one.

Junk of ``job=simulate``: noise, blobs and picks between two neighbours, a third each.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np

from benchmarks import refinement

Row = dict[str, object]
PROBABILITY, CUT = "cryotorchParticleProbability", 0.5
# Columns that rank particles as well as they can alone, and whether more is better.
ALONE = {"cryotorchScale": 1, "cryotorchRotationSigma": -1, "cryotorchNoiseFactor": -1}
BINS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)


def run(
    snr: Sequence[float],
    junk: Sequence[float],
    symmetries: Sequence[str],
    simulate: Sequence[str],
    changes: Sequence[str],
    folder: Path,
) -> dict[str, list[Row]]:
    """A refinement of every set: how well junk is found, and probabilities beside the truth."""
    rows, pairs = [], []
    for number, (noise, share, symmetry) in enumerate(product(snr, junk, symmetries), 1):
        given = [*simulate, f"snr={noise:g}", f"junk_share={share:g}"]
        data = refinement.simulated(folder / f"set_{number}" / "data", given, symmetry)
        out = folder / f"set_{number}" / "refined"
        refinement.refine(data, out, changes)
        row, pair = judged(out / "particles.star")
        rows.append({"SNR": noise, "junk": share, "symmetry": symmetry} | row)
        pairs += pair
    return {"Junk, found by columns alone": rows} | (
        {"Probability, all sets": reliability(*map(np.concatenate, zip(*pairs, strict=True)))}
        if pairs
        else {}
    )


def judged(star: Path) -> tuple[Row, list[tuple[np.ndarray, np.ndarray]]]:
    """A row of the table; probability and whether each image shows a molecule, (n,), if any."""
    from cryotorch.data.star import read_star

    table = read_star(star)["particles"]
    species = table["cryotorchSpecies"].astype(int) if "cryotorchSpecies" in table else None
    good = np.ones(len(table["rlnImageName"]), bool) if species is None else species < 3
    row: Row = {
        f"AUC {label}": auc(sign * table.floats(label, star), good) for label, sign in ALONE.items()
    }
    names = f"AUC {PROBABILITY}", "said, %", "recall, %", "precision, %"
    if PROBABILITY not in table:
        return row | dict.fromkeys(names), []
    probability = table.floats(PROBABILITY, star)
    called = probability < CUT
    right = (called & ~good).sum()
    found = (
        auc(probability, good),
        100 * float((1 - probability).mean()),
        100 * float(right / max(1, (~good).sum())),
        100 * float(right / max(1, called.sum())),
    )
    return row | dict(zip(names, found, strict=True)), [(probability, good)]


def auc(values: np.ndarray, good: np.ndarray) -> float | None:
    """The chance that the value of a good one is larger, equal ones by half; None of one kind."""
    from scipy.stats import rankdata

    n, rest = int(good.sum()), int((~good).sum())
    if not n or not rest:
        return None
    return float((rankdata(values)[good].sum() - n * (n + 1) / 2) / (n * rest))


def reliability(probability: np.ndarray, good: np.ndarray) -> list[Row]:
    """Of particles whose probability (n,) lies in a bin: its mean, and the share that is good."""
    rows: list[Row] = []
    place = np.digitize(probability, BINS[1:-1])
    for number in np.unique(place):
        mine = place == number
        rows.append(
            {
                "from": BINS[number],
                "to": BINS[number + 1],
                "particles": int(mine.sum()),
                "mean probability": float(probability[mine].mean()),
                "show a molecule": float(good[mine].mean()),
            }
        )
    return rows
