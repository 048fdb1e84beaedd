"""Maps and models that lie elsewhere come into place on another map."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import gemmi
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from cryotorch.data.mrc import read_volume, write_volume
from cryotorch.ops.fourier.transforms import resize_volume
from cryotorch.ops.geometry.symmetry import move_volume, point_group
from cryotorch.ops.models.phantom import phantom
from cryotorch.ops.resolution.fsc import shell_correlation

BOX, PX = 40, 4.0
TURN = torch.from_numpy(Rotation.from_rotvec([0.7, -1.1, 1.9]).as_matrix())


@lru_cache
def molecule() -> torch.Tensor:
    return phantom(BOX, PX, point_group("C1"))


def reference(folder: Path) -> str:
    """A map whose header has an origin."""
    write_volume(folder / "reference.mrc", molecule(), PX, (-30.0, 20.0, 5.0))
    return str(folder / "reference.mrc")


def matrix_of(folder: Path) -> tuple[np.ndarray, np.ndarray, dict]:
    found = json.loads((folder / "fit.json").read_text())
    return np.array(found["matrix"]), np.array(found["translation"]), found


def test_a_map_of_other_voxels_origin_and_hand_lies_on_the_reference(
    tmp_path: Path, edit: Callable
) -> None:
    shift = torch.tensor([6.0, -9.0, 4.0])
    other = move_volume(molecule(), PX, -TURN, shift, 54, 3.2)
    write_volume(tmp_path / "other.mrc", other, 3.2, (100.0, 50.0, -70.0))
    onto = reference(tmp_path)
    found, summary = edit(tmp_path / "out", volume=str(tmp_path / "other.mrc"), fit=onto)
    curve = shell_correlation(found, molecule())
    assert float(curve[: BOX // 3].min()) > 0.98
    assert summary["corner"] == pytest.approx([-30, 20, 5]) and summary["box"] == BOX
    matrix, translation, told = matrix_of(tmp_path / "out")
    # a place of the reference, there and back: x_other = -TURN x + shift from the middles
    place = np.array([7.0, 11.0, -3.0])
    middle, own = np.array([50.0, 100.0, 85.0]), np.array([186.4, 136.4, 16.4])
    there = -TURN.numpy() @ place + shift.numpy() + own
    assert matrix @ there + translation == pytest.approx(place + middle, abs=0.3)
    assert told["mirrored"] and told["chimerax"] is None
    assert told["correlation"] > 0.97 > 0.6 > told["correlation_of_other_hand"]
    assert not summary["warnings"]


def test_the_wrong_hand_is_told_to_be_doubtful(tmp_path: Path, edit: Callable) -> None:
    other = move_volume(molecule(), PX, -TURN, torch.zeros(3), BOX, PX)
    write_volume(tmp_path / "other.mrc", other, PX)
    settings = dict(volume=str(tmp_path / "other.mrc"), fit=reference(tmp_path), fit_hand="same")
    _, summary = edit(tmp_path / "out", **settings, fit_resolution=20)
    assert "is not the only one" in " ".join(map(str, summary["warnings"]))
    assert not summary["fit"]["mirrored"]


def test_a_model_is_put_into_a_map_and_keeps_its_hand(
    tmp_path: Path, edit: Callable, shared_data: Path
) -> None:
    """A real model against its own density by gemmi, in a random place and turned."""
    source = shared_data / "real/3sn6.pdb.gz"
    structure = gemmi.read_structure(str(source))
    structure.remove_waters()
    place = np.array([f.atom.pos.tolist() for f in structure[0].all()])
    middle = place.mean(0)
    moved = (place - middle) @ TURN.numpy().T
    grid, _ = np.histogramdd(moved[:, ::-1], bins=64, range=[(-98, 94)] * 3)
    k = torch.fft.fftfreq(64)
    radius = k[:, None, None] ** 2 + k[:, None] ** 2 + k**2
    soft = torch.fft.ifftn(torch.fft.fftn(torch.from_numpy(grid)) * torch.exp(-30 * radius)).real
    write_volume(tmp_path / "map.mrc", soft.float(), 3.0)
    write_volume(tmp_path / "mirror.mrc", soft.float().flip(0), 3.0)
    _, summary = edit(tmp_path / "out", volume=str(source), fit=str(tmp_path / "map.mrc"))
    fitted = gemmi.read_structure(str(tmp_path / "out/fitted.pdb"))
    fitted.remove_waters()
    found = np.array([f.atom.pos.tolist() for f in fitted[0].all()])
    # the first bin reaches from -98 to -95 Å: its middle is the place of voxel 0
    assert np.linalg.norm(found - (moved + 96.5), axis=1).max() < 1.0
    assert summary["fit"]["correlation"] > 0.95 and not summary["warnings"]
    assert summary["fit"]["chimerax"].startswith("view matrix models #1,")
    _, summary = edit(tmp_path / "other", volume=str(source), fit=str(tmp_path / "mirror.mrc"))
    assert "mirror image" in " ".join(map(str, summary["warnings"]))


def test_what_does_not_go_with_a_fit_is_refused(tmp_path: Path, refused: Callable) -> None:
    onto = reference(tmp_path)
    settings = dict(volume=onto, fit=onto)
    assert "gives the grid already" in refused(tmp_path, **settings, like=onto)
    assert "at least two pixels" in refused(tmp_path, **settings, fit_resolution=5)
    write_volume(tmp_path / "flat.mrc", torch.zeros(16, 16, 16), PX)
    assert "blank" in refused(tmp_path, volume=onto, fit=str(tmp_path / "flat.mrc"))
    assert "leave center out" in refused(tmp_path, **settings, center=True)


def test_the_moved_map_goes_on_through_the_other_steps(tmp_path: Path, edit: Callable) -> None:
    onto = reference(tmp_path)
    mask, summary = edit(tmp_path / "out", volume=onto, fit=onto, threshold=0.3, soften=8)
    assert summary["result"] == "mask.mrc" and float(mask.max()) == 1
    assert read_volume(tmp_path / "out/mask.mrc")[1] == pytest.approx(PX)


def test_no_agreement_is_told_beyond_what_the_moved_map_holds(
    tmp_path: Path, edit: Callable
) -> None:
    """A map of twice the voxel size: its outline alone would agree with the reference far beyond its Nyquist frequency."""
    coarse = resize_volume(molecule(), BOX // 2)
    write_volume(tmp_path / "coarse.mrc", coarse, 2 * PX)
    edit(tmp_path / "out", volume=str(tmp_path / "coarse.mrc"), fit=reference(tmp_path))
    found = matrix_of(tmp_path / "out")[2]["fsc_0.5_resolution"]
    assert 4 * PX <= found < 5 * PX
