"""RELION on the same particles, where installed: auto-refinement, initial model, 2D classes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.refinement import Data, Run, finish

if TYPE_CHECKING:
    from benchmarks.real import Judge, Plan, Row

PROGRAMS = ("mpirun", "relion_refine_mpi")
PROGRAM = "relion_refine"  # of initial models and 2D classes: without MPI
# As its graphical interface writes them, for one map with a sphere around it.
OPTIONS = "--auto_refine --split_random_halves --firstiter_cc --ctf --flatten_solvent --zero_mask"
OPTIONS += " --oversampling 1 --healpix_order 2 --auto_local_healpix_order 4 --offset_range 5"
OPTIONS += " --offset_step 2 --low_resol_join_halves 40 --norm --scale --pad 2 --dont_check_norm"
SINGLE = "--ctf --flatten_solvent --zero_mask --oversampling 1 --pool 3 --dont_check_norm"
SINGLE += " --dont_combine_weights_via_disc --offset_step 2"
INITIAL = "--sgd --denovo_3dref --K 1 --pad 1 --healpix_order 1 --offset_range 6"
INITIAL += " --sgd_ini_resol 35 --sgd_fin_resol 15 --sgd_ini_subset 100 --sgd_fin_subset 500"
INITIAL += " --sgd_write_iter 10"
CLASSES = "--tau2_fudge 2 --pad 2 --psi_step 12 --offset_range 5 --norm --scale"
ITERATIONS = (50, 200, 50)  # of an initial model: at the first resolution, between, at the last
PASSES = 25  # of 2D classes
# mpirun refuses root and more processes than cores unless told so.
ALLOWED = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
}
DIAMETER = 0.84  # of the box edge, where no radius is given


@dataclass(frozen=True)
class Peer:
    """How long it may take: threads, iterations of an initial model, passes of 2D classes."""

    threads: int
    iterations: Sequence[int] = ITERATIONS
    passes: int = PASSES


def missing(programs: Sequence[str] = PROGRAMS) -> list[str]:
    """The programs that are not installed."""
    return [name for name in programs if shutil.which(name) is None]


def run(data: Data, plan: Plan, judge: Judge, folder: Path) -> list[Row]:
    """A row per box, initial resolution and seed; claims are those of its model file."""
    rows = []
    for box, initial, seed in plan:
        here = folder / f"relion_box{box or 0}_initial{initial:g}_seed{seed}"
        pixel_size, edge = prepare(data.particles, box, here)
        prepare_map(data.volume, round(edge / pixel_size), pixel_size, here)
        diameter = 2 * judge.radius if judge.radius else DIAMETER * edge
        os.environ.update(ALLOWED)
        # a leader and a worker for each half set
        command = ["mpirun", "-n", "3", "relion_refine_mpi", *OPTIONS.split()]
        command += ["--i", f"{here}/particles.star", "--ref", f"{here}/model.mrc"]
        command += ["--o", f"{here}/run", "--sym", data.symmetry, "--ini_high", f"{initial:g}"]
        command += ["--particle_diameter", f"{diameter:g}", "--random_seed", str(seed)]
        done = finish(command, here / "log.txt")
        claim = _claim(here / "run_model.star")
        row: Row = {"box": round(edge / pixel_size), "initial, Å": float(initial), "seed": seed}
        row |= judge(here / "run_class001.mrc", data.truth_map)
        passes = len(list(here.glob("run_it*_half1_model.star"))) - 1
        rows.append(row | {"claim, Å": claim, "iterations": passes, "seconds": done.seconds})
    return rows


def initial_model(
    particles: Path, out: Path, diameter: float, how: Peer, symmetry: str, seed: int
) -> tuple[Run, Path]:
    """Its initial model of prepared particles, by stochastic gradient descent, and the map."""
    names = ("--sgd_ini_iter", "--sgd_inbetween_iter", "--sgd_fin_iter")
    steps = [text for pair in zip(names, map(str, how.iterations), strict=True) for text in pair]
    options = [*INITIAL.split(), *steps, "--sym", symmetry]
    done = _single(particles, out, diameter, [*options, "--random_seed", str(seed)], how)
    return done, _last(out, "class001.mrc")


def classes(particles: Path, out: Path, diameter: float, how: Peer, count: int) -> tuple[Run, Path]:
    """Its 2D classes of prepared particles, and the particles with their classes."""
    options = [*CLASSES.split(), "--K", str(count), "--iter", str(how.passes)]
    done = _single(particles, out, diameter, [*options, "--random_seed", "0"], how)
    return done, _last(out, "data.star")


def _single(particles: Path, out: Path, diameter: float, options: Sequence[str], how: Peer) -> Run:
    out.mkdir(parents=True)
    command = [PROGRAM, *SINGLE.split(), "--i", f"{particles}", "--o", f"{out}/run", *options]
    command += ["--particle_diameter", f"{diameter:g}", "--j", str(how.threads)]
    return finish(command, out / "log.txt")


def _last(out: Path, ending: str) -> Path:
    return max(out.glob(f"run_it*_{ending}"))


def prepare(particles: Path, box: int | None, folder: Path) -> tuple[float, float]:
    """What RELION 3.1 can read, at the box: a float32 stack.

    Returns:
        Pixel size and box edge in Å.
    """
    import numpy as np

    from cryotorch.data.images import ParticleImages
    from cryotorch.data.mrc import write_stack
    from cryotorch.data.particle_file import read_particles
    from cryotorch.data.star import read_star, write_star

    folder.mkdir(parents=True)
    file = read_particles(particles)
    images = ParticleImages(file, box)
    n, size = len(images), images.pixel_size
    batches = (images[list(range(i, min(i + 256, n)))] for i in range(0, n, 256))
    write_stack(folder / "particles.mrcs", batches, n, images.box, size)
    tables = read_star(particles)
    names = [f"{i + 1:06d}@{folder}/particles.mrcs" for i in range(n)]
    tables["particles"]["rlnImageName"] = names
    optics = tables["optics"]
    groups = len(optics["rlnOpticsGroup"])
    optics["rlnImagePixelSize"] = np.full(groups, size)
    optics["rlnImageSize"] = np.full(groups, images.box)
    write_star(folder / "particles.star", tables)
    return size, size * images.box


def prepare_map(volume: Path, box: int, pixel_size: float, folder: Path) -> None:
    """A plain map at the box."""
    from cryotorch.data.mrc import read_volume, write_volume
    from cryotorch.ops.fourier.transforms import resize_volume

    values, _ = read_volume(volume)
    write_volume(folder / "model.mrc", resize_volume(values, box), pixel_size)


def _claim(path: Path) -> float:
    """rlnCurrentResolution of a model file, Å."""
    lines = path.read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("_rlnCurrentRes"))
