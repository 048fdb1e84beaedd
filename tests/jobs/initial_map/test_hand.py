"""The hand of maps and poses: that of a map, a run or an atomic model, or none that is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cryotorch.data.atoms import density, read_atoms
from cryotorch.data.mrc import read_volume, write_volume
from cryotorch.errors import InputError
from cryotorch.jobs.initial_map.hand import known_hand, with_hand
from cryotorch.ops.geometry.map_fit import fit_map
from cryotorch.ops.geometry.placement import flip_hand
from cryotorch.ops.geometry.rotations import random_rotations

PIXEL = 6.0


def with_like(begun: Any, like: Path) -> Any:
    inputs = replace(begun.inputs, settings=replace(begun.inputs.settings, like=str(like)))
    return with_hand(begun.made, inputs)


def test_like_picks_the_hand_of_map_and_poses(begun: Any, tmp_path: Path) -> None:
    truth, _ = read_volume(begun.data / "truth.mrc")
    write_volume(tmp_path / "mirror.mrc", flip_hand(truth), PIXEL)
    a = with_like(begun, begun.data / "truth.mrc")
    b = with_like(begun, tmp_path / "mirror.mrc")
    for made, wanted in ((a, truth), (b, flip_hand(truth))):
        fit = fit_map(made.maps[0], wanted, PIXEL, 15.0)
        assert not fit.mirrored and made.fit[0] > 0.95 and made.fit[1] < 0.8
        assert "hand_fitted" in [finding.code for finding in made.findings]
    assert torch.equal(a.maps, torch.stack([flip_hand(volume) for volume in b.maps]))
    sign = torch.tensor([-1.0, -1, 1])[:, None]
    assert torch.equal(a.found.rotation, sign * b.found.rotation)
    assert torch.equal(a.found.shift_px, b.found.shift_px)


def test_without_like_the_hand_is_said_to_be_unknown(begun: Any) -> None:
    assert begun.made.fit is None and begun.summary["fit"] is None
    assert "either_hand" in [finding.code for finding in begun.made.findings]
    assert "cannot tell the hand" in (begun.out / "log.txt").read_text()


def test_the_folder_of_a_run_is_like(begun: Any) -> None:
    made = with_like(begun, begun.out)
    assert made.fit[0] > 0.99 and torch.equal(made.maps, begun.made.maps)


@pytest.mark.parametrize(
    ("values", "pixel_size", "said"),
    [
        (torch.zeros(24, 24, 24), PIXEL, "like=.* is blank"),
        (torch.randn(24, 24, 24), 0.0, "like=.* does not state its pixel size"),
    ],
    ids=["blank", "no pixel size"],
)
def test_a_map_that_cannot_be_like(
    begun: Any, tmp_path: Path, values: torch.Tensor, pixel_size: float, said: str
) -> None:
    write_volume(tmp_path / "like.mrc", values, pixel_size)
    with pytest.raises(InputError, match=said):
        with_like(begun, tmp_path / "like.mrc")
    with pytest.raises(InputError, match=r"like=.* holds no map"):
        with_like(begun, tmp_path.parent)


ATOM = "ATOM  {:5}  CA  ALA A{:4}    {:8.3f}{:8.3f}{:8.3f}  1.00 40.00           C\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chain of 150 atoms that wanders in a ball, far from the origin of its coordinates."""
    step = 4 * torch.randn(150, 3, generator=torch.Generator().manual_seed(2))
    place = torch.zeros(3)
    path, lines = tmp_path_factory.mktemp("model") / "chain.pdb", []
    for number, move in enumerate(step, 1):
        place = 0.97 * (place + move)
        lines.append(ATOM.format(number, number, *(place + torch.tensor([90.0, 20, -40])).tolist()))
    path.write_text("".join(lines))
    return path


def test_a_model_picks_the_hand(begun: Any, model: Path) -> None:
    """Of a map of its atoms and of its mirror image, turned."""
    turn = random_rotations(1, torch.Generator().manual_seed(1))[0]
    atoms = read_atoms(model)
    volume = density(replace(atoms, position=atoms.position @ turn.mT), 24, PIXEL, 15.0)
    settings = replace(begun.inputs.settings, model=str(model))
    inputs = replace(begun.inputs, settings=settings)
    for given, mirrored in ((volume, False), (flip_hand(volume), True)):
        made = with_hand(replace(begun.made, maps=given[None]), inputs)
        said = next(f for f in made.findings if f.code == "hand_fitted")
        assert (said["mirrored"], said["given"]) == (mirrored, "model")
        assert made.fit is not None and made.fit[0] > 0.95 and made.fit[1] < 0.85
        torch.testing.assert_close(made.maps[0], volume)


def test_map_and_model_are_told_apart(begun: Any, model: Path, tmp_path: Path) -> None:
    both = dict(like=str(begun.out), model=str(model))
    with pytest.raises(InputError, match=r"model=.* cannot be used: like=.*give one of both"):
        replace(begun.inputs.settings, **both)
    with pytest.raises(InputError, match=r"like=.*\.pdb is an atomic model: give it as model="):
        with_like(begun, model)
    settings = replace(begun.inputs.settings, model=str(begun.out / "map.mrc"))
    with pytest.raises(InputError, match=r"model=.*map\.mrc is no PDB .* given as like="):
        known_hand(replace(begun.inputs, settings=settings))
    (tmp_path / "empty.pdb").write_text("END\n")
    settings = replace(settings, model=str(tmp_path / "empty.pdb"))
    with pytest.raises(InputError, match=r"empty\.pdb holds no atoms"):
        known_hand(replace(begun.inputs, settings=settings))
