"""What all tests share: skips with a reason, the shared data, few threads."""

from __future__ import annotations

import copy
import gc
import importlib.util
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from cryotorch.jobs.config.process import collect_rarely, keep_freed_memory

# Before torch and numba are imported, here, in further test processes and in what tests start: many small operations gain
# nothing from more threads, and where several processes share the cores threads wait for each other most of the time.
for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(name, "1")

# As the command line does. The test items are many objects too, which stay to the end.
keep_freed_memory()
collect_rarely()

# What a script starts with & ignores Ctrl-C, and so would all that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).parents[1]
SHARED_DATA = REPOSITORY.parent / "shared" / "data"


# Where jobs run for other things than their pictures, these stay blank: drawing them is a fourth of the time. Tests marked
# ``drawn`` look at some, or draw all that jobs draw (tests/system/test_insane_numbers.py); those of tests/report see what figures show.
BLANK = tuple(
    f"{Path(__file__).parent / name}{os.sep}" for name in ("api", "jobs", "system", "truth")
)
pictures = {"blank": False}


def pytest_collection_finish() -> None:
    _remember_molecules()
    gc.freeze()


def _remember_molecules() -> None:
    """Simulated sets show few molecules: each is folded once in a process. (Who asks for atoms by name gets new ones.)"""
    module = sys.modules.get("cryotorch.ops.models.phantom")
    if module is None:
        return
    import torch

    @lru_cache(64)
    def fold(edge: float, group: bytes, seed: int) -> Any:
        turns = torch.frombuffer(bytearray(group), dtype=torch.float64).view(-1, 3, 3)
        return make(edge, turns, seed)

    def remembered(edge: float, group: torch.Tensor, seed: int = 0) -> Any:
        atoms = fold(float(edge), group.double().numpy(force=True).tobytes(), seed)
        return type(atoms)(*(column.clone() for column in atoms))

    make, module.phantom_atoms = module.phantom_atoms, remembered


def _leave_blank() -> None:
    """From now on, what ``pictures`` says is asked for each picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    draw = FigureCanvasAgg.draw
    if hasattr(draw, "may_be_blank"):
        return

    def draw_or_not(canvas: Any) -> None:
        if pictures["blank"]:
            canvas.get_renderer().clear()
        else:
            draw(canvas)

    draw_or_not.may_be_blank = True
    FigureCanvasAgg.draw = draw_or_not


@pytest.fixture(scope="session")
def drawn() -> Callable[[], AbstractContextManager[None]]:
    """A context in which pictures are drawn, for fixtures that several tests share."""

    @contextmanager
    def drawn() -> Iterator[None]:
        before, pictures["blank"] = pictures["blank"], False
        yield
        pictures["blank"] = before

    return drawn


def pytest_runtest_setup(item: pytest.Item) -> None:
    pictures["blank"] = str(item.path).startswith(BLANK) and not item.get_closest_marker("drawn")
    if pictures["blank"]:
        _leave_blank()
    if item.get_closest_marker("data") and not SHARED_DATA.is_dir():
        pytest.skip("needs ../shared/data beside the repository")
    if item.get_closest_marker("relion") and shutil.which("relion_reconstruct") is None:
        pytest.skip("needs the RELION programs (Debian package relion)")
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder ../shared/data; the test is skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs ../shared/data beside the repository")
    return SHARED_DATA


@pytest.fixture(scope="session")
def repository() -> Path:
    """The top folder of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def pretended_cuda() -> Callable[[], AbstractContextManager]:
    """A context in which torch has a CUDA device, of which ``tests/pretend_cuda.py`` says what it is worth."""
    place = Path(__file__).with_name("pretend_cuda.py")
    spec = importlib.util.spec_from_file_location("pretend_cuda", place)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.pretended_cuda


@pytest.fixture(scope="session")
def teams() -> Callable[[int], list]:
    """teams(world): the processes of a team, as threads of this one that take turns."""
    import torch

    from cryotorch.refinement.runtime.team import Team

    class Threads(Team):
        """One of them; that of rank 0 asks."""

        def __init__(self, rank: int, world: int, shared: dict[str, Any]) -> None:
            super().__init__(rank, world)
            self.shared = shared

        def ask(self, task: str, *given: Any) -> list[Any]:
            """As over a network: what is given is copied."""

            def work(team: Team) -> Any:
                with self.shared["turn"], torch.no_grad():
                    return team.tasks[task](*copy.deepcopy(given))

            with ThreadPoolExecutor(self.world) as threads:
                return list(threads.map(work, self.shared["teams"]))

        def sum_(self, tensor: torch.Tensor) -> None:
            """When all have come here."""
            self.shared["given"][self.rank] = tensor.clone()
            self._let_others_come()
            tensor.copy_(sum(self.shared["given"]))
            self._let_others_come()

        def _let_others_come(self) -> None:
            self.shared["turn"].release()
            self.shared["barrier"].wait(60)
            self.shared["turn"].acquire()

    def teams(world: int) -> list[Team]:
        shared = dict(turn=threading.Lock(), barrier=threading.Barrier(world), given=[0] * world)
        shared["teams"] = [Threads(rank, world, shared) for rank in range(world)]
        return shared["teams"]

    return teams
