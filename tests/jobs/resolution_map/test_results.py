"""The files of a local resolution, which two jobs write."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cryotorch.data.mrc import read_corner, read_volume
from cryotorch.jobs.local_resolution import FILES
from cryotorch.jobs.resolution_map.measure import LocalMap
from cryotorch.jobs.resolution_map.results import FILTERED, MAP, SCRIPT, Shown, write_local
from cryotorch.jobs.sharpen import FILES as SHARPEN_FILES


@pytest.mark.drawn
def test_values_script_and_picture(tmp_path: Path) -> None:
    values = torch.linspace(4, 6, 16).expand(16, 16, 16).contiguous()
    inside = torch.zeros(16, 16, 16, dtype=torch.bool)
    inside[4:12] = True
    local = LocalMap(torch.where(inside, values, 0), values, inside, 0.5, 4.0, 25.0)
    shown = Shown(torch.randn(16, 16, 16), "map", "other.mrc", (3.0, 9.0))
    picture = write_local(tmp_path, local, shown, 2.5, (1.0, 2.0, 3.0))
    there, size = read_volume(tmp_path / MAP)
    assert size == 2.5 and torch.equal(there, local.resolution)
    assert read_corner(tmp_path / MAP) == (1.0, 2.0, 3.0)
    text = (tmp_path / SCRIPT).read_text()
    assert 'open "other.mrc"' in text and f'open "{MAP}"' in text and ":9.0" in text
    assert {p.name for p in tmp_path.iterdir()} == {MAP, SCRIPT} and len(picture.png) > 1000


def test_both_jobs_may_write_them() -> None:
    assert {MAP, SCRIPT, FILTERED} <= set(FILES) and {MAP, SCRIPT} <= set(SHARPEN_FILES)
