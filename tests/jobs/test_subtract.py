"""job=subtract on files: what is written and read again, and the way back to the original images."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch

from cryotorch.data.mrc import read_volume, write_stack, write_volume
from cryotorch.data.particle_file import read_particles, write_particles, write_tables
from cryotorch.data.star import read_star, write_star
from cryotorch.errors import InputError
from cryotorch.jobs import local_refine, particles, reconstruct, simulate, subtract
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.ops.fourier.filters import low_pass
from cryotorch.ops.fourier.transforms import resize_images
from cryotorch.ops.geometry.placement import crop_or_pad, shift_volume
from cryotorch.ops.geometry.rotations import rotation_angle
from cryotorch.ops.masks.soft import soft_sphere
from cryotorch.refinement.half_sets import image_numbers
from cryotorch.report.style import Picture

BOX, PIXEL, N = 32, 4.0, 48
CENTER = (2, -3, 4)  # voxels (x, y, z) from the middle, of the mask


def run(job, out: Path, **changes) -> dict:
    given = {name: str(x) if isinstance(x, Path) else x for name, x in changes.items()}
    name = job.__name__.rpartition(".")[2]
    job.run(make_settings(name, out=str(out), **given))
    return json.loads((out / "summary.json").read_text())


@pytest.fixture(autouse=True)
def blank_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (
        "reconstruction.results",
        "fsc.results",
        "curation.results",
        "subtraction.results",
    ):
        monkeypatch.setattr(f"cryotorch.jobs.{module}.render", lambda figure: Picture(b"", 1, 1))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise-free images of a C2 molecule with tilt and magnification, with half sets; its map; masks on a part, on all and on nothing."""
    folder = tmp_path_factory.mktemp("world") / "set"
    lens = dict(beam_tilt=[1.0, -2.0], magnification=[[1.02, 0.01], [0.0, 0.98]])
    small = dict(box_size=BOX, pixel_size=PIXEL, n_particles=N, snr=None, seed=2, shift_sigma=3)
    simulate.run(make_settings("simulate", out=str(folder), symmetry="C2", **small, **lens))
    file = read_particles(folder / "truth.star")
    halves, notes = torch.arange(N) % 2, {"someoneElsesColumn": np.arange(N)}
    write_particles(folder / "posed.star", file, file.particles.replace(half=halves), notes)
    x, y, z = CENTER
    mask = torch.roll(soft_sphere(BOX, 6, 4), (z, y, x), (0, 1, 2))
    write_volume(folder / "mask.mrc", mask, PIXEL)
    write_volume(folder / "all.mrc", torch.ones(BOX, BOX, BOX), PIXEL)
    corner = torch.zeros(BOX, BOX, BOX)
    corner[:4, :4, :4] = 1  # where there is nothing
    write_volume(folder / "nothing.mrc", corner, PIXEL)
    return folder


def given(world: Path, mask: str = "mask.mrc") -> dict:
    files = dict(particles=world / "posed.star", volume=world / "truth.mrc", mask=world / mask)
    return files | dict(normalize=False, device="cpu")


def power(images: np.ndarray) -> float:
    return float(np.square(images - images.mean((1, 2), keepdims=True)).sum())


def test_all_and_nothing(world: Path, tmp_path: Path) -> None:
    before = mrcfile.read(world / "particles.mrcs")
    summary = run(subtract, tmp_path / "all", **given(world, "all.mrc"))
    assert summary["seconds"]["read"] > 0.01 and summary["seconds"]["write"] > 0
    assert summary["mask_keeps"] > 0.999
    assert any(w.startswith("The mask keeps 100% of the density") for w in summary["warnings"])
    assert np.array_equal(mrcfile.read(tmp_path / "all/particles.mrcs"), before)
    summary = run(subtract, tmp_path / "nothing", **given(world, "nothing.mrc"))
    after = mrcfile.read(tmp_path / "nothing/particles.mrcs")
    assert summary["mask_keeps"] < 0.05
    assert not any(w.startswith("The mask keeps") for w in summary["warnings"])
    assert power(after) < 1e-3 * power(before)
    assert abs(summary["left"]) < 0.01 and summary["grey_scale"] == pytest.approx(1, abs=0.02)


def test_lists_lead_to_the_new_images_and_back(world: Path, tmp_path: Path) -> None:
    """Also as .cs, which carries names, and what the way back needs."""
    how = dict(recenter_on_mask=True, box_size=20, write=["star", "cs"])
    summary = run(subtract, tmp_path / "sub", **given(world), **how)
    assert np.allclose(summary["center"], np.array(CENTER) * PIXEL, atol=1e-3)
    assert summary["box"] == 20 and summary["one_map"] and summary["warnings"]
    source = read_particles(world / "posed.star")
    for ending in ("star", "cs"):
        new = read_particles(tmp_path / f"sub/particles.{ending}")
        assert new.box == 20 and new.stacks == [tmp_path / "sub/particles.mrcs"]
        assert float(new.particles.shift.abs().max()) <= PIXEL / 2 + 1e-3
        out = tmp_path / f"back_{ending}"
        files = tmp_path / f"sub/particles.{ending}"
        run(particles, out, particles=files, originals=True, write=["star"])
        back = read_particles(out / "particles.star")
        assert back.box == BOX and back.stacks == [world / "particles.mrcs"]
        for name in ("rotation", "shift", "defocus", "half", "address"):
            first, second = (getattr(x.particles, name).double() for x in (source, back))
            assert float((first - second).abs().max()) < 2e-3, name
        label = "someoneElsesColumn"
        assert (
            back.tables["particles"][label].tolist() == source.tables["particles"][label].tolist()
        )
    tables = [read_star(x)["optics"] for x in (world / "posed.star", out / "particles.star")]
    assert all(x in tables[1] for x in ("rlnMagMat00", "rlnBeamTiltX"))


def test_a_cs_file_gives_the_same_images(world: Path, tmp_path: Path) -> None:
    write_tables(world / "posed.cs", read_particles(world / "posed.star").tables)
    for name in ("star", "cs"):
        files = given(world) | dict(particles=world / f"posed.{name}", recenter_on_mask=True)
        run(subtract, tmp_path / name, **files, write=[name])
    first, second = (mrcfile.read(tmp_path / name / "particles.mrcs") for name in ("star", "cs"))
    assert power(first - second) < 1e-6 * power(first)
    star, cs = (read_particles(tmp_path / x / f"particles.{x}").particles for x in ("star", "cs"))
    assert torch.allclose(star.shift, cs.shift, atol=1e-3) and torch.equal(star.half, cs.half)
    out = dict(particles=tmp_path / "cs/particles.cs", originals=True)
    run(particles, tmp_path / "back", **out)
    back = read_particles(tmp_path / "back/particles.cs")
    source = read_particles(world / "posed.star").particles
    assert torch.allclose(back.particles.shift, source.shift, atol=1e-3) and back.box == BOX


def test_maps_of_the_new_images_show_what_was_kept(world: Path, tmp_path: Path) -> None:
    """In the middle of a smaller box, on the same grey scale; after going back the map is that of before, to a rounding."""
    run(subtract, tmp_path / "sub", **given(world), recenter_on_mask=True, box_size=24)
    run(reconstruct, tmp_path / "map", particles=tmp_path / "sub/particles.star", normalize=False)
    found = read_volume(tmp_path / "map/map.mrc")[0]
    truth, mask = (read_volume(world / f"{name}.mrc")[0] for name in ("truth", "mask"))
    kept = shift_volume(truth * mask, -torch.tensor(CENTER).double())
    kept = crop_or_pad(kept, 24)
    inside = soft_sphere(24, 8, 3)
    a, b = ((x - x.mean()) * inside for x in (found, kept))
    assert float((a * b).sum() / (a.norm() * b.norm())) > 0.95
    assert float((a * b).sum() / (b * b).sum()) == pytest.approx(1, abs=0.15)
    star = tmp_path / "sub/particles.star"
    run(particles, tmp_path / "back", particles=star, originals=True)
    for name, files in (
        ("before", world / "posed.star"),
        ("after", tmp_path / "back/particles.star"),
    ):
        run(reconstruct, tmp_path / name, particles=files, normalize=False)
    first, second = (read_volume(tmp_path / x / "map_half_A.mrc")[0] for x in ("before", "after"))
    assert float((first - second).abs().max()) < 1e-3 * float(first.abs().max())


def test_every_expanded_row_gets_an_image(world: Path, tmp_path: Path) -> None:
    """Its own, that shows one subunit in the middle; half sets and image numbers stay those of the recorded images."""
    run(particles, tmp_path / "many", particles=world / "posed.star", expand_symmetry="C2")
    files = given(world) | dict(particles=tmp_path / "many/particles.star")
    summary = run(subtract, tmp_path / "sub", **files, recenter_on_mask=True)
    assert summary["particles"] == 2 * N and summary["images_of"] == N
    new = read_particles(tmp_path / "sub/particles.star").particles
    assert len(new.address.unique(dim=0)) == 2 * N
    assert torch.equal(image_numbers(new), torch.arange(N).repeat_interleave(2))
    assert torch.equal(new.half, (torch.arange(N) % 2).repeat_interleave(2))
    assert float(rotation_angle(new.rotation[0], new.rotation[1]).rad2deg()) > 90
    star = tmp_path / "sub/particles.star"
    run(particles, tmp_path / "back", particles=star, originals=True, one_per_image=True)
    back = read_particles(tmp_path / "back/particles.star").particles
    source = read_particles(world / "posed.star").particles
    assert float((back.shift - source.shift).abs().max()) < 1e-3
    assert float(rotation_angle(back.rotation, source.rotation).max()) < 1e-3


def test_a_second_subtraction_remembers_the_first_images(world: Path, tmp_path: Path) -> None:
    run(subtract, tmp_path / "a", **given(world), recenter_on_mask=True, box_size=28)
    again = dict(particles=tmp_path / "a/particles.star", mask=world / "all.mrc")
    once = read_volume(world / "truth.mrc")[0]
    moved = shift_volume(once, -torch.tensor(CENTER).double())
    write_volume(tmp_path / "moved.mrc", crop_or_pad(moved, 28), PIXEL)
    write_volume(tmp_path / "ones.mrc", torch.ones(28, 28, 28), PIXEL)
    again |= dict(volume=tmp_path / "moved.mrc", mask=tmp_path / "ones.mrc", box_size=16)
    run(subtract, tmp_path / "b", **again, device="cpu", normalize=False)
    table = read_star(tmp_path / "b/particles.star")["particles"]
    first = world / "particles.mrcs"
    assert table["rlnImageOriginalName"][:1].tolist() == [f"000001@{first}"]
    run(particles, tmp_path / "back", particles=tmp_path / "b/particles.star", originals=True)
    back, source = (
        read_particles(x) for x in (tmp_path / "back/particles.star", world / "posed.star")
    )
    assert back.box == BOX
    assert float((back.particles.shift - source.particles.shift).abs().max()) < 1e-3


def test_images_of_several_grids(world: Path, tmp_path: Path) -> None:
    """A second optics group of the same images on larger pixels: each is cleaned on its own, and cut to the same width in Å."""
    raw = torch.from_numpy(np.array(mrcfile.read(world / "particles.mrcs")))
    write_stack(tmp_path / "coarse.mrcs", [resize_images(raw, 24)], N, 24, PIXEL * BOX / 24)
    tables = read_star(world / "posed.star")
    optics, rows = tables["optics"], tables["particles"]
    both = optics.taken(np.array([0, 0]))
    both["rlnOpticsGroup"] = [1, 2]
    both["rlnOpticsGroupName"] = ["fine", "coarse"]
    both["rlnImagePixelSize"] = [PIXEL, PIXEL * BOX / 24]
    both["rlnImageSize"] = [BOX, 24]
    two = rows.taken(np.arange(N))
    group = 1 + (np.arange(N) % 3 == 2)
    two["rlnOpticsGroup"] = group
    stack = {1: world / "particles.mrcs", 2: tmp_path / "coarse.mrcs"}
    two["rlnImageName"] = [f"{i + 1:06d}@{stack[g]}" for i, g in enumerate(group.tolist())]
    write_star(tmp_path / "two.star", {"optics": both, "particles": two})
    files = given(world, "nothing.mrc") | dict(particles=tmp_path / "two.star")
    summary = run(subtract, tmp_path / "out", **files, box_size=24)
    assert len(summary["stacks"]) == 2
    file = read_particles(tmp_path / "out/particles.star")
    assert sorted(
        read_star(tmp_path / "out/particles.star")["optics"].integers("rlnImageSize")
    ) == [18, 24]
    for name in summary["stacks"]:
        left = mrcfile.read(tmp_path / "out" / name)
        assert left.shape[-1] in (18, 24)
        assert power(left) < 5e-3 * power(raw.numpy()) * len(left) / N
    assert file.box == 24


@pytest.mark.parametrize("missing", ["particles", "volume", "mask"])
def test_what_is_missing_is_asked_for(world: Path, tmp_path: Path, missing: str) -> None:
    with pytest.raises(InputError, match=f"{missing}=null cannot be used: add {missing}="):
        run(subtract, tmp_path / "out", **(given(world) | {missing: None}))
    assert not (tmp_path / "out").exists()


def test_originals_that_are_not_named(world: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not name the images that its own were made of"):
        run(particles, tmp_path / "out", particles=world / "posed.star", originals=True)


@pytest.mark.slow
def test_a_local_refinement_of_subtracted_images(tmp_path: Path) -> None:
    """A body that moves, subtracted, centred and in a smaller box, is found as well as in the original images."""
    moving = dict(second_body="phantom", second_body_rotation=10, snr=0.5, n_particles=300)
    run_at = tmp_path / "set"
    simulate.run(make_settings("simulate", out=str(run_at), box_size=40, pixel_size=5.0, **moving))
    run(reconstruct, tmp_path / "all", particles=run_at / "consensus.star")
    quick = dict(max_iterations=3, trainer__accelerator="cpu", initial_resolution=20.0)
    files = dict(particles=run_at / "consensus.star", volume=tmp_path / "all")
    mask = dict(mask=run_at / "mask_body2.mrc")
    run(local_refine, tmp_path / "plain", **files, **mask, **quick)
    made = run(subtract, tmp_path / "sub", **files, **mask, recenter_on_mask=True, box_size=28)
    run(reconstruct, tmp_path / "part", particles=tmp_path / "sub/particles.star")
    center = torch.tensor(made["center"]) / 5.0
    moved = shift_volume(read_volume(run_at / "mask_body2.mrc")[0], -center)
    write_volume(tmp_path / "mask.mrc", crop_or_pad(moved, 28).clamp(0, 1), 5.0)
    some = dict(particles=tmp_path / "sub/particles.star", volume=tmp_path / "part")
    run(local_refine, tmp_path / "small", **some, mask=tmp_path / "mask.mrc", **quick)
    star = tmp_path / "small/particles.star"
    run(particles, tmp_path / "back", particles=star, originals=True)
    truth = read_particles(run_at / "truth_body2.star").particles
    start, plain, small = (
        float(rotation_angle(read_particles(x).particles.rotation, truth.rotation).median())
        for x in (
            run_at / "consensus.star",
            tmp_path / "plain/particles.star",
            tmp_path / "back/particles.star",
        )
    )
    assert plain < 0.85 * start and small < 1.1 * plain


@pytest.mark.relion
def test_relion_reads_them(world: Path, tmp_path: Path) -> None:
    """relion_reconstruct of the list shows what was kept, in the middle; 48 views leave gaps in the finest shells."""
    run(subtract, tmp_path / "sub", **given(world), recenter_on_mask=True, box_size=24)
    command = "relion_reconstruct --i particles.star --o map.mrc --ctf --pad 2".split()
    subprocess.run(command, cwd=tmp_path / "sub", check=True, capture_output=True)
    kept = read_volume(world / "truth.mrc")[0] * read_volume(world / "mask.mrc")[0]
    kept = crop_or_pad(shift_volume(kept, -torch.tensor(CENTER).double()), 24)
    found, inside = read_volume(tmp_path / "sub/map.mrc")[0], soft_sphere(24, 8, 3)
    found, kept = (low_pass(x, PIXEL, 4 * PIXEL) for x in (found, kept))
    a, b = ((x - x.mean()) * inside for x in (found, kept))
    assert float((a * b).sum() / (a.norm() * b.norm())) > 0.9
