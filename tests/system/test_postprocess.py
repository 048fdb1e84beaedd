"""The same half maps and the same mask through relion_postprocess: curves, resolution, B-factor."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from cryotorch.data.mrc import read_volume, write_volume
from cryotorch.data.star import read_star
from cryotorch.jobs import sharpen
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.ops.fourier.filters import guinier_fit, radial_amplitude
from cryotorch.ops.fourier.transforms import volume_shells
from cryotorch.ops.geometry.symmetry import point_group
from cryotorch.ops.masks.soft import density_mask
from cryotorch.ops.models.phantom import phantom
from cryotorch.ops.resolution.fsc import crossing_shell, first_randomised_shell, fsc_curves

pytestmark = pytest.mark.relion

BOX, PX = 64, 2.0
# In these boxes a randomised curve scatters by 0.03 from seed to seed, in RELION as here: curves that depend on random
# phases are compared as means over so many seeds, whose difference scatters by 0.009 in the worst shell.
SEEDS = 24
LABELS = {
    "no_mask": "rlnFourierShellCorrelationUnmaskedMaps",
    "tight": "rlnFourierShellCorrelationMaskedMaps",
    "randomised": "rlnCorrectedFourierShellCorrelationPhaseRandomizedMaskedMaps",
    "corrected": "rlnFourierShellCorrelationCorrected",
}


class Case(NamedTuple):
    """Half maps (2, d, d, d) and mask, and what both programs make of them with ``SEEDS`` seeds each."""

    folder: Path
    truth: torch.Tensor
    halves: torch.Tensor
    mask: torch.Tensor
    relion: dict[str, torch.Tensor]  # name -> (seeds, d//2 + 1)
    ours: dict[str, torch.Tensor]
    reached: list[float]  # RELION's final resolution, Å
    bfactors: list[float]
    first_shell: int


def squared_frequency() -> torch.Tensor:
    k = torch.fft.fftfreq(BOX, PX)
    return k[:, None, None] ** 2 + k[None, :, None] ** 2 + torch.fft.rfftfreq(BOX, PX) ** 2


def filtered(volumes: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
    dims = (-3, -2, -1)
    return torch.fft.irfftn(torch.fft.rfftn(volumes, dim=dims) * gain, s=(BOX,) * 3, dim=dims)


def postprocess(folder: Path, *options: str) -> dict:
    """The tables of postprocess.star."""
    (folder / "postprocess").mkdir(exist_ok=True)  # where it puts a log in PDF
    command = f"relion_postprocess --i run_half1_class001_unfil.mrc --mask mask.mrc --angpix {PX} --auto_bfac --autob_lowres 10"
    subprocess.run(
        [*command.split(), *options], cwd=folder, check=True, capture_output=True, timeout=60
    )
    return read_star(folder / "postprocess.star")


@pytest.fixture(scope="module", params=["white", "coloured"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp(request.param)
    s2, draw = squared_frequency(), torch.Generator().manual_seed(0)
    truth = filtered(phantom(BOX, PX, point_group("C1")), torch.exp(-120 / 4 * s2))
    truth = truth / truth.std()
    colour = 1 + 2 * torch.exp(-100 * s2) if request.param == "coloured" else torch.ones_like(s2)
    halves = truth + 0.7 * filtered(torch.randn(2, BOX, BOX, BOX, generator=draw), colour)
    mask = density_mask(truth, PX, 0.15, near=15, far=30, low_pass=12)
    for i, half in enumerate(halves, start=1):
        write_volume(folder / f"run_half{i}_class001_unfil.mrc", half, PX)
    write_volume(folder / "mask.mrc", mask, PX)
    ours = [
        fsc_curves(halves, PX, mask, loose=mask, generator=torch.Generator().manual_seed(seed))
        for seed in range(SEEDS)
    ]
    end = BOX * PX / crossing_shell(ours[0]["corrected"])
    runs = [
        postprocess(folder, "--random_seed", str(seed), "--autob_highres", f"{end - 1e-3:.4f}")
        for seed in range(1, SEEDS + 1)
    ]
    onset = round(BOX * PX / float(runs[0]["general"]["rlnRandomiseFrom"][0]))
    return Case(
        *(folder, truth, halves, mask),
        {
            n: torch.stack([torch.tensor(r["fsc"].floats(x)) for r in runs])
            for n, x in LABELS.items()
        },
        {name: torch.stack([curves[name] for curves in ours]) for name in LABELS},
        [float(run["general"]["rlnFinalResolution"][0]) for run in runs],
        [float(run["general"]["rlnBfactorUsedForSharpening"][0]) for run in runs],
        onset,
    )


def test_the_case_is_one_worth_comparing(case: Case) -> None:
    """The FSC crosses 0.143 inside Nyquist, and phases are randomised from the same shell on."""
    shell = crossing_shell(case.ours["corrected"][0])
    assert case.first_shell + 8 < shell < BOX // 2 - 3
    assert first_randomised_shell(case.ours["no_mask"][0]) == case.first_shell
    assert (case.relion["no_mask"][0] < 0.143).any() and (case.relion["tight"].std(0) < 1e-6).all()


@pytest.mark.parametrize("name", ["no_mask", "tight"])
def test_curves_without_random_phases(case: Case, name: str) -> None:
    assert (case.ours[name][0] - case.relion[name][0]).abs().max() < 0.01


def test_relion_counts_the_plane_kx_0_twice(case: Case) -> None:
    """Why those differ at all: RELION sums the half transform as it is stored; we sum whole shells."""
    first, second = torch.fft.rfftn(case.halves, dim=(1, 2, 3))
    shell = volume_shells(BOX).flatten()

    def stored_sum(values: torch.Tensor) -> torch.Tensor:
        total = torch.zeros(int(shell.max()) + 1, dtype=torch.float64)
        return total.index_add_(0, shell, values.double().flatten())[: BOX // 2 + 1]

    power = stored_sum(first.abs() ** 2) * stored_sum(second.abs() ** 2)
    curve = stored_sum((first * second.conj()).real) / power.sqrt()
    assert curve[1:].numpy() == pytest.approx(case.relion["no_mask"][0, 1:].numpy(), abs=1e-5)


@pytest.mark.parametrize("name", ["randomised", "corrected"])
def test_curves_with_random_phases(case: Case, name: str) -> None:
    """In every shell where RELION corrects, two shells behind the onset; before it shows the masked curve.

    There a difference of 0.005 is left: RELION randomises |k| >= onset, we the whole shell, half a voxel earlier.
    """
    used = slice(case.first_shell + 2, None)
    ours, relion = case.ours[name][:, used], case.relion[name][:, used]
    assert (ours.mean(0) - relion.mean(0)).abs().max() < 0.02
    # and each run of ours is within the scatter of RELION's runs
    spread = relion.std(0).clamp(min=0.003)
    assert ((ours - relion.mean(0)).abs() / spread).max() < 5.5
    assert ours.std(0).mean() == pytest.approx(float(relion.std(0).mean()), rel=0.2)


def test_resolution_within_a_shell(case: Case) -> None:
    ours = sorted(crossing_shell(curve) for curve in case.ours["corrected"])
    relion = sorted(BOX * PX / reached for reached in case.reached)
    assert ours[0] == pytest.approx(relion[0], abs=1.01)
    assert ours[-1] == pytest.approx(relion[-1], abs=1.01)
    assert sum(ours) / SEEDS == pytest.approx(sum(relion) / SEEDS, abs=0.5)


def test_bfactor(case: Case) -> None:
    """Same range and RELION's choice of the whole map: the fit is the same, the curve the only difference."""
    mean, end = case.halves.mean(0), BOX * PX / crossing_shell(case.ours["corrected"][0])
    for curve, found in zip(case.relion["corrected"], case.bfactors, strict=True):
        assert guinier_fit(mean, curve, PX, end).bfactor == pytest.approx(found, rel=0.005)
    for curve, found in zip(case.ours["corrected"], case.bfactors, strict=True):
        assert guinier_fit(mean, curve, PX, end).bfactor == pytest.approx(found, rel=0.05)


def test_bfactor_of_the_molecule(case: Case) -> None:
    """The masked map finds the decay of the truth; in the whole one noise of the solvent passes for signal."""
    mean, end = case.halves.mean(0), BOX * PX / crossing_shell(case.ours["corrected"][0])
    true = guinier_fit(case.truth, torch.ones(BOX // 2 + 1), PX, end).bfactor
    curve = case.ours["corrected"].mean(0)
    assert guinier_fit(mean * case.mask, curve, PX, end).bfactor == pytest.approx(true, rel=0.05)
    assert guinier_fit(mean, curve, PX, end).bfactor > 0.95 * true  # less sharp


def test_the_job_sharpens_as_relion_does(case: Case, tmp_path: Path) -> None:
    """guinier_map=whole: B within 5 %, and the map's amplitudes, up to the filters at the resolution."""
    names = [str(case.folder / f"run_half{i}_class001_unfil.mrc") for i in (1, 2)]
    given = dict(half_map_a=names[0], half_map_b=names[1], mask=str(case.folder / "mask.mrc"))
    out = sharpen.run(
        make_settings(
            "sharpen", **given, guinier_map="whole", spherical_mask=False, out=str(tmp_path / "out")
        )
    )
    summary = json.loads((out / "summary.json").read_text())
    assert summary["bfactor"] == pytest.approx(sum(case.bfactors) / SEEDS, rel=0.05)
    bfactor = f"--adhoc_bfac {summary['bfactor']}".split()
    command = f"relion_postprocess --i {names[0]} --mask {case.folder}/mask.mrc --angpix {PX} --o sharp".split()
    (tmp_path / "sharp").mkdir()
    subprocess.run([*command, *bfactor], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    theirs, ours = (read_volume(p)[0] for p in (tmp_path / "sharp.mrc", out / "map_sharp.mrc"))
    ratio = radial_amplitude(theirs) / radial_amplitude(ours)
    last = int(crossing_shell(case.ours["corrected"][0]))
    flat = ratio[1 : last - 4] / ratio[1]
    assert flat.numpy() == pytest.approx(1, abs=0.05)
