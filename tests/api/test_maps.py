"""FSC, sharpening, anisotropy and masks from tensors: the numbers of the jobs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import cryotorch as ct
from cryotorch.jobs import validation_fsc
from cryotorch.jobs.config.catalog import make_settings


def test_fsc_is_that_of_the_job(reconstruction: ct.Reconstruction, tmp_path: Path) -> None:
    reconstruction.save(tmp_path / "made")
    found = ct.fsc(*reconstruction.half_maps, pixel_size=4.0)
    validation_fsc.run(
        make_settings("validation_fsc", volume=str(tmp_path / "made"), out=str(tmp_path / "job"))
    )
    there = json.loads((tmp_path / "job" / "summary.json").read_text())
    assert found.resolution == there["resolution"] == found.found.resolution
    found.save(tmp_path / "saved")
    here = json.loads((tmp_path / "saved" / "summary.json").read_text())
    assert here["resolutions"] == there["resolutions"] and here["mask"] == there["mask"]


def test_files_and_tensors_are_alike(reconstruction: ct.Reconstruction, tmp_path: Path) -> None:
    paths = [tmp_path / f"{half}.mrc" for half in "ab"]
    for path, half in zip(paths, reconstruction.half_maps, strict=True):
        ct.write_map(path, half, 4.0)
    from_files = ct.fsc(*paths)
    from_tensors = ct.fsc(*(ct.Map(half, 4.0) for half in reconstruction.half_maps))
    for name, curve in from_files.curves.items():
        assert torch.equal(curve, from_tensors.curves[name])


def test_sharpening_lifts_fine_shells(reconstruction: ct.Reconstruction) -> None:
    found = ct.sharpen(*reconstruction.half_maps, pixel_size=4.0, bfactor=-200.0)
    assert list(found.maps) == [-200.0] and found.bfactor == -200.0
    flat = ct.sharpen(*reconstruction.half_maps, pixel_size=4.0, bfactor=0.0)
    fine = [torch.fft.fftn(v)[10, 0, 0].abs() for v in (found.map, flat.map)]
    coarse = [torch.fft.fftn(v)[2, 0, 0].abs() for v in (found.map, flat.map)]
    # exp(200 / 4 (1 / d²)) from d = 64 Å to 12.8 Å
    assert abs(float(fine[0] / fine[1] / (coarse[0] / coarse[1])) - 1.34) < 0.01


def test_local_resolution_is_that_of_sharpen(
    reconstruction: ct.Reconstruction, tmp_path: Path
) -> None:
    halves, volume = reconstruction.half_maps, ct.Map(reconstruction.half_maps[0], 4.0)
    found = ct.local_resolution(*halves, pixel_size=4.0, map=volume)
    same = ct.sharpen(*halves, pixel_size=4.0, local=True)
    assert same.local is not None and torch.equal(found.local, same.local)
    inside = found.local[found.local > 0]
    assert float(inside.min()) >= found.resolution * (1 - 1e-6)
    assert found.median == pytest.approx(float(inside.median()), rel=0.01)
    other = ct.local_resolution(*halves, pixel_size=4.0)
    assert torch.equal(other.local, found.local) and not torch.equal(other.filtered, found.filtered)
    folder = found.save(tmp_path / "saved")
    assert 'open "map_local_filtered.mrc"' in (folder / "local_resolution.cxc").read_text()


def test_even_views_are_even(reconstruction: ct.Reconstruction, folder: Path) -> None:
    found = ct.diagnose_orientations(
        *reconstruction.half_maps,
        pixel_size=4.0,
        particles=folder / "truth.star",
        n_directions=200,
        symmetry="C1",
    )
    assert found.directions.shape == (100, 3) and 0.7 < found.scf_star < 1
    alone = ct.diagnose_orientations(*reconstruction.half_maps, pixel_size=4.0, n_directions=200)
    assert alone.scf_star is None and alone.cfar == found.cfar


def test_what_is_saved_names_no_file_that_is_gone(
    reconstruction: ct.Reconstruction, tmp_path: Path
) -> None:
    half = reconstruction.half_maps
    for name, function in (("fsc", ct.fsc), ("sharpen", ct.sharpen)):
        folder = function(*half, pixel_size=4.0).save(tmp_path / name)
        assert json.loads((folder / "summary.json").read_text())["half_maps"] == []
        assert "half_map_a: <tensor>" in (folder / "config.yaml").read_text()
    folder = ct.diagnose_orientations(*half, pixel_size=4.0, n_directions=100).save(tmp_path / "o")
    assert "tensors" in (folder / "report.html").read_text()


def test_a_mask_holds_the_density(reconstruction: ct.Reconstruction) -> None:
    mask = ct.make_mask(reconstruction.map, 4.0, threshold=0.3, dilate=8.0, soften=12.0)
    strong = reconstruction.map > 0.5 * reconstruction.map.max()
    assert float(mask[strong].min()) == 1.0 and 0.01 < float(mask.mean()) < 0.3


def test_a_mask_goes_onto_the_grid_of_a_map_in_memory(reconstruction: ct.Reconstruction) -> None:
    finer = ct.Map(torch.rand(64, 64, 64), 2.0)
    mask = ct.make_mask(ct.Map(reconstruction.map, 4.0), threshold=0.3, like=finer)
    assert mask.shape == (64, 64, 64)


def test_what_half_maps_have_in_common_is_known(
    reconstruction: ct.Reconstruction, tmp_path: Path
) -> None:
    """Of a result, of its folder, of its two files; of bare tensors where it is said."""
    known = reconstruction.fsc.known._replace(shared=6.0, inserted=9.0)
    aware = replace(reconstruction, fsc=replace(reconstruction.fsc, known=known))
    found = ct.fsc(aware)
    assert found.found.known._replace(earlier=()) == known
    doubted = [finding["of"] for finding in found.found.known.earlier]
    assert doubted == ["half_sets_mixed"]
    assert found.warnings[0].startswith("reconstruct, where this comes from, warned: half_sets=")
    with pytest.raises(ct.InputError, match="half_map_a is a result that has both"):
        ct.fsc(aware, reconstruction.map)
    folder = reconstruction.save(tmp_path / "made")
    summary = json.loads((folder / "summary.json").read_text())
    summary["shells"] = {"shared": 6.0, "inserted": 9.0}
    (folder / "summary.json").write_text(json.dumps(summary))
    halves = [folder / f"map_half_{half}.mrc" for half in "AB"]
    for given in ((folder,), halves):
        known = ct.fsc(*given).found.known
        assert [finding["of"] for finding in known.earlier] == doubted
        assert (known.shared, known.inserted) == (6.0, 9.0)
    bare = ct.fsc(*reconstruction.half_maps, pixel_size=4.0, shared_resolution=32.0, symmetry="C2")
    assert bare.found.known.shared == 4.0 and len(bare.found.known.group) == 2


@pytest.mark.parametrize(
    ("volume", "size", "said"),
    [
        (torch.rand(4, 4, 4), 4.0, "have 4 voxels per edge, too few"),
        (torch.zeros(8, 8), 4.0, "half_map_a must be a cube"),
        (torch.full((8, 8, 8), torch.nan), 4.0, "values that are not finite"),
        (torch.zeros(8, 8, 8, dtype=torch.complex64), 4.0, "complex numbers"),
        (torch.rand(8, 8, 8), 0, "pixel_size=0 cannot be used"),
        (torch.rand(8, 8, 8), None, "is a tensor: add pixel_size"),
        (ct.Map(torch.rand(8, 8, 8), 3.0), 4.0, "is a Map of 3.0 Å per pixel, not 4.0"),
        ([1, 2], 4.0, "is of the type list"),
    ],
)
def test_maps_that_are_none_are_refused(volume: object, size: float | None, said: str) -> None:
    with pytest.raises(ct.InputError, match=said):
        ct.fsc(volume, volume, pixel_size=size)


def test_a_folder_takes_the_place_of_the_half_maps(reconstruction: ct.Reconstruction) -> None:
    with pytest.raises(ct.InputError, match="volume cannot be used here: give the folder in"):
        ct.fsc(reconstruction, volume="runs/mine")
    mask = ct.make_mask(reconstruction.map, 4.0, device=torch.device("cpu"))
    assert mask.shape == (32, 32, 32)
