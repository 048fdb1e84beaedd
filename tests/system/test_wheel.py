"""The installed wheel, not the checkout: it must carry its settings and run in any folder."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from cryotorch.jobs.config import catalog
from cryotorch.report.page.html import ASSETS
from cryotorch.version import __version__

pytestmark = pytest.mark.slow


def run(*command: object, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    options = ("--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", folder)
    run("-m", "pip", "wheel", repository, *options, cwd=folder)
    (path,) = folder.glob("cryotorch-*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    options = ("--no-deps", "--no-index", "--quiet", "--target", folder)
    run("-m", "pip", "install", wheel, *options, cwd=folder)
    return folder


def test_the_wheel_carries_settings_and_nothing_foreign(wheel: Path, repository: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    configs = {str(p.relative_to(repository)) for p in (repository / "configs").rglob("*.yaml")}
    assert {f"cryotorch/{name}" for name in configs} | {"cryotorch/py.typed"} <= set(names)
    assert {f"cryotorch/report/page/{name}" for name in ASSETS} <= set(names)
    assert {name.split("/")[0] for name in names} == {
        "cryotorch",
        f"cryotorch-{__version__}.dist-info",
    }
    assert f"cryotorch-{__version__}.dist-info/licenses/LICENSE" in names


@pytest.mark.parametrize("job", catalog.job_names())
def test_every_job_composes_in_an_empty_folder(job: str, installed: Path, tmp_path: Path) -> None:
    path = {"PYTHONPATH": str(installed)}
    here = run("-c", "import cryotorch; print(cryotorch.__file__)", cwd=tmp_path, **path)
    assert Path(here.strip()).is_relative_to(installed)
    shown = run("-m", "cryotorch", f"job={job}", "--cfg", "job", cwd=tmp_path, **path)
    script = run(installed / "bin/cryotorch", f"job={job}", "--cfg", "job", cwd=tmp_path, **path)
    assert shown == script and "out: null\n" in shown
    assert f"job={job}" in run("-m", "cryotorch", f"job={job}", "--help", cwd=tmp_path, **path)
    assert list(tmp_path.iterdir()) == []
