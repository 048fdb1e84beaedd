"""References and masks on other grids than the particles': Gaussians at known places in Å land there."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import mrcfile
import pytest
import torch

from cryotorch.data.mrc import write_volume
from cryotorch.errors import InputError
from cryotorch.jobs.inputs.reference import load_box_mask, load_reference, load_references
from cryotorch.ops.fourier.transforms import resize_volume
from cryotorch.ops.models.gaussians import gaussian_density

BOX, PX = 40, 2.0
PLACES = torch.tensor([[9.0, -14.0, 6.0], [-12.0, 5.0, 11.0], [0.0, 15.0, -13.0]])
CORNERS = [(0.0, 0.0, 0.0), (12.0, -6.0, 18.0)]  # Å, whole voxels of 2 and 1.5 Å


def grids(box: int = BOX, pixel_size: float = PX, refined: int | None = None):
    """What is asked of a particle file and its images, refined in another box where that is given."""
    file = SimpleNamespace(box=box, pixel_size=pixel_size)
    small = refined or box
    return file, SimpleNamespace(box=small, pixel_size=pixel_size * box / small)


def blobs(box: int, pixel_size: float, about=(0.0, 0.0, 0.0)) -> torch.Tensor:
    """Gaussians of 4 Å at PLACES, seen from voxel d // 2 of a box that lies at ``about`` Å."""
    weight, sigma = torch.tensor([3.0, 2.0, 4.0]), torch.full((3,), 4.0)
    return gaussian_density(PLACES - torch.tensor(about), weight, sigma, box, pixel_size)


def state(path: Path, corner, pixel_size: float, field: str) -> None:
    """Write a corner, Å, into one of the two fields of a header."""
    with mrcfile.open(path, "r+") as file:
        for axis, start in zip("xyz", corner, strict=True):
            if field == "origin":
                file.header.origin[axis] = start
            else:
                file.header[f"n{axis}start"] = round(start / pixel_size)


def agrees(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return torch.allclose(found, expected, atol=2e-3 * float(expected.max()))


@pytest.mark.parametrize(
    ("box", "px"),
    [
        (40, 2.0),
        (56, 2.0),
        (32, 2.0),
        (45, 2.0),
        (40, 2.4),
        (60, 1.5),
        (33, 2.6),
        (128, 1.0 + 1e-6),
    ],
)
@pytest.mark.parametrize("particles", [(40, 2.0), (41, 2.0), (40, 1.7)])
def test_other_boxes_and_pixel_sizes(tmp_path, box: int, px: float, particles) -> None:
    write_volume(tmp_path / "map.mrc", blobs(box, px), px)
    found = load_reference(tmp_path / "map.mrc", "volume", *grids(*particles))
    assert agrees(found, blobs(*particles))


def test_a_crop_and_a_pad_copy_values(tmp_path, caplog) -> None:
    noise = torch.randn(BOX, BOX, BOX, generator=torch.Generator().manual_seed(0))
    write_volume(tmp_path / "map.mrc", noise, PX)
    with caplog.at_level("INFO", "cryotorch"):
        small = load_reference(tmp_path / "map.mrc", "volume", *grids(30))
        large = load_reference(tmp_path / "map.mrc", "volume", *grids(51))
    assert torch.allclose(small, noise[5:-5, 5:-5, 5:-5], atol=1e-5)
    assert torch.allclose(large[5:45, 5:45, 5:45], noise, atol=1e-5)
    assert float(large.square().sum()) == pytest.approx(float(noise.square().sum()), rel=1e-5)
    assert "resampled from 40 voxels per edge of 2 Å to 51 voxels per edge of 2 Å" in caplog.text


def test_the_particles_own_grids_need_no_word(tmp_path, caplog) -> None:
    """As extracted and as refined; a calibration of less than a hundredth is theirs."""
    volume = blobs(BOX, PX)
    with caplog.at_level("INFO", "cryotorch"):
        for name, px in (("as extracted", PX), ("calibrated", 1.006 * PX)):
            write_volume(tmp_path / "map.mrc", volume, px, (-3.0, 5.0, 900.0))
            found = load_reference(tmp_path / "map.mrc", "volume", *grids(refined=24))
            assert torch.equal(found, resize_volume(volume, 24)), name
        write_volume(tmp_path / "map.mrc", found, PX * BOX / 24)
        again = load_reference(tmp_path / "map.mrc", "volume", *grids(refined=24))
    assert torch.equal(again, found) and caplog.text == ""


@pytest.mark.parametrize("field", ["origin", "start"])
@pytest.mark.parametrize(("shape", "px"), [((26, 30, 33), 2.0), ((36, 36, 36), 1.6)])
@pytest.mark.parametrize("particles", [(40, 2.0), (41, 2.0)])
def test_a_part_cut_out_lies_where_it_was(tmp_path, field, shape, px, particles) -> None:
    """Out of a map in the particles' box with its corner at 0, as ChimeraX saves it, cubic or not."""
    box, size = particles
    corner = torch.tensor([8.0, 8.0, 16.0])  # whole voxels of both pixel sizes
    edge = max(shape)
    middle = box // 2 * size
    # the cube first, then cut to the shape about its middle, as the header speaks of the first voxel left
    starts = torch.tensor([edge // 2 - n // 2 for n in reversed(shape)]) * px
    about = (corner - starts + edge // 2 * px - middle).tolist()
    whole = blobs(edge, px, about)
    z, y, x = (slice(edge // 2 - n // 2, edge // 2 - n // 2 + n) for n in shape)
    write_volume(tmp_path / "cut.mrc", whole[z, y, x], px)
    state(tmp_path / "cut.mrc", corner.tolist(), px, field)
    found = load_reference(tmp_path / "cut.mrc", "volume", *grids(*particles))
    expected = blobs(*particles)
    inside = expected > 0.2 * expected.max()
    assert torch.allclose(found[inside], expected[inside], rtol=0.02)


def test_an_origin_in_the_middle_is_a_convention(tmp_path) -> None:
    write_volume(tmp_path / "map.mrc", blobs(56, 1.6), 1.6, (-28 * 1.6,) * 3)
    assert agrees(load_reference(tmp_path / "map.mrc", "volume", *grids()), blobs(BOX, PX))


def test_half_maps_of_a_run_folder(tmp_path, caplog) -> None:
    for name, factor in (("A", 1.0), ("B", 2.0)):
        write_volume(tmp_path / f"map_half_{name}.mrc", factor * blobs(30, 3.0), 3.0)
    with caplog.at_level("INFO", "cryotorch"):
        found, said = load_references(tmp_path, *grids())
    expected = blobs(BOX, PX)
    assert agrees(found[0], expected) and agrees(found[1] / 2, expected)
    names = (said["first"], said["second"])
    assert names == ("map_half_A.mrc", "map_half_B.mrc") and caplog.text.count("resampled") == 1


def ball(box: int, pixel_size: float, centre) -> torch.Tensor:
    """A soft ball of 10 Å about a place in Å from voxel 0."""
    line = torch.arange(box) * pixel_size
    x, y, z = ((line - c) ** 2 for c in centre)
    r = (z[:, None, None] + y[:, None] + x).sqrt()
    return ((18 - r) / 10).clamp(0, 1)


@pytest.mark.parametrize("corner", CORNERS)
@pytest.mark.parametrize("field", ["origin", "start"])
@pytest.mark.parametrize(("reference", "px"), [(40, 2.0), (50, 2.0), (64, 1.5)])
def test_a_mask_lies_where_chimerax_shows_it_in_the_reference(
    tmp_path, corner, field, reference, px
) -> None:
    """The reference has the particles' box or another one, an origin or none."""
    centre = [0.45 * reference * px, 0.5 * reference * px, 0.55 * reference * px]  # from its corner
    write_volume(tmp_path / "map.mrc", blobs(reference, px), px, corner)
    cut = [12.0, 18.0, 18.0]
    there = [c - s for c, s in zip(centre, cut, strict=True)]
    write_volume(tmp_path / "mask.mrc", ball(round(60 / px), px, there), px)
    state(tmp_path / "mask.mrc", [c + s for c, s in zip(corner, cut, strict=True)], px, field)
    found = load_box_mask(tmp_path / "mask.mrc", tmp_path / "map.mrc", *grids())
    # where the reference itself is put
    middle = torch.tensor([reference // 2 * px] * 3)
    if reference != BOX and any(corner):
        middle = torch.tensor([BOX // 2 * PX - c for c in corner])
    expected = ball(BOX, PX, (torch.tensor(centre) - middle + BOX // 2 * PX).tolist())
    assert torch.allclose(found, expected, atol=0.01 if px == PX else 0.05)
    assert 0 <= found.min() and found.max() <= 1


def test_a_mask_without_origin_stays_in_the_middle(tmp_path) -> None:
    write_volume(tmp_path / "map.mrc", blobs(BOX, PX), PX)
    for box, px in ((30, 2.0), (32, 2.5)):
        write_volume(tmp_path / "mask.mrc", ball(box, px, [box // 2 * px] * 3), px)
        found = load_box_mask(tmp_path / "mask.mrc", tmp_path / "map.mrc", *grids())
        assert torch.allclose(found, ball(BOX, PX, [BOX // 2 * PX] * 3), atol=0.05)


def test_another_box_without_pixel_size_is_refused(tmp_path) -> None:
    with mrcfile.new(tmp_path / "map.mrc") as file:
        file.set_data(blobs(30, PX).numpy())
        file.voxel_size = 0.0
    said = "has 30 voxels .* particles have 40 pixels.*does not state its"
    with pytest.raises(InputError, match=said):
        load_reference(tmp_path / "map.mrc", "volume", *grids())


def test_one_angstrom_is_true_where_nothing_else_tells(tmp_path, caplog) -> None:
    """A map of 80 voxels of 1 Å, which fill the 40 pixels of 2 Å."""
    caplog.set_level("INFO")
    write_volume(tmp_path / "fine.mrc", blobs(80, 1.0), 1.0)
    found = load_reference(tmp_path / "fine.mrc", "volume", *grids())
    assert agrees(found, blobs(BOX, PX))
    assert "fine.mrc states exactly 1 Å per voxel" in caplog.text
    assert "taken as true, as nothing else tells" in caplog.text
    write_volume(tmp_path / "small.mrc", blobs(30, PX), 1.0)  # 30 Å beside 80 Å: it cannot be
    with pytest.raises(InputError, match=r"has 30 voxels.* particles have 40 pixels.*says 1 Å per"):
        load_reference(tmp_path / "small.mrc", "volume", *grids())


@pytest.mark.parametrize(
    ("stated", "said"),
    [(0.0, "does not state its pixel size; 2 Å"), (1.0, "states 1 Å per voxel,")],
)
def test_the_box_of_the_particles_tells_more_than_a_doubtful_header(
    tmp_path, caplog, stated: float, said: str
) -> None:
    caplog.set_level("INFO")
    with mrcfile.new(tmp_path / "same.mrc") as file:
        file.set_data(blobs(BOX, PX).numpy())
        file.voxel_size = stated
    found = load_reference(tmp_path / "same.mrc", "volume", *grids())
    assert said in caplog.text and "2 Å is assumed, as its box is theirs" in caplog.text
    assert torch.equal(found, blobs(BOX, PX))
    assert torch.equal(load_reference(tmp_path / "same.mrc", "volume", *grids()), blobs(BOX, PX))


def test_a_map_that_lies_elsewhere_is_refused_and_a_cut_is_spoken_of(tmp_path, caplog) -> None:
    write_volume(tmp_path / "map.mrc", blobs(32, PX), PX, (300.0, 0.0, 0.0))
    with pytest.raises(InputError, match=r"lies \(292, -8, -8\) Å from the middle.*100% of it"):
        load_reference(tmp_path / "map.mrc", "volume", *grids())
    write_volume(tmp_path / "map.mrc", blobs(BOX, PX), PX)
    load_reference(tmp_path / "map.mrc", "volume", *grids(15))
    assert "of the strong density of volume=" in caplog.text and "is cut off" in caplog.text
