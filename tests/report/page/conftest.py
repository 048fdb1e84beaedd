"""A run folder whose numbers the tests know, and a browser without network that opens its page."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cryotorch.data.mrc import write_stack
from cryotorch.data.particle_file import new_particle_file
from cryotorch.report.figures import write_pictures
from cryotorch.report.fsc_files import write_fsc_iterations
from cryotorch.report.outputs import write_outputs
from cryotorch.report.page.run_files import RunFiles, read_run
from cryotorch.report.style import new_figure, render
from cryotorch.results import IterationResult

CONFIG = (
    "job: homo_refine\nstarted_in: /somewhere\nsymmetry: C1\nsplit_resolution: 20.0\nout: '{out}'\n"
)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# Chromium listens on descriptor 3 and answers on 4.
START = (
    "import fcntl, os, sys\n"
    "r, w = (fcntl.fcntl(int(n), fcntl.F_DUPFD, 20) for n in sys.argv[1:3])\n"
    "os.dup2(r, 3); os.dup2(w, 4); os.execvp(sys.argv[3], sys.argv[3:])"
)


def write_run(folder: Path, result: IterationResult, **extras: object) -> RunFiles:
    """What a refinement would leave of a result, with an FSC for each of three iterations."""
    folder.mkdir()
    box, n = result.map.shape[-1], len(result.particles)
    stack = folder.parent / "images.mrcs"
    if not stack.exists():
        write_stack(stack, [np.zeros((n, 4, 4), np.float32)], n, 4, 1.0)
    source = new_particle_file(folder / "particles.star", [stack], box, result.particles)
    write_outputs(folder, result, source, {"symmetry": "C1", **extras})
    for step in (1, 2, 3):
        earlier = {name: curve * step / 3 for name, curve in result.curves.items()}
        write_fsc_iterations(folder / "fsc_iterations.txt", step, earlier)
    write_pictures({"fsc": render(new_figure(3, 2, "A figure"))}, folder / "plots")
    (folder / "config.yaml").write_text(CONFIG.format(out=folder))
    (folder / "log.txt").write_text("one line\n")
    return read_run(folder)


@pytest.fixture
def write() -> Callable[..., RunFiles]:
    """``write_run``."""
    return write_run


@pytest.fixture
def run(result: IterationResult, tmp_path: Path) -> RunFiles:
    """The folder of a refinement that has ended."""
    return write_run(tmp_path / "made", replace(result, final=True))


class Browser:
    """Chromium without a window and without network, spoken to in its DevTools protocol over a pipe.

    Attributes:
        errors: what the page has written to the console as an error; requests: what it wanted to load.
    """

    def __init__(self, program: str, place: Path) -> None:
        read, answers = os.pipe()
        commands, write = os.pipe()
        options = ("--headless", "--no-sandbox", "--disable-gpu-sandbox", "--use-angle=swiftshader")
        options += ("--enable-unsafe-swiftshader", "--hide-scrollbars", "--remote-debugging-pipe")
        options += (f"--user-data-dir={place}", "about:blank")
        command = [sys.executable, "-c", START, str(commands), str(answers), program, *options]
        self._process = subprocess.Popen(
            command, pass_fds=(commands, answers), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )  # fmt: skip
        for end in (commands, answers):
            os.close(end)
        self._read, self._write, self._left, self._number = read, write, b"", 0
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        nothing = {"latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
        self.call("Network.emulateNetworkConditions", offline=True, **nothing)

    def call(self, method: str, seconds: float = 60, **values: Any) -> dict[str, Any]:
        """The answer to a command."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": values}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + seconds
        while True:
            answer = self._next(end)
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self._hear(answer)

    def _next(self, end: float) -> dict[str, Any]:
        while b"\0" not in self._left:
            ready, _, _ = select.select([self._read], [], [], max(end - time.monotonic(), 0))
            assert ready, "the browser does not answer"
            part = os.read(self._read, 1 << 20)
            assert part, "the browser has ended"
            self._left += part
        text, _, self._left = self._left.partition(b"\0")
        return json.loads(text)

    def _hear(self, event: dict[str, Any]) -> None:
        said, values = event.get("method"), event.get("params", {})
        if said == "Runtime.exceptionThrown":
            self.errors.append(str(values["exceptionDetails"]))
        elif said == "Runtime.consoleAPICalled" and values["type"] in ("error", "warning"):
            self.errors.append(str(values["args"]))
        elif said == "Log.entryAdded" and values["entry"]["level"] == "error":
            self.errors.append(values["entry"]["text"])
        elif said == "Network.requestWillBeSent":
            self.requests.append(values["request"]["url"])

    def run(self, script: str) -> Any:
        """The value of an expression in the page, awaited."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)  # fmt: skip
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def open(self, path: Path, width: int = 1280, dark: bool = False) -> None:
        """Open a page and wait until it has drawn itself."""
        self._resize(width, 900)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.errors, self.requests = [], []
        self.call("Page.navigate", url=path.resolve().as_uri())
        end = time.monotonic() + 60
        while not self.run("document.documentElement?.dataset.ready === 'true'"):
            assert time.monotonic() < end, f"the page does not get ready: {self.errors}"
            time.sleep(0.05)

    def _resize(self, width: int, height: int) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def screenshot(self, path: Path) -> Path:
        """The whole page as a PNG file."""
        width, height = self.run("[innerWidth, document.documentElement.scrollHeight]")
        self._resize(width, height)
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))
        self._resize(width, 900)
        return path

    def pdf(self, path: Path) -> Path:
        """The page on sheets of A4."""
        printed = self.call("Page.printToPDF", paperWidth=8.27, paperHeight=11.69)
        path.write_bytes(base64.b64decode(printed["data"]))
        return path

    def move(
        self, selector: str, x: float, y: float, kind: str = "mouseMoved", **more: Any
    ) -> None:
        """The pointer at a share (x, y) of an element."""
        box = self.run(
            f"(() => {{ const e = document.querySelector({selector!r}); e.scrollIntoView({{block: 'center'}}); "
            "const b = e.getBoundingClientRect(); return [b.left, b.top, b.width, b.height]; })()"
        )
        place = {"x": box[0] + x * box[2], "y": box[1] + y * box[3]}
        self.call("Input.dispatchMouseEvent", type=kind, **place, **more)

    def key(self, name: str) -> None:
        """Press a key where the focus is."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=name, code=name)

    def close(self) -> None:
        """End it."""
        for end in (self._write, self._read):
            os.close(end)
        self._process.terminate()
        self._process.wait(30)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser; the test is skipped where there is none."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"needs a browser: {' or '.join(BROWSERS)}")
    found = Browser(program, tmp_path_factory.mktemp("browser"))
    yield found
    found.close()
