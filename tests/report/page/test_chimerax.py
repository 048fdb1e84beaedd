"""The script for ChimeraX opens what is there, at the level of the page."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cryotorch.data.mrc import read_volume
from cryotorch.report.page.chimerax import view_script
from cryotorch.report.page.maps import maps
from cryotorch.report.page.run_files import RunFiles, read_run


def test_maps_masks_and_orientations(
    run: RunFiles, check_chimerax: Callable[[str, Path], int]
) -> None:
    script = view_script(run, maps(run).grids)
    assert check_chimerax(script, run.path) == 5
    lines = script.splitlines()
    opened = [line for line in lines if line.startswith("open ")]
    names = ("map.mrc", "map_sharp.mrc", "mask_refine.mrc", "mask_fsc.mrc", "orientations.bild")
    assert opened == [f'open "{name}"' for name in names]
    assert all((run.path / name).is_file() for name in names)
    level = float(re.search(r"volume #2 level (\S+) step 1", "\n".join(lines))[1])
    volume = read_volume(run.path / "map_sharp.mrc")[0].numpy()
    assert level == pytest.approx(0.22 * np.percentile(volume, 99.9), rel=1e-3)
    assert "volume #2 level" in str(lines) and "step 1 color #b8c4d0" in str(lines)
    hidden = [line.split()[1] for line in lines if line.startswith("hide")]
    assert hidden == ["#1", "#3", "#4", "#5"] and lines[-1] == "view"


def test_colours_by_local_resolution_have_their_own_script(run: RunFiles) -> None:
    (run.path / "local_resolution.cxc").write_text("open it\n")
    assert view_script(read_run(run.path), []) == "open it\n"


def test_a_name_is_no_command(run: RunFiles) -> None:
    (run.path / 'a"; exit; "b.bild').touch()
    shutil.copy(run.path / "map.mrc", run.path / "x\nexit\n.mrc")
    found = read_run(run.path)
    assert "exit" not in view_script(found, maps(found).grids)


def test_nothing_to_open(run: RunFiles) -> None:
    for name in ("orientations.bild",):
        (run.path / name).unlink()
    assert view_script(read_run(run.path), []) is None
