"""A first map from Python is that of the job, without its files."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

import cryotorch as ct
from cryotorch.data.mrc import read_volume
from cryotorch.jobs import ab_initio
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.initial_map import inputs
from cryotorch.ops.geometry.placement import flip_hand
from cryotorch.refinement.ab_initio.settings import AbInitioSettings


def test_a_first_map_is_that_of_the_job(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        inputs, "AbInitioSettings", partial(AbInitioSettings, soft_steps=4, passes=1)
    )
    monkeypatch.chdir(tmp_path)
    given = dict(n_starts=1, minibatch_size=50, initial_resolution=40, final_resolution=15)
    given |= dict(device="cpu", box_size=24)
    particles = folder / "particles.star"
    like = ct.read_map(folder / "truth.mrc")
    found = ct.ab_initio(ct.read_particles(particles), like, **given)
    assert not list(tmp_path.iterdir())  # no files unless asked
    names = dict(particles=str(particles), like=str(folder / "truth.mrc"))
    ab_initio.run(make_settings("ab_initio", out="job", **names, **given))
    found.save("saved")
    assert torch.equal(found.map, read_volume(Path("job/map.mrc"))[0])
    for name in ("map.mrc", "map_other_hand.mrc", "particles.star"):
        assert Path("saved", name).read_bytes() == Path("job", name).read_bytes()
    assert "<tensor>" in Path("saved/config.yaml").read_text()
    assert found.fit is not None and found.share.shape == (len(found.particles), 1)
    assert found.pixel_size == pytest.approx(read_volume(Path("job/map.mrc"))[1])
    other = ct.ab_initio(particles, flip_hand(like.volume), like.pixel_size, **given)
    assert torch.equal(flip_hand(other.map), found.map)
    with pytest.raises(ct.InputError, match="out cannot be used here"):
        ct.ab_initio(particles, out="here")
