"""Classes, judged: what is claimed, what is said, and that one state is not shown as two."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cryotorch.data.mrc import read_volume
from cryotorch.data.particle_file import ParticleFile, read_particles
from cryotorch.findings import Finding
from cryotorch.jobs import simulate
from cryotorch.jobs.classification3d import results
from cryotorch.jobs.classification3d.results import Found, alike, judge_classes, write
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.ops.models.phantom import phantom
from cryotorch.ops.resolution.claims import Background
from cryotorch.refinement.class_shares import agreement
from cryotorch.refinement.half_sets import draw_half_sets
from cryotorch.refinement.hetero.verdict import Verdict

N, BOX, PIXEL = 40, 32, 4.0


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> ParticleFile:
    out = tmp_path_factory.mktemp("data") / "set"
    few = dict(box_size=BOX, pixel_size=PIXEL, n_particles=N, snr=1.0)
    return read_particles(
        simulate.run(make_settings("simulate", out=str(out), **few)) / "truth.star"
    )


@pytest.fixture(scope="module")
def molecules() -> Tensor:
    """(2, d, d, d), of standard deviation 1."""
    made = torch.stack([phantom(BOX, PIXEL, torch.eye(3)[None], seed) for seed in (0, 1)])
    return made / made.std((1, 2, 3), keepdim=True)


def found_of(file: ParticleFile, maps: Tensor, lead: float) -> Found:
    noise = torch.randn(2, *maps.shape, generator=torch.Generator().manual_seed(0))
    state = torch.arange(N) % 3 == 0
    share = torch.where(state[:, None], torch.tensor([0.1, 0.9]), torch.tensor([0.8, 0.2]))
    particles = file.particles.replace(half=draw_half_sets(N, 0))
    return Found(
        halves=maps + 0.3 * noise,
        pixel_size=PIXEL,
        share=share,
        file=file,
        particles=particles,
        known=Background(torch.eye(3)[None], BOX * PIXEL / 30, 15.5),
        shared=30.0,
        verdict=Verdict(0.1 * lead, lead, 8),
        agreements=[agreement(state.long(), state.long(), 2)],
        shares=torch.tensor([[0.5, 0.5], [0.65, 0.35]]),
        changed=torch.tensor([0.3, 0.0]),
        most_passes=2,
    )


def test_maps_are_alike_where_they_differ_no_more_than_their_halves(molecules: Tensor) -> None:
    noise = 0.3 * torch.randn(2, 2, BOX, BOX, BOX, generator=torch.Generator().manual_seed(1))
    same = molecules[0] + noise
    assert alike(same[:, 0], same[:, 1])
    other = molecules + noise
    assert not alike(other[:, 0], other[:, 1])


@pytest.mark.drawn
def test_what_is_seen_is_written(file: ParticleFile, molecules: Tensor, tmp_path: Path) -> None:
    result = judge_classes(found_of(file, molecules, 9.0), torch.device("cpu"), 0)
    write(tmp_path, tmp_path, result, ["star", "cs"], {"seed": 0})
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["second_state"] is True and summary["warnings"] == []
    assert [c["share"] for c in summary["classes"]] == pytest.approx([26 / 40, 14 / 40])
    assert all(8 <= c["resolution"] < 15 for c in summary["classes"])
    assert summary["other_runs"][0]["beyond_chance"] == pytest.approx(1)
    assert summary["classes_per_particle"] == pytest.approx((26 / 0.68 + 14 / 0.82) / 40)
    # they begin to differ where the molecules do
    assert summary["fsc_between_below_half"][0][1] > 15
    for ending in ("star", "cs"):
        whole = read_particles(tmp_path / f"particles.{ending}")
        mine = read_particles(tmp_path / f"particles_class_2.{ending}")
        assert len(whole.particles) == N and len(mine.particles) == 14
        assert torch.equal(mine.particles.half, whole.particles.half[::3])
    table = read_particles(tmp_path / "particles.star").tables["particles"]
    assert table["rlnClassNumber"].astype(int).tolist() == [
        2 if i % 3 == 0 else 1 for i in range(N)
    ]
    assert float(table["cryotorchClassPosterior2"].astype(float)[1]) == pytest.approx(0.2)
    assert set(table["cryotorchSharedResolution"].astype(float)) == {30.0}
    volume, pixel = read_volume(tmp_path / "map_class_2.mrc")
    assert pixel == pytest.approx(PIXEL) and volume.shape == (BOX, BOX, BOX)
    assert (tmp_path / "classes.png").stat().st_size > 10_000
    assert (tmp_path / "fsc_class_1.txt").read_text().startswith("wave_number")


def test_a_resolution_that_the_search_cut_off_is_told_as_a_bound(
    file: ParticleFile, molecules: Tensor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    capped = replace(
        found_of(file, molecules, 9.0),
        known=Background(torch.eye(3)[None], 2.0, 8.0, earlier=(Finding("earlier_unfinished"),)),
    )
    said = results.summary(judge_classes(capped, torch.device("cpu"), 0), {})
    for one in said["classes"]:
        assert one["resolution"] == pytest.approx(BOX * PIXEL / 7) and one["ended_by"] == "limit"
        assert "images were used no further" in one["bounded_by"]
    assert caplog.text.count(f"{BOX * PIXEL / 7:.2f} Å or better: the search went no further") == 2
    barred = replace(
        capped,
        known=capped.known._replace(
            earlier=(Finding("earlier_bars", job="homo_refine", run="refined"),)
        ),
    )
    said = results.summary(judge_classes(barred, torch.device("cpu"), 0), {})
    assert [(one["resolution"], one["ended_by"]) for one in said["classes"]] == [(None, None)] * 2


def test_classes_that_still_change_are_told(file: ParticleFile, molecules: Tensor) -> None:
    calm = found_of(file, molecules, 9.0)
    for changed, told in ((0.02, 0), (0.052, 1)):
        found = replace(calm, changed=torch.tensor([0.5, changed]))
        said = [f.code for f in judge_classes(found, torch.device("cpu"), 0).findings]
        assert said.count("classes_unsettled") == told
    # passes that ended by themselves
    ended = replace(calm, changed=torch.tensor([0.5, 0.052]), most_passes=3)
    said = [f.code for f in judge_classes(ended, torch.device("cpu"), 0).findings]
    assert "classes_unsettled" not in said


def test_one_state_is_not_shown_as_two(
    file: ParticleFile, molecules: Tensor, caplog: pytest.LogCaptureFixture
) -> None:
    one = molecules[:1].expand(2, BOX, BOX, BOX)
    result = judge_classes(found_of(file, one, 1.2), torch.device("cpu"), 0)
    summary = results.summary(result, {})
    assert summary["second_state"] is False
    assert any("No second state is seen" in said for said in summary["warnings"])
    assert not any("more than one state" in record.getMessage() for record in caplog.records)
    assert not any(
        finding.code in ("classes_repeat", "second_state") for finding in result.findings
    )


def test_a_class_that_cannot_be_judged_has_no_resolution(
    file: ParticleFile, molecules: Tensor
) -> None:
    maps = torch.stack([molecules[0], torch.zeros_like(molecules[0])])
    found = found_of(file, maps, 9.0)
    found.halves[:, 1] = 0
    result = judge_classes(found, torch.device("cpu"), 0)
    assert [f.code for f in result.findings if f.serious].count("class_unjudged") == 1
    assert results.summary(result, {})["classes"][1]["resolution"] is None
