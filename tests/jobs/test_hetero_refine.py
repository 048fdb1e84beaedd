"""Classes with a pose search: all that the job leaves, whether maps, poses and classes belong together, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cryotorch.data.mrc import read_volume, write_volume
from cryotorch.data.star import read_star
from cryotorch.errors import InputError
from cryotorch.jobs import hetero_refine, reconstruct, simulate
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.pages.write import PAGES
from cryotorch.ops.resolution.fsc import shell_correlation

BOX, PIXEL, N = 24, 6.0, 240
HOW: dict[str, Any] = dict(
    initial_resolution=30, final_resolution=15, max_passes=5, n_starts=1, device="cpu"
)


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two species with junk among them, the maps of both of another grey scale."""
    folder = tmp_path_factory.mktemp("mixture") / "set"
    about = dict(box_size=BOX, pixel_size=PIXEL, n_particles=N, snr=2.0, shift_sigma=3)
    species = dict(second_species="phantom", junk_share=0.25, seed=1)
    simulate.run(make_settings("simulate", out=str(folder), **about, **species))
    for number, name in enumerate(("truth", "truth_species2"), 1):
        volume, _ = read_volume(folder / f"{name}.mrc")
        write_volume(folder / f"map_class_{number}.mrc", 50 * volume, PIXEL)
    return folder


@pytest.fixture(scope="module")
def made(mixture: Path) -> Path:
    out = mixture.parent / "out"
    given = dict(particles=str(mixture / "particles.star"), volume=str(mixture), junk=1)
    return hetero_refine.run(make_settings("hetero_refine", out=str(out), **given, **HOW))


def test_all_files_and_no_others(made: Path) -> None:
    names = {path.name for path in made.iterdir() if path.is_file()}
    of_each = ("map_class_{}.mrc", "half_a_class_{}.mrc", "half_b_class_{}.mrc")
    lists = ("fsc_class_{}.txt", "particles_class_{}.star")
    expected = {name.format(k) for name in of_each + lists for k in (1, 2)}
    expected |= {"particles.star", "particles_junk.star", "classes.png", "class_flow.png"}
    assert names == expected | {"config.yaml", "log.txt", "manifest.json", "summary.json", *PAGES}
    assert list((made / "tensorboard").iterdir())


def test_species_and_junk_are_told_apart(made: Path, mixture: Path) -> None:
    table = read_star(made / "particles.star")["particles"]
    found = table.integers("rlnClassNumber")
    species = table.integers("cryotorchSpecies")
    for number in (1, 2):
        assert np.mean(found[species == number] == number) > 0.95
    assert np.mean(found[species >= 3] == 3) > 0.9
    shares = sum(table.floats(f"cryotorchClassPosterior{k}") for k in (1, 2, 3))
    assert np.allclose(shares, 1, atol=1e-4)
    summary = json.loads((made / "summary.json").read_text())
    assert summary["junk"] == pytest.approx(np.mean(found == 3))
    assert (
        summary["lead_standard_errors"] > 2
    )  # of 4.5 that so few images can give, see ``verdict``
    rows = [read_star(made / f"particles_{name}.star")["particles"].rows for name in
            ("class_1", "class_2", "junk")]  # fmt: skip
    assert rows == [int(np.sum(found == k)) for k in (1, 2, 3)]
    assert "junk: " in (made / "log.txt").read_text()


def test_maps_are_those_of_the_species(made: Path, mixture: Path) -> None:
    for number in (1, 2):
        volume, _ = read_volume(made / f"map_class_{number}.mrc")
        truth, _ = read_volume(mixture / f"map_class_{number}.mrc")
        assert float(shell_correlation(volume, truth)[1:6].min()) > 0.8


def test_half_maps_are_of_the_particles_at_their_poses(made: Path) -> None:
    """``reconstruct`` makes the same of the list of a class."""
    out = made.parent / "again"
    given = dict(particles=str(made / "particles_class_1.star"), out=str(out), padding=2)
    reconstruct.run(make_settings("reconstruct", **given, device="cpu"))
    halves = [read_volume(made / f"half_{half}_class_1.mrc")[0] for half in "ab"]
    again = [read_volume(out / f"map_half_{half}.mrc")[0] for half in "AB"]
    for one, other in zip(halves, again, strict=True):
        assert float(shell_correlation(one, other)[1:8].min()) > 0.9
    shared = read_star(made / "particles.star")["particles"].floats("cryotorchSharedResolution")
    assert np.allclose(shared, 30, atol=1)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (dict(particles=None), "job=hetero_refine needs particles"),
        (dict(volume=None), "volume=null cannot be used: name the maps"),
        (dict(n_classes=3), "n_classes=3 cannot be used: volume names 2 maps"),
        (dict(volume="truth.mrc"), "one class divides nothing: add n_classes=2, or junk=1"),
        (dict(volume="truth.mrc", n_classes=9), "240 images make 4 classes at most"),
        (dict(mask_mode="static"), "mask_mode=static cannot be used: it needs a mask"),
        (dict(mask="truth.mrc"), "add mask_mode=static"),
        (dict(final_resolution=40), "finer than initial_resolution=30"),
        (dict(final_resolution=11), "final_resolution=11 .*end at 12 Å"),
        (dict(symmetry="Q7"), "symmetry=Q7 cannot"),
        (dict(invert=True, normalize=False), "correlate better with the inverted initial maps"),
    ],
    ids=str,
)
def test_what_does_not_fit_ends_in_a_sentence(
    mixture: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    given = dict(particles=str(mixture / "particles.star"), volume=str(mixture)) | HOW | changes
    for name in ("volume", "mask"):
        if given.get(name) == "truth.mrc":
            given[name] = str(mixture / "truth.mrc")
    with pytest.raises(InputError, match=said) as caught:
        hetero_refine.run(make_settings("hetero_refine", out=str(tmp_path / "out"), **given))
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_a_run_that_has_finished_says_so(made: Path, mixture: Path) -> None:
    given = dict(particles=str(mixture / "particles.star"), volume=str(mixture), junk=1)
    before = (made / "particles.star").read_bytes()
    settings = make_settings("hetero_refine", out=str(made), resume=True, **given, **HOW)
    hetero_refine.run(settings)
    assert (made / "particles.star").read_bytes() == before
