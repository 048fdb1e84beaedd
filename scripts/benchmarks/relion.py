"""RELION's auto-refinement of the same particles from the same map, where it is installed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.refinement import Data, finish

if TYPE_CHECKING:
    from benchmarks.real import Judge, Plan, Row

PROGRAMS = ("mpirun", "relion_refine_mpi")
# As its graphical interface writes them for one map with a sphere around it.
OPTIONS = "--auto_refine --split_random_halves --firstiter_cc --ctf --flatten_solvent --zero_mask"
OPTIONS += " --oversampling 1 --healpix_order 2 --auto_local_healpix_order 4 --offset_range 5"
OPTIONS += " --offset_step 2 --low_resol_join_halves 40 --norm --scale --pad 2 --dont_check_norm"
# mpirun refuses root and more processes than cores unless told so.
ALLOWED = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
}
DIAMETER = 0.84  # of the box edge, where no radius is given


def missing() -> list[str]:
    """The programs that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


def run(data: Data, plan: Plan, judge: Judge, folder: Path) -> list[Row]:
    """A row per box, initial resolution and seed; claims are those of its model file."""
    rows = []
    for box, initial, seed in plan:
        here = folder / f"relion_box{box or 0}_initial{initial:g}_seed{seed}"
        pixel_size, edge = prepare(data, box, here)
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


def prepare(data: Data, box: int | None, folder: Path) -> tuple[float, float]:
    """What RELION 3.1 can read, at the box: a float32 stack, a plain map.

    Returns:
        Pixel size and box edge in Å.
    """
    import numpy as np

    from cryotorch.data.images import ParticleImages
    from cryotorch.data.mrc import read_volume, write_stack, write_volume
    from cryotorch.data.particle_file import read_particles
    from cryotorch.data.star import read_star, write_star
    from cryotorch.ops.fourier.transforms import resize_volume

    folder.mkdir(parents=True)
    file = read_particles(data.particles)
    images = ParticleImages(file, box)
    n, size = len(images), images.pixel_size
    batches = (images[list(range(i, min(i + 256, n)))] for i in range(0, n, 256))
    write_stack(folder / "particles.mrcs", batches, n, images.box, size)
    tables = read_star(data.particles)
    names = [f"{i + 1:06d}@{folder}/particles.mrcs" for i in range(n)]
    tables["particles"]["rlnImageName"] = names
    optics = tables["optics"]
    groups = len(optics["rlnOpticsGroup"])
    optics["rlnImagePixelSize"] = np.full(groups, size)
    optics["rlnImageSize"] = np.full(groups, images.box)
    write_star(folder / "particles.star", tables)
    volume, _ = read_volume(data.volume)
    write_volume(folder / "model.mrc", resize_volume(volume, images.box), size)
    return size, size * images.box


def _claim(path: Path) -> float:
    """rlnCurrentResolution of a model file, Å."""
    lines = path.read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("_rlnCurrentRes"))
