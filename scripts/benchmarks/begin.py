"""``job=ab_initio`` and ``job=class2d`` beside RELION's initial model and 2D classes.

All see the same stack and as many threads, and what they find is scored alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks import refinement, relion
from benchmarks.refinement import Data, Run
from cryotorch.errors import InputError

Row = dict[str, object]
GOAL = 15.0  # Å, where the FSC with the truth must not be below 0.5 for a start to have succeeded
BLOBS, WIDTHS, HEIGHTS = 3, (0.03, 0.12), (1.0, 2.0)  # most in an image; of the box; of the noise


@dataclass(frozen=True)
class Plan:
    """What is run.

    Attributes:
        seeds: of ab_initio; relion_seeds: of RELION's initial model.
        classes: number of 2D classes, 0 = none; junk: images that are none, of the particles.
        diameter: Å, of the particle; None = 0.84 of the box.
    """

    seeds: Sequence[int]
    relion_seeds: Sequence[int]
    classes: int
    junk: float
    diameter: float | None


def find(folder: Path, symmetry: str) -> Data:
    """The set in a folder as job=simulate leaves it, or with its truth in a folder ``truth``."""
    names = ("truth.mrc", "truth.mrc.gz", "truth/truth.mrc", "truth/truth.mrc.gz")
    maps = [folder / name for name in names if (folder / name).exists()]
    if not maps or not (folder / "particles.star").exists():
        raise InputError(f"{folder} holds no particles.star with a truth.mrc: name such a folder")
    star = maps[0].with_name("truth.star")
    truth = maps[0], star if star.exists() else None
    return Data(folder / "particles.star", maps[0], *truth, symmetry)


def run(
    sets: dict[str, Data], plan: Plan, peer: relion.Peer, changes: Sequence[str], folder: Path
) -> dict[str, list[Row]]:
    """Title -> rows; classes where the truth of the poses is known."""
    maps: list[Row] = []
    classes: list[Row] = []
    for number, (name, data) in enumerate(sets.items(), 1):
        here = folder / f"set_{number}"
        size, edge = relion.prepare(data.particles, None, here / "images")
        diameter = plan.diameter or relion.DIAMETER * edge
        maps += [
            {"set": name} | row for row in first_maps(data, plan, peer, changes, here, diameter)
        ]
        if plan.classes and data.truth_star is not None:
            rows = two_dimensional(data, plan, peer, here, diameter, size)
            classes += [{"set": name} | row for row in rows]
    tables = {"First maps": maps, "First maps, together": together(maps)} if maps else {}
    return tables | ({"2D classes": classes} if classes else {})


def first_maps(
    data: Data,
    plan: Plan,
    peer: relion.Peer,
    changes: Sequence[str],
    folder: Path,
    diameter: float,
) -> list[Row]:
    """A row per program and seed."""
    from benchmarks.score import score_fitted

    images, rows = folder / "images" / "particles.star", []

    def scored(program: str, seed: int, done: Run, volume: Path) -> None:
        found = score_fitted(volume, data.truth_map)
        row: Row = {"program": program, "seed": seed, "s": done.seconds}
        row |= {"processor, s": done.processor, **found}
        rows.append(row | {"reached": "yes" if found["FSC 0.5, Å"] <= GOAL else "no"})

    for seed in plan.seeds:
        out = folder / f"ab_initio_{seed}"
        given = [f"particles={images}", f"out={out}", f"seed={seed}", f"symmetry={data.symmetry}"]
        given += [f"particle_diameter={diameter:g}", "device=cpu", *changes]
        done = refinement.finish(refinement.cryotorch("ab_initio", *given), out.with_suffix(".log"))
        scored("cryotorch", seed, done, out / "map.mrc")
    for seed in plan.relion_seeds:
        out = folder / f"relion_{seed}"
        done, volume = relion.initial_model(images, out, diameter, peer, data.symmetry, seed)
        scored("RELION", seed, done, volume)
    return rows


def together(rows: Sequence[Row]) -> list[Row]:
    """The runs of each program on each set."""
    made = []
    for name, program in dict.fromkeys((row["set"], row["program"]) for row in rows):
        mine = [row for row in rows if (row["set"], row["program"]) == (name, program)]
        made.append(
            {
                "set": name,
                "program": program,
                "runs": len(mine),
                f"FSC 0.5 at {GOAL:g} Å": sum(row["reached"] == "yes" for row in mine),
                "s, median": median(row["s"] for row in mine),
                "processor, s, median": median(row["processor, s"] for row in mine),
                "FSC 0.5, Å, median": median(row["FSC 0.5, Å"] for row in mine),
                "FSC 0.5, Å, worst": max(row["FSC 0.5, Å"] for row in mine),
            }
        )
    return made


def two_dimensional(
    data: Data, plan: Plan, peer: relion.Peer, folder: Path, diameter: float, pixel_size: float
) -> list[Row]:
    """A row per program, of the particles with junk among them."""
    from benchmarks.score import score_classes

    images, rows = folder / "mixed" / "particles.star", []
    truth, real = mix(data, plan.junk, images.parent, pixel_size)

    def scored(program: str, done: Run, star: Path) -> None:
        found = score_classes(star, truth, real, data.truth_map)
        times = {"s": done.seconds, "processor, s": done.processor}
        rows.append({"program": program, "classes": plan.classes, **times, **found})

    out = folder / "class2d"
    given = [f"particles={images}", f"out={out}", f"n_classes={plan.classes}", "device=cpu"]
    given.append(f"mask_diameter={diameter:g}")
    done = refinement.finish(refinement.cryotorch("class2d", *given), out.with_suffix(".log"))
    scored("cryotorch", done, out / "particles.star")
    if peer.passes:
        out = folder / "relion_2d"
        scored("RELION", *relion.classes(images, out, diameter, peer, plan.classes))
    return rows


def mix(data: Data, junk: float, folder: Path, pixel_size: float):
    """The prepared particles with junk among them, in a new order, as a stack of their own.

    Junk is noise of the same power, every second image with up to three blobs, and has the CTF of
    some particle. Returns true poses, of junk some, and which images are particles (n,).
    """
    import torch

    from cryotorch.data.images import ParticleImages
    from cryotorch.data.mrc import write_stack
    from cryotorch.data.particle_file import read_particles
    from cryotorch.data.star import read_star, write_star

    draw = torch.Generator().manual_seed(0)
    source = folder.parent / "images" / "particles.star"
    images = ParticleImages(read_particles(source))
    n, box = len(images), images.box
    made = round(junk * n)
    truth = read_particles(data.truth_star, need_images=False).particles
    spread = float(images[list(range(min(n, 256)))].std())
    rows = torch.cat([torch.arange(n), torch.randint(n, (made,), generator=draw)])
    order = torch.randperm(n + made, generator=draw)
    rows, real = rows[order], order < n

    def stack():
        for number, row in enumerate(rows.tolist()):
            if real[number]:
                yield images[[row]]
            else:
                yield spread * junk_image(box, number % 2 == 0, draw)[None]

    folder.mkdir(parents=True)
    write_stack(folder / "particles.mrcs", stack(), n + made, box, pixel_size)
    tables = read_star(source)
    tables["particles"] = tables["particles"].taken(rows.numpy())
    names = [f"{i + 1:06d}@{folder}/particles.mrcs" for i in range(n + made)]
    tables["particles"]["rlnImageName"] = names
    write_star(folder / "particles.star", tables)
    return truth[rows], real


def junk_image(box: int, blobs: bool, draw):
    """White noise of deviation 1 (d, d), with Gaussian blobs in it or none."""
    import torch

    image = torch.randn(box, box, generator=draw)
    line = torch.arange(box, dtype=torch.float32)
    for _ in range(int(torch.randint(1, BLOBS + 1, (), generator=draw)) if blobs else 0):
        x, y, width, height = torch.rand(4, generator=draw).tolist()
        sigma = box * (WIDTHS[0] + width * (WIDTHS[1] - WIDTHS[0]))
        across = torch.exp(-0.5 * ((line - box * x) / sigma).square())
        along = torch.exp(-0.5 * ((line - box * y) / sigma).square())
        image += (HEIGHTS[0] + height * (HEIGHTS[1] - HEIGHTS[0])) * along[:, None] * across
    return image
