from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch

from cryotorch.data.half_sets import shared_resolution
from cryotorch.data.mrc import write_stack
from cryotorch.data.particle_file import read_particles
from cryotorch.errors import InputError
from cryotorch.ops.geometry.rotations import rotation_angle
from cryotorch.report.outputs import write_outputs
from cryotorch.results import IterationResult

MAPS = ("map", "map_sharp", "map_half_A", "map_half_B", "mask_refine", "mask_fsc", "map_cutoff")


def test_all_files_are_there_and_hold_the_result(result: IterationResult, tmp_path: Path) -> None:
    paths = write_outputs(tmp_path, result, extras={"device": "test"})
    expected = {f"{name}.mrc" for name in MAPS} | {f"fsc_{n}.xml" for n in result.curves}
    expected |= {"fsc.txt", "fsc_iterations.txt", "orientations.bild", "summary.json"}
    assert {p.name for p in paths} == expected == {p.name for p in tmp_path.iterdir()}
    assert paths[-1].name == "summary.json"
    volumes = dict(zip(MAPS, (result.map, result.map_sharp, *result.half_maps)))
    for name, volume in volumes.items():
        with mrcfile.open(tmp_path / f"{name}.mrc") as file:
            np.testing.assert_array_equal(file.data, volume.numpy())
            assert float(file.voxel_size.x) == pytest.approx(2.5)
    assert json.loads((tmp_path / "summary.json").read_text())["device"] == "test"


def test_a_mask_that_is_gone_leaves_no_file(result: IterationResult, tmp_path: Path) -> None:
    write_outputs(tmp_path, result)
    paths = write_outputs(tmp_path, replace(result, mask_refine=None))
    assert not (tmp_path / "mask_refine.mrc").exists()
    assert tmp_path / "mask_refine.mrc" not in paths


def test_particles_keep_their_columns_and_take_the_new_poses(make, tmp_path: Path) -> None:
    result = make(n=6)
    write_stack(tmp_path / "p.mrcs", [torch.zeros(6, 8, 8)], 6, 8, 2.5)
    rows = "\n".join(f"{i + 1}@p.mrcs 1 {10000 + i} 10000 0 note{i}" for i in range(6))
    (tmp_path / "in.star").write_text(
        "data_optics\n\nloop_\n_rlnOpticsGroup\n_rlnVoltage\n_rlnSphericalAberration\n"
        "_rlnAmplitudeContrast\n_rlnImagePixelSize\n_rlnImageSize\n1 300 2.7 0.1 2.5 8\n\n"
        "data_particles\n\nloop_\n_rlnImageName\n_rlnOpticsGroup\n_rlnDefocusU\n_rlnDefocusV\n"
        f"_rlnDefocusAngle\n_myNote\n{rows}\n"
    )
    source = read_particles(tmp_path / "in.star")
    particles = result.particles.replace(address=source.particles.address)
    probability = torch.linspace(0, 1, 6)
    told = replace(result, particles=particles, shared=4.0, probability=probability)
    write_outputs(tmp_path, told, source, formats=["star", "cs"])
    for ending in ("star", "cs"):
        table = read_particles(tmp_path / f"particles.{ending}").tables["particles"]
        edge = result.map.shape[-1] * 2.5
        assert shared_resolution(table, tmp_path) == pytest.approx(edge / 4, abs=1e-4)
        found = table.floats("cryotorchParticleProbability", tmp_path)
        assert found.tolist() == pytest.approx(probability.tolist(), abs=1e-4)
        again = replace(told, probability=None)
        write_outputs(tmp_path, again, read_particles(tmp_path / f"particles.{ending}"))
        assert "cryotorchParticleProbability" not in (tmp_path / "particles.star").read_text()
    back = read_particles(tmp_path / "particles.star")
    assert list(back.tables["particles"]["myNote"]) == [f"note{i}" for i in range(6)]
    assert rotation_angle(back.particles.rotation, particles.rotation).max() < 1e-3
    torch.testing.assert_close(back.particles.half, particles.half)


def test_a_folder_that_is_not_there_is_named(result: IterationResult, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        write_outputs(tmp_path / "nowhere", result)
