"""A small made-up result whose numbers the tests know."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cryotorch.findings import remark
from cryotorch.particles import Optics, unposed
from cryotorch.results import Departures, Guinier, IterationResult

BOX, PIXEL = 32, 2.5


def make_result(iteration: int = 4, n: int = 400, **changes: object) -> IterationResult:
    """Two overlapping balls off the centre, smooth FSC curves, random poses."""
    generator = torch.Generator().manual_seed(iteration)
    grid = torch.stack(torch.meshgrid(*[torch.arange(float(BOX)) - BOX // 2] * 3, indexing="ij"))
    volume = torch.zeros(BOX, BOX, BOX)
    for z, y, x in ((0.0, 0.0, 5.0), (4.0, -2.0, 0.0)):
        centre = torch.tensor([z, y, x])[:, None, None, None]
        volume += torch.exp(-(grid - centre).square().sum(0) / 18)
    distance = (grid.square().sum(0)).sqrt()
    mask = ((14 - distance) / 3).clamp(0, 1)
    shell = torch.arange(BOX // 2 + 1.0)
    curves = {
        name: (1 / (1 + torch.exp((shell - at) / 0.8))).double()
        for name, at in dict(no_mask=6, spherical=7, loose=8, tight=9, corrected=8.5).items()
    }
    curves["randomised"] = torch.where(shell < 4, 1.0, 0.02).double()
    resolutions = dict(no_mask=13.3, spherical=11.4, loose=10.0, tight=8.9, corrected=9.41)
    inverse_d2 = (shell / (BOX * PIXEL)).square()
    guinier = Guinier(
        inverse_d2, 5 - 30 * inverse_d2, (shell > 7) & (shell < 14), -120.0, 5.0, None, 6.0, -100.0
    )
    optics = Optics(*[torch.tensor([v]) for v in (300.0, 2.7, 0.1, PIXEL)])
    rotation = torch.linalg.qr(torch.randn(n, 3, 3, generator=generator))[0]
    rotation = rotation * torch.linalg.det(rotation)[:, None, None]
    particles = unposed(n, optics).replace(
        rotation=rotation,
        half=torch.arange(n) % 2,
        scale=1 + 0.1 * torch.randn(n, generator=generator),
        pose_sigma=0.02 + 0.01 * torch.rand(n, 2, generator=generator),
        has_pose=True,
    )
    history = [
        dict(iteration=i, resolution=30.0 / i, limit=33.0 / i, rotation_change=20.0 / i)
        | dict(shift_change=5.0 / i, seconds=2.5, seconds_coarse=1.5)
        for i in range(1, iteration + 1)
    ]
    # poses seen from above have moved more
    moved = Departures(rotation, 3 + 2 * rotation[:, 2, 2], 1 + 0.5 * rotation[:, 2, 2], 20.0, 5.0)
    result = IterationResult(
        iteration=iteration,
        pixel_size=PIXEL,
        half_maps=torch.stack([volume, volume + 0.01]),
        map=volume,
        map_sharp=2 * volume,
        mask_refine=mask,
        mask_fsc=mask,
        curves=curves,
        resolutions=resolutions,
        resolution=9.41,
        noise=torch.full((2, 1, BOX // 2 + 1), 0.8),
        guinier=guinier,
        particles=particles,
        rotation_change=torch.full((n,), 1.25),
        shift_change=torch.full((n,), 0.4),
        seconds=dict(coarse=1.5, solve=0.5),
        history=history,
        messages=[remark("no_gain", gain=0.3)],
        departures=moved,
        cutoff=6 + 0.2 * distance,
    )
    return replace(result, **changes)


@pytest.fixture
def result() -> IterationResult:
    return make_result()


@pytest.fixture(scope="session")
def make():
    """The builder itself, for results that differ."""
    return make_result


# What ChimeraX 1.6 to 1.9 take, as their user guide has it: command and its arguments.
COLOUR, MODEL, NUMBER = "#[0-9a-fA-F]{6}", r"#\d+", r"-?\d+(\.\d+)?(e[+-]?\d+)?"
CHIMERAX = (
    r'open "(?P<file>[^"]+)"',
    r"open (?P<series>\S+\*\S*) vseries true name \w+",
    rf"volume {MODEL}( style (surface|mesh|image))?( level {NUMBER})?( step \d+)?( color {COLOUR})?",
    rf"(hide|show) {MODEL} models",
    rf"color sample {MODEL} map {MODEL} palette {NUMBER},{COLOUR}(:{NUMBER},{COLOUR})+",
    rf"key {COLOUR}:{NUMBER}( {COLOUR}:{NUMBER})+",
    rf"vseries play {MODEL} loop (true|false) direction (forward|backward|oscillate) maxFrameRate \d+",
    r"lighting (simple|full|soft)",
    r"view",
    r"#.*",
)


@pytest.fixture
def check_chimerax() -> Callable[[str, Path], int]:
    """Asserts that ChimeraX knows each line of a script in a folder, that its files are there and its models open; how many models it opens."""

    def check(text: str, folder: Path) -> int:
        models = 0
        for line in text.splitlines():
            found = next((m for form in CHIMERAX if (m := re.fullmatch(form, line))), None)
            assert found, f"ChimeraX knows no such command: {line}"
            named = found.groupdict()
            if file := named.get("file"):
                assert (folder / file).is_file(), line
            if series := named.get("series"):
                assert list(folder.glob(series)), line
            models += line.startswith("open ")
            used = [] if line.startswith("#") else re.findall(r" #(\d+)(?= |$)", line)
            assert all(1 <= int(number) <= models for number in used), line
        return models

    return check
