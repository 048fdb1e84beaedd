"""Mixtures: which particle shows what, what junk looks like, and equal signal-to-noise ratios."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
import torch

from cryotorch.data.mrc import read_volume, write_volume
from cryotorch.data.particle_file import read_particles
from cryotorch.data.star import read_star
from cryotorch.errors import InputError
from cryotorch.jobs import simulate
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.simulation.mixture import (
    BLOBS,
    FIRST,
    NEIGHBOUR_PLACES,
    NEIGHBOURS,
    NOISE,
    SECOND,
    SPECIES,
    moved_off,
)
from cryotorch.jobs.simulation.particles import signal_spectra
from cryotorch.ops.fourier.slices import projector
from cryotorch.ops.fourier.transforms import half_plane, pack, unpack

BOX, PIXEL, N = 32, 5.0, 200


def make(out: Path, **changes: Any) -> Path:
    given = dict(box_size=BOX, pixel_size=PIXEL, n_particles=N, minibatch_size=64, snr=None)
    return simulate.run(make_settings("simulate", out=str(out), **{**given, **changes}))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Two molecules as files, the second on another grey scale."""
    folder = tmp_path_factory.mktemp("molecules")
    x = torch.arange(BOX) - BOX // 2
    for name, widths, grey in (("first", (3.0, 4.0, 6.0), 1.0), ("second", (2.0, 5.0, 2.0), 50.0)):
        square = [(x / width) ** 2 for width in widths]
        total = square[0][:, None, None] + square[1][:, None] + square[2]
        write_volume(folder / f"{name}.mrc", grey * torch.exp(-total / 2), PIXEL)
    return dict(source=str(folder / "first.mrc"), second_species=str(folder / "second.mrc"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, files: dict[str, str]) -> Path:
    """A fifth is junk, a quarter of the rest the second species."""
    out = tmp_path_factory.mktemp("mixture") / "set"
    return make(out, **files, second_species_share=0.25, junk_share=0.2)


def species(folder: Path, name: str = "particles.star") -> np.ndarray:
    return read_star(folder / name)["particles"][SPECIES].astype(int)


def images(folder: Path) -> torch.Tensor:
    with mrcfile.open(folder / "particles.mrcs") as file:
        return torch.from_numpy(file.data.copy()).float()


def test_shares_are_those_asked_for_and_stand_in_both_tables(made: Path) -> None:
    kind = species(made)
    counts = [int((kind == which).sum()) for which in range(FIRST, NEIGHBOURS + 1)]
    assert counts == [120, 40, 13, 13, 14]
    assert np.array_equal(kind, species(made, "truth.star"))
    assert (made / simulate.SPECIES_FILE).exists()
    assert 0 < int((kind[:100] == SECOND).sum()) < 40  # in no order


def test_particles_show_what_their_species_says(made: Path) -> None:
    kind, seen = species(made), images(made)
    truth = read_particles(made / "truth.star").particles
    for which, name in ((FIRST, "truth.mrc"), (SECOND, simulate.SPECIES_FILE)):
        rows = torch.from_numpy(np.flatnonzero(kind == which))
        volume, _ = read_volume(made / name)
        expected = unpack(signal_spectra(projector(volume), truth, rows), BOX)
        torch.testing.assert_close(seen[rows], expected, atol=1e-4, rtol=1e-3)
        # without noise the signal has variance 1, whatever the grey scale of the file
        assert float(expected.square().mean()) == pytest.approx(1, abs=0.2)  # of few
    assert float(seen[torch.from_numpy(kind == NOISE)].abs().max()) == 0


def test_blobs_are_smooth_and_differ_from_image_to_image(made: Path) -> None:
    blobs = images(made)[torch.from_numpy(species(made) == BLOBS)]
    torch.testing.assert_close(blobs.square().mean((1, 2)), torch.ones(13), atol=1e-3, rtol=0)
    power = pack(blobs).abs().square()
    assert float(power[:, : half_plane(BOX).count(8)].sum() / power.sum()) > 0.9
    alike = torch.corrcoef(blobs.flatten(1)) - torch.eye(13)
    assert float(alike.abs().median()) < 0.5 and float(alike.max()) < 0.99


def test_neighbours_are_two_molecules_beside_the_middle(made: Path) -> None:
    """Less signal than in the middle of the others, more towards the edge, none of it around the other end."""
    kind, seen = torch.from_numpy(species(made)), images(made)
    x = torch.arange(BOX) - BOX // 2
    radius = (x[:, None] ** 2 + x**2).sqrt()
    middle, outside = radius < 0.15 * BOX, radius > 0.25 * BOX
    power = [seen[kind == which].square() for which in (NEIGHBOURS, FIRST)]
    inner, outer = ([float(p[:, where].mean()) for p in power] for where in (middle, outside))
    assert inner[0] < 0.5 * inner[1] and outer[0] > 2 * outer[1]
    assert NEIGHBOUR_PLACES[0] > 0.25


def test_what_is_moved_out_of_the_box_is_lost() -> None:
    image = torch.arange(12.0).view(1, 1, 12).expand(2, 12, 12)
    moved = moved_off(image, torch.tensor([[3, 0], [-2, 5]]))
    assert moved[0, 4].tolist() == [0, 0, 0, *range(9)]
    assert moved[1, 7].tolist() == [*range(2, 12), 0, 0]
    assert float(moved[1, :5].abs().max()) == 0


def test_junk_alone_needs_no_second_species(files: dict[str, str], tmp_path: Path) -> None:
    folder = make(tmp_path / "junk", source=files["source"], junk_share=0.1)
    assert set(species(folder)) == {FIRST, NOISE, BLOBS, NEIGHBOURS}
    assert not (folder / simulate.SPECIES_FILE).exists()
    plain = make(tmp_path / "plain", source=files["source"])
    assert SPECIES not in read_star(plain / "particles.star")["particles"]
    # the same poses, whatever the junk
    rotations = [read_particles(f / "truth.star").particles.rotation for f in (folder, plain)]
    torch.testing.assert_close(*rotations)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (dict(second_body="phantom"), "second_species=.*either a second body or a second species"),
        (dict(junk_share=1), "junk_share=1 .*some of the particles must show a molecule"),
        (dict(junk_share=-0.1), "junk_share"),
        (dict(second_species="gone.mrc"), "gone.mrc"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(
    files: dict[str, str], tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        make(tmp_path / "out", **{**files, **changes})
    assert not (tmp_path / "out").exists()
