"""The ctf_refine job on simulated particles: values against the truth, files, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cryotorch.data.mrc import read_volume, write_volume
from cryotorch.data.particle_file import read_particles, write_particles
from cryotorch.errors import InputError
from cryotorch.jobs import ctf_refine, reconstruct, simulate
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.ctf.inputs import load
from cryotorch.jobs.pages.write import PAGE
from cryotorch.ops.ctf.defocus_fit import to_form
from cryotorch.ops.fourier.filters import filter_shells
from cryotorch.ops.masks.soft import soft_sphere

BOX, PX, N = 64, 1.6, 300
ALWAYS = {
    "config.yaml",
    "log.txt",
    "manifest.json",
    PAGE,
    "particles.star",
    "summary.json",
    "tensorboard",
}
TILT, TREFOIL = (1.0, -0.6), (-6.0, 8.0)  # mrad; cos and sin


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulation whose particles.star tells neither tilt nor trefoil and has wrong defocus values, and its true poses."""
    folder = tmp_path_factory.mktemp("data")
    inside = soft_sphere(BOX, 0.28 * BOX, 3)
    noise = torch.randn(BOX, BOX, BOX, generator=torch.Generator().manual_seed(0))
    fall = torch.exp(-30 * (torch.arange(BOX // 2 + 1) / (BOX * PX)) ** 2)
    source = tmp_path_factory.mktemp("source") / "map.mrc"
    write_volume(source, filter_shells(noise * inside, fall) * inside, PX)
    settings = dict(source=str(source), box_size=BOX, pixel_size=PX, n_particles=N)
    wrong = dict(known_aberrations=False, defocus_error=150, shift_sigma=2, snr=0.4)
    odd = [0.0, 0.0, TREFOIL[1], 0.0, 0.0, TREFOIL[0]]
    optics = dict(beam_tilt=list(TILT), odd_zernike=odd, defocus_min=6000, defocus_max=14000)
    simulate.run(make_settings("simulate", out=str(folder), **settings, **wrong, **optics))
    _pose(folder)
    return folder


def _pose(folder: Path) -> None:
    """posed.star: the CTF of particles.star with the poses of truth.star, half sets, micrographs and positions."""
    blind, truth = (read_particles(folder / name) for name in ("particles.star", "truth.star"))
    known = blind.particles
    particles = truth.particles.replace(
        defocus=known.defocus, optics=known.optics, half=torch.arange(N) % 2
    )
    draw = np.random.default_rng(0)
    extra = {
        "rlnMicrographName": np.array([f"mic{i % 5}.mrc" for i in range(N)]),
        "rlnCoordinateX": draw.uniform(0, 4000, N),
        "rlnCoordinateY": draw.uniform(0, 3000, N),
    }
    write_particles(folder / "posed.star", blind, particles, extra)


def job(data: Path, out: Path, **changes: Any) -> Path:
    given = {"particles": str(data / "posed.star"), "volume": str(data / "truth.mrc")}
    if Path(changes.get("volume") or given["volume"]).suffix == ".mrc":
        given["max_resolution"] = 3.4
    return ctf_refine.run(make_settings("ctf_refine", out=str(out), **given | changes))


def summary(out: Path) -> dict[str, Any]:
    return json.loads((out / "summary.json").read_text())


def defocus_error(out: Path, data: Path, name: str = "particles.star") -> torch.Tensor:
    forms = [
        to_form(read_particles(p).particles.defocus) for p in (out / name, data / "truth.star")
    ]
    return forms[0] - forms[1]


@pytest.mark.drawn
def test_values_errors_and_files(data: Path, tmp_path: Path, inked: Callable) -> None:
    out = job(data, tmp_path / "out", write=["star", "cs"])
    pictures = {"defocus.png", "positions.png", "optics_1.png"}
    assert {p.name for p in out.iterdir()} == ALWAYS | pictures | {"particles.cs"}
    for name in pictures:
        assert inked(out / name) > 0.08, name
    found = summary(out)
    (group,) = found["optics_groups"]
    assert (group["particles"], group["number"]) == (N, 1)
    true = dict(zip(("beam_tilt_x", "beam_tilt_y"), TILT, strict=True))
    true |= dict(zip(("trefoil_cos", "trefoil_sin"), TREFOIL, strict=True))
    assert set(group["numbers"]) == set(true)
    for name, value in true.items():
        number = group["numbers"][name]
        assert number["known"] and number["change"] == pytest.approx(number["value"])
        assert abs(number["value"] - value) < 3.2 * number["sigma"]
    assert group["numbers"]["beam_tilt_x"]["sigma"] < 0.05
    # what stands in the file is what was found
    source = read_particles(out / "particles.star")
    read = source.particles
    numbers = [group["numbers"][name]["value"] for name in true]
    assert read.optics.beam_tilt[0].tolist() == pytest.approx(numbers[:2], abs=1e-5)
    assert read.optics.odd_zernike[0, [5, 2]].tolist() == pytest.approx(numbers[2:], abs=1e-5)
    sigma = source.tables["particles"].floats("cryotorchDefocusSigma")
    score = defocus_error(out, data)[:, 0] / torch.from_numpy(sigma)
    assert 0.85 < float(score.std()) < 1.15
    assert found["defocus"]["median_sigma"] == pytest.approx(float(np.median(sigma)), rel=2e-3)
    assert found["defocus"]["spread_of_errors"] == pytest.approx(150, rel=0.35)
    torch.testing.assert_close(
        defocus_error(out, data, "particles.cs"), defocus_error(out, data), atol=0.02, rtol=0
    )
    # a second run knows that its defocus values come from these very images
    again = job(data, tmp_path / "again", particles=str(out / "particles.star"), passes=1)
    sigma = summary(again)["defocus"]["median_sigma"]
    assert sigma == pytest.approx(found["defocus"]["median_sigma"], rel=0.15)
    assert summary(again)["defocus"]["rms_change"] < sigma
    assert "the defocus was refined before" in (again / "log.txt").read_text()


def test_half_maps_and_everything_switched_on(data: Path, tmp_path: Path) -> None:
    run = reconstruct.run(
        make_settings("reconstruct", particles=str(data / "posed.star"), out=str(tmp_path / "run"))
    )
    every = dict.fromkeys(("spherical", "tetra", "anisomag"), True)
    out = job(
        *(data, tmp_path / "out"), volume=str(run), astigmatism="micrograph", passes=1, **every
    )
    found = summary(out)
    assert (out / "magnification.png").exists() and (out / "optics_1.png").exists()
    claimed = summary(run)["resolution"]
    assert found["resolution_limit"] == pytest.approx(claimed, rel=0.04) and claimed < 4.5
    # without a summary the half maps are judged; a run that claims nothing has nothing to fit to, wherever its curve may cross
    told = summary(run)
    (run / "summary.json").unlink()
    settings = make_settings("ctf_refine", particles=str(data / "posed.star"), volume=str(run))
    assert load(settings).limit == pytest.approx(claimed, rel=0.04)
    (run / "summary.json").write_text(json.dumps(told | {"resolution": None}))
    with pytest.raises(InputError, match=r"summary.json claims no resolution.*add max_resolution="):
        load(settings)
    assert load(replace(settings, max_resolution=6.0)).limit == 6.0
    numbers = found["optics_groups"][0]["numbers"]
    assert abs(numbers["beam_tilt_x"]["value"] - 1) < 0.2
    assert (
        abs(numbers["spherical_aberration"]["value"] - 2.7)
        < 4 * numbers["spherical_aberration"]["sigma"]
    )
    assert numbers["magnification"]["value"] == pytest.approx(1, abs=1e-6)
    assert abs(numbers["anisotropy_cos"]["value"]) < 4 * numbers["anisotropy_cos"]["sigma"]
    assert any("the half maps were made without that: new ones" in w for w in found["warnings"])
    table = read_particles(out / "particles.star").tables["particles"]
    assert len(np.unique(table.floats("cryotorchAstigmatismSigma"))) == 5  # one per micrograph


def test_only_the_optics(data: Path, tmp_path: Path) -> None:
    out = job(data, tmp_path / "out", defocus=False, trefoil=False, passes=1)
    assert "defocus" not in summary(out) and not (out / "defocus.png").exists()
    particles = read_particles(out / "particles.star")
    before = read_particles(data / "posed.star").particles
    assert torch.equal(particles.particles.defocus, before.defocus)
    assert "cryotorchDefocusSigma" not in particles.tables["particles"]


def altered(data: Path, out: Path, **changes: Any) -> str:
    source = read_particles(data / "posed.star")
    write_particles(out, source, source.particles.replace(**changes))
    return str(out)


def test_refusals(data: Path, tmp_path: Path) -> None:
    def refused(match: str, **changes: Any) -> None:
        with pytest.raises(InputError, match=match):
            job(data, tmp_path / "out", **changes)
        assert not (tmp_path / "out").exists()

    refused("particles=null cannot be used: add particles=<file", particles=None)
    refused("has no orientations", particles=str(data / "particles.star"))
    half = torch.arange(N) % 2
    half[:3] = -1
    unsplit = altered(data, data / "unsplit.star", half=half)
    none = torch.zeros(BOX, BOX, BOX)
    none[30:34] = torch.randn(4, BOX, BOX, generator=torch.Generator().manual_seed(0))
    (tmp_path / "halves").mkdir()
    for name in "AB":
        write_volume(tmp_path / "halves" / f"map_half_{name}.mrc", none, PX)
    halves = str(tmp_path / "halves")
    refused(
        r"has 300 particles without half set .* job=reconstruct", particles=unsplit, volume=halves
    )
    refused("one map, whose resolution is not known: add max_resolution", max_resolution=None)
    refused("it is finer than two pixels, 3.2 Å", max_resolution=2)
    refused("max_resolution=9 .* begin at optics_min_resolution=10 Å.* at most 8", max_resolution=9)
    refused("max_resolution=40 .* defocus_min_resolution=20 Å.* at most 16", max_resolution=40)
    write_volume(tmp_path / "small.mrc", torch.randn(48, 48, 48), 1.0)
    refused("has 48 voxels per edge", volume=str(tmp_path / "small.mrc"))
    inverted = -read_volume(data / "truth.mrc")[0]
    write_volume(tmp_path / "inverted.mrc", inverted, PX)
    mask = str(tmp_path / "mask.mrc")
    write_volume(tmp_path / "mask.mrc", soft_sphere(BOX, 24, 5), PX)
    refused("their contrast is opposite", volume=str(tmp_path / "inverted.mrc"), mask=mask)
    for wrong, match in (
        ({"spherical": True, "defocus": False}, "spherical=true cannot be used: it needs defocus"),
        ({"astigmatism": "particle", "defocus": False}, "it needs defocus=true"),
        ({"defocus": False, "tilt": False, "trefoil": False}, "nothing is left to refine"),
        ({"write": []}, "name a format"),
        ({"passes": 0}, "above zero"),
    ):
        refused(match, **wrong)


def test_one_map_needs_no_half_sets_and_draws_none(data: Path, tmp_path: Path) -> None:
    out = job(data, tmp_path / "out", particles=str(data / "truth.star"), passes=1)
    assert bool((read_particles(out / "particles.star").particles.half == -1).all())
    assert summary(out)["half_sets"] == [0, 0]


def test_micrographs_must_be_named(data: Path, tmp_path: Path) -> None:
    source = read_particles(data / "posed.star")
    table = source.tables["particles"].copy()
    del table["rlnMicrographName"]
    bare = replace(source, tables={**source.tables, "particles": table})
    write_particles(data / "bare.star", bare, source.particles)
    with pytest.raises(InputError, match="does not say from which micrograph"):
        job(data, tmp_path / "out", particles=str(data / "bare.star"), astigmatism="micrograph")


@pytest.mark.slow
@pytest.mark.data
def test_the_tilt_of_independent_images(shared_data: Path, tmp_path: Path) -> None:
    """Images by relion_project with a beam tilt of (1.0, -0.6) mrad: half maps made without it, then with what they gave."""
    folder = tmp_path / "data"
    folder.mkdir()
    source = shared_data / "relion_beamtilt"
    (folder / "particles.mrcs").symlink_to(source / "particles.mrcs")
    (folder / "truth.star").write_bytes((source / "truth" / "truth.star").read_bytes())
    file = read_particles(folder / "truth.star")
    particles = file.particles
    n = len(particles)
    plain = particles.replace(
        optics=particles.optics.replace(beam_tilt=torch.zeros(1, 2)), half=torch.arange(n) % 2
    )
    write_particles(folder / "given.star", file, plain)
    given, errors = folder / "given.star", []
    for number in (1, 2):
        run, out = tmp_path / f"run{number}", tmp_path / f"out{number}"
        reconstruct.run(make_settings("reconstruct", particles=str(given), out=str(run)))
        found = {"particles": str(given), "volume": str(run), "defocus": False, "trefoil": False}
        ctf_refine.run(make_settings("ctf_refine", out=str(out), **found))
        numbers = summary(out)["optics_groups"][0]["numbers"]
        pair = [numbers[f"beam_tilt_{axis}"] for axis in "xy"]
        errors.append(max(abs(x["value"] - t) for x, t in zip(pair, TILT, strict=True)))
        given = out / "particles.star"
    assert max(x["sigma"] for x in pair) < 0.03
    assert max(errors) < 0.1


def test_defocus_alone_needs_no_detail_of_the_optics(data: Path, tmp_path: Path) -> None:
    """The map ends at 12 Å, where the fits of the optics have not begun."""
    off = dict(tilt=False, trefoil=False, passes=1)
    given = dict(particles=str(data / "posed.star"), volume=str(data / "truth.mrc"))
    settings = make_settings(
        "ctf_refine", out=str(tmp_path / "out"), max_resolution=12, **given, **off
    )
    out = ctf_refine.run(settings)
    assert summary(out)["defocus"]["spread_of_errors"] < 1000
    assert summary(out)["optics_groups"][0]["numbers"] == {}
