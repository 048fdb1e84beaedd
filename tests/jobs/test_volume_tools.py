"""Volume tools as a whole: what is done and undone, refusals in one sentence, and the recipe of the pages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
import torch

from cryotorch.data.mrc import read_volume, write_volume
from cryotorch.errors import InputError
from cryotorch.jobs import volume_tools
from cryotorch.jobs.config.catalog import make_settings

PX = 2.0


@pytest.mark.parametrize("name", ["blob", "odd"])
def test_nothing_asked_for_nothing_done(
    volumes: Path, tmp_path: Path, name: str, edit: Callable
) -> None:
    result, summary = edit(tmp_path / "a", volume=f"{volumes}/{name}.mrc")
    assert torch.equal(result, read_volume(volumes / f"{name}.mrc")[0])
    assert summary["result"] == "map.mrc" and len(summary["steps"]) == 1


@pytest.mark.parametrize("corner", [(0.0, 0.0, 0.0), (-40.0, 7.0, 12.5)])
@pytest.mark.parametrize(
    "changes",
    [
        dict(),
        dict(box_size=25),
        dict(box_size=48),
        dict(new_pixel_size="0.25nm"),
        dict(new_pixel_size=1.5, box_size=50),
    ],
)
def test_results_overlay_with_the_input_in_chimerax(
    tmp_path, corner, changes, edit: Callable, off_centre: Callable
) -> None:
    """What lay at a place in Å lies there still."""
    _, before = edit(tmp_path / "a", volume=off_centre(tmp_path, "in.mrc", 40, corner))
    _, after = edit(tmp_path / "b", volume=f"{tmp_path}/in.mrc", **changes)
    expected = [c + PX * f * 40 for c, f in zip(corner, (0.4, 0.5, 0.6))]
    assert before["centre_of_mass"]["angstrom"] == pytest.approx(expected, abs=0.01)
    assert after["centre_of_mass"]["angstrom"] == pytest.approx(expected, abs=0.05)
    assert before["corner"] == pytest.approx(corner)
    _, back = edit(tmp_path / "c", volume=f"{tmp_path}/b/map.mrc", like=f"{tmp_path}/in.mrc")
    assert back["corner"] == pytest.approx(corner) and not back["warnings"]


@pytest.mark.data
def test_a_ribosome_in_an_odd_box_goes_through_everything(
    shared_data, tmp_path, edit: Callable
) -> None:
    source = shared_data / "real/clean70SRibosome_vol_65p.mrc"
    mask, summary = edit(
        tmp_path / "a", volume=str(source), pixel_size=5, low_pass=20, high_pass=300, filter_order=4,
        new_pixel_size=6, rotate=[10, 20, 30], shift=[0, "1px", 0], symmetry="C2", normalize=True,
        erase=[[5, 5, 5, 3]], keep=[[27, 27, 27, 26]], threshold=0.2, fill_holes=True, keep_largest=True,
        segment__method="watershed", segment__scale=60, dilate="-1px", soften="3px",
    )  # fmt: skip
    assert len(mask) == 55 and 0.02 < float((mask > 0.5).float().mean()) < 0.5
    assert summary["warnings"] == []


@pytest.mark.gpu
def test_a_gpu_gives_the_same(volumes: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = dict(
        volume=f"{volumes}/blob.mrc", low_pass=7, new_pixel_size=2.5, flip_hand=True, rotate=[20, 30, -40],
        shift=[3, 0.5, 0], symmetry="C2", keep=[13, 13, 13, 12], threshold=0.3, fill_holes=True,
        segment__method="watershed", dilate="1px", soften="3px",
    )  # fmt: skip
    masks = []
    for device in ("cpu", "cuda"):
        out = tmp_path / device
        volume_tools.run(make_settings("volume_tools", out=str(out), device=device, **changes))
        masks.append(read_volume(out / "mask.mrc")[0])
    assert float((masks[0] - masks[1]).abs().mean()) < 1e-3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (dict(volume=None), "volume=null cannot be used: name a map, a mask or an atomic model"),
        (dict(volume="none.mrc"), "none.mrc does not exist"),
        (dict(threshold=40), "leaves an empty mask: the map's values go from"),
        (dict(threshold=9.0, relative_threshold=False), "threshold=9 leaves an empty mask"),
        (dict(threshold=-9.0, relative_threshold=False), "leaves no background"),
        (dict(threshold=-0.1), "as a fraction of the high density it must be above zero"),
        (dict(dilate="3px"), "dilate=3px cannot be used: it works on masks and volume="),
        (dict(invert=True), "invert=true cannot be used: it works on masks"),
        (dict(unite="{files}/mask.mrc"), "it works on masks"),
        (dict(write="mask"), "no mask is made, add threshold"),
        (dict(threshold=0.3, dilate=-40), "nothing is left of the mask, shrink it less"),
        (dict(threshold=0.3, unite="{files}/unknown.mrc"), "has 40 voxels per edge but the map has 32"),
        (dict(threshold=0.3, subtract="{files}/blob.mrc"), "must have values from 0 to 1"),
        (dict(threshold=0.3, intersect="{files}/empty.mrc"), "is empty"),
        (dict(low_pass=3), "low_pass=3 cannot be used: it must lie between Nyquist, 4 Å, and the edge"),
        (dict(high_pass=100), "edge of the box, 64 Å"),
        (dict(symmetry="Q3"), "symmetry=Q3 cannot be used"),
        (dict(rotate=[1, 2]), "write three numbers"),
        (dict(box_size=4), "from 8 to 1000000 pixels"),
        (dict(like="{files}/odd.mrc", box_size=20), "gives the grid already"),
        (dict(like="{files}/two.pdb"), "is an atomic model, which has no grid"),
        (dict(like="{files}/flat.mrc"), "not a cube: pad it to one with job=volume_tools volume={files}/flat.mrc first"),
        (dict(like="{files}/text.mrc"), "text.mrc has 5 bytes"),
        (dict(like="{files}/bare.mrc"), "like={files}/bare.mrc does not state its pixel size"),
        (dict(erase=[1, 2, 3]), "erase=[1,2,3] cannot be used: write it as [[x,y,z,radius],...]"),
        (dict(erase=[[99, 2, 3, 4]]), "(99, 2, 3) lies outside the box, whose voxels are 0 to 31"),
        (dict(keep=[[1, 2, 3, 0]]), "needs a radius above zero"),
        (dict(erase=[[16, 16, 16, 60]]), "leaves nothing of the volume"),
        (dict(segment__method="watershed"), "it cuts what lies above a threshold"),
        (dict(threshold=0.3, segment__method="components", segment__labels=[]), "write numbers, [1,2]"),
        (dict(threshold=0.3, segment__labels=[1]), "add segment.method=watershed"),
        (
            dict(threshold=0.3, segment__method="components", segment__labels=[99]),
            "segment.labels=[99] cannot be used: There is no segment 99: they are numbered 1 to",
        ),
        (
            dict(threshold=0.3, segment__method="components", segment__points=[[1, 1, 40]]),
            "The point (1, 1, 40) lies outside the box",
        ),
        (
            dict(threshold=0.3, segment__method="components", segment__points=[[0, 0, 0]]),
            "The point (0, 0, 0) lies in no segment; the nearest is segment",
        ),
        (
            dict(threshold=0.3, segment__method="components", segment__min_volume=1e9),
            "leaves nothing: the largest segment chosen has",
        ),
        (dict(select="A"), "select=A cannot be used: it is for atomic models"),
        (dict(center=True), "it is for atomic models and for like=<map>"),
        (dict(volume="{files}/two.pdb"), "needs one, add resolution=6"),
        (dict(volume="{files}/two.pdb", resolution=6), "needs a grid, add like=<map>, or pixel_size"),
        (dict(volume="{files}/two.pdb", resolution=6, pixel_size=2), "box_size=<voxels>, 24 for example"),
        (dict(volume="{files}/two.pdb", resolution=3, pixel_size=2, box_size=40), "at least two pixels, 4 Å"),
        (dict(volume="{files}/two.pdb", resolution=6, pixel_size=2, box_size=16), "is too small for"),
        (dict(volume="{files}/two.pdb", resolution=6, like="{files}/away.mrc"), "lies outside like="),
        (dict(volume="{files}/two.pdb", resolution=6, like="{files}/blob.mrc", select="Z"), "its chains are A, B"),
        (dict(volume="{files}/two.pdb", resolution=6, new_pixel_size=3), "made with pixel_size"),
        (dict(volume="{files}/two.pdb", resolution=6, like="{files}/blob.mrc", select="B/100-200"), "chain B has residues 21 to 40"),
        (dict(volume="{files}/two.pdb", resolution=6, pixel_size=2, box_size=20, center=False), "add center=true to put it"),
        (dict(volume="{files}/two.pdb", resolution=6, like="{files}/small.mrc", center=True), "pad that map with job=volume_tools box_size=24"),
        (dict(threshold=0.3, soften="20px"), "soften=20px cannot be used: that is more than half the box, 16 voxels or 32 Å"),
        (dict(erase=[[16, 16, 16, 2]], sphere_edge=33), "sphere_edge=33 cannot be used: that is more than half the box"),
        (dict(threshold=-0.0339, relative_threshold=False, dilate="3px"), "fills the whole box"),
        (dict(new_pixel_size=0.001), "new_pixel_size=0.001 cannot be used: maps of 64000 voxels per edge need"),
        (dict(box_size=50000), "box_size=50000 cannot be used: maps of 50000 voxels"),
        (dict(volume="{files}/two.pdb", resolution=6, pixel_size=2, box_size=50000), "box_size=50000 cannot be used: maps of"),
        (dict(new_pixel_size="3px"), "new_pixel_size=3px is in pixels"),
        (dict(erase=[[16, 16, 16, "2px"]]), "erase must be a list of lists of plain numbers such as [[0,1],[2,3]]"),
        (dict(volume="{files}/stack.mrcs"), "is a stack of images: name a map"),
    ],
)  # fmt: skip
def test_refusals_are_one_sentence(
    bad: Path, tmp_path: Path, changes: dict, said: str, refused: Callable
) -> None:
    filled = {k: v.format(files=bad) if isinstance(v, str) else v for k, v in changes.items()}
    message = refused(tmp_path, **{"volume": f"{bad}/blob.mrc", **filled})
    assert said.format(files=bad) in message, message


@pytest.fixture(scope="module")
def bad(volumes: Path, two_chains: Path) -> Path:
    """The good files, and such as cannot be used."""
    (volumes / "two.pdb").write_text(two_chains.read_text())
    (volumes / "text.mrc").write_text("hello")
    write_volume(volumes / "stack.mrcs", torch.ones(9, 8, 8), PX)
    write_volume(volumes / "small.mrc", torch.rand(8, 8, 8), PX)
    write_volume(volumes / "empty.mrc", torch.zeros(32, 32, 32), PX)
    shapes = {"flat": (4, 8, 8), "bare": (8, 8, 8), "away": (32, 32, 32), "unknown": (40, 40, 40)}
    for name, shape in shapes.items():
        with mrcfile.new(volumes / f"{name}.mrc") as file:
            file.set_data(np.ones(shape, np.float32))
            if name == "away":
                file.voxel_size = PX
                file.header.origin.x = 500
    return volumes


def test_results_are_not_replaced_unasked(volumes: Path, tmp_path: Path, edit: Callable) -> None:
    common = dict(volume=f"{volumes}/blob.mrc")
    edit(tmp_path / "a", **common, threshold=0.3)
    with pytest.raises(InputError, match="add overwrite=true"):
        edit(tmp_path / "a", **common)
    edit(tmp_path / "a", **common, overwrite=True)
    assert not (tmp_path / "a" / "mask.mrc").exists()  # of the run before
    with pytest.raises(InputError, match="is an input of this job"):
        edit(tmp_path / "a", volume=f"{tmp_path}/a/map.mrc", overwrite=True)


@pytest.mark.data
@pytest.mark.parametrize("name", ["relion_c1/truth/truth", "real_apoferritin/model"])
def test_the_recipe_of_the_pages_makes_masks_for_the_particles_box(
    shared_data: Path, repository: Path, tmp_path: Path, name: str, edit: Callable, faces: Callable
) -> None:
    """The line itself: holds the molecule, is soft and ends in the box, though a molecule comes near its border."""
    (recipe,) = [
        line
        for line in (repository / "docs/maps.md").read_text().splitlines()
        if "# a mask" in line
    ]
    assert (
        recipe.split("#")[0].split("volume=map.mrc")[1].strip()
        in (repository / "configs/job/volume_tools.yaml").read_text()
    )
    given = dict(word.split("=") for word in recipe.split("#")[0].split()[3:])
    values = {key: float(value) for key, value in given.items()}
    source = shared_data / f"{name}.mrc.gz"
    mask, summary = edit(tmp_path / "a", volume=str(source), **values)
    volume, pixel_size = read_volume(source)
    assert mask.shape == volume.shape and summary["pixel_size"] == pytest.approx(pixel_size)
    assert faces(mask) == 0
    power = volume.clamp(min=0).square()
    assert float((mask * power).sum() / power.sum()) > 0.99
    assert summary["warnings"] == []
    assert 0.7 < summary["mask"]["edge_width"] * pixel_size / values["soften"] < 1.3
