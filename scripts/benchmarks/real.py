"""``job=homo_refine`` with its defaults on real particles, judged by an independent model of them.

The model is initial map, low-passed, and truth at once. Simulated sets stand beside, judged alike.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import refinement, relion
from benchmarks.refinement import Data, Run
from cryotorch.errors import InputError

Row = dict[str, object]
# Beside the repository, in a folder that is not part of it.
FOLDER = Path(__file__).parents[3] / "shared" / "data" / "real_apoferritin"
SETTLED = 2  # iterations at the start whose claims may still be far off


@dataclass(frozen=True)
class Judge:
    """Scores a map in a soft sphere.

    Attributes:
        radius: Å; None = 0.42 of the box edge.
        shells: first and last of each band.
    """

    radius: float | None
    shells: Sequence[int]

    def __call__(self, volume: Path, truth: Path) -> Row:
        """Mean FSC over each band, and where it falls below 0.5."""
        from benchmarks.score import sphere_curve
        from cryotorch.ops.resolution.fsc import resolution

        curve, box, pixel_size = sphere_curve(volume, truth, self.radius)
        if max(self.shells) > box // 2:
            raise InputError(f"--shells end at {box // 2} in {box} pixels, got {max(self.shells)}")
        bands = zip(self.shells[::2], self.shells[1::2], strict=True)
        means = {f"shells {a}-{b}": float(curve[a : b + 1].mean()) for a, b in bands}
        reached = resolution(curve, box, pixel_size, threshold=0.5, interpolate=True)
        return means | {"FSC 0.5, Å": reached}


@dataclass(frozen=True)
class Plan:
    """One run per box (None = as extracted), initial resolution in Å and seed."""

    boxes: Sequence[int | None]
    initial: Sequence[float]
    seeds: Sequence[int]

    def __iter__(self):
        return iter([(b, r, s) for b in self.boxes for r in self.initial for s in self.seeds])


def run(
    data: Data, plan: Plan, judge: Judge, changes: Sequence[str], folder: Path, peer: bool
) -> dict[str, list[Row]]:
    """Title -> rows; ``peer`` runs RELION on the same particles too."""
    rows = []
    for box, initial, seed in plan:
        out = folder / f"box{box or 0}_initial{initial:g}_seed{seed}"
        chosen = [f"box_size={box or 'null'}", f"initial_resolution={initial:g}", f"seed={seed}"]
        done = refinement.refine(data, out, [*chosen, *changes])
        rows.append(_row(out, done, data, judge, initial, seed))
    tables = {"Real particles": rows, "Worst of these runs": _worst(rows)}
    if peer:
        tables["RELION"] = relion.run(data, plan, judge, folder)
    return tables


def simulated(
    symmetries: Sequence[str], settings: Sequence[str], judge: Judge, changes, folder: Path
) -> dict[str, list[Row]]:
    """A row for a set of job=simulate of each symmetry, from its own initial map."""
    rows = []
    for symmetry in symmetries:
        data = refinement.simulated(folder / symmetry / "data", settings, symmetry)
        data = replace(data, truth_star=None)
        out = folder / symmetry / "run"
        done = refinement.refine(data, out, changes)
        row = _row(out, done, data, replace(judge, radius=None), 30.0, 0)
        del row["initial, Å"], row["seed"]
        rows.append({"symmetry": symmetry} | row)
    return {"Simulated particles": rows} if rows else {}


def _row(out: Path, done: Run, data: Data, judge: Judge, initial: float, seed: int) -> Row:
    summary = json.loads((out / "summary.json").read_text())
    edge = summary["box"] * summary["pixel_size"]
    claims = [shell(edge, row["resolution"]) for row in summary["history"]]
    row: Row = {"box": summary["box"], "initial, Å": float(initial), "seed": seed}
    return row | {
        **judge(out / "map.mrc", data.truth_map),
        "claim, Å": summary["resolution"],
        "shells claimed": ", ".join(map(str, claims)),
        "shells finer on the way": finer(claims),
        "iterations": summary["iterations"],
        "seconds": done.seconds,
        "warnings": len(summary.get("warnings") or []),
    }


def shell(edge: float, resolution: float | None) -> int:
    """The Fourier shell of a resolution in Å; 0 where nothing is claimed."""
    return 0 if resolution is None else round(edge / resolution)


def finer(claims: Sequence[int]) -> int:
    """Shells by which a claim from the third iteration on exceeds the final one."""
    return max([0, *(claim - claims[-1] for claim in claims[SETTLED:])])


def _worst(rows: Sequence[Row]) -> list[Row]:
    """The lowest mean FSC of each band, the largest of everything else."""
    bands = [name for name in rows[0] if name.startswith("shells ") and name[7].isdigit()]
    worst = {f"{name}, lowest": min(row[name] for row in rows) for name in bands}
    worst["FSC 0.5, Å, coarsest"] = max(row["FSC 0.5, Å"] for row in rows)
    # nothing claimed is nothing claimed falsely
    bold = [row["FSC 0.5, Å"] / row["claim, Å"] for row in rows if row["claim, Å"]]
    worst["claim finer than FSC 0.5 by the factor, largest"] = max(bold, default=None)
    for name in ("shells finer on the way", "seconds"):
        worst[f"{name}, largest"] = max(row[name] for row in rows)
    return [{"quantity": name, "value": value} for name, value in worst.items()]
