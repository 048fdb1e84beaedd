"""job=reconstruct through the command line: the molecule comes back, hands, halves, aberrations, refusals."""

from __future__ import annotations

import io
import json
import math
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import torch

from cryotorch import __main__ as cli
from cryotorch.data.half_sets import SHARED_RESOLUTION, shared_resolution
from cryotorch.data.mrc import read_volume, write_volume
from cryotorch.data.particle_file import read_particles, write_particles
from cryotorch.data.star import read_star, write_star
from cryotorch.data.table import Table
from cryotorch.jobs import simulate
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.pages.write import PAGES
from cryotorch.ops.fourier.transforms import resize_volume
from cryotorch.ops.geometry.placement import flip_hand
from cryotorch.ops.geometry.rotations import rotation_angle
from cryotorch.ops.geometry.symmetry import point_group, rotate_volume, symmetry_correlation
from cryotorch.ops.geometry.symmetry_frame import turn
from cryotorch.ops.masks.soft import soft_sphere
from cryotorch.ops.resolution.fsc import shell_correlation
from cryotorch.refinement.em.hands import Frame
from cryotorch.report.style import Picture

BOX, PIXEL = 40, 3.0
RESULTS = {
    *("config.yaml", "log.txt", "map.mrc", "map_sharp.mrc", "map_half_A.mrc", "map_half_B.mrc"),
    *("mask_fsc.mrc", "particles.star", "fsc.txt", "fsc.png", "mask.png", "slices.png"),
    *("guinier.png", "orientations.png", "tensorboard", "summary.json", "manifest.json"),
    *PAGES,
    *(f"fsc_{c}.xml" for c in ("no_mask", "spherical", "loose", "tight", "corrected")),
    "fsc_randomised.xml",
}


def command(*arguments: str) -> tuple[int, str, str]:
    """The command line in this process: exit code, terminal, error."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with pytest.MonkeyPatch.context() as patch:
        for name in ("CRYOTORCH_STARTED", "HYDRA_FULL_ERROR", "CRYOTORCH_DEBUG", "LOCAL_RANK"):
            patch.setenv(name, "")
            patch.delenv(name)
        patch.setattr(sys, "argv", ["cryotorch", "job=reconstruct", "device=cpu", *arguments])
        with redirect_stdout(out), redirect_stderr(err):
            try:
                cli.main()
            except SystemExit as stop:
                code = stop.code
    return code, out.getvalue(), err.getvalue()


def reconstruct(out: str, particles: Path, *arguments: str, drawn: bool = False) -> dict:
    """A run that must go well; the summary. Figures take half of its time and are blank unless ``drawn``."""
    with pytest.MonkeyPatch.context() as patch:
        for module in () if drawn else ("reconstruction.results", "fsc.results"):
            patch.setattr(f"cryotorch.jobs.{module}.render", lambda figure: Picture(b"", 1, 1))
        code, _, err = command(f"particles={particles}", f"out={out}", *arguments)
    assert code == 0, err
    return json.loads(Path(out, "summary.json").read_text())


def volume(path: str | Path) -> torch.Tensor:
    return read_volume(path)[0]


def curve(a: torch.Tensor, b: torch.Tensor, radius: float = 15) -> torch.Tensor:
    mask = soft_sphere(len(a), radius, 4)
    return shell_correlation(a * mask, b * mask)


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """500 noisy images of a phantom; truth.star has their poses and scales."""
    folder = tmp_path_factory.mktemp("world") / "set"
    small = {"box_size": BOX, "pixel_size": PIXEL, "n_particles": 500, "snr": 0.3, "seed": 3}
    simulate.run(make_settings("simulate", out=str(folder), scale_sigma=0.2, **small))
    return folder


@pytest.fixture(scope="module")
def done(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("done") / "out"
    reconstruct(str(folder), world / "truth.star", drawn=True)
    return folder


def test_the_molecule_comes_back(world: Path, done: Path) -> None:
    truth, found = volume(world / "truth.mrc"), volume(done / "map.mrc")
    assert {path.name for path in done.iterdir()} == RESULTS
    assert float(curve(found, truth)[1:14].min()) > 0.9
    inside = soft_sphere(BOX, 15, 0) > 0.5
    slope = float((found * truth)[inside].sum() / truth[inside].square().sum())
    assert slope == pytest.approx(1, abs=0.1)  # on the images' grey scale
    summary = json.loads((done / "summary.json").read_text())
    assert summary["half_sets"] == [250, 250] and summary["particles"] == 500
    assert summary["resolution"] == pytest.approx(summary["resolutions"]["corrected"])
    assert 2 * PIXEL <= summary["resolution"] < 9
    assert summary["half_maps"] == [str(done / f"map_half_{x}.mrc") for x in "AB"]
    assert summary["random_phases"]["from_shell"] > 1


def test_the_particles_carry_the_poses_that_were_used(world: Path, done: Path) -> None:
    truth = read_particles(world / "truth.star").particles
    file = read_particles(done / "particles.star")
    assert float(rotation_angle(file.particles.rotation, truth.rotation).max()) < 1e-3
    assert torch.allclose(file.particles.shift, truth.shift, atol=1e-3)
    assert torch.allclose(file.particles.scale, truth.scale, atol=1e-5)
    assert sorted(set(file.particles.half.tolist())) == [0, 1]


def test_the_half_maps_are_independent_and_kept(world: Path, done: Path) -> None:
    """From particles.star the same half maps, resplit others; each half map is made of its own half set only."""
    reconstruct("again", done / "particles.star")
    reconstruct("resplit", done / "particles.star", "half_sets=resplit", "seed=7")
    for name in ("map_half_A.mrc", "map_half_B.mrc", "map.mrc"):
        first = volume(done / name)
        assert torch.allclose(volume(f"again/{name}"), first, atol=1e-3 * float(first.abs().max()))
    other = volume("resplit/map_half_A.mrc") - volume(done / "map_half_A.mrc")
    assert float(other.std()) > 0.1 * float(volume(done / "map_half_A.mrc").std())
    source = read_particles(done / "particles.star")
    changed = source.particles.replace(
        rotation=torch.where(
            source.particles.half[:, None, None] == 1, torch.eye(3), source.particles.rotation
        )
    )
    write_particles("b_spoilt.star", source, changed)
    reconstruct("spoilt", Path("b_spoilt.star"))
    first = volume(done / "map_half_A.mrc")
    assert torch.allclose(
        volume("spoilt/map_half_A.mrc"), first, atol=1e-3 * float(first.abs().max())
    )


def test_the_other_hand(world: Path, done: Path) -> None:
    """The map is inverted, as volume_tools does it, and particles.star gives the inverted map by itself."""
    reconstruct("flipped", done / "particles.star", "flip_hand=true", "regularize=false")
    reconstruct("plain", done / "particles.star", "regularize=false")
    reconstruct("again", Path("flipped/particles.star"), "regularize=false")
    plain, flipped, again = (volume(f"{x}/map.mrc") for x in ("plain", "flipped", "again"))
    scale = float(plain.abs().max())
    # the outermost planes of an even box have no counterpart
    inner = (slice(1, None),) * 3
    assert torch.allclose(flipped[inner], flip_hand(plain)[inner], atol=1e-3 * scale)
    assert torch.allclose(again, flipped, atol=1e-3 * scale)
    assert float(curve(flipped, flip_hand(volume(world / "truth.mrc")))[1:14].min()) > 0.85


def test_a_smaller_box_and_less_padding(world: Path) -> None:
    summary = reconstruct("out", world / "truth.star", "padding=1", "box_size=32")
    assert summary["pixel_size"] == pytest.approx(PIXEL * BOX / 32)
    found, truth = volume("out/map.mrc"), resize_volume(volume(world / "truth.mrc"), 32)
    assert float(curve(found, truth, 12)[1:11].min()) > 0.85


def test_circle_and_filter_take_away_noise(tmp_path: Path) -> None:
    """Close to focus, where the CTF carries signal two pixels away; at the usual defocus it fills this box."""
    size = {"box_size": BOX, "pixel_size": PIXEL, "n_particles": 200, "snr": 0.2}
    near = {"defocus_min": 1000.0, "defocus_max": 2000.0}
    simulate.run(make_settings("simulate", out="set", **size, **near))
    reconstruct("cut", Path("set/truth.star"), "particle_diameter=60", "regularize=false")
    reconstruct("bare", Path("set/truth.star"), "regularize=false")
    reconstruct("done", Path("set/truth.star"))
    ring = soft_sphere(BOX, 19, 0) - soft_sphere(BOX, 16, 0)
    paths = ("cut/map.mrc", "bare/map.mrc", "done/map.mrc")
    cut, whole, filtered = (float((volume(path) * ring).std()) for path in paths)
    assert cut < 0.7 * whole
    assert filtered < 0.9 * whole


def test_symmetry_is_put_on_the_map(tmp_path: Path) -> None:
    small = {"box_size": 32, "pixel_size": 4.0, "n_particles": 60, "snr": 0.3, "symmetry": "C4"}
    simulate.run(make_settings("simulate", out="set", **small))
    reconstruct("c1", Path("set/truth.star"))
    reconstruct("c4", Path("set/truth.star"), "symmetry=C4")
    truth, one, four = (volume(x) for x in ("set/truth.mrc", "c1/map.mrc", "c4/map.mrc"))
    assert float(symmetry_correlation(four, point_group("C4")).min()) > 0.98
    assert float(curve(four, truth, 12)[8]) > float(curve(one, truth, 12)[8]) + 0.05


ABERRATIONS = {
    "beam_tilt": [4, -3],
    "odd_zernike": [0, 0, 300, 0, 0, -200],
    "even_zernike": [0, 0, 0, 0, 900, -600, 0, 0, 800],
    "magnification": [[1.06, 0.02], [-0.01, 0.95]],
}


def test_poses_about_other_axes_are_told_and_turned(tmp_path: Path) -> None:
    """D3 whose 2-folds lie on y, as CryoSPARC has it: a good FSC, a bad map; and C3 taken for D3."""
    small = {"box_size": 32, "pixel_size": 4.0, "n_particles": 150, "snr": 0.5, "symmetry": "D3"}
    simulate.run(make_settings("simulate", out="set", seed=3, **small))
    file = read_particles("set/truth.star")
    quarter = Frame(turn((0, 0, 1), 90), mirrored=False)
    turned = file.particles.replace(rotation=quarter.poses(file.particles.rotation))
    write_particles(Path("set/turned.star"), file, turned)
    truth = volume("set/truth.mrc")  # turned once, and once more by "auto"
    truths = [rotate_volume(truth, turn((0, 0, 1), angle)) for angle in (90, 180)]
    found = {}
    for frame in ("check", "auto", "trust"):
        arguments = ("symmetry=D3", f"symmetry_frame={frame}")
        summary = reconstruct(frame, Path("set/turned.star"), *arguments)
        found[frame] = max(
            float(curve(volume(f"{frame}/map.mrc"), truth, 12)[2:9].mean()) for truth in truths
        )
        told = [w for w in summary["warnings"] if "do not show symmetry D3" in w]
        assert len(told) == (frame == "check")
        assert not told or "by 90° about z" in told[0]
        assert summary["symmetry_shown"] is {"check": False, "auto": True, "trust": None}[frame]
    assert found["auto"] > 0.9 and found["check"] == pytest.approx(found["trust"])
    assert found["check"] < found["auto"] - 0.05
    back = read_particles("auto/particles.star").particles.rotation
    sixth = torch.stack([file.particles.rotation @ g.float() for g in point_group("D6")])
    assert rotation_angle(back, sixth).amin(0).max() < 1e-3
    right = reconstruct("right", Path("set/truth.star"), "symmetry=D3")
    assert right["symmetry_shown"] is True and right["symmetry_turn"] is None


def test_aberrations_are_undone_unless_ignored() -> None:
    """Each switch spoils the map; particles.star keeps what was ignored."""
    small = {"box_size": 32, "pixel_size": 2.0, "n_particles": 150, "snr": None}
    simulate.run(make_settings("simulate", out="set", **small, **ABERRATIONS))
    truth, star = volume("set/truth.mrc"), Path("set/truth.star")
    reconstruct("right", star)
    assert float(curve(volume("right/map.mrc"), truth, 12)[1:15].min()) > 0.97
    before = read_particles(star).particles.optics
    for name in ("tilt", "trefoil", "tetra", "anisomag"):
        reconstruct(name, star, f"ignore_{name}=true")
        assert float(curve(volume(f"{name}/map.mrc"), truth, 12)[14]) < 0.9, name
        after = read_particles(Path(name) / "particles.star").particles.optics
        for kept in ABERRATIONS:
            assert torch.allclose(getattr(before, kept), getattr(after, kept)), (name, kept)


def test_the_curvature_follows_its_sign(world: Path, done: Path) -> None:
    """At 300 kV and 6 Å it hardly matters: both signs give almost the flat map, each on its own side of it."""
    for sign in ("positive", "negative"):
        assert reconstruct(sign, done / "particles.star", f"ewald={sign}")["ewald"] == sign
    halves = "map_half_A.mrc"
    flat, up, down = (volume(f"{x}/{halves}") for x in (done, "positive", "negative"))
    assert float(curve(up, flat)[1:16].min()) > 0.98
    step = torch.stack([(up - down).flatten(), (up - flat).flatten()])
    assert float(step[0].norm()) > 0.01 * float(flat.norm())
    assert float(torch.nn.functional.cosine_similarity(*step, dim=0)) > 0


def test_a_given_mask_is_for_the_fsc_only(world: Path, done: Path) -> None:
    write_volume("mask.mrc", soft_sphere(BOX, 14, 4), PIXEL)
    summary = reconstruct("out", done / "particles.star", "mask=mask.mrc", "regularize=false")
    assert summary["mask"]["kind"] == "given"
    assert torch.allclose(volume("out/mask_fsc.mrc"), volume("mask.mrc"))
    first = volume(done / "map_half_A.mrc")
    assert torch.allclose(volume("out/map_half_A.mrc"), first, atol=1e-3 * float(first.abs().max()))


def test_the_wrong_contrast_is_named_with_this_job_s_remedy(world: Path) -> None:
    warnings = reconstruct("dark", world / "truth.star", "invert=true")["warnings"]
    assert any("add invert=false" in w for w in warnings)
    assert not any("leaves out" in w or "multiply" in w for w in warnings)


def test_what_half_sets_had_in_common_is_no_resolution(world: Path, done: Path) -> None:
    """The same images and poses, with a word on up to where they were aligned to one map: in the file, or by the user."""
    free = json.loads((done / "summary.json").read_text())
    assert free["shells"]["shared"] == 0 and free["shared_resolution"] is None
    edge = BOX * PIXEL
    shell = round(edge / free["resolution"])
    source = read_particles(world / "truth.star")
    for name, common, claimed in (("far", 4, free["resolution"]), ("near", shell - 2, None)):
        told = {SHARED_RESOLUTION: np.full(500, edge / common)}
        write_particles(f"{name}.star", source, source.particles, told)
        summary = reconstruct(name, Path(f"{name}.star"))
        assert summary["shells"]["shared"] == pytest.approx(common)
        assert summary["resolution"] == claimed
        # the new particles say it to the next job, and the new half maps to those that judge them
        again = read_particles(f"{name}/particles.star")
        assert shared_resolution(again.tables["particles"], again.path) == pytest.approx(
            edge / common, abs=1e-3
        )
    assert any("aligned to one map" in w for w in summary["warnings"])
    told = reconstruct("told", world / "truth.star", f"shared_resolution={edge / (shell - 2)}")
    assert told["resolution"] is None


def test_pure_noise_claims_nothing(world: Path) -> None:
    """Poses at random: no density, no resolution; the run ends well all the same."""
    source = read_particles(world / "truth.star")
    draw = torch.Generator().manual_seed(1)
    order = torch.randperm(500, generator=draw)
    lost = source.particles.replace(address=source.particles.address[order])
    write_particles("lost.star", source, lost)
    summary = reconstruct("out", Path("lost.star"))
    assert summary["resolution"] is None or summary["resolution"] > 15


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "needs particles: add particles="),
        (["particles=blind.star"], "has no orientations"),
        (["particles=truth.star", "box_size=33"], "box_size=33 cannot be used: it must be even"),
        (
            ["particles=truth.star", "padding=3"],
            "padding=3 cannot be used: it must be from 1 to 2, or auto",
        ),
        (["particles=truth.star", "ewald=up"], "ewald must be positive or negative or null"),
        (["particles=truth.star", "symmetry=X3"], "symmetry=X3 cannot be used"),
        (["particles=truth.star", "particle_diameter=500"], "the box is only 120 Å wide"),
        (["particles=truth.star", "particle_diameter=1"], "at least 4 pixels, 12 Å"),
        (["particles=truth.star", "mask=nothing.mrc"], "nothing.mrc does not exist"),
        (["particles=truth.star", "write=[]"], "write=[] cannot be used"),
    ],
)
def test_refusals_are_one_sentence(world: Path, arguments: list[str], said: str) -> None:
    for name, as_name in (("particles", "blind"), ("truth", "truth")):
        tables = read_star(world / f"{name}.star")
        image = tables["particles"]["rlnImageName"]
        tables["particles"]["rlnImageName"] = [f"{x.partition('@')[0]}@p.mrcs" for x in image]
        write_star(Path(f"{as_name}.star"), tables)
    Path("p.mrcs").symlink_to(world / "particles.mrcs")
    code, _, err = command("out=out", *arguments)
    assert code == 1 and err.startswith("error: ") and err.count("\n") == 1
    assert said in err
    assert not Path("out").exists()


def test_the_noise_of_a_bad_group_counts_less(world: Path) -> None:
    """A second optics group with five times the noise: weighed by it, the map is better than without those weights."""
    import mrcfile

    with mrcfile.open(world / "particles.mrcs") as file:
        images = file.data.copy()
    draw = np.random.default_rng(1)
    images[1::2] += 4 * draw.standard_normal(images[1::2].shape).astype(np.float32)
    with mrcfile.new("noisy.mrcs") as file:
        file.set_data(images)
    tables = read_star(world / "truth.star")
    table, optics = tables["particles"], tables["optics"]
    table["rlnImageName"] = [f"{i + 1}@noisy.mrcs" for i in range(len(images))]
    write_star(Path("one.star"), tables)
    table["rlnOpticsGroup"] = np.arange(len(images)) % 2 + 1
    twice = Table({label: [optics[label][0]] * 2 for label in optics})
    twice["rlnOpticsGroup"] = np.array([1, 2])
    write_star(Path("two.star"), {**tables, "optics": twice})
    truth = volume(world / "truth.mrc")
    found = {}
    for name in ("one", "two"):
        reconstruct(name, Path(f"{name}.star"), "normalize=false")
        found[name] = float(curve(volume(f"{name}/map.mrc"), truth)[8:14].mean())
    assert found["two"] > found["one"] + 0.05
    assert math.isfinite(found["one"])


def test_padding_follows_the_memory(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cryotorch.jobs.files import memory
    from cryotorch.jobs.reconstruction import from_poses

    least = 1.5 * 2 * from_poses.BYTES_PER_VOXEL * 48**3
    for place in (memory, from_poses):
        monkeypatch.setattr(place, "memory_of", lambda device: least)
    small = reconstruct("out", world / "truth.star")
    assert "padding=1, as 2 would take half" in (Path("out") / "log.txt").read_text()
    assert small["particles"] > 0
