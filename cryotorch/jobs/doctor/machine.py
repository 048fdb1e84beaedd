"""What the machine and the installed libraries are, and what is to be mended about them."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

import cryotorch
from cryotorch.data.files import host_memory
from cryotorch.ops import compiled
from cryotorch.version import __version__

LIBRARIES = "numpy scipy numba lightning hydra-core tensorboard matplotlib mrcfile gemmi".split()
WRITTEN = 64 * 2**20  # bytes, to measure the speed
SLOW, FULL, SMALL = 20e6, 2e9, 2e9  # bytes per second; bytes free on the disk; bytes of memory


class Check(NamedTuple):
    """One line: what was looked at, what was found, and what to do where something is wrong."""

    name: str
    found: str
    mend: str = ""


def checks(folder: Path) -> Iterator[Check]:
    """One after the other; ``folder`` is where results would be written."""
    yield versions()
    yield from devices()
    yield threads()
    yield loops()
    yield memory()
    yield disk(folder)
    yield writing(folder)


def versions() -> Check:
    """Of Python, this package and the libraries."""
    known, missing = [f"cryotorch {__version__}", f"Python {platform.python_version()}"], []
    for name in LIBRARIES:
        try:
            known.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    mend = f"pip install {' '.join(missing)}" if missing else ""
    return Check("versions", ", ".join(known), mend)


def devices() -> Iterator[Check]:
    """What torch was built for, and the devices that it sees."""
    build = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "for CPUs"
    unseen = shutil.which("nvidia-smi") is not None and not torch.cuda.is_available()
    cure = "an NVIDIA device may be here that torch does not see: install torch for CUDA, or mend the driver"
    name = f"torch {torch.__version__}, {build}, {platform.processor() or platform.machine()}"
    yield Check("torch", name, cure if unseen else "")
    for number in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(number)
        about = f"{torch.cuda.get_device_name(number)}, {total / 1e9:.1f} GB, {free / 1e9:.1f} free"
        little = "others use its memory: end them, or take another device" if free < SMALL else ""
        yield Check(f"cuda:{number}", about, little)


def processors() -> int:
    """How many this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


def threads() -> Check:
    """Processors, and the threads that torch and numba take."""
    there, taken = processors(), torch.get_num_threads()
    found = f"{taken} for {there} processors"
    more = f"more threads than processors wait for each other: set OMP_NUM_THREADS={there}"
    return Check("threads", found, more if taken > there else "")


def loops() -> Check:
    """Whether compiled loops are kept between runs, and how many are."""
    package = Path(cryotorch.__file__).parent
    place = os.environ.get("NUMBA_CACHE_DIR")
    kept = list((Path(place) if place else package).rglob("*.nbi"))
    if not compiled.LISTENER.kept:
        cure = "set NUMBA_CACHE_DIR to a folder that you can write to"
        return Check("loops", "compiled again in every run", cure)
    said = f"{len(kept)} files of compiled loops kept" if kept else "compiled in the first run"
    return Check("loops", said)


def memory() -> Check:
    """Of this process, and how much of it is free."""
    most = host_memory()
    free = min(most, os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    little = "a refinement takes 1 GB at least: end what else runs" if most < SMALL else ""
    return Check("memory", f"{most / 1e9:.1f} GB, {free / 1e9:.1f} of them unused", little)


def disk(folder: Path) -> Check:
    """Room where results go."""
    free = shutil.disk_usage(folder).free
    full = "results of a run take gigabytes: make room, or work in another folder"
    return Check("disk", f"{free / 1e9:.1f} GB free in {folder}", full if free < FULL else "")


def writing(folder: Path) -> Check:
    """How fast a file gets there; it is removed again."""
    piece = os.urandom(2**20)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            start = time.perf_counter()
            for _ in range(WRITTEN // len(piece)):
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
            speed = WRITTEN / (time.perf_counter() - start)
    except OSError as error:
        reason = error.strerror or str(error)
        return Check("writing", f"{folder}: {reason}", "go to a folder that you can write to")
    slow = "checkpoints and caches will wait for the disk: work in a folder on a faster one"
    return Check("writing", f"{speed / 1e6:.0f} MB/s", slow if speed < SLOW else "")
