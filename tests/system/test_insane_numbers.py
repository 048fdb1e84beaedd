"""Inputs whose numbers are NaN, infinite, huge or tiny: the only ends are maps of finite values or one sentence."""

from __future__ import annotations

import importlib
import math
import shutil
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cryotorch.data.mrc import read_volume, write_volume
from cryotorch.data.star import read_star, write_star
from cryotorch.errors import InputError, out_of_memory
from cryotorch.jobs import simulate
from cryotorch.jobs.config.catalog import make_settings, parameters
from cryotorch.jobs.config.limits import LIMITS

pytestmark = pytest.mark.drawn  # figures of such numbers are drawn too

N, BOX, PIXEL = 24, 16, 6.0
QUICK = dict(
    max_iterations=1,
    split_resolution=30,
    trainer__accelerator="cpu",
    search__candidates=2,
    search__newton_steps=1,
)
BIG = 3e38
CTF = dict(max_resolution=14, optics_min_resolution=30, defocus_min_resolution=60, passes=1)
MANY = 100  # particles that a first map needs
JOBS = {
    "ab_initio": dict(particles="many/particles.star", n_starts=1, minibatch_size=20),
    "homo_refine": dict(particles="particles.star", volume="initial.mrc", **QUICK),
    "local_refine": dict(
        **dict(particles="truth.star", volume="truth.mrc", mask="mask.mrc"),
        **(QUICK | dict(half_sets="resplit", initial_resolution=20)),
    ),
    "reconstruct": dict(particles="truth.star", half_sets="resplit"),
    "ctf_refine": dict(particles="truth.star", volume="truth.mrc", **CTF),
    "validation_fsc": dict(half_map_a="truth.mrc", half_map_b="initial.mrc"),
    "sharpen": dict(half_map_a="truth.mrc", half_map_b="initial.mrc"),
    "local_resolution": dict(half_map_a="truth.mrc", half_map_b="initial.mrc"),
    "class2d": dict(
        **dict(particles="particles.star", n_classes=2, max_resolution=14, shift_extent=10),
        **dict(iterations=2, epochs=1),
    ),
    "hetero_refine": dict(
        **dict(particles="many/particles.star", volume="initial.mrc", n_classes=2, n_starts=1),
        **dict(initial_resolution=30, final_resolution=14, max_passes=1, device="cpu"),
    ),
    "classify": dict(
        **dict(particles="many/truth.star", n_starts=1, n_repeats=1, max_passes=2),
        **dict(final_resolution=14),
    ),
    "particles": dict(particles="truth.star", restack="float16"),
    "subtract": dict(
        **dict(particles="truth.star", volume="truth.mrc", mask="mask.mrc"),
        **dict(recenter_on_mask=True, box_size=12),
    ),
    "create_templates": dict(volume="truth.mrc", n_templates=2, low_pass=None),
    "variability": dict(
        **dict(particles="many/truth.star", n_components=2, max_resolution=16),
        **dict(iterations=2, n_frames=2),
    ),
    "volume_tools": dict(volume="truth.mrc", threshold=0.2, soften=12),
    "orientation_diagnostics": dict(
        **dict(half_map_a="truth.mrc", half_map_b="initial.mrc"),
        **dict(particles="truth.star", n_directions=100),
    ),
    "simulate": dict(box_size=BOX, pixel_size=PIXEL, n_particles=12, resolution=14),
}
FILES = ("particles", "volume", "mask", "half_map_a", "half_map_b")
VALUES = st.one_of(
    st.sampled_from([math.nan, math.inf, -math.inf, BIG, -BIG, 1e20, -1e20, 1e-40, 0.0, -1.0]),
    st.floats(width=32),
)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few particles with their maps; tests copy what they spoil."""
    folder = tmp_path_factory.mktemp("insane") / "set"
    size = dict(box_size=BOX, pixel_size=PIXEL, n_particles=N, snr=4, resolution=14)
    simulate.run(make_settings("simulate", out=str(folder), **size))
    more = str(folder / "many")
    simulate.run(make_settings("simulate", out=more, **(size | dict(n_particles=MANY))))
    x = torch.arange(BOX) - BOX // 2
    ball = (x**2 + x[:, None] ** 2 + x[:, None, None] ** 2).sqrt()
    write_volume(folder / "mask.mrc", (5.5 - ball).clamp(0, 1), PIXEL)
    return folder


def run(job: str, files: Path, out: Path, **changes: object) -> str:
    """The sentence that a job ends with, empty after success, when all maps it wrote are of finite values."""
    given = {k: str(files / v) if k in FILES else v for k, v in JOBS[job].items()} | changes
    target = out / "out.mrc" if job == "volume_tools" else out
    try:
        importlib.import_module(f"cryotorch.jobs.{job}").run(
            make_settings(job, out=str(target), overwrite=True, **given)
        )
    except InputError as error:
        said = str(error)
        assert len(said) > 20 and "Traceback" not in said
        return said
    for path in filter(Path.is_file, out.rglob("*.mrc")):
        read_volume(path)  # refuses what is not finite
    return ""


def spoil(path: Path, place: int, value: float) -> None:
    """Set one pixel or voxel."""
    with np.errstate(all="ignore"), mrcfile.mmap(path, "r+") as file:
        file.data.reshape(-1)[place % file.data.size] = value
        file._data.flush()


def copied(small: Path, folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return Path(shutil.copytree(small, folder))


@pytest.mark.parametrize("job", JOBS)
def test_sound_files_of_every_job(small: Path, tmp_path: Path, job: str) -> None:
    assert run(job, small, tmp_path / "out") == ""


@pytest.mark.parametrize(
    "job",
    [
        *("ab_initio", "homo_refine", "local_refine", "reconstruct", "ctf_refine", "class2d"),
        *("subtract", "variability"),
    ],
)
def test_one_image_of_1e38(small: Path, tmp_path: Path, job: str) -> None:
    files = copied(small, tmp_path / "in")
    with (
        np.errstate(all="ignore"),
        mrcfile.open(
            (files / str(JOBS[job]["particles"])).with_name("particles.mrcs"), "r+"
        ) as file,
    ):
        file.data[3] = BIG * np.sign(file.data[3])
    said = run(job, files, tmp_path / "out")
    assert "Image 4 of" in said and "grey values of 3e+38" in said


@pytest.mark.parametrize("job", ["homo_refine", "local_refine", "subtract"])
@pytest.mark.parametrize("factor", [1e37, 1e-37])
def test_a_map_times_1e37(small: Path, tmp_path: Path, job: str, factor: float) -> None:
    files = copied(small, tmp_path / "in")
    for name in ("truth.mrc", "initial.mrc"):
        volume, size = read_volume(files / name)
        write_volume(files / name, volume * factor, size)
    assert "which is no density" in run(job, files, tmp_path / "out")


@pytest.mark.parametrize("scale", [2.0**50, 1e15, 1e-20])
def test_whole_stacks_of_another_grey_scale(small: Path, tmp_path: Path, scale: float) -> None:
    """The half maps are those of the stack as it was, but for the factor; a power of 2 changes no bit."""
    files = copied(small, tmp_path / "in")
    with mrcfile.open(files / "particles.mrcs", "r+") as file:
        file.data[:] = file.data.astype(np.float64) * scale
    assert run("reconstruct", small, tmp_path / "a") == run("reconstruct", files, tmp_path / "b")
    a, b = (read_volume(tmp_path / name / "map_half_A.mrc")[0] for name in "ab")
    b = b * ((a * b).sum() / (b * b).sum())
    assert torch.allclose(a, b, atol=(1e-6 if scale == 2.0**50 else 1e-4) * float(a.abs().max()))


def test_a_mask_of_one_voxel(small: Path, tmp_path: Path) -> None:
    files = copied(small, tmp_path / "in")
    mask = torch.zeros(BOX, BOX, BOX)
    mask[BOX // 2, BOX // 2, BOX // 2] = 1
    write_volume(files / "mask.mrc", mask, PIXEL)
    said = run("local_refine", files, tmp_path / "out")
    assert "holds 1 voxels" in said and "give one of at least 34" in said


@pytest.mark.parametrize(
    ("table", "label", "value", "said"),
    [
        ("particles", "rlnDefocusU", "1e9", "The defocus of particle 1 .* is 1e+09 Å"),
        ("optics", "rlnImagePixelSize", "0.03", "The pixel size is 0.03 Å"),
    ],
)
def test_a_microscope_that_does_not_exist(small, tmp_path, table, label, value, said) -> None:
    files = copied(small, tmp_path / "in")
    tables = read_star(files / "particles.star")
    column = tables[table][label].astype(object)
    column[0] = value
    tables[table][label] = column.tolist()
    write_star(files / "particles.star", tables)
    assert said.split(" .* ")[0] in run("homo_refine", files, tmp_path / "out")


SPOILT = {
    "many/particles.mrcs": MANY * BOX**2,
    "particles.mrcs": N * BOX**2,
    "truth.mrc": BOX**3,
    "initial.mrc": BOX**3,
    "mask.mrc": BOX**3,
}
CHANGES = st.lists(
    st.tuples(st.sampled_from(sorted(SPOILT)), st.integers(0, N * BOX**2 - 1), VALUES),
    min_size=1,
    max_size=3,
)


def _any_pixel(small: Path, tmp_path: Path, job: str, changes: list) -> None:
    files = copied(small, tmp_path / "in")
    for name, place, value in changes:
        spoil(files / name, place, value)
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    run(job, files, tmp_path / "out")


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(job=st.sampled_from(["reconstruct", "validation_fsc", "volume_tools"]), changes=CHANGES)
def test_any_pixel_may_be_anything(small, tmp_path, job, changes) -> None:
    _any_pixel(small, tmp_path, job, changes)


@pytest.mark.slow
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(job=st.sampled_from(sorted(JOBS)), changes=CHANGES)
def test_any_pixel_may_be_anything_in_every_job(small, tmp_path, job, changes) -> None:
    _any_pixel(small, tmp_path, job, changes)


# Runs that would only take long: more images, more iterations, more processes than there are.
LONG = {
    "n_particles",
    "n_starts",
    "max_iterations",
    "iterations",
    "epochs",
    "trainer.devices",
    "devices",
    "trainer.num_nodes",
}
AT_LIMITS = [
    pytest.param(job, p.name, marks=pytest.mark.slow)
    for job in JOBS
    for p in parameters(job)
    if p.name in LIMITS and p.name not in LONG
]


@pytest.mark.parametrize(("job", "name"), AT_LIMITS)
def test_every_number_at_its_limits(small: Path, tmp_path: Path, job: str, name: str) -> None:
    """Finite maps, one sentence, or more memory than there is, which the command line tells in one too."""
    limits = LIMITS[name]
    for value in (limits.low, (limits.low + limits.high) / 2, limits.high):
        for form in (int(value), value, [value] * 2, [value] * 3):
            try:
                run(job, small, tmp_path / "out", **{name.replace(".", "__"): form})
            except RuntimeError as error:
                assert out_of_memory(error), (job, name, form)
