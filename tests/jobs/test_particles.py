"""job=particles on files: what is written, what maps come of it, and that nothing is lost."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch

from cryotorch.data.cryosparc.file import read_cs
from cryotorch.data.mrc import read_volume, write_volume
from cryotorch.data.particle_file import read_particles, write_particles, write_tables
from cryotorch.data.star import read_star
from cryotorch.errors import InputError
from cryotorch.jobs import convert, local_refine, particles, reconstruct, simulate
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.ops.fourier.filters import low_pass
from cryotorch.ops.geometry.placement import shift_volume
from cryotorch.ops.geometry.rotations import rotation_angle
from cryotorch.ops.geometry.symmetry import point_group
from cryotorch.ops.masks.soft import soft_sphere
from cryotorch.report.style import Picture

BOX, PIXEL, N = 32, 4.0, 60


def run(job, out: Path, **changes) -> dict:
    given = {name: str(x) if isinstance(x, Path) else x for name, x in changes.items()}
    name = job.__name__.rpartition(".")[2]
    job.run(make_settings(name, out=str(out), **given))
    return json.loads((out / "summary.json").read_text())


@pytest.fixture(autouse=True)
def blank_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("reconstruction.results", "fsc.results", "curation.results"):
        monkeypatch.setattr(f"cryotorch.jobs.{module}.render", lambda figure: Picture(b"", 1, 1))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A C4 set with half sets: ``plain.star`` with its images, and the same as ``.cs``."""
    folder = tmp_path_factory.mktemp("world") / "set"
    small = {"box_size": BOX, "pixel_size": PIXEL, "n_particles": N, "snr": 2.0, "seed": 2}
    simulate.run(make_settings("simulate", out=str(folder), symmetry="C4", **small))
    file = read_particles(folder / "truth.star")
    halves = torch.arange(N) % 2
    notes = {"someoneElsesColumn": np.arange(N)}
    write_particles(folder / "plain.star", file, file.particles.replace(half=halves), notes)
    write_tables(folder / "plain.cs", read_particles(folder / "plain.star").tables)
    return folder


def half_maps(folder: Path) -> list[torch.Tensor]:
    maps = [read_volume(folder / f"map_half_{half}.mrc")[0] for half in "AB"]
    return [low_pass(volume, PIXEL, 2.8 * PIXEL) for volume in maps]


def correlation(first: torch.Tensor, second: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([first.ravel(), second.ravel()]))[0, 1])


def test_a_list_that_is_chosen_expanded_split_and_restacked(world: Path, tmp_path: Path) -> None:
    where = "someoneElsesColumn < 40"
    given = dict(
        where=where, expand_symmetry="C4", split=2, restack="float16", write=["star", "cs"]
    )
    summary = run(particles, tmp_path / "out", particles=world / "plain.star", **given)
    names = [f"particles_{i}.{ending}" for i in (1, 2) for ending in ("star", "cs")]
    assert summary["files"] == names and summary["particles"] == 160 and summary["of"] == N
    assert [(s["name"], s["after"]) for s in summary["steps"]] == [
        *(("particles", 60), ("where", 40), ("expand_symmetry", 160)),
    ]
    assert summary["half_sets"] == [80, 80]
    log = (tmp_path / "out" / "log.txt").read_text()
    assert "where                      40 particles: someoneElsesColumn < 40" in log
    source = mrcfile.read(world / "particles.mrcs")
    for number in (1, 2):
        file = read_particles(tmp_path / "out" / f"particles_{number}.star")
        assert len(file.particles) == 80 and file.stacks[0].name == f"particles_{number}.mrcs"
        stack = mrcfile.read(tmp_path / "out" / f"particles_{number}.mrcs")
        assert stack.dtype == np.float16 and len(stack) == 20
        rows = file.tables["particles"].integers("someoneElsesColumn")
        images = stack[file.particles.address[:, 1].numpy()]
        assert np.array_equal(images, source[rows].astype(np.float16))
        other = read_particles(tmp_path / "out" / f"particles_{number}.cs").particles
        assert torch.allclose(other.rotation, file.particles.rotation, atol=1e-5)


def test_an_expanded_list_makes_the_same_map(world: Path, tmp_path: Path) -> None:
    """In C1, of the images once, as the list itself in C4."""
    run(reconstruct, tmp_path / "plain", particles=world / "plain.star", symmetry="C4")
    run(particles, tmp_path / "many", particles=world / "plain.star", expand_symmetry="C4")
    run(reconstruct, tmp_path / "map", particles=tmp_path / "many" / "particles.star")
    for first, second in zip(
        half_maps(tmp_path / "plain"), half_maps(tmp_path / "map"), strict=True
    ):
        assert correlation(first, second) > 0.99
    run(
        particles,
        tmp_path / "back",
        particles=tmp_path / "many" / "particles.star",
        one_per_image=True,
    )
    back = read_star(tmp_path / "back" / "particles.star")["particles"]
    before = read_star(world / "plain.star")["particles"]
    assert all(np.array_equal(back.raw(x), before.raw(x)) for x in before if x != "rlnImageName")


def test_a_recentred_list_makes_the_moved_map(world: Path, tmp_path: Path) -> None:
    """Moved by -point, whole pixels, and not by +point."""
    point = np.array([8.0, -4.0, 12.0])
    given = {"particles": world / "plain.star", "recenter": point.tolist()}
    run(reconstruct, tmp_path / "plain", particles=world / "plain.star")
    run(particles, tmp_path / "new", **given)
    run(reconstruct, tmp_path / "map", particles=tmp_path / "new" / "particles.star")
    for first, second in zip(
        half_maps(tmp_path / "plain"), half_maps(tmp_path / "map"), strict=True
    ):
        moved, wrong = (
            shift_volume(first, torch.from_numpy(s * point / PIXEL).float()) for s in (-1, 1)
        )
        ball = soft_sphere(BOX, 9, 3)
        assert correlation(ball * moved, ball * second) > 0.97
        assert correlation(ball * wrong, ball * second) < 0.6


@pytest.mark.relion
def test_relion_makes_the_moved_map_of_a_restacked_list(world: Path, tmp_path: Path) -> None:
    """Symmetry-expanded and recentred: RELION reads it and sees what we mean."""
    point = np.array([8.0, -4.0, 12.0])
    given = dict(particles=world / "plain.star", restack="float32", expand_symmetry="C4")
    run(particles, tmp_path / "plain", **given)
    run(particles, tmp_path / "moved", **given, recenter=point.tolist())
    maps = []
    for name in ("plain", "moved"):
        command = "relion_reconstruct --i particles.star --o map.mrc --ctf --sym C1"
        folder = tmp_path / name
        subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
        maps.append(low_pass(read_volume(folder / "map.mrc")[0], PIXEL, 2.8 * PIXEL))
    first, second = maps
    ball = soft_sphere(BOX, 9, 3)
    moved, wrong = (
        shift_volume(first, torch.from_numpy(s * point / PIXEL).float()) for s in (-1, 1)
    )
    assert correlation(ball * moved, ball * second) > 0.97
    assert correlation(ball * wrong, ball * second) < 0.7


def test_files_of_both_programs_are_joined(world: Path, tmp_path: Path) -> None:
    run(particles, tmp_path / "a", particles=world / "plain.star", where="someoneElsesColumn < 20")
    run(particles, tmp_path / "b", particles=world / "plain.cs", where="someoneElsesColumn >= 20")
    assert read_cs(tmp_path / "b" / "particles.cs")["uid"].shape == (40,)
    both = f"[{tmp_path / 'a' / 'particles.star'},{tmp_path / 'b' / 'particles.cs'}]"
    given = both.strip("[]").split(",")
    summary = run(particles, tmp_path / "both", particles=given, join_optics="match")
    assert summary["particles"] == N and summary["optics_groups"] == 1
    assert not [w for w in summary["warnings"] if "another file" in w]
    made = read_particles(tmp_path / "both" / "particles.star")
    before = read_particles(world / "plain.star")
    assert torch.allclose(made.particles.rotation, before.particles.rotation, atol=1e-5)
    assert torch.equal(made.particles.half, before.particles.half)
    numbers = made.tables["particles"].integers("someoneElsesColumn")
    assert np.array_equal(numbers, np.arange(N))
    again = run(particles, tmp_path / "twice", particles=[given[0]] * 2)
    assert any("20 rows show an image that another file has too" in w for w in again["warnings"])
    once = run(particles, tmp_path / "once", particles=[given[0]] * 2, one_per_image=True)
    assert once["particles"] == 20 and not [w for w in once["warnings"] if "another file" in w]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (dict(particles=None), "particles=null cannot"),
        (dict(where="__import__('os').remove('x') == 1"), "is neither a number, a column"),
        (dict(where="rlnDefocusU < 0"), "where leaves none of 60 particles"),
        (dict(best="80%"), "score=<column>"),
        (dict(best="120%", score="rlnDefocusU"), "best=120% cannot"),
        (dict(best="many", score="rlnDefocusU"), "a percentage such as 80%"),
        (dict(expand_symmetry="Q3"), "symmetry=Q3 cannot"),
        (dict(views={"symmetry": "Q4"}), "symmetry=Q4 cannot"),
        (dict(recenter=[1, 2]), r"give \[x,y,z\]"),
        (dict(move_paths=["a"]), r"\[/old,/new\]"),
        (dict(mixture={"keep": [3]}), "numbers 1 to 2"),
        (dict(write=[]), "name a format"),
        (dict(subtract="gone.star"), "gone.star does not exist"),
        (dict(micrographs="gone.txt"), "gone.txt does not exist"),
        (dict(split=0), "split=0 cannot"),
        (dict(restack="float16", move_paths=["", "/nowhere/"]), "does not exist"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing(
    world: Path, tmp_path: Path, changes: dict, said: str
) -> None:
    given = {"particles": str(world / "plain.star")} | changes
    with pytest.raises(InputError, match=said):
        run(particles, tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten(world: Path, tmp_path: Path) -> None:
    run(particles, tmp_path / "out", particles=world / "plain.star", restack="float32")
    before = (tmp_path / "out" / "particles.star").read_bytes()
    with pytest.raises(InputError, match="already holds"):
        run(particles, tmp_path / "out", particles=world / "plain.star")
    with pytest.raises(InputError, match="is an input of this job"):
        given = dict(particles=tmp_path / "out" / "particles.star", overwrite=True)
        run(particles, tmp_path / "out", **given)
    assert (tmp_path / "out" / "particles.star").read_bytes() == before
    run(particles, tmp_path / "out", particles=world / "plain.star", overwrite=True)
    assert not (tmp_path / "out" / "particles.mrcs").exists()


@pytest.mark.slow
@pytest.mark.data
def test_expanded_refined_locally_and_back(shared_data: Path, tmp_path: Path) -> None:
    """TRPV1, 60 particles: half sets stay, and poses come back to those of the particles up to the symmetry."""
    source = shared_data / "relion_c4"
    file = read_particles(source / "truth" / "truth.star", project=source)
    half = torch.arange(len(file.particles)) % 2
    write_particles(tmp_path / "truth.star", file, file.particles.replace(half=half))
    some = run(particles, tmp_path / "some", particles=tmp_path / "truth.star", random=60)
    assert some["half_sets"] == [30, 30]
    start = tmp_path / "some" / "particles.star"
    run(particles, tmp_path / "many", particles=start, expand_symmetry="C4")
    write_volume(tmp_path / "mask.mrc", soft_sphere(64, 26, 4), 2.8)
    given = dict(volume=source / "init.mrc", mask=tmp_path / "mask.mrc", max_iterations=1)
    given |= dict(initial_resolution=20, trainer__accelerator="cpu")
    run(local_refine, tmp_path / "local", particles=tmp_path / "many" / "particles.star", **given)
    local = tmp_path / "local" / "particles.star"
    run(particles, tmp_path / "back", particles=local, one_per_image=True)
    before, refined, after = (
        read_particles(path).particles
        for path in (start, local, tmp_path / "back" / "particles.star")
    )
    assert len(refined) == 240 and (refined.half.view(60, 4) == before.half[:, None]).all()
    assert len(after) == 60 and torch.equal(after.half, before.half)
    assert torch.equal(after.rotation, refined.rotation[::4])
    moved = rotation_angle(after.rotation.double(), before.rotation.double())
    assert float(moved.rad2deg().median()) < 10
    score = dict(score="cryotorchSymmetryOperator", one_per_image=True)
    run(particles, tmp_path / "last", particles=local, **score)
    last = read_particles(tmp_path / "last" / "particles.star").particles
    undone = refined.rotation[3::4].double() @ point_group("C4")[3].mT
    assert float(rotation_angle(last.rotation.double(), undone).max()) < 1e-3
    moved = rotation_angle(last.rotation.double(), before.rotation.double())
    assert float(moved.rad2deg().median()) < 10
    run(convert, tmp_path / "cs", particles=tmp_path / "many" / "particles.star")
