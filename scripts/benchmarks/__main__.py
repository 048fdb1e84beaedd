"""Measure the speed of cryotorch, and the quality of its results."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import begin, claims, fsc, load, local, m_step, real, refinement, relion, scale
from benchmarks.table import markdown
from cryotorch.errors import InputError
from cryotorch.jobs.config.process import keep_freed_memory


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write the JSON file if one is named."""
    o = _parser().parse_args(arguments)
    busy = os.getloadavg()[0]
    # as `python -m cryotorch` does, before torch is loaded
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    keep_freed_memory()
    if o.threads:
        os.environ["OMP_NUM_THREADS"] = str(o.threads)
    try:
        command = {"kernels": _kernels, "refine": _refine, "fsc": _fsc, "local": _local}
        command |= {"scale": _scale, "large": _large, "io": _io, "real": _real, "claims": _claims}
        command |= {"load": _load, "memory": _memory, "begin": _begin, "m_step": _m_step}
        command |= {"junk": _junk}
        tables = command[o.command](o)
    except (InputError, refinement.JobFailed) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    from benchmarks.timing import machine

    header = machine(busy)
    print("### Machine\n")
    print("\n".join(f"* {name}: {value}" for name, value in header.items()))
    for title, rows in tables.items():
        print(f"\n{markdown(title, rows)}")
    if o.json:
        from cryotorch.data.files import replace_file

        text = json.dumps({"command": o.command, "machine": header, "tables": tables}, indent=2)
        with replace_file(o.json) as file:
            file.write(f"{text}\n".encode())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/benchmark", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    kernels = commands.add_parser("kernels", help="the inner loops, on CPU and CUDA device")
    add = kernels.add_argument
    sizes = [64, 128, 256, 360]
    add("--boxes", type=int, nargs="+", default=sizes, metavar="D", help="pixels per edge")
    add("--device", choices=["all", "cpu", "cuda"], default="all")
    refine = commands.add_parser("refine", help="job=homo_refine from start to end")
    add = refine.add_argument
    add("--particles", type=Path, help="STAR file; else 2000 particles are simulated")
    add("--volume", type=Path, help="initial map")
    add("--truth-map", type=Path, help="map to compare the result with")
    add("--truth-star", type=Path, help="poses to compare the result with")
    add("--symmetry", default="C1")
    add("--radius", type=float, help="Å, of the sphere around the maps compared")
    add("--simulate", action="append", default=[], metavar="NAME=VALUE", help="of job=simulate")
    add("--runs", type=int, default=1, help="how often")
    add("--out", type=Path, help="folder to keep data and results in")
    add("changes", nargs="*", metavar="name=value", help="parameters of job=homo_refine")
    true = commands.add_parser("real", help="job=homo_refine on real particles beside a model")
    add = true.add_argument
    add("--particles", type=Path, help="STAR file; else those of ../shared/data")
    add("--volume", type=Path, help="the model's map: initial map, low-passed, and truth")
    add("--symmetry", default="O")
    add("--radius", type=float, default=70.0, metavar="Å", help="of the sphere around the maps")
    shells = [11, 22, 23, 29]
    add("--shells", type=int, nargs="+", default=shells, help="first last of each band")
    add("--seeds", type=int, nargs="+", default=[0, 1])
    add("--box", nargs="+", default=["64", "none"], metavar="D", help="pixels; none = as extracted")
    add("--initial", type=float, nargs="+", default=[25.0], metavar="Å", help="low-pass at start")
    add("--relion", action="store_true", help="RELION's auto-refinement too: many minutes each")
    add("--simulated", nargs="*", default=["C1", "O"], metavar="SYMMETRY", help="sets beside it")
    add("--simulate", action="append", default=[], metavar="NAME=VALUE", help="of job=simulate")
    add("--out", type=Path, help="folder to keep data and results in")
    add("changes", nargs="*", metavar="name=value", help="parameters of job=homo_refine")
    said = commands.add_parser("claims", help="claims and errors of job=homo_refine by the truth")
    add = said.add_argument
    add(
        "--sets",
        nargs="*",
        default=list(claims.SETS),
        choices=claims.SETS,
        help="of ../shared/data",
    )
    snr = [0.4, 0.1, 0.04]
    add("--snr", type=float, nargs="*", default=snr, help="of simulated sets, 500 x 64 pixels")
    add("--noise", type=int, default=600, metavar="N", help="images of white noise; 0 = none")
    add("--box", type=int, default=128, metavar="D", help="pixels of these")
    add("--symmetry", default="O", help="of these")
    groups = ["C1", "C4", "D7", "O", "I"]
    add("--band", nargs="*", default=groups, metavar="SYMMETRY", help="of noise maps, none = none")
    add("--band-box", type=int, default=32, metavar="D", help="voxels per edge of these")
    add("--seed", type=int, default=0)
    add("--out", type=Path, help="folder to keep data and results in")
    add("changes", nargs="*", metavar="name=value", help="parameters of job=homo_refine")
    curves = commands.add_parser("fsc", help="job=validation_fsc beside relion_postprocess")
    add = curves.add_argument
    add("--boxes", type=int, nargs="+", default=[256, 400], metavar="D", help="voxels per edge")
    add("--device", choices=["all", "cpu", "cuda"], default="all")
    moving = commands.add_parser("local", help="job=local_refine on a body that moves on a hinge")
    add = moving.add_argument
    add("--simulate", action="append", default=[], metavar="NAME=VALUE", help="of job=simulate")
    add("--branch-and-bound", action="store_true", help="that search too: ten times slower")
    add("--out", type=Path, help="folder to keep data and results in")
    many = commands.add_parser("scale", help="job=homo_refine on one and on several processes")
    add = many.add_argument
    add("--processes", type=int, nargs="+", default=[1, 2], metavar="N")
    add("--device", choices=["cpu", "cuda"], default="cpu")
    add("--simulate", action="append", default=[], metavar="NAME=VALUE", help="of job=simulate")
    add("--out", type=Path, help="folder to keep data and results in")
    add("changes", nargs="*", metavar="name=value", help="parameters of job=homo_refine")
    shared = commands.add_parser("m_step", help="the M-step on one and on several processes")
    add = shared.add_argument
    add("--boxes", type=int, nargs="+", default=[128], metavar="D", help="pixels per edge")
    add("--symmetries", nargs="+", default=["C1", "D7"], metavar="NAME")
    add("--processes", type=int, nargs="+", default=[1, 2], metavar="N")
    add("--repeats", type=int, default=5, metavar="N")
    large = commands.add_parser("large", help="100,000 x 360 pixels on one device, phase by phase")
    add = large.add_argument
    add("--n-particles", type=int, metavar="N", help="else 100000 on CUDA, 2000 on the CPU")
    add("--box", type=int, metavar="D", help="pixels per edge; else 360 on CUDA, 64 on the CPU")
    add("--pixel-size", type=float, metavar="Å", help="else 1.1 on CUDA, 3 on the CPU")
    add("--snr", type=float, help="variance of the signal by that of the noise; else 0.1")
    sizes = (
        "foretell 100000 x 128 pixels, or --n-particles and --box, from runs of so many particles"
    )
    add("--sizes", type=int, nargs="+", metavar="N", help=sizes)
    add("--symmetry", default="C1")
    add("--seed", type=int, help="of poses and noise; else 0")
    add("--device", choices=["all", "cpu", "cuda"], default="all")
    add("changes", nargs="*", metavar="name=value", help="parameters of job=homo_refine")
    files = commands.add_parser("io", help="particles from stack and cache, off disk and memory")
    add = files.add_argument
    add("--boxes", type=int, nargs="+", default=[64, 128, 256], metavar="D", help="pixels per edge")
    add("--size", type=int, default=256, metavar="MB", help="of each stack")
    add("--folder", type=Path, help="on the disk to measure; else that of temporary files")
    heavy = commands.add_parser("load", help="a million images, thousands of stacks")
    add = heavy.add_argument
    add("--rows", type=int, default=1_000_000, metavar="N", help="images whose memory counts")
    add("--many", type=int, default=300_000, metavar="N", help="images whose time counts")
    add("--stacks", type=int, default=3000, metavar="N", help="of 7 images each; 0 = none")
    add("--out", type=Path, help="folder to keep results in")
    add("changes", nargs="*", metavar="name=value", help="parameters of job=homo_refine")
    held = commands.add_parser("memory", help="of a CUDA device, reckoned from shapes")
    add = held.add_argument
    add("--box", type=int, default=360, metavar="D", help="pixels per edge")
    add("--n-particles", type=int, default=100_000, metavar="N")
    add("--memory", type=float, default=139.0, metavar="GiB", help="of the device")
    first = commands.add_parser("begin", help="job=ab_initio and job=class2d beside RELION")
    add = first.add_argument
    add("--sets", type=Path, nargs="+", default=[], metavar="DIR", help="else one is simulated")
    add("--symmetry", default="C1", help="of the sets")
    add("--diameter", type=float, metavar="Å", help="of the particle; else 0.84 of the box")
    add("--seeds", type=int, nargs="*", default=[0, 1], help="of job=ab_initio")
    add("--relion", type=int, nargs="*", default=[], metavar="SEED", help="of its initial model")
    sgd, passes = relion.ITERATIONS, f"of its 2D classes, {relion.PASSES} are usual; 0 = none"
    add("--relion-iterations", type=int, nargs=3, default=sgd, metavar="N", help="of that")
    add("--relion-passes", type=int, default=0, metavar="N", help=passes)
    add("--classes", type=int, default=20, metavar="K", help="in 2D; 0 = none")
    add("--junk", type=float, default=0.2, help="images added to these, by that of particles")
    add("--simulate", action="append", default=[], metavar="NAME=VALUE", help="of job=simulate")
    add("--out", type=Path, help="folder to keep data and results in")
    add("changes", nargs="*", metavar="name=value", help="parameters of job=ab_initio")
    told = commands.add_parser("junk", help="which particles of job=homo_refine are junk")
    add = told.add_argument
    add("--snr", type=float, nargs="+", default=[0.3, 0.1, 0.05], help="of simulated sets")
    add("--junk", type=float, nargs="+", default=[0.0, 0.2], help="its share")
    add("--symmetry", nargs="+", default=["C1"], help="of these")
    add("--simulate", action="append", default=[], metavar="NAME=VALUE", help="of job=simulate")
    add("--out", type=Path, help="folder to keep data and results in")
    add("changes", nargs="*", metavar="name=value", help="parameters of job=homo_refine")
    every = [kernels, refine, true, said, curves, moving, many, shared, large, files, heavy, held]
    every += [first, told]
    for command in every:
        command.add_argument("--threads", type=int, help="of the CPU; else torch decides")
        command.add_argument("--json", type=Path, metavar="FILE", help="for the same numbers")
    return parser


def _devices(o: argparse.Namespace) -> list[str]:
    import torch

    if torch.cuda.is_available():
        return {"cpu": ["cpu"], "cuda": ["cuda"], "all": ["cpu", "cuda"]}[o.device]
    if o.device == "cuda":
        raise InputError("--device cuda needs a CUDA device and there is none: use cpu")
    return ["cpu"]


def _fsc(o: argparse.Namespace) -> dict:
    with tempfile.TemporaryDirectory() as temporary:
        whole = fsc.processes(o.boxes, Path(temporary))
        parts = fsc.computation(o.boxes, Path(temporary), _devices(o))
    return {"Whole programs": whole, "Maps in memory": parts}


def _local(o: argparse.Namespace) -> dict:
    with tempfile.TemporaryDirectory() as temporary:
        folder = (o.out or Path(temporary)).resolve()
        return local.run(folder, o.simulate, o.branch_and_bound)


def _io(o: argparse.Namespace) -> dict:
    if o.folder is not None and not o.folder.is_dir():
        raise InputError(f"--folder {o.folder} does not exist: make it, or name another")
    from benchmarks import io

    return io.run(o.boxes, o.folder, o.size)


def _real(o: argparse.Namespace) -> dict:
    if o.particles is None and o.volume is None and real.FOLDER.is_dir():
        o.particles, o.volume = real.FOLDER / "particles.star", real.FOLDER / "model.mrc.gz"
    if o.particles is None or o.volume is None:
        raise InputError("name both --particles and --volume, the map of their model")
    if len(o.shells) % 2:
        raise InputError(f"--shells are pairs, first and last, got {len(o.shells)} numbers")
    wrong = [box for box in o.box if box != "none" and not box.isdecimal()]
    if wrong:
        raise InputError(f"--box is a number of pixels or none, got {wrong[0]}")
    if o.relion and (lacking := relion.missing()):
        raise InputError(f"--relion needs {' and '.join(lacking)}: install them, or leave it out")
    data = refinement.Data(o.particles, o.volume, o.volume, None, o.symmetry)
    plan = real.Plan([None if b == "none" else int(b) for b in o.box], o.initial, o.seeds)
    judge = real.Judge(o.radius, o.shells)
    with tempfile.TemporaryDirectory() as temporary:
        folder = (o.out or Path(temporary)).resolve()
        beside = real.simulated(o.simulated, o.simulate, judge, o.changes, folder / "simulated")
        return real.run(data, plan, judge, o.changes, folder, o.relion) | beside


def _begin(o: argparse.Namespace) -> dict:
    if not o.seeds and not o.relion and not o.classes:
        raise InputError("nothing to do: give --seeds, --relion or --classes")
    if (o.relion or o.relion_passes) and (lacking := relion.missing([relion.PROGRAM])):
        raise InputError(f"--relion needs {lacking[0]}: install it, or leave it out")
    if not 0 <= o.junk <= 1:
        raise InputError(f"--junk must be between 0 and 1, got {o.junk:g}")
    threads = o.threads or int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
    peer = relion.Peer(threads, o.relion_iterations, o.relion_passes)
    plan = begin.Plan(o.seeds, o.relion, o.classes, o.junk, o.diameter)
    with tempfile.TemporaryDirectory() as temporary:
        folder = (o.out or Path(temporary)).resolve()
        sets = {path.name: begin.find(path.resolve(), o.symmetry) for path in o.sets}
        if not sets:
            data = refinement.simulated(folder / "data", o.simulate, o.symmetry)
            sets["simulated"] = data
        return begin.run(sets, plan, peer, o.changes, folder)


def _junk(o: argparse.Namespace) -> dict:
    if wrong := [share for share in o.junk if not 0 <= share < 1]:
        raise InputError(f"--junk is from 0 to below 1, got {wrong[0]:g}")
    with tempfile.TemporaryDirectory() as temporary:
        from benchmarks import junk

        folder = (o.out or Path(temporary)).resolve()
        return junk.run(o.snr, o.junk, o.symmetry, o.simulate, o.changes, folder)


def _claims(o: argparse.Namespace) -> dict:
    tables: dict = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = (o.out or Path(temporary)).resolve()
        if o.sets and not real.FOLDER.parent.is_dir():
            raise InputError("--sets needs ../shared/data beside the repository: leave them out")
        sets = {name: claims.shared(name) for name in o.sets}
        sets |= {
            f"simulated, SNR {snr:g}": claims.simulated(snr, folder / f"snr_{snr:g}" / "data")
            for snr in o.snr
        }
        changes = [f"seed={o.seed}", *o.changes]
        rows = [
            claims.against_truth(name, data, folder / f"run_{number}", changes)
            for number, (name, data) in enumerate(sets.items(), 1)
        ]
        if rows:
            tables["Claims and errors beside the truth"] = rows
        if o.noise:
            noise = (o.noise, o.box, o.symmetry, o.seed, changes, folder / "noise")
            tables["White noise instead of images"] = [claims.noise_set(*noise)]
    if o.band:
        tables["FSC of noise maps"] = claims.noise_band(o.band_box, o.band)
    return tables


def _scale(o: argparse.Namespace) -> dict:
    if min(o.processes) < 1:
        raise InputError(f"--processes must be at least 1, got {min(o.processes)}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = (o.out or Path(temporary)).resolve()
        data = refinement.simulated(folder / "data", o.simulate, "C1")
        return scale.run(data, folder, o.changes, o.processes, o.device)


def _m_step(o: argparse.Namespace) -> dict:
    if min(*o.processes, o.repeats) < 1:
        raise InputError("--processes and --repeats are at least 1")
    return m_step.run(o.boxes, o.symmetries, o.processes, o.repeats)


def _load(o: argparse.Namespace) -> dict:
    with tempfile.TemporaryDirectory() as temporary:
        folder = (o.out or Path(temporary)).resolve()
        return load.run(folder, o.rows, o.many, o.stacks, o.changes)


def _memory(o: argparse.Namespace) -> dict:
    from benchmarks import device_memory

    return device_memory.run(o.box, o.n_particles, o.memory)


def _large(o: argparse.Namespace) -> dict:
    devices = _devices(o)
    from benchmarks import large

    sizes = dict(n_particles=o.n_particles, box_size=o.box, pixel_size=o.pixel_size)
    chosen = sizes | dict(snr=o.snr, symmetry=o.symmetry, seed=o.seed)
    if o.sizes:
        from benchmarks import large_scaled

        if min(o.sizes) < 2:
            raise InputError(f"--sizes are at least 2 particles, got {min(o.sizes)}")
        runs = [large_scaled.run(device, o.sizes, chosen, o.changes) for device in devices]
    else:
        runs = [large.run(device, chosen, o.changes) for device in devices]
    return {title: rows for tables in runs for title, rows in tables.items()}


def _kernels(o: argparse.Namespace) -> dict:
    import torch

    devices = _devices(o)
    from benchmarks import kernels

    with torch.no_grad():
        return kernels.run(sorted(set(o.boxes)), devices)


def _refine(o: argparse.Namespace) -> dict:
    if (o.particles is None) != (o.volume is None):
        raise InputError("--particles and --volume belong together: name both or neither")
    if o.runs < 1:
        raise InputError(f"--runs must be at least 1, got {o.runs}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = (o.out or Path(temporary)).resolve()
        if o.particles is None:
            data = refinement.simulated(folder / "data", o.simulate, o.symmetry)
        else:
            truth = (o.truth_map, o.truth_star)
            data = refinement.Data(o.particles, o.volume, *truth, o.symmetry, o.radius)
        outs = [folder / f"run_{i + 1}" for i in range(o.runs)]
        runs = [refinement.refine(data, out, o.changes) for out in outs]
        return refinement.tables(data, runs, outs[-1])


if __name__ == "__main__":
    sys.exit(main())
