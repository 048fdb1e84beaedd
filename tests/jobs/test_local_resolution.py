"""The job on half maps whose local cut-offs are known: the values, the files, what it does not say, what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr

from cryotorch.data.mrc import read_corner, read_volume, write_volume
from cryotorch.errors import InputError
from cryotorch.jobs import local_resolution, sharpen
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.pages.write import PAGES
from cryotorch.ops.fourier.filters import low_pass
from cryotorch.ops.masks.soft import soft_sphere
from cryotorch.ops.resolution.local_resolution import local_low_pass

BOX, PX = 80, 1.5
LEFT, RIGHT, LEVEL = 5.0, 9.0, 0.3
FILES = {
    *("config.yaml", "log.txt", "manifest.json", "summary.json", "slices.png", *PAGES),
    *("local_resolution.mrc", "local_resolution.png", "local_resolution.cxc"),
    "map_local_filtered.mrc",
}


def noise(box: int, n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, box, box, box, generator=torch.Generator().manual_seed(seed))


def fsc_half(cutoff: float, level: float = LEVEL) -> float:
    """Å where the FSC of a texture of power 1 / (1 + q^16) with white noise of power level^2 is 0.5."""
    return cutoff / (1 / level**2 - 1) ** (1 / 16)


def left_half(box: int) -> torch.Tensor:
    """1 left of the middle in x."""
    return (torch.arange(box) < box // 2).float()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half maps of a ball that ends at 5 Å on the left and at 9 Å on the right, white noise in both, beside their mask."""
    made = tmp_path_factory.mktemp("run")
    ball, texture, left = soft_sphere(BOX, 28, 3), noise(BOX, 1, 0)[0], left_half(BOX)
    mixed = low_pass(texture, PX, LEFT) * left + low_pass(texture, PX, RIGHT) * (1 - left)
    for name, grain in zip("AB", noise(BOX, 2, 1), strict=True):
        write_volume(made / f"map_half_{name}.mrc", mixed * ball + LEVEL * grain, PX, (3, 5, -7))
    write_volume(made / "mask_fsc.mrc", soft_sphere(BOX, 28, 6), PX, (3, 5, -7))
    return made


def job(out: Path, **changes: Any) -> Path:
    return local_resolution.run(make_settings("local_resolution", out=str(out), **changes))


def halves_of(folder: Path) -> dict[str, str]:
    return {f"half_map_{x.lower()}": str(folder / f"map_half_{x}.mrc") for x in "AB"}


def summary(out: Path) -> dict[str, Any]:
    return json.loads((out / "summary.json").read_text())


@pytest.fixture(scope="module")
def out(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return job(tmp_path_factory.mktemp("job") / "out", volume=str(folder))


def test_both_halves_have_their_cut_off(out: Path, folder: Path) -> None:
    """Away from the border between them by the window of the coarser."""
    local, size = read_volume(out / "local_resolution.mrc")
    deep, x = soft_sphere(BOX, 22, 0) > 0, torch.arange(BOX)
    for part, cutoff in ((x < BOX // 2 - 9, LEFT), (x > BOX // 2 + 9, RIGHT)):
        inside = deep & part
        assert float(local[inside].median()) == pytest.approx(fsc_half(cutoff), rel=0.05)
    assert size == PX and read_corner(out / "local_resolution.mrc") == pytest.approx((3, 5, -7))
    assert {p.name for p in out.iterdir()} == FILES


def test_outside_the_mask_and_beyond_the_claim_nothing_is_said(out: Path, folder: Path) -> None:
    local, _ = read_volume(out / "local_resolution.mrc")
    inside = read_volume(folder / "mask_fsc.mrc")[0] > 0.5
    found = summary(out)
    assert torch.equal(local > 0, inside)
    assert float(local[inside].min()) >= found["resolution"] * (1 - 1e-6)
    numbers = found["local_resolution"]
    assert numbers["value_where_not_said"] == 0 == numbers["part_not_said"]
    assert numbers["finest_said"] == found["resolution"]
    spread = torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64)
    true = local[inside].double().quantile(spread).tolist()
    percentiles = numbers["percentiles"]
    assert [percentiles[p] for p in ("5", "50", "95")] == pytest.approx(true, rel=1e-4)
    log = (out / "log.txt").read_text()
    assert f"it is {numbers['median']:.2f} Å in the median" in log


def test_the_map_is_filtered_where_its_half_is_coarse(out: Path, folder: Path) -> None:
    mean = sum(read_volume(p)[0] for p in map(Path, halves_of(folder).values())) / 2
    filtered, deep = read_volume(out / "map_local_filtered.mrc")[0], soft_sphere(BOX, 22, 0) > 0
    x = torch.arange(BOX)
    for part, cutoff in ((x < BOX // 2 - 9, LEFT), (x > BOX // 2 + 9, RIGHT)):
        plain = low_pass(mean, PX, fsc_half(cutoff))[deep & part]
        error = (filtered[deep & part] - plain).std() / plain.std()
        assert float(error) < 0.1


def test_chimerax_opens_what_is_there(out: Path, folder: Path, tmp_path: Path) -> None:
    """The filtered mean without another map; a given one, or that of the run, by its place."""
    lines = (out / "local_resolution.cxc").read_text().splitlines()
    assert lines[1:3] == ['open "map_local_filtered.mrc"', 'open "local_resolution.mrc"']
    mean = read_volume(folder / "map_half_A.mrc")[0]
    write_volume(tmp_path / "sharp map.mrc", mean, PX, (3, 5, -7))
    given = dict(map=str(tmp_path / "sharp map.mrc"), color_range=[4, 12])
    other = job(tmp_path / "a" / "b", volume=str(folder), **given)
    text = (other / "local_resolution.cxc").read_text()
    assert 'open "../../sharp map.mrc"' in text and ":4.0 " in text and text.endswith(":12.0\n")
    local = read_volume(other / "local_resolution.mrc")[0]
    everywhere = torch.where(local > 0, local, 0)
    assert torch.equal(everywhere, read_volume(out / "local_resolution.mrc")[0])
    filtered, inside = read_volume(other / "map_local_filtered.mrc")[0], local > 0
    again = local_low_pass(mean, PX, torch.where(inside, local, float(local.max())))
    deep = soft_sphere(BOX, 22, 0) > 0
    assert float((filtered - again)[deep].std()) < 0.02 * float(again[deep].std())
    assert summary(other)["map"] == str(tmp_path / "sharp map.mrc")


def test_the_sharpened_map_of_the_run_is_taken(out: Path, folder: Path, tmp_path: Path) -> None:
    """Here the mean with three times its density."""
    shutil.copytree(folder, tmp_path / "run")
    mean = sum(read_volume(p)[0] for p in map(Path, halves_of(folder).values())) / 2
    write_volume(tmp_path / "run" / "map_sharp.mrc", 3 * mean, PX, (3, 5, -7))
    found = job(tmp_path / "out", volume=str(tmp_path / "run"))
    assert 'open "../run/map_sharp.mrc"' in (found / "local_resolution.cxc").read_text()
    maps = [read_volume(where / "map_local_filtered.mrc")[0] for where in (found, out)]
    assert torch.allclose(maps[0], 3 * maps[1], atol=1e-4)


def test_sharpen_says_the_same(out: Path, folder: Path, tmp_path: Path) -> None:
    settings = make_settings("sharpen", volume=str(folder), out=str(tmp_path / "s"), local=True)
    same = sharpen.run(settings)
    maps = [read_volume(where / "local_resolution.mrc")[0] for where in (out, same)]
    assert torch.equal(*maps)
    assert summary(same)["local_resolution"] == summary(out)["local_resolution"]
    assert 'open "map_sharp.mrc"' in (same / "local_resolution.cxc").read_text()


def test_what_both_were_aligned_to_is_no_local_resolution(folder: Path, tmp_path: Path) -> None:
    """Aligned to one map up to 7 Å: the right half, which parts at 7.8 Å, may owe all its agreement to that map."""
    for name in ("map_half_A.mrc", "map_half_B.mrc", "mask_fsc.mrc"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    shells = dict(box=BOX, shells=dict(shared=BOX * PX / 7.0))
    (tmp_path / "summary.json").write_text(json.dumps(shells))
    found = job(tmp_path / "out", **halves_of(tmp_path), mask=str(tmp_path / "mask_fsc.mrc"))
    local = read_volume(found / "local_resolution.mrc")[0]
    assert 0 < float(local.max()) <= 7.0
    numbers = summary(found)["local_resolution"]
    # near the border the window sees the left half
    assert 0.3 < numbers["part_not_said"] < 0.5
    deep, x = soft_sphere(BOX, 22, 0) > 0, torch.arange(BOX)
    assert float(local[deep & (x > BOX // 2 + 9)].max()) == 0 < float(local[deep & (x < 31)].min())
    assert numbers["median"] < 7 and numbers["percentiles"]["75"] is None
    (warning,) = (w for w in summary(found)["warnings"] if "aligned to" in w)
    assert "before 7 Å" in warning


def test_noise_is_refused(tmp_path: Path) -> None:
    for name, grain in zip("AB", noise(48, 2, 4), strict=True):
        write_volume(tmp_path / f"map_half_{name}.mrc", grain, PX)
    write_volume(tmp_path / "mask.mrc", soft_sphere(48, 12, 4), PX)
    with pytest.raises(InputError, match="no local resolution without one to claim: ") as caught:
        job(tmp_path / "out", **halves_of(tmp_path), mask=str(tmp_path / "mask.mrc"))
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()
    given = halves_of(tmp_path) | dict(mask=str(tmp_path / "mask.mrc"), local=True)
    one = sharpen.run(make_settings("sharpen", out=str(tmp_path / "one"), **given))
    assert not (one / "local_resolution.mrc").exists() and summary(one)["local_resolution"] is None
    assert any("the whole map has one filter" in w for w in summary(one)["warnings"])


def test_a_mask_beside_the_molecule_is_refused(folder: Path, tmp_path: Path) -> None:
    """Nothing but noise is in it."""
    corner = torch.roll(soft_sphere(BOX, 6, 3), (-31,) * 3, (0, 1, 2))
    write_volume(tmp_path / "mask.mrc", corner, PX, (3, 5, -7))
    with pytest.raises(InputError, match="no local resolution without one to claim"):
        job(tmp_path / "out", **halves_of(folder), mask=str(tmp_path / "mask.mrc"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(half_map_b=None), "Two half maps are needed: add half_map_b=<file>"),
        (dict(half_map_b="small.mrc"), "different boxes, 80 and 24 voxels"),
        (dict(map="blank.mrc"), "blank.mrc is blank"),
        (dict(mask="blank.mrc"), "blank.mrc"),
        (dict(local_threshold=1.5), "local_threshold=1.5 .* from 0"),
        (dict(color_range=[8, 3]), r"color_range=\[8,3\] .* finer one first"),
        (dict(color_range=[3]), "color_range=.* two resolutions"),
        (dict(mask_near=12), "mask_far=12 .* above mask_near=12"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_volume(Path("small.mrc"), noise(24, 1, 5)[0], PX)
    write_volume(Path("blank.mrc"), torch.zeros(BOX, BOX, BOX), PX)
    with pytest.raises(InputError, match=words) as caught:
        job(tmp_path / "x", **{**halves_of(folder), **changes})
    assert "\n" not in str(caught.value) and not (tmp_path / "x").exists()


@pytest.mark.data
def test_a_texture_with_the_local_resolution_of_a_real_map(
    shared_data: Path, tmp_path: Path
) -> None:
    """Blurred from place to place as another program found it in beta-galactosidase, and white noise in both halves.

    That program's values differ from voxel to voxel, which no window sees: against them as they are, a Gaussian of this window's width
    has a rank correlation of 0.60 only. Their means in the window are the truth here.
    """
    size, level = 3.54, 0.5
    true, _ = read_volume(shared_data / "real" / "localResolution.mrc.gz")
    own = ((true - 8.863673).abs() > 1e-3).numpy()  # elsewhere it has this value
    weight = gaussian_filter(own.astype(np.float32), 1.0)
    share = gaussian_filter(own.astype(np.float32), 2.2).clip(1e-3)
    seen = gaussian_filter(true.numpy() * own, 2.2) / share
    mixed = local_low_pass(noise(len(true), 1, 2)[0], size, true)
    for name, grain in zip("AB", noise(len(true), 2, 4), strict=True):
        write_volume(tmp_path / f"map_half_{name}.mrc", mixed + level * grain, size)
    write_volume(tmp_path / "mask.mrc", torch.from_numpy(weight), size)
    found = job(tmp_path / "out", **halves_of(tmp_path), mask=str(tmp_path / "mask.mrc"))
    local = read_volume(found / "local_resolution.mrc")[0].numpy()
    within = (local > 0) & own
    assert spearmanr(local[within], seen[within]).statistic > 0.75
    expected = fsc_half(np.median(seen[within]), level)
    assert np.median(local[within]) == pytest.approx(expected, rel=0.05)
