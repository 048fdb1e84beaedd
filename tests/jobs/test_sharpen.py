"""The sharpen job: what it finds on a phantom with a known B-factor, what it writes, what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from cryotorch.data.mrc import read_corner, read_volume, write_volume
from cryotorch.errors import InputError
from cryotorch.jobs import sharpen, validation_fsc
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.pages.write import PAGES
from cryotorch.ops.fourier import filters
from cryotorch.ops.fourier.filters import guinier_fit, low_pass, radial_amplitude
from cryotorch.ops.geometry.symmetry import point_group
from cryotorch.ops.masks.soft import density_mask, soft_sphere
from cryotorch.ops.models.phantom import phantom

BOX, PX = 64, 2.0
ALWAYS = {
    "config.yaml",
    "log.txt",
    "manifest.json",
    *PAGES,
    "fsc.png",
    "guinier.png",
    "slices.png",
    "summary.json",
}


@pytest.fixture(scope="module")
def truth() -> torch.Tensor:
    volume = phantom(BOX, PX, point_group("C1"))
    return volume / volume.std()


@pytest.fixture(scope="module")
def folder(truth: torch.Tensor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half maps and FSC mask as a refinement leaves them, but for its checkpoints."""
    made = tmp_path_factory.mktemp("run")
    draw = torch.Generator().manual_seed(0)
    halves = truth + 0.6 * torch.randn(2, BOX, BOX, BOX, generator=draw)
    for name, half in zip("AB", halves, strict=True):
        write_volume(made / f"map_half_{name}.mrc", half, PX)
    write_volume(made / "mask_fsc.mrc", density_mask(truth, PX, 0.15, 6, 14, 12), PX)
    return made


def job(out: Path, **changes: Any) -> Path:
    return sharpen.run(make_settings("sharpen", out=str(out), **changes))


def halves_of(folder: Path) -> dict[str, str]:
    return {f"half_map_{x.lower()}": str(folder / f"map_half_{x}.mrc") for x in "AB"}


def summary(out: Path) -> dict[str, Any]:
    return json.loads((out / "summary.json").read_text())


def sharp(out: Path, name: str = "map_sharp.mrc") -> torch.Tensor:
    return read_volume(out / name)[0]


def test_a_run_folder_is_sharpened_by_the_decay_of_the_molecule(
    folder: Path, truth: torch.Tensor, tmp_path: Path
) -> None:
    out = job(tmp_path / "out", volume=str(folder))
    found = summary(out)
    assert {p.name for p in out.iterdir()} == ALWAYS | {"map_sharp.mrc"}
    one = torch.ones(BOX // 2 + 1)
    true = guinier_fit(truth, one, PX, found["resolution"]).bfactor
    assert found["bfactor"] == pytest.approx(true, rel=0.05)
    # RELION's choice is said as well: there the solvent's noise passes for signal
    assert 0.3 * true > found["guinier"]["bfactor_of_whole_map"] > 0.8 * true
    assert found["guinier"]["from"] <= 10 and found["guinier"]["to"] == pytest.approx(
        found["resolution"]
    )
    assert found["mask"]["kind"] == "given"
    (warning,) = found["warnings"]  # as validation_fsc says it
    assert "the pixel size limits the resolution to 4.00 Å" in warning
    assert found["mask"]["file"] == str(folder / "mask_fsc.mrc")
    assert (
        found["resolution"] == found["resolutions"]["corrected"] < found["resolutions"]["no_mask"]
    )
    # the signal that is left falls no more
    volume = sharp(out) * read_volume(folder / "mask_fsc.mrc")[0]
    flat = guinier_fit(volume, one, PX, 1.15 * found["resolution"]).bfactor
    assert abs(flat) < 0.2 * abs(true)
    log = (out / "log.txt").read_text()
    fitted = f"B = {found['bfactor']:.1f} ± {found['guinier']['error']:.1f} Å²"
    assert f"Guinier fit of the masked map: {fitted}" in log and found["guinier"]["error"] < 20
    assert "of the whole map" in log


def test_half_maps_without_a_mask_get_one_that_is_written(folder: Path, tmp_path: Path) -> None:
    out = job(tmp_path / "out", **halves_of(folder), guinier_map="whole", threshold=0.3)
    found = summary(out)
    assert (out / "mask_fsc.mrc").is_file() and found["mask"]["kind"] == "generated"
    mask, size = read_volume(out / "mask_fsc.mrc")
    assert size == PX and float(mask.double().mean()) == pytest.approx(
        found["mask"]["fraction_of_box"]
    )
    assert found["mask"]["volume"] == pytest.approx(float(mask.double().mean()) * (BOX * PX) ** 3)
    assert found["guinier"]["map"] == "whole"
    assert found["guinier"]["bfactor_of_masked_map"] < found["bfactor"] < 0
    given = job(tmp_path / "given", **halves_of(folder), mask=str(out / "mask_fsc.mrc"))
    assert summary(given)["resolutions"] == found["resolutions"]
    assert summary(given)["mask"]["kind"] == "given"


def test_results_lie_where_the_half_maps_do(folder: Path, tmp_path: Path) -> None:
    """In ChimeraX."""
    for name in "AB":
        half, _ = read_volume(folder / f"map_half_{name}.mrc")
        write_volume(tmp_path / f"map_half_{name}.mrc", half, PX, (-64.0, 5.0, 0.0))
    out = job(tmp_path / "out", **halves_of(tmp_path), local=True)
    for name in ("map_sharp", "mask_fsc", "local_resolution"):
        assert read_corner(out / f"{name}.mrc") == pytest.approx((-64, 5, 0)), name


def test_several_bfactors_make_several_maps(folder: Path, tmp_path: Path) -> None:
    out = job(tmp_path / "out", volume=str(folder), bfactor=[-50, 0, 80.5], spherical_mask=False)
    names = ["map_sharp_B-50.mrc", "map_sharp_B0.mrc", "map_sharp_B80.5.mrc"]
    assert summary(out)["maps"] == names and summary(out)["bfactor"] == [-50, 0, 80.5]
    assert {p.name for p in out.iterdir()} == ALWAYS | set(names)
    low, plain, high = (radial_amplitude(sharp(out, name).double()) for name in names)
    s2 = (torch.arange(BOX // 2 + 1) / (BOX * PX)) ** 2
    for found, bfactor in ((low, -50), (high, 80.5)):
        ratio = (found / plain)[1:25] / torch.exp(-bfactor / 4 * s2[1:25])
        # a shell is one voxel thick
        assert ratio.numpy() == pytest.approx(1, abs=0.02)
    alone = job(tmp_path / "alone", volume=str(folder), bfactor=-50, spherical_mask=False)
    assert torch.equal(sharp(alone), sharp(out, names[0]))


def test_masks_on_the_result(folder: Path, tmp_path: Path) -> None:
    bare = sharp(job(tmp_path / "0", volume=str(folder), spherical_mask=False))
    ball = sharp(job(tmp_path / "1", volume=str(folder)))
    both = sharp(job(tmp_path / "2", volume=str(folder), apply_mask=True))
    sphere = soft_sphere(BOX, 0.95 * BOX / 2, 0.05 * BOX / 2)
    mask = read_volume(folder / "mask_fsc.mrc")[0]
    assert float(bare[:4, :4, :4].abs().max()) > 0 == float(ball[:4, :4, :4].abs().max())
    assert torch.allclose(ball, bare * sphere, atol=1e-6)
    assert torch.allclose(both, bare * sphere * mask, atol=1e-6)


def test_filter_and_weight(folder: Path, tmp_path: Path) -> None:
    """Without weight and with B = 0 the result is the mean of the half maps, low-passed where asked."""
    plain = dict(volume=str(folder), bfactor=0, fsc_weight=False, spherical_mask=False)
    mean = sum(read_volume(path)[0] for path in halves_of(folder).values()) / 2
    named = job(tmp_path / "named", **plain, filter_resolution="4px", filter_order=4)
    assert torch.allclose(sharp(named), low_pass(mean, PX, 8.0, order=4), atol=1e-5)
    assert summary(named)["filter"] == {"resolution": 8.0, "order": 4}
    moved = job(tmp_path / "moved", **plain, filter_offset=-3)
    shells = BOX * PX / summary(moved)["resolution"]
    expected = BOX * PX / (shells - 3)
    assert summary(moved)["filter"]["resolution"] == pytest.approx(expected)
    assert torch.allclose(sharp(moved), low_pass(mean, PX, expected), atol=1e-5)
    fine = job(tmp_path / "fine", volume=str(folder), filter_resolution=4.0, fit_to=6)
    assert summary(fine)["guinier"]["to"] == pytest.approx(6, rel=0.05)


def test_a_refused_fit_leaves_a_weighted_map(folder: Path, tmp_path: Path) -> None:
    coarse = tmp_path / "coarse"
    coarse.mkdir()
    draw = torch.Generator().manual_seed(1)
    for x in "AB":
        half = low_pass(read_volume(folder / f"map_half_{x}.mrc")[0], PX, 16.0)
        noisy = half + 0.6 * torch.randn(BOX, BOX, BOX, generator=draw)
        write_volume(coarse / f"map_half_{x}.mrc", noisy, PX)
    out = job(tmp_path / "out", volume=str(coarse), threshold=0.3)
    found = summary(out)
    assert found["bfactor"] == 0 and found["guinier"]["bfactor"] is None
    assert "is worse than 10 Å" in found["guinier"]["refused"]
    warning = found["warnings"][-1]
    assert "The Guinier fit was refused" in warning and "not sharpened" in warning
    assert f"WARNING: {warning}" in (out / "log.txt").read_text()
    assert sharp(out).std() > 0


def test_a_fit_of_few_shells_is_applied_with_a_warning(folder: Path, tmp_path: Path) -> None:
    """The whole window of 10 to 4.3 Å holds 17 shells; 7 of them are too few to trust."""
    out = job(tmp_path / "out", volume=str(folder), fit_to=6.5)
    found, log = summary(out), (out / "log.txt").read_text()
    warning = found["warnings"][-1]
    assert found["guinier"]["shells"] == 7 and "it rests on 7 shells from 9.8 to 6.7 Å" in warning
    assert warning.endswith("give bfactor=<Å²>, or fit_from=15")
    assert f"Applied: B = {found['bfactor']:.4g} Å² (fitted)" in log
    error = found["guinier"]["error"]
    assert error == found["bfactor_error"] > 0 and f"± {error:.0f} Å²" in warning
    assert (
        f"fitted: {found['bfactor']:.0f} ± {error:.0f} Å²".replace("-", "−")
        in (out / "report.html").read_text()
    )
    named = job(tmp_path / "named", volume=str(folder), fit_to=6.5, bfactor=-150)
    assert not any("B-factor" in said for said in summary(named)["warnings"])
    assert "Applied: B = -150 Å² (given)" in (named / "log.txt").read_text()


def test_half_maps_and_mask_of_a_validation_folder(folder: Path, tmp_path: Path) -> None:
    judged = tmp_path / "judged"
    settings = make_settings("validation_fsc", out=str(judged), **halves_of(folder), threshold=0.3)
    validation_fsc.run(settings)
    out = job(tmp_path / "out", volume=str(judged))
    found, before = summary(out), summary(judged)
    assert found["half_maps"] == before["half_maps"] == list(halves_of(folder).values())
    assert found["mask"]["file"] == str(judged / "mask_fsc.mrc")
    assert found["resolutions"]["corrected"] == before["resolution"]
    assert not (out / "mask_fsc.mrc").exists()
    (judged / "summary.json").write_text("{}")
    with pytest.raises(InputError, match="holds no half maps"):
        job(tmp_path / "none", volume=str(judged))


def test_the_mask_is_judged_as_in_a_validation(folder: Path, tmp_path: Path) -> None:
    tight = (read_volume(folder / "mask_fsc.mrc")[0] > 0.999).float()
    write_volume(tmp_path / "tight.mrc", tight, PX)
    out = job(tmp_path / "out", **halves_of(folder), mask=str(tmp_path / "tight.mrc"))
    said = " ".join(summary(out)["warnings"])
    assert "has a hard edge" in said and "the pixel size limits" in said


def test_sharpened_half_maps_are_noticed(folder: Path, tmp_path: Path) -> None:
    done = tmp_path / "done"
    done.mkdir()
    for x in "AB":
        half = read_volume(folder / f"map_half_{x}.mrc")[0]
        write_volume(done / f"map_half_{x}.mrc", filters.sharpen(half, PX, -400.0, None, 4.0), PX)
    out = job(tmp_path / "out", volume=str(done), mask=str(folder / "mask_fsc.mrc"))
    assert any("positive and blurs the map" in w for w in summary(out)["warnings"])


def test_local_low_pass(truth: torch.Tensor, tmp_path: Path) -> None:
    """One side of the molecule blurred: it comes out as such, and the map there is smoother than without."""
    draw = torch.Generator().manual_seed(0)
    side = torch.sigmoid((torch.arange(BOX) - BOX // 2).float())  # along x
    mixed = truth * side + low_pass(truth, PX, 14.0) * (1 - side)
    for x, grain in zip("AB", torch.randn(2, BOX, BOX, BOX, generator=draw), strict=True):
        write_volume(tmp_path / f"map_half_{x}.mrc", mixed + 0.3 * grain, PX)
    write_volume(tmp_path / "mask.mrc", density_mask(truth, PX, 0.15, 6, 14, 12), PX)
    given = dict(**halves_of(tmp_path), mask=str(tmp_path / "mask.mrc"), bfactor=-100)
    plain, out = job(tmp_path / "plain", **given), job(tmp_path / "out", **given, local=True)
    assert {p.name for p in out.iterdir()} - {p.name for p in plain.iterdir()} == {
        "local_resolution.mrc",
        "local_resolution.cxc",
        "local_resolution.png",
    }
    local, size = read_volume(out / "local_resolution.mrc")
    inside = read_volume(tmp_path / "mask.mrc")[0] > 0.9
    left, right = inside.clone(), inside.clone()
    left[..., BOX // 2 - 6 :] = False
    right[..., : BOX // 2 + 6] = False
    assert size == PX and float(local[right].median()) < 5 < 7 < float(local[left].median())
    found = summary(out)["local_resolution"]
    spread = found["percentiles"]
    assert spread["5"] <= found["median"] == spread["50"] < spread["95"]
    assert float(local[local > 0].min()) >= summary(out)["resolution"] * (1 - 1e-6)

    def roughness(volume: torch.Tensor, part: torch.Tensor) -> float:
        return float((volume - low_pass(volume, PX, 9.0))[part].std())

    assert roughness(sharp(out), left) < 0.7 * roughness(sharp(plain), left)
    assert roughness(sharp(out), right) > 0.9 * roughness(sharp(plain), right)


def test_same_input_same_maps_and_nothing_replaced_by_accident(
    folder: Path, tmp_path: Path
) -> None:
    first, second = job(tmp_path / "1", volume=str(folder)), job(tmp_path / "2", volume=str(folder))
    assert torch.equal(sharp(first), sharp(second))
    with pytest.raises(InputError, match=r"already holds .*overwrite=true"):
        job(first, volume=str(folder))
    job(first, volume=str(folder), overwrite=True, bfactor=[-10, -20])
    assert not (first / "map_sharp.mrc").exists()
    before = (folder / "mask_fsc.mrc").read_bytes()
    with pytest.raises(InputError, match=r"half_A\.mrc is an input"):
        job(folder, **halves_of(folder), mask=str(folder / "mask_fsc.mrc"), overwrite=True)
    assert (folder / "mask_fsc.mrc").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(bfactor=[]), "give one or more different B-factors"),
        (dict(bfactor=[-50, -50]), "give one or more different B-factors"),
        (dict(bfactor=-1e4, fsc_weight=False), "too large for a map"),
        (dict(fit_to=12), "fit_from=10 .* coarser than fit_to=12"),
        (dict(fit_to="7px"), "fit_from=10 .* coarser than fit_to=14"),
        (dict(filter_offset=-99), "filter_offset=-99 .* shells lie before the resolution"),
        (
            dict(filter_offset=30),
            "filter_offset=30 .* shells lie between the resolution and Nyquist",
        ),
        (dict(filter_order=0), "filter_order=0 .* above zero"),
        (dict(local_threshold=1.5), "local_threshold=1.5 .* from 0"),
        (dict(threshold=2), "threshold=2 .* fraction"),
        (dict(mask_near=12), "mask_far=12 .* above mask_near=12"),
        (dict(mask_near="7px"), "mask_far=12 .* above mask_near=14"),
        (dict(guinier_map="mask"), "did you mean masked"),
        (dict(seed=-1), "seed=-1"),
        (dict(volume=None), "Two half maps are needed"),
        (dict(mask="nowhere.mrc"), r"nowhere\.mrc"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(
    folder: Path, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words) as caught:
        job(tmp_path / "x", **{"volume": str(folder), **changes})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "x").exists()


def test_the_command_line_runs_it(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cryotorch", "job=sharpen", f"volume={folder}", "out=cli"]
    done = subprocess.run(
        [*command, "bfactor=[-50,-100]", "pixel_size=2.1"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(sharpen.__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert read_volume(tmp_path / "cli" / "map_sharp_B-100.mrc")[1] == pytest.approx(2.1)
