"""TensorBoard of a finished refinement, started as a user does and opened in a browser: its tabs show what was written."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from cryotorch.jobs import homo_refine, simulate
from cryotorch.jobs.config.catalog import make_settings

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
PATIENCE = 120  # s
SMALL = dict(box_size=16, pixel_size=6.0, n_particles=60, snr=4.0, resolution=14)
FAST = dict(max_iterations=2, split_resolution=25, trainer__accelerator="cpu")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.drawn,
    pytest.mark.skipif(BROWSER is None, reason="needs chromium or google-chrome"),
]


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a live TensorBoard of a finished run."""
    folder = tmp_path_factory.mktemp("watched")
    simulate.run(make_settings("simulate", out=str(folder / "set"), **SMALL))
    given = {
        n: str(folder / "set" / f)
        for n, f in (("particles", "particles.star"), ("volume", "initial.mrc"))
    }
    homo_refine.run(make_settings("homo_refine", out=str(folder / "run"), **given, **FAST))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--port", str(port), "--logdir"]
    quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    server = subprocess.Popen([*command, str(folder / "run" / "tensorboard")], **quiet)
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(f"{address}/data/runs")
        yield address
    finally:
        server.terminate()
        server.wait(30)


def _wait_for(address: str) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with suppress(OSError), urllib.request.urlopen(address, timeout=5) as answer:
            if b"tight_mask" in answer.read():
                return
        time.sleep(0.5)
    pytest.fail("TensorBoard does not serve the run")


def shown(address: str, tab: str, profile: Path) -> str:
    """The page of a tab once its scripts have run, with what its parts hold (shadow roots are written out)."""
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
    command = [
        str(BROWSER),
        *flags,
        "--virtual-time-budget=30000",
        "--dump-dom",
        f"{address}/#{tab}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=os.environ)
    return done.stdout


def test_all_tabs_are_offered(board: str, tmp_path: Path) -> None:
    page = re.sub(r"\s+", " ", shown(board, "timeseries", tmp_path / "profile"))
    for tab in ("Custom Scalars", "Images", "Text", "Mesh"):
        assert tab.lower() in page.lower(), tab
    for run in ("no_mask", "tight_mask"):
        assert run in page, run
    assert "iteration_001" not in page


def test_what_the_tabs_are_given(board: str) -> None:
    """By the same addresses that the page asks."""

    def answer(path: str) -> str:
        with urllib.request.urlopen(board + path, timeout=PATIENCE) as found:
            return found.read().decode()

    layout = answer("/data/plugin/custom_scalars/layout")
    assert "Resolution" in layout and "resolution_by_mask" in layout
    assert "from red near its middle to blue" in answer("/data/plugin/mesh/tags")
    tags = answer("/data/plugin/text/tags")
    assert "how to read this" in tags and "settings" in tags
    images = answer("/data/plugin/images/tags")
    for name in ("fsc", "slices", "mask", "orientations", "guinier", "noise", "poses"):
        assert f"plots/{name}" in images
