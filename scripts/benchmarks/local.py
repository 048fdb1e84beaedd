"""``job=local_refine`` on a body that moves about a hinge, and the regularisers, against the truth.

Made by ``job=simulate second_body=phantom``; maps are compared in the mask of each body.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.refinement import cryotorch, finish

SIMULATED = dict(
    second_body="phantom",
    second_body_size=0.7,
    box_size=96,
    pixel_size=2,
    n_particles=500,
    snr=0.3,
    bfactor=20,
    seed=5,
)
EXTENTS = ("rotation_extent=10", "shift_extent=6")


def run(folder: Path, changes: Sequence[str], more: bool) -> dict[str, list[dict[str, object]]]:
    """Consensus, then local refinements of the second body; ``more`` adds the slow ones."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {k: str(v) for k, v in SIMULATED.items()} | dict(c.split("=", 1) for c in changes)
    data = folder / "data"
    simulate = cryotorch("simulate", f"out={data}", *(f"{k}={v}" for k, v in settings.items()))
    finish(simulate, folder / "simulate.log")
    inputs = [f"particles={data}/consensus.star", f"volume={data}/initial.mrc"]
    seconds = {}
    for name, change in {
        "consensus": [],
        "consensus, nonuniform": ["regularizer=nonuniform"],
    }.items():
        command = cryotorch("homo_refine", *inputs, f"out={folder / slug(name)}", *change)
        seconds[name] = finish(command, folder / f"{slug(name)}.log").seconds
    hinge = _hinge(data)
    _start_at_truth(folder, data)
    common = [f"volume={folder}/consensus", f"mask={data}/mask_body2.mrc", *EXTENTS]
    far = int(settings["box_size"])
    start = f"particles={folder}/consensus/particles.star"
    runs = {
        "local, hinge": [start, hinge],
        "local, from the truth": [f"particles={folder}/truth_start.star", hinge],
        "local, fulcrum elsewhere": [start, f"fulcrum=[{far // 2},{far // 2},{far // 5}]"],
        "local, not subtracted": [start, hinge, "subtract=false"],
        "local, nonuniform": [start, hinge, "regularizer=nonuniform"],
    }
    if more:
        runs["local, branch and bound"] = [start, hinge, "search.method=branch_and_bound"]
    for name, arguments in runs.items():
        command = cryotorch("local_refine", *arguments, *common, f"out={folder / slug(name)}")
        seconds[name] = finish(command, folder / f"{slug(name)}.log").seconds
    return _tables(folder, data, seconds)


def slug(name: str) -> str:
    """A name as a folder: Hydra reads a comma as a list."""
    return name.replace(",", "").replace(" ", "_")


def _hinge(data: Path) -> str:
    import yaml

    place = yaml.safe_load((data / "config.yaml").read_text())["hinge"]
    return f"fulcrum=[{','.join(map(str, place))}]"


def _start_at_truth(folder: Path, data: Path) -> None:
    """The consensus particles with the true poses of the second body."""
    from cryotorch.data.particle_file import read_particles, write_particles

    found = read_particles(folder / "consensus" / "particles.star")
    truth = read_particles(data / "truth_body2.star").particles
    particles = found.particles.replace(rotation=truth.rotation, shift=truth.shift)
    write_particles(folder / "truth_start.star", found, particles)


def _tables(folder: Path, data: Path, seconds: dict[str, float]) -> dict:
    import torch

    from cryotorch.data.mrc import read_volume
    from cryotorch.data.particle_file import read_particles
    from cryotorch.ops.geometry.rotations import rotation_angle
    from cryotorch.ops.masks.soft import soft_sphere
    from cryotorch.ops.resolution.fsc import resolution, shell_correlation

    truth, pixel_size = zip(*(read_volume(data / f"truth_body{i}.mrc") for i in (1, 2)))
    masks = [read_volume(data / f"mask_body{i}.mrc")[0] for i in (1, 2)]
    poses = read_particles(data / "truth_body2.star").particles
    box = len(truth[0])
    solvent = (torch.maximum(*masks) < 0.01) & (soft_sphere(box, 0.4 * box, 0) > 0.5)

    def reached(volume, body: int) -> float:
        curve = shell_correlation(volume * masks[body], truth[body] * masks[body])
        return resolution(curve, box, pixel_size[body], threshold=0.5, interpolate=True)

    rows = []
    for name, spent in seconds.items():
        volume, _ = read_volume(folder / slug(name) / "map.mrc")
        found = read_particles(folder / slug(name) / "particles.star").particles
        error = rotation_angle(found.rotation, poses.rotation).rad2deg()
        rows.append(
            {
                "run": name,
                "body 1, Å": reached(volume, 0),
                "body 2, Å": reached(volume, 1),
                "rotation error of body 2, °": float(error.median()),
                "solvent / body 1 rms": float(volume[solvent].std() / volume[masks[0] > 0.5].std()),
                "seconds": spent,
            }
        )
    return {"Two bodies: FSC 0.5 against each true body in its mask": rows}
