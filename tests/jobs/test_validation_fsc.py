"""Validation of half maps through the command line: numbers against a dense reference, files, refusals."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import math
import re
import sys
from contextlib import redirect_stderr, redirect_stdout
from functools import lru_cache
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch
import yaml

from cryotorch import __main__ as cli
from cryotorch.data.mrc import read_corner, read_header, read_volume, write_volume
from cryotorch.data.star import read_star
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.files.manifest import Manifest
from cryotorch.jobs.pages.write import PAGES
from cryotorch.ops.fourier.filters import low_pass
from cryotorch.ops.masks.soft import density_mask, density_region, soft_mask, soft_sphere
from cryotorch.ops.models.gaussians import gaussian_density
from cryotorch.ops.resolution.fsc import resolution
from cryotorch.report.fsc_files import TEXT_COLUMNS

BOX, PIXEL = 40, 3.0
RESULTS = {
    *("config.yaml", "log.txt", "mask_fsc.mrc", "fsc.txt", "fsc.png", "mask.png", "tensorboard"),
    *(f"fsc_{name}.xml" for name in ("no_mask", "spherical", "loose", "tight", "corrected")),
    *("fsc_randomised.xml", "manifest.json", "summary.json", *PAGES),
}


@lru_cache
def molecule(box: int = BOX) -> torch.Tensor:
    """Four hundred blobs of 2.2 Å within 27 Å of the origin."""
    draw = torch.Generator().manual_seed(5)
    position = torch.randn(400, 3, generator=draw)
    position *= 27 * torch.rand(400, 1, generator=draw) ** (1 / 3) / position.norm(dim=1)[:, None]
    density = gaussian_density(position, torch.ones(400), torch.full((400,), 2.2), box, PIXEL)
    return density / density.std()


def half_maps(box: int = BOX, noise: float = 1.8) -> torch.Tensor:
    """The molecule, each time with its own white noise."""
    draw = torch.Generator().manual_seed(6)
    return molecule(box) + noise * torch.randn(2, box, box, box, generator=draw)


def write_halves(folder: Path, maps: torch.Tensor, pixel_size: float = PIXEL) -> Path:
    folder.mkdir(exist_ok=True)
    for name, volume in zip("AB", maps, strict=True):
        write_volume(folder / f"map_half_{name}.mrc", volume, pixel_size)
    return folder


def reference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Shell correlation in float64 over the full transform, shells 1 to d//2."""
    box = a.shape[0]
    k = np.fft.fftfreq(box, 1 / box)
    shell = np.floor(np.sqrt(k[:, None, None] ** 2 + k[:, None] ** 2 + k**2) + 0.5).astype(int)
    f, g = np.fft.fftn(a.astype(np.float64)), np.fft.fftn(b.astype(np.float64))

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(shell.ravel(), values.ravel())[1 : box // 2 + 1]

    return total((f * g.conj()).real) / np.sqrt(total(abs(f) ** 2) * total(abs(g) ** 2))


def command(*arguments: str) -> tuple[int, str, str]:
    """The command line in this process: exit code, terminal, error."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with pytest.MonkeyPatch.context() as patch:
        for name in ("CRYOTORCH_STARTED", "HYDRA_FULL_ERROR", "CRYOTORCH_DEBUG", "LOCAL_RANK"):
            patch.setenv(name, "")
            patch.delenv(name)
        patch.setattr(sys, "argv", ["cryotorch", "job=validation_fsc", *arguments])
        with redirect_stdout(out), redirect_stderr(err):
            try:
                cli.main()
            except SystemExit as stop:
                code = stop.code
    return code, out.getvalue(), err.getvalue()


def validate(*arguments: str) -> tuple[str, dict]:
    """A run into ``out`` that must go well: what the terminal showed, and the summary."""
    code, out, err = command("out=out", *arguments)
    assert (code, err) == (0, ""), err
    return out, json.loads(Path("out/summary.json").read_text())


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_halves(tmp_path_factory.mktemp("maps") / "refined", half_maps())


@pytest.fixture(scope="module")
def done(run_folder: Path) -> tuple[Path, str, dict]:
    """A run with a mask made and not tightened: its folder, what the terminal showed, the summary."""
    folder = run_folder.parent / "done"
    code, out, err = command(f"out={folder}", f"volume={run_folder}", "optimize_mask=false")
    assert (code, err) == (0, ""), err
    return folder, out, json.loads((folder / "summary.json").read_text())


def columns(path: str | Path = "out/fsc.txt") -> dict[str, np.ndarray]:
    table = np.genfromtxt(path, names=True)
    return {TEXT_COLUMNS[name]: table[name] for name in table.dtype.names if name in TEXT_COLUMNS}


def test_curves_are_those_of_a_dense_reference(run_folder: Path, done) -> None:
    """No mask, sphere, loose, tight from the written mask; corrected from the other two; resolutions from the curves."""
    folder, _, summary = done
    a, b = (read_volume(run_folder / f"map_half_{n}.mrc")[0].numpy() for n in "AB")
    mean = torch.from_numpy(a + b) / 2
    masks = {
        "no_mask": np.ones(1),
        "spherical": soft_sphere(BOX, 0.85 * BOX / 2, 0.15 * BOX / 2).numpy(),
        "loose": density_mask(mean, PIXEL, 0.5, 25, 40, low_pass=20).numpy(),
        "tight": read_volume(folder / "mask_fsc.mrc")[0].numpy(),
    }
    assert np.allclose(masks["tight"], density_mask(mean, PIXEL, 0.5, 6, 12, low_pass=12))
    found = columns(folder / "fsc.txt")
    for name, mask in masks.items():
        np.testing.assert_allclose(found[name], reference(a * mask, b * mask), atol=2e-6)
    onset = int(np.flatnonzero(found["no_mask"] < 0.8)[0]) + 1
    assert summary["random_phases"]["from_shell"] == onset
    wanted = (found["tight"] - found["randomised"]) / (1 - found["randomised"])
    np.testing.assert_allclose(found["corrected"][onset + 1 :], wanted[onset + 1 :], atol=5e-6)
    np.testing.assert_array_equal(found["corrected"][: onset - 1], found["tight"][: onset - 1])
    for name, reached in summary["resolutions"].items():
        last = np.flatnonzero(found[name] < 0.143)[0]  # shells are counted from 1
        assert reached == pytest.approx(BOX * PIXEL / last)
    assert summary["resolution"] == summary["resolutions"]["corrected"]
    order = [summary["resolutions"][n] for n in ("no_mask", "spherical", "tight")]
    assert order == sorted(order, reverse=True) and order[0] > order[2]


def test_what_is_left_in_the_folder(run_folder: Path, done) -> None:
    folder, out, summary = done
    assert {path.name for path in folder.iterdir()} == RESULTS
    assert mrcfile.validate(folder / "mask_fsc.mrc")
    assert read_header(folder / "mask_fsc.mrc").pixel_size == pytest.approx((PIXEL,) * 3)
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    assert settings["mask_near"] == 6 and settings["volume"] == str(run_folder)
    assert (summary["box"], summary["pixel_size"], summary["nyquist"]) == (BOX, PIXEL, 2 * PIXEL)
    assert summary["half_maps"] == [str(run_folder / f"map_half_{n}.mrc") for n in "AB"]
    mask = summary["mask"]
    assert (mask["kind"], mask["near"], mask["far"]) == ("generated", 6, 12)
    share = float(read_volume(folder / "mask_fsc.mrc")[0].mean())
    assert mask["fraction_of_box"] == pytest.approx(share, rel=1e-4)
    assert mask["volume"] == pytest.approx(share * (BOX * PIXEL) ** 3, rel=1e-4)
    assert summary["seconds"]["total"] >= summary["seconds"]["curves"] > 0
    assert summary["warnings"] == [] and "WARNING" not in out
    # The log says what the terminal said, with times.
    logged = [line.split("  ", 1)[1] for line in (folder / "log.txt").read_text().splitlines()]
    assert logged == out.splitlines()


def test_the_table_shows_curves_mask_and_claim(done) -> None:
    _, out, summary = done
    for title, name in (("No mask", "no_mask"), ("Corrected", "corrected")):
        row = re.search(rf"^{title} +([\d.]+) Å +([\d.]+) Å$", out, re.M)
        assert float(row[1]) == pytest.approx(summary["resolutions"][name], abs=0.006)
        assert float(row[2]) == pytest.approx(summary["resolutions_at_0.5"][name], abs=0.006)
    assert "Mask: generated, 1 within 6 Å and 0 beyond 12 Å" in out
    assert f"Resolution: {summary['resolution']:.2f} Å (corrected FSC = 0.143)" in out


def test_tensorboard_holds_curves_and_pictures(run_folder: Path, done) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder, _, summary = done
    events = EventAccumulator(str(folder / "tensorboard"), {"images": 0, "scalars": 0})
    events.Reload()
    assert set(events.Tags()["images"]) == {"plots/fsc", "plots/mask"}
    assert [e.value for e in events.Scalars("fsc/tight")][1:] == pytest.approx(
        columns(folder / "fsc.txt")["tight"].tolist(), abs=1e-6
    )
    (claimed,) = events.Scalars("resolution/corrected")
    assert claimed.value == pytest.approx(summary["resolution"], rel=1e-6)


@pytest.mark.data
def test_every_curve_is_a_valid_emdb_file(done, shared_data: Path) -> None:
    etree = pytest.importorskip("lxml.etree", reason="needs lxml to read the XML schema")
    schema = etree.XMLSchema(etree.parse(str(shared_data / "real" / "emdb_fsc.xsd")))
    paths = sorted(done[0].glob("fsc_*.xml"))
    assert len(paths) == 6
    for path in paths:
        assert schema.validate(etree.parse(str(path))), schema.error_log


def test_a_given_mask_is_used_as_it_is(run_folder: Path) -> None:
    write_volume("mask.mrc", soft_sphere(BOX, 11, 5), PIXEL)
    out, summary = validate(f"volume={run_folder}", "mask=mask.mrc")
    assert torch.equal(read_volume("out/mask_fsc.mrc")[0], soft_sphere(BOX, 11, 5))
    mask = summary["mask"]
    assert (mask["kind"], mask["file"], mask["tightened"]) == ("given", "mask.mrc", False)
    assert mask["near"] is None and "Mask: given, " in out and summary["warnings"] == []


def test_generate_mask_sets_a_given_one_aside_and_says_so(run_folder: Path) -> None:
    write_volume("mask.mrc", soft_sphere(BOX, 11, 5), PIXEL)
    more = ("mask=mask.mrc", "generate_mask=true", "optimize_mask=false")
    out, summary = validate(f"volume={run_folder}", *more)
    assert "mask=mask.mrc is not used: generate_mask=true makes a new one" in out
    assert (summary["mask"]["kind"], summary["mask"]["file"]) == ("generated", None)
    assert not torch.equal(read_volume("out/mask_fsc.mrc")[0], soft_sphere(BOX, 11, 5))


def test_without_any_mask_the_sphere_stands_in(run_folder: Path) -> None:
    out, summary = validate(f"volume={run_folder}", "generate_mask=false")
    sphere = soft_sphere(BOX, 0.85 * BOX / 2, 0.15 * BOX / 2)
    assert torch.equal(read_volume("out/mask_fsc.mrc")[0], sphere)
    assert "a soft sphere as wide as the box stands in for the tight one" in out
    assert summary["warnings"] == []
    assert summary["mask"]["kind"] == "sphere" and "Mask: a soft sphere" in out
    found = columns()
    assert "loose" not in found and "loose" not in summary["resolutions"]
    np.testing.assert_array_equal(found["tight"], found["spherical"])


LOOSE = ("mask_near=18", "mask_far=28")


def test_a_loose_mask_is_tightened_and_every_step_told(run_folder: Path) -> None:
    _, before = validate(f"volume={run_folder}", *LOOSE, "optimize_mask=false")
    out, after = validate(f"volume={run_folder}", *LOOSE, "overwrite=true")
    mask, candidates = after["mask"], after["mask"]["candidates"]
    assert mask["tightened"] and mask["near"] < 18 and mask["far"] < 28
    assert after["resolution"] < before["resolution"]
    assert (candidates[0]["near"], candidates[0]["far"], len(candidates) > 1) == (18, 28, True)
    assert candidates[0]["resolution"] == pytest.approx(before["resolution"])
    best = [c for c in candidates if c["accepted"]][-1]
    assert (best["near"], best["far"]) == (mask["near"], mask["far"])
    assert best["resolution"] == pytest.approx(after["resolution"])
    a, b = (read_volume(run_folder / f"map_half_{n}.mrc")[0] for n in "AB")
    region = density_region((a + b) / 2, PIXEL, 0.5, 12.0)
    expected = soft_mask(region, mask["near"] / PIXEL, mask["far"] / PIXEL)
    assert torch.allclose(read_volume("out/mask_fsc.mrc")[0], expected, atol=1e-5)
    assert len(re.findall(r"^ +1 within +[\d.]+ Å", out, re.M)) == len(candidates)
    assert mask["tightening_ended"] in out and "Mask: generated, tightened, 1 within" in out


def test_a_given_mask_is_tightened_inwards_when_asked_for(run_folder: Path) -> None:
    write_volume("mask.mrc", soft_sphere(BOX, 14, 4), PIXEL)
    lengths = ("mask_near=12", "mask_far=24")
    more = (f"volume={run_folder}", "mask=mask.mrc", "optimize_mask=true", *lengths)
    out, summary = validate(*more)
    mask, written = summary["mask"], read_volume("out/mask_fsc.mrc")[0]
    assert mask["kind"] == "given" and mask["tightened"]
    assert "Mask: given, tightened, 1 within" in out and "Å of its core" in out
    # It starts where the given one is and ends inside it, around the molecule.
    given = soft_sphere(BOX, 14, 4)
    first = mask["candidates"][0]
    assert first["fraction"] == pytest.approx(float(given.mean()), rel=0.1)
    assert (
        float(written[given < 0.01].max()) < 0.01
        and mask["fraction_of_box"] < 0.8 * first["fraction"]
    )
    assert float(written[soft_sphere(BOX, 9, 0) > 0.5].min()) > 0.9


def test_a_given_mask_that_nothing_improves_stays(run_folder: Path) -> None:
    given = soft_sphere(BOX, 9, 4)
    write_volume("mask.mrc", given, PIXEL)
    out, summary = validate(f"volume={run_folder}", "mask=mask.mrc", "optimize_mask=true")
    assert "The given mask stays" in out and not summary["mask"]["tightened"]
    assert torch.equal(read_volume("out/mask_fsc.mrc")[0], given) and summary["mask"]["candidates"]


def test_results_lie_where_the_half_maps_do(run_folder: Path) -> None:
    """In ChimeraX; a corrected pixel size moves the corner along."""
    Path("placed").mkdir()
    for name in ("map_half_A.mrc", "map_half_B.mrc"):
        write_volume(f"placed/{name}", read_volume(run_folder / name)[0], PIXEL, (-60.0, 6.0, 0.0))
    validate("volume=placed", "optimize_mask=false", "pixel_size=0.33nm")
    for name in ("map_half_A", "map_half_B", "mask_fsc"):
        assert read_corner(f"out/{name}.mrc") == pytest.approx((-66, 6.6, 0)), name


def test_the_pixel_size_rescales_curves_and_half_maps(run_folder: Path) -> None:
    _, before = validate(f"volume={run_folder}", "generate_mask=false")
    more = ("generate_mask=false", "pixel_size=3.3", "overwrite=true")
    out, after = validate(f"volume={run_folder}", *more)
    assert "40 voxels per edge, 3.3 Å per voxel" in out
    assert after["pixel_size"] == 3.3 and after["pixel_size_corrected"]
    for name, reached in before["resolutions"].items():
        assert after["resolutions"][name] == pytest.approx(1.1 * reached)
    for name in ("map_half_A.mrc", "map_half_B.mrc"):
        written, size = read_volume(Path("out") / name)
        assert size == pytest.approx(3.3, rel=1e-6)
        assert torch.equal(written, read_volume(run_folder / name)[0])
    assert read_header("out/mask_fsc.mrc").pixel_size[0] == pytest.approx(3.3, rel=1e-6)
    xml = Path("out/fsc_tight.xml").read_text()
    assert f"<x>{20 / (BOX * 3.3):.6f}</x>" in xml


def test_an_absolute_threshold_is_a_density_of_the_map_at_12_angstrom(run_folder) -> None:
    a, b = (read_volume(run_folder / f"map_half_{n}.mrc")[0] for n in "AB")
    mean = (a + b) / 2
    level = 2.0
    more = (f"threshold={level}", "relative_threshold=false", "optimize_mask=false")
    validate(f"volume={run_folder}", *more)
    calm = mean.clamp(max=mean.flatten().topk(6).values[-1])  # the 99.99th percentile
    region = low_pass(calm, PIXEL, 12) > level
    assert 100 < int(region.sum()) < 10_000
    expected = soft_mask(region, 6 / PIXEL, 12 / PIXEL)
    found = read_volume("out/mask_fsc.mrc")[0]
    assert float((found - expected).abs().mean()) < 1e-3  # small pieces are left out
    code, _, err = command(
        "out=none", f"volume={run_folder}", "relative_threshold=false", "threshold=50"
    )
    assert code == 1 and re.search(r"No density lies above .* reaches \d.*Change threshold", err)
    assert not Path("none").exists()


def test_lengths_in_pixels_mean_the_same(run_folder: Path) -> None:
    more = ("mask_near=2px", "mask_far=12", "optimize_mask=false")
    _, summary = validate(f"volume={run_folder}", *more)
    assert (summary["mask"]["near"], summary["mask"]["far"]) == (6, 12)
    code, _, err = command("out=none", f"volume={run_folder}", "mask_near=5px", "mask_far=12")
    assert code == 1 and "mask_far=12 cannot be used: it must be above mask_near=15" in err
    assert not Path("none").exists()


@pytest.mark.parametrize(
    ("below", "shell"), [("12A", 10), ("13", 10), ("1.1nm", 11), ("0.5", None)]
)
def test_random_phases_begin_where_asked(run_folder: Path, below: str, shell: int) -> None:
    more = ("generate_mask=false", f"randomize_below={below}")
    _, summary = validate(f"volume={run_folder}", *more)
    found = columns()
    if shell is None:
        shell = int(np.flatnonzero(found["no_mask"] < 0.5)[0]) + 1
    assert summary["random_phases"]["from_shell"] == shell
    np.testing.assert_allclose(
        found["randomised"][: shell - 3], found["tight"][: shell - 3], atol=0.02
    )
    assert abs(found["randomised"][shell + 3 :]).max() < 0.2


def test_the_same_seed_gives_the_same_files(run_folder: Path) -> None:
    def files(folder: str, seed: int) -> dict[str, bytes]:
        assert (
            command(f"out={folder}", f"volume={run_folder}", "generate_mask=false", f"seed={seed}")[
                0
            ]
            == 0
        )
        names = ("fsc.txt", "mask_fsc.mrc", "fsc.png", "fsc_corrected.xml")
        return {name: (Path(folder) / name).read_bytes() for name in names}

    first, again, other = files("a", 0), files("b", 0), files("c", 1)
    assert first == again
    a, c = columns("a/fsc.txt"), columns("c/fsc.txt")
    np.testing.assert_array_equal(a["tight"], c["tight"])
    assert 0 < abs(a["randomised"] - c["randomised"])[8:].max() < 0.2
    assert first["fsc.txt"] != other["fsc.txt"]


def test_half_maps_that_agree_everywhere_need_no_correction(tmp_path: Path) -> None:
    write_halves(tmp_path / "fine", half_maps(noise=0.02))
    out, summary = validate("volume=fine", "generate_mask=false")
    assert "there is nothing to correct" in out
    assert summary["random_phases"]["from_shell"] is None and summary["limited_by_nyquist"]
    assert "Corrected          ≤ 6.00 Å" in re.sub(" +≤", "          ≤", out)
    found = columns()
    np.testing.assert_array_equal(found["corrected"], found["tight"])
    assert "the pixel size limits the resolution to 6.00 Å" in summary["warnings"][0]


def test_maps_with_an_odd_box(tmp_path: Path) -> None:
    write_halves(tmp_path / "odd", half_maps(41))
    _, summary = validate("volume=odd", "optimize_mask=false")
    a, b = (read_volume(f"odd/map_half_{n}.mrc")[0].numpy() for n in "AB")
    mask = read_volume("out/mask_fsc.mrc")[0].numpy()
    found = columns()
    assert len(found["tight"]) == 20 and summary["box"] == 41
    np.testing.assert_allclose(found["tight"], reference(a * mask, b * mask), atol=2e-6)


@pytest.mark.data
def test_the_resolution_of_a_real_curve(shared_data: Path) -> None:
    """RELION's own FSC of an 80S ribosome: 3.859 Å, its rlnCurrentResolution; a straight line gives 3.852 Å."""
    star = read_star(shared_data / "real" / "rib80s_run003_model_trunc.star")
    table = next(block for block in star.values() if "rlnGoldStandardFsc" in block)
    curve = torch.tensor([float(value) for value in table["rlnGoldStandardFsc"]])
    assert len(curve) == 181
    assert resolution(curve, 360, 1.34) == pytest.approx(3.859, abs=5e-4)
    assert resolution(curve, 360, 1.34, interpolate=True) == pytest.approx(3.852, abs=5e-4)


# --- What cannot be used, and what can although it is odd ---


def test_a_pixel_size_must_come_from_somewhere(tmp_path: Path) -> None:
    write_halves(tmp_path / "bare", half_maps(), 0.0)
    code, _, err = command("out=out", "volume=bare")
    assert code == 1 and re.fullmatch(r"error: .*map_half_A.* add pixel_size=<Å>\n", err)
    assert not Path("out").exists()
    assert validate("volume=bare", "generate_mask=false", "pixel_size=3")[1]["pixel_size"] == 3


def refused(sentence: str, *arguments: str) -> None:
    """One sentence, exit code 1, nothing new in the folder and nothing changed."""
    before = snapshot()
    code, out, err = command("out=out", *arguments)
    assert code == 1
    assert re.fullmatch(r"error: [^\n]+\n", err), err
    assert re.search(sentence, err), err
    assert "Traceback" not in out and snapshot() == before


def snapshot() -> dict[str, bytes]:
    paths = [path for path in Path().rglob("*") if path.is_file() or not any(path.iterdir())]
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in paths}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], r"are needed: add volume=<run folder>, or half_map_a=<file> half_map_b=<file>"),
        (["half_map_a=a.mrc"], r"add half_map_b=<file>"),
        (["half_map_a=a.mrc", "half_map_b=missing.mrc"], r"missing\.mrc does not exist"),
        (["volume=missing"], r"volume=missing is not a folder"),
        (["volume=empty"], r"volume=empty holds no half maps"),
        (["volume=good", "half_map_a=a.mrc"], r"contradict each other"),
        (["half_map_a=a.mrc", "half_map_b=a.mrc"], r"the same map, their FSC is 1 everywhere"),
        (["half_map_a=a.mrc", "half_map_b=copy.mrc"], r"the same map, their FSC is 1 everywhere"),
        (["half_map_a=a.mrc", "half_map_b=large.mrc"], r"different boxes, 40 and 44 voxels"),
        (["half_map_a=a.mrc", "half_map_b=finer.mrc"], r"different pixel sizes, 3 and 2\.9 Å"),
        (["half_map_a=a.mrc", "half_map_b=flat.mrc"], r"half_map_b=flat\.mrc is blank"),
        (["half_map_a=a.mrc", "half_map_b=slab.mrc"], r"40 x 40 x 20 voxels, not a cube: pad"),
        (["half_map_a=a.mrc", "half_map_b=text.mrc"], r"text\.mrc"),
        (["half_map_a=a.mrc", "half_map_b=short.mrc"], r"short\.mrc is truncated"),
        (["volume=good", "mask=missing.mrc"], r"missing\.mrc does not exist"),
        (["volume=good", "mask=empty.mrc"], r"mask=empty\.mrc is empty, its largest value is 0:"),
        (
            ["volume=good", "mask=high.mrc"],
            r"mask=high\.mrc must have values from 0 to 1, got 0 to 3",
        ),
        (["volume=good", "mask=faint.mrc"], r"mask=faint\.mrc reaches 0\.4 only"),
        (
            ["volume=good", "mask=large_mask.mrc"],
            r"mask=large_mask\.mrc has 44 .* does not state a pixel size.*volume_tools",
        ),
        (["volume=good", "device=tpu"], r"device must be auto or cpu or cuda, got 'tpu'"),
        (
            ["volume=good", "threshold=1.2"],
            r"threshold=1\.2 cannot be used.*relative_threshold=false",
        ),
        (["volume=good", "mask_near=12", "mask_far=6"], r"mask_far=6 cannot be used.*mask_near=12"),
        (["volume=good", "mask_near=-1"], r"mask_near=-1 cannot be used"),
        (["volume=good", "pixel_size=0"], r"pixel_size=0 cannot be used"),
        (["volume=good", "randomize_below=0"], r"randomize_below=0 cannot be used"),
        (
            ["volume=good", "randomize_below=2"],
            r"randomize_below=2 .* not begin before Nyquist, .* falls below 0\.143 at [\d.]+ Å",
        ),
        (["volume=good", "randomize_below=7"], r"=7 .* begin at 6\.67 Å, .*below 0\.143 at "),
        (["volume=good", "randomize_below=0.01"], r"randomize_below=0\.01 cannot be used"),
        (["volume=good", "seed=-1"], r"seed=-1 cannot be used"),
        (["volume=good", "generate_mask=no_mask"], r"generate_mask must be auto or true or false"),
        (["volume=good", "generate_mask=false", "optimize_mask=true"], r"no mask to tighten"),
        (["volume=good", "treshold=0.3"], r"no parameter treshold: did you mean threshold\?"),
        (["volume=good", "out=run"], r"out=run holds a run of job=homo_refine, which"),
        (["volume=good", "out=run", "overwrite=true"], r"out=run holds a run of job=homo_refine"),
        (["volume=good", "out=held"], r"out=held already holds fsc\.txt, which no run"),
        (
            ["volume=good", "out=good", "overwrite=true"],
            r"out=good cannot be used: it is itself an input",
        ),
        (["volume=good", "out=a.mrc"], r"out=a\.mrc"),
    ],
)
def test_bad_input_ends_in_one_sentence(
    bad: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], sentence: str
) -> None:
    monkeypatch.chdir(bad)
    refused(sentence, *arguments)


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every file that the refusals name; none of them may change it."""
    tmp_path, maps = tmp_path_factory.mktemp("bad"), half_maps()
    write_halves(tmp_path / "good", maps)
    a = tmp_path / "a.mrc"
    write_volume(a, maps[0], PIXEL)
    write_volume(tmp_path / "copy.mrc", maps[0] * (1 + 1e-7), PIXEL)
    write_volume(tmp_path / "large.mrc", half_maps(44)[1], PIXEL)
    write_volume(tmp_path / "finer.mrc", maps[1], 2.9)
    write_volume(tmp_path / "flat.mrc", torch.full((BOX,) * 3, 2.5), PIXEL)
    write_volume(tmp_path / "slab.mrc", maps[1][:20], PIXEL)
    (tmp_path / "text.mrc").write_text("not a map, whatever its name may be\n" * 100)
    (tmp_path / "short.mrc").write_bytes(a.read_bytes()[:-1000])
    sphere = soft_sphere(BOX, 10, 5)
    write_volume(tmp_path / "empty.mrc", 0 * sphere, PIXEL)
    write_volume(tmp_path / "high.mrc", 3 * sphere, PIXEL)
    write_volume(tmp_path / "faint.mrc", 0.4 * sphere, PIXEL)
    write_volume(tmp_path / "large_mask.mrc", soft_sphere(44, 10, 5), 0.0)
    (tmp_path / "empty").mkdir()
    (tmp_path / "run").mkdir()
    Manifest("homo_refine", iterations=3).write(tmp_path / "run")
    (tmp_path / "held").mkdir()
    (tmp_path / "held" / "fsc.txt").write_text("somebody's own\n")
    return tmp_path


def test_a_mask_to_be_tightened_begins_with_an_edge_as_wide_as_the_resolution(run_folder) -> None:
    out, summary = validate(f"volume={run_folder}")
    bare = summary["resolutions"]["no_mask"]
    assert bare > 6 and summary["mask"]["candidates"][0]["far"] == pytest.approx(6 + bare)
    assert f"as wide as the resolution without a mask, {bare:.2f} Å" in out
    _, summary = validate(f"volume={run_folder}", "mask_far=30", "overwrite=true")
    assert summary["mask"]["candidates"][0]["far"] == 30


def test_noise_makes_no_claim(tmp_path: Path) -> None:
    write_halves(tmp_path / "noise", half_maps() - molecule())
    out, summary = validate("volume=noise")
    assert "Resolution: none can be claimed" in out and summary["resolution"] is None
    (warning,) = summary["warnings"]
    assert "No resolution can be claimed" in warning


def test_a_pixel_size_far_from_the_headers_is_said(run_folder: Path) -> None:
    more = (f"volume={run_folder}", "generate_mask=false", "overwrite=true")
    assert "says 3 Å: pixel_size=30 is used" in validate(*more, "pixel_size=30")[0]
    assert "says 3 Å" not in validate(*more, "pixel_size=3.1")[0]


def test_a_mask_without_a_pixel_size_of_its_own_is_taken_and_said(run_folder: Path) -> None:
    write_volume("mask.mrc", soft_sphere(BOX, 11, 5), 1.0)
    out, _ = validate(f"volume={run_folder}", "mask=mask.mrc")
    assert "mask=mask.mrc states 1 Å per voxel" in out and "taken as the map's 3 Å" in out


def test_a_mask_of_exactly_one_angstrom_and_another_box_is_taken_as_it_says(run_folder) -> None:
    """Three times as many voxels, each a third as wide: the same sphere."""
    write_volume("fine.mrc", soft_sphere(3 * BOX, 3 * 9, 3 * 5), 1.0)
    out, _ = validate(f"volume={run_folder}", "mask=fine.mrc")
    assert "mask=fine.mrc states exactly 1 Å per voxel" in out and "taken as true" in out
    found = read_volume("out/mask_fsc.mrc")[0]
    assert torch.allclose(found, soft_sphere(BOX, 9, 5), atol=0.02)


def test_a_mask_on_another_grid_is_resampled_to_the_half_maps(run_folder: Path) -> None:
    """A larger box, and a part that was cut out of the map's box with its place in the header."""
    sphere = soft_sphere(BOX, 9, 5)
    write_volume("large.mrc", soft_sphere(50, 9, 5), PIXEL)
    write_volume("cut.mrc", sphere[5:-5, 5:, 5:], PIXEL, (5 * PIXEL,) * 3)
    for name in ("large", "cut"):
        out, _ = validate(f"volume={run_folder}", f"mask={name}.mrc", "overwrite=true")
        assert f"mask={name}.mrc: " in out, name
        found = read_volume("out/mask_fsc.mrc")[0]
        assert torch.allclose(found, sphere, atol=1e-5), name


def test_a_hard_mask_is_used_with_a_warning_and_a_remedy(run_folder: Path) -> None:
    write_volume("hard.mrc", soft_sphere(BOX, 12, 0), PIXEL)
    out, summary = validate(f"volume={run_folder}", "mask=hard.mrc")
    (warning,) = [w for w in summary["warnings"] if "hard edge" in w]
    assert "mask=hard.mrc" in warning and "job=volume_tools" in warning
    assert f"WARNING: {warning}" in out and summary["mask"]["kind"] == "given"


def test_inverted_half_maps_are_noticed(tmp_path: Path) -> None:
    write_halves(tmp_path / "dark", -half_maps())
    _, summary = validate("volume=dark", "optimize_mask=false")
    assert "look inverted" in summary["warnings"][0]


def test_results_are_replaced_only_when_asked_for(run_folder: Path) -> None:
    more = (f"volume={run_folder}", "generate_mask=false")
    validate(*more, "pixel_size=3.1")
    Path("out/notes.txt").write_text("mine")
    before = Path("out/fsc.txt").read_bytes()
    refused("already holds .* overwrite=true", *more)
    _, summary = validate(*more, "randomize_below=15A", "overwrite=true")
    assert Path("out/fsc.txt").read_bytes() != before and summary["pixel_size"] == 3
    assert Path("out/notes.txt").read_text() == "mine"
    # What the new run does not make is gone, not left beside it as if it belonged.
    assert not Path("out/map_half_A.mrc").exists()
    assert len(list(Path("out/tensorboard").iterdir())) == 1


def permuted(values: np.ndarray, path: Path, order: tuple[int, int, int]) -> None:
    """A file whose columns, rows and sections run along the axes named (1 = x)."""
    stored = values.transpose([3 - axis for axis in reversed(order)])
    with mrcfile.new(path) as file:
        file.set_data(np.ascontiguousarray(stored))
        file.voxel_size = PIXEL
        file.header.mapc, file.header.mapr, file.header.maps = order


def save(values: np.ndarray, path: Path, kind: str) -> None:
    plain = path.with_suffix(".plain")
    if kind in ("gz", "bz2"):
        write_volume(plain, values, PIXEL)
        packed = {"gz": gzip.compress, "bz2": bz2.compress}[kind](plain.read_bytes())
        path.write_bytes(packed)
    elif kind == "axes":
        permuted(values, path, (3, 1, 2))
    else:
        with mrcfile.new(path) as file:
            file.set_data(values.astype(kind))
            file.voxel_size = PIXEL


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[np.ndarray, bytes]:
    """Half maps of whole numbers, which every mode holds exactly, and their table of curves."""
    values = (half_maps() * 8).round().clamp(-127, 127)
    folder = write_halves(tmp_path_factory.mktemp("plain"), values)
    assert command(f"out={folder / 'out'}", f"volume={folder}", "generate_mask=false")[0] == 0
    return values.numpy(), (folder / "out" / "fsc.txt").read_bytes()


@pytest.mark.parametrize("kinds", [("gz", "bz2"), ("axes", "float16"), ("int16", "int8")], ids=str)
def test_odd_files_give_what_plain_ones_give(plain, kinds: tuple[str, str]) -> None:
    values, table = plain
    halves = []
    for name, half_map, kind in zip("ab", values, kinds, strict=True):
        path = Path(f"{name}.mrc" + {"gz": ".gz", "bz2": ".bz2"}.get(kind, ""))
        save(half_map, path, kind)
        halves.append(f"half_map_{name}={path}")
    _, summary = validate(*halves, "generate_mask=false")
    assert Path("out/fsc.txt").read_bytes() == table
    assert summary["pixel_size"] == pytest.approx(PIXEL)


def test_the_manual_promises_these_defaults() -> None:
    s = make_settings("validation_fsc")
    assert (s.volume, s.half_map_a, s.half_map_b, s.mask, s.pixel_size) == (None,) * 5
    assert (s.generate_mask, s.optimize_mask, s.relative_threshold) == ("auto", "auto", True)
    assert (s.threshold, s.mask_near, s.mask_far) == (0.5, 6, 12)
    assert (s.randomize_below, s.device, s.seed, s.overwrite) == (0.8, "auto", 0, False)
    assert s.generates and s.tightens
    given = make_settings("validation_fsc", mask="m.mrc")
    assert not given.generates and not given.tightens


@pytest.mark.gpu
def test_the_gpu_agrees(run_folder: Path) -> None:
    tables = {}
    for device in ("cpu", "cuda"):
        assert command(f"out={device}", f"volume={run_folder}", f"device={device}")[0] == 0
        tables[device] = columns(f"{device}/fsc.txt")
    for name, curve in tables["cpu"].items():
        np.testing.assert_allclose(tables["cuda"][name], curve, atol=1e-4)
    assert math.isfinite(float(tables["cuda"]["corrected"].sum()))
