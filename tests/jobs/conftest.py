"""Small refinements and first maps: particles and maps, good and bad, a way to run them, and some that are done."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import mrcfile
import numpy as np
import pytest
import torch
from matplotlib.image import imread

from cryotorch.data.mrc import read_header, read_volume, write_stack, write_volume
from cryotorch.data.star import read_star, write_star
from cryotorch.errors import InputError, Stopped
from cryotorch.jobs import ab_initio, homo_refine, simulate, volume_tools
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.initial_map import inputs as first_inputs
from cryotorch.jobs.initial_map import results as first_results
from cryotorch.jobs.stages import run as staged_run
from cryotorch.ops.fourier.resample import resample_volume
from cryotorch.ops.geometry.symmetry import point_group
from cryotorch.ops.models.phantom import phantom
from cryotorch.refinement.ab_initio.settings import AbInitioSettings

BOX, PIXEL, N = 16, 6.0, 40
FAST: dict[str, Any] = dict(max_iterations=1, split_resolution=25, trainer__accelerator="cpu")


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Particles, maps and masks, good and bad."""
    folder = tmp_path_factory.mktemp("inputs")
    few = dict(box_size=BOX, pixel_size=PIXEL, n_particles=N, snr=4.0, shift_sigma=3)
    simulate.run(make_settings("simulate", out=str(folder), **few))
    volume = mrcfile.read(folder / "initial.mrc").copy()
    maps = {
        "blank": (np.zeros_like(volume), PIXEL),
        "inverted": (-volume, PIXEL),
        "off_axes": (np.roll(volume, 4, axis=2), PIXEL),
        "unknown_box": (volume[2:-2, 2:-2, 2:-2], 1.0),
        "unknown_mask": (volume[2:-2, 2:-2, 2:-2] > volume.std(), 1.0),
        "elsewhere": (volume, PIXEL / 2),
        "resampled": (volume, 0.9 * PIXEL),
        "mask255": (255.0 * (volume > volume.std()), PIXEL),
        "mask": ((volume > volume.std()).astype(np.float32), PIXEL),
    }
    for name, (values, pixel_size) in maps.items():
        write_volume(
            folder / f"{name}.mrc", torch.as_tensor(np.array(values, np.float32)), pixel_size
        )
    with mrcfile.open(folder / "elsewhere.mrc", "r+") as file:
        file.header.origin.x = 500
    images = mrcfile.read(folder / "particles.mrcs").copy()
    for name, stack in {"nan": images, "flat": np.ones_like(images)}.items():
        write_stack(folder / f"{name}.mrcs", [stack], N, BOX, PIXEL)
        _star(folder, name, lambda table, name=name: _rename(table, name))
    with mrcfile.mmap(folder / "nan.mrcs", "r+") as file:
        file.data[-1, 3:] = np.nan
    _star(folder, "one_half", lambda table: table.update(rlnRandomSubset=np.ones(N, dtype=int)))
    _star(folder, "posed", _pose)
    _star(folder, "other_defocus", lambda table: table.update(rlnDefocusU=np.full(N, 15000.0)))
    (folder / "a_file").write_text("not a folder")
    return folder


def _star(folder: Path, name: str, change: Callable) -> None:
    tables = read_star(folder / "particles.star")
    change(tables["particles"])
    write_star(folder / f"{name}.star", tables)


def _rename(table: Any, name: str) -> None:
    table["rlnImageName"] = [f"{i + 1:06d}@{name}.mrcs" for i in range(N)]


def _pose(table: Any) -> None:
    for label in (
        "rlnAngleRot",
        "rlnAngleTilt",
        "rlnAnglePsi",
        "rlnOriginXAngst",
        "rlnOriginYAngst",
    ):
        table[label] = np.linspace(-5, 5, N)


@pytest.fixture(scope="session")
def refine(inputs: Path) -> Callable[..., Path]:
    """refine(out, **changes): run the job; names of inputs may be given without their folder."""

    def refine(out: Path, **changes: Any) -> Path:
        given = {"particles": "particles.star", "volume": "initial.mrc", **FAST, **changes}
        for name in ("particles", "volume", "mask"):
            if given.get(name):
                given[name] = str(inputs / given[name])
        homo_refine.run(make_settings("homo_refine", out=str(out), **given))
        return out

    return refine


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], dict[str, bytes]]:
    """contents(folder): all files below it."""

    def contents(folder: Path) -> dict[str, bytes]:
        files = (p for p in folder.rglob("*") if p.is_file())
        return {str(p.relative_to(folder)): p.read_bytes() for p in files}

    return contents


@pytest.fixture(scope="session")
def finished(refine: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one iteration, not to be changed."""
    return refine(tmp_path_factory.mktemp("finished") / "run", profile=True)


@pytest.fixture(scope="session")
def inked() -> Callable[[Path], float]:
    """inked(path): the part of a picture that is not its background."""

    def inked(path: Path) -> float:
        image = imread(path)[..., :3]
        return float((np.abs(image - image[0, 0]).max(-1) > 0.1).mean())

    return inked


# Of volume tools.
PX = 2.0
ATOM = "ATOM  {:5}  CA  ALA {}{:4}    {:8.3f}{:8.3f}{:8.3f}  1.00 40.00           C\n"


@pytest.fixture(scope="session")
def edit() -> Callable:
    """edit(out, **changes): the map or mask that volume tools write, and its summary."""

    def edit(out: Path, **changes: Any) -> tuple[torch.Tensor, dict]:
        settings = make_settings("volume_tools", out=str(out), device="cpu", **changes)
        assert volume_tools.run(settings) == out
        summary = json.loads((out / "summary.json").read_text())
        result, pixel_size = read_volume(out / summary["result"])
        assert pixel_size == pytest.approx(summary["pixel_size"], rel=1e-5)
        assert len(result) == summary["box"]
        assert read_header(out / summary["result"]).corner == pytest.approx(
            summary["corner"], abs=1e-4
        )
        return result, summary

    return edit


@pytest.fixture(scope="session")
def radius() -> Callable:
    """radius(box, centre): distance from a point (x, y, z) in voxels from the corner."""

    def radius(box: int, centre: tuple[float, float, float]) -> torch.Tensor:
        line = torch.arange(box, dtype=torch.float32)
        x, y, z = ((line - c) ** 2 for c in centre)
        return (z[:, None, None] + y[:, None] + x).sqrt()

    return radius


@pytest.fixture(scope="session")
def correlation() -> Callable:
    """correlation(a, b): of two maps."""

    def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
        return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])

    return correlation


@pytest.fixture(scope="session")
def off_centre(radius: Callable) -> Callable:
    """off_centre(folder, name, box, corner): a map with a ball that is off its middle, and a header that places its corner."""

    def off_centre(folder: Path, name: str, box: int, corner: tuple[float, float, float]) -> str:
        ball = (3 - radius(box, (0.4 * box, 0.5 * box, 0.6 * box)) / 3).clamp(0, 1)
        write_volume(folder / name, 2 * ball, PX, corner)
        return f"{folder}/{name}"

    return off_centre


@pytest.fixture(scope="session")
def refused(edit: Callable) -> Callable:
    """refused(tmp_path, **changes): the sentence with which volume tools refuse, leaving nothing."""

    def refused(tmp_path: Path, **changes: Any) -> str:
        with pytest.raises(InputError) as caught:
            edit(tmp_path / "refused", **changes)
        assert not (tmp_path / "refused").exists()
        message = str(caught.value)
        assert "\n" not in message and len(message) < 300
        return message

    return refused


@pytest.fixture(scope="session")
def faces() -> Callable:
    """faces(mask): the largest value on the faces of the box."""

    def faces(mask: torch.Tensor) -> float:
        return max(float(mask.select(axis, end).max()) for axis in range(3) for end in (0, -1))

    return faces


@pytest.fixture(scope="session")
def volumes(radius: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """blob.mrc and odd.mrc: a molecule in 32 and 33 voxels; balls.mrc: two that touch; mask.mrc: a soft ball."""
    folder = tmp_path_factory.mktemp("volumes")
    molecule = phantom(32, PX, point_group("C1"))
    write_volume(folder / "blob.mrc", molecule, PX)
    write_volume(folder / "odd.mrc", resample_volume(molecule, PX, 33, PX), PX)
    touching = (radius(40, (13, 20, 20)) <= 6) | (radius(40, (24, 20, 20)) <= 5)
    write_volume(folder / "balls.mrc", touching.float() * 5 - 0.5, PX)
    write_volume(folder / "mask.mrc", (1.5 - radius(32, (16, 16, 16)) / 8).clamp(0, 1), PX)
    return folder


@pytest.fixture(scope="session")
def two_chains(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two chains of atoms about (30, 25, 40) and (50, 25, 40) Å."""
    draw = np.random.default_rng(0)
    place = draw.normal(scale=4, size=(40, 3)) + [30, 25, 40] + 20 * (np.arange(40)[:, None] >= 20) * [1, 0, 0]  # fmt: skip
    path = tmp_path_factory.mktemp("model") / "two.pdb"
    path.write_text(
        "".join(ATOM.format(i + 1, "AB"[i // 20], i + 1, *xyz) for i, xyz in enumerate(place))
    )
    return path


# Of first maps.
EDGE = 144.0  # Å, of 24 pixels
N_BEGUN, N_MADE_OF = 200, 150


class Begun(NamedTuple):
    """A run of ``ab_initio``: particles and truth, its folder and summary, what it read and made."""

    data: Path
    out: Path
    summary: dict[str, Any]
    inputs: Any
    made: Any


@pytest.fixture(scope="session")
def begin(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Begun]:
    """begin(out, steps, passes, figures, **changes): a first map of 200 particles, in so few steps that it has a shape only where asked for."""
    data = tmp_path_factory.mktemp("blind")
    few = dict(box_size=24, pixel_size=EDGE / 24, n_particles=N_BEGUN, snr=4.0, shift_sigma=3)
    simulate.run(make_settings("simulate", out=str(data), **few))

    def begin(
        out: Path, steps: int = 4, passes: int = 1, figures: bool = False, **changes: Any
    ) -> Begun:
        kept: list[Any] = []

        def write(*given: Any) -> None:
            kept.extend(given[1:3])
            write_all(*given)

        lengths = dict(initial_resolution=40, final_resolution=15)
        given = dict(particles=str(data / "particles.star"), n_starts=1, minibatch_size=80)
        given |= dict(lengths, device="cpu") | changes
        settings = make_settings("ab_initio", out=str(out), **given)
        with pytest.MonkeyPatch.context() as patch:
            short = partial(AbInitioSettings, soft_steps=steps, passes=passes)
            patch.setattr(first_inputs, "AbInitioSettings", short)
            write_all = first_results.write
            patch.setattr(first_results, "write", write)
            if not figures:
                patch.setattr(first_results, "draw", lambda inputs, made: {})
            assert ab_initio.run(settings) == out
        summary = json.loads((out / "summary.json").read_text())
        return Begun(data, out, summary, *(kept or [None, None]))

    return begin


@pytest.fixture(scope="session")
def begun(begin: Callable[..., Begun], tmp_path_factory: pytest.TempPathFactory) -> Begun:
    """A map of 150 of the particles that has the shape of the truth, not to be changed."""
    out = tmp_path_factory.mktemp("begun") / "run"
    return begin(out, 20, 3, True, max_particles=N_MADE_OF, write=["star", "cs"])


@pytest.fixture(scope="session")
def stopped() -> Callable[[int], AbstractContextManager[None]]:
    """stopped(n): a context in which a run is interrupted once its checkpoint n is written."""

    @contextmanager
    def stopped(count: int) -> Iterator[None]:
        write = staged_run.write_stages

        def and_stop(*given: Any) -> None:
            write(*given)
            if given[-1] == count:
                raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped, match="resume=true"):
            patch.setattr(staged_run, "write_stages", and_stop)
            yield

    return stopped
