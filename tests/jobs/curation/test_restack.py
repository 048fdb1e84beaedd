"""New stacks hold the images of the list, each once."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pytest

from cryotorch.data.mrc import write_stack
from cryotorch.data.particle_file import write_tables
from cryotorch.data.stacks import Stacks
from cryotorch.errors import InputError
from cryotorch.jobs.curation import restack
from cryotorch.jobs.curation.particle_list import read_list
from cryotorch.jobs.curation.restack import restacked


@pytest.fixture
def images(make_list, tmp_path: Path):
    """A list of 30 particles in 3 stacks, the last of another box, and the pixels of each."""
    draw, made = np.random.default_rng(0), []
    (tmp_path / "Extract").mkdir()
    for number in range(3):
        box = 16 if number == 2 else 20
        made.append(draw.normal(size=(10, box, box)).astype(np.float32))
        write_stack(tmp_path / f"Extract/m{number}.mrcs", [made[-1]], 10, box, 1.5)
    two = {"rlnOpticsGroup": ["1", "2"], "rlnImageSize": ["20", "16"]}
    two["rlnImagePixelSize"] = ["1.5", "2.0"]
    make_list(optics=two, rlnOpticsGroup=[1] * 20 + [2] * 10)
    return read_list(str(tmp_path / "a.star"))[0], [image for part in made for image in part]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_every_row_leads_to_its_image(images, tmp_path: Path, dtype: str) -> None:
    some, pixels = images
    rows = np.array([29, 3, 3, 25, 14, 0, 29, 11])  # in any order, some twice
    (tmp_path / "new").mkdir()
    made, names = restacked(some.taken(rows), tmp_path / "new", "particles", dtype, 3)
    assert names == ["particles_001.mrcs", "particles_002.mrcs", "particles_003.mrcs"]
    stacks = Stacks([tmp_path / "new" / name for name in names])
    assert stacks.counts.tolist() == [2, 3, 1] and stacks.boxes.tolist() == [16, 20, 20]
    for row, text in zip(rows, made.table["rlnImageName"].tolist(), strict=True):
        number, _, name = text.partition("@")
        with mrcfile.open(tmp_path / "new" / name) as file:
            assert np.array_equal(
                file.data.reshape(-1, *file.data.shape[-2:])[int(number) - 1],
                pixels[row].astype(dtype),
            )
            assert file.voxel_size.x == (2.0 if row >= 20 else 1.5)
    write_tables(tmp_path / "new" / "particles.star", made.tables)
    again = read_list(str(tmp_path / "new" / "particles.star"))[0]
    assert again.image_code()[0] == again.image_code()[6]
    assert len(np.unique(again.image_code())) == 6
    assert again.table["someoneElsesColumn"].tolist() == [f"word{i}" for i in rows]


def test_a_missing_stack_is_one_sentence(images, tmp_path: Path) -> None:
    (tmp_path / "Extract" / "m1.mrcs").unlink()
    some = read_list(str(tmp_path / "a.star"))[0]
    with pytest.raises(InputError, match=r"Image stack Extract/m1.mrcs of .*a.star does not exist"):
        restacked(some, tmp_path, "particles", "float32", 100)
    left, names = restacked(some.taken(np.arange(10)), tmp_path, "particles", "float32", 100)
    assert names == ["particles.mrcs"] and len(left) == 10


def test_what_does_not_fit_into_float16_is_refused(make_list, tmp_path: Path) -> None:
    (tmp_path / "Extract").mkdir()
    write_stack(tmp_path / "Extract/m0.mrcs", [np.full((10, 20, 20), 1e6)], 10, 20, 1.5)
    make_list(10)
    some = read_list(str(tmp_path / "a.star"))[0]
    with pytest.raises(InputError, match="do not fit into float16"):
        restacked(some, tmp_path, "particles", "float16", 100)
    assert not (tmp_path / "particles.mrcs").exists()


def test_what_was_not_written_well_is_seen(images, tmp_path: Path, monkeypatch) -> None:
    some, _ = images

    def spoiled(path, *given) -> None:
        write_stack(path, *given)
        with open(path, "r+b") as file:
            file.seek(1024 + 5000)
            file.write(b"\0\0\0\0")

    monkeypatch.setattr(restack, "write_stack", spoiled)
    with pytest.raises(InputError, match="does not hold what was written"):
        restacked(some, tmp_path, "particles", "float32", 100)
    assert Stacks([tmp_path / "Extract/m0.mrcs"]).counts.tolist() == [10]
