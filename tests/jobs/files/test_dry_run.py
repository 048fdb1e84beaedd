"""A dry run of every job checks what a run checks, says what it would do, and leaves everything as it was."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

from cryotorch.errors import DryRun, InputError
from cryotorch.jobs import simulate
from cryotorch.jobs.config import catalog
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.files.dry_run import nothing_kept, without_cache, work_begins
from cryotorch.jobs.files.folder_lock import FolderLock
from cryotorch.jobs.files.memory import NEEDS

REFINED = dict(max_iterations=2, split_resolution=25, trainer__accelerator="cpu")
HALVES = dict(half_map_a="a.mrc", half_map_b="initial.mrc")
# What each job is given, in the folder of ``files``.
GIVEN: dict[str, dict[str, Any]] = {
    "ab_initio": dict(particles="particles.star", n_starts=1),
    "class2d": dict(particles="particles.star", n_classes=2, max_resolution=14, shift_extent=10),
    "classify": dict(particles="truth.star", half_sets="resplit"),
    "convert": dict(particles="truth.star"),
    "create_templates": dict(volume="a.mrc", n_templates=2),
    "ctf_refine": dict(
        **dict(particles="truth.star", volume="a.mrc", max_resolution=14),
        **dict(optics_min_resolution=30, defocus_min_resolution=60),
    ),
    "hetero_refine": dict(
        particles="particles.star", volume="initial.mrc", n_classes=2, final_resolution=14
    ),
    "homo_refine": dict(particles="particles.star", volume="initial.mrc", **REFINED),
    "local_refine": dict(
        **dict(particles="truth.star", volume="a.mrc", mask="mask.mrc", half_sets="resplit"),
        **(REFINED | dict(initial_resolution=20)),
    ),
    "local_resolution": HALVES,
    "orientation_diagnostics": HALVES | dict(particles="truth.star"),
    "particles": dict(particles="truth.star"),
    "reconstruct": dict(particles="truth.star", half_sets="resplit"),
    "report": dict(runs=["made"]),
    "sharpen": HALVES,
    "simulate": dict(box_size=16, pixel_size=6.0, n_particles=12, resolution=14),
    "subtract": dict(particles="truth.star", volume="a.mrc", mask="mask.mrc"),
    "validation_fsc": HALVES,
    "variability": dict(particles="truth.star", half_sets="resplit", n_components=1),
    "volume_tools": dict(volume="a.mrc", threshold=0.2),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Particles with their maps, and a mask."""
    folder = tmp_path_factory.mktemp("files")
    size = dict(box_size=16, pixel_size=6.0, n_particles=100, snr=4, resolution=14)
    simulate.run(make_settings("simulate", out=str(folder), **size))
    (folder / "truth.mrc").rename(folder / "a.mrc")
    mask = dict(volume=str(folder / "a.mrc"), threshold=0.1, soften=12)
    run("volume_tools", out=str(folder / "made"), **mask)
    (folder / "made" / "mask.mrc").rename(folder / "mask.mrc")
    (folder / "taken").mkdir()
    (folder / "taken" / "config.yaml").write_text("somebody's\n")
    return folder


@pytest.fixture
def there(files: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(files)
    return files


def run(job: str, **given: Any) -> None:
    importlib.import_module(f"cryotorch.jobs.{job}").run(make_settings(job, **given))


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file and folder with its size and time."""
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in [folder, *folder.rglob("*")]
    }


def test_every_job_is_here() -> None:
    missing = set(catalog.job_names()) - GIVEN.keys()
    assert not missing, f"give {missing} a row in GIVEN: every job has a dry run"


@pytest.mark.parametrize("job", catalog.job_names())
def test_nothing_is_written(there: Path, job: str, capsys: pytest.CaptureFixture) -> None:
    before = snapshot(there)
    with pytest.raises(DryRun):
        run(job, out="new/folder", dry_run=True, **GIVEN[job])
    assert snapshot(there) == before
    said = capsys.readouterr().out
    assert "nothing was written. A run would write into new/folder: " in said
    if job in NEEDS.keys() - {"simulate"} or job.endswith("_refine"):
        assert "GB of memory" in said
    if job in ("homo_refine", "local_refine"):
        assert " left, for " in said or " for all, as " in said
    if job in ("ab_initio", "classify", "hetero_refine"):
        assert "How long it takes nobody knows" in said


@pytest.mark.parametrize(
    ("job", "change"),
    [
        *((job, dict(out="taken")) for job in GIVEN),
        *((job, dict(out="a.mrc")) for job in ("ab_initio", "homo_refine", "sharpen")),
        *((job, dict(particles="gone.star")) for job in GIVEN if "particles" in GIVEN[job]),
        *((job, dict(mask="particles.mrcs")) for job in ("sharpen", "validation_fsc")),
        *((job, dict(mask="initial.mrc")) for job in ("local_resolution", "local_refine")),
        ("orientation_diagnostics", dict(mask="initial.mrc")),
        ("homo_refine", dict(box_size=12, search__shift_extent=400)),
        ("homo_refine", dict(resume=True)),
        ("homo_refine", dict(search__candidates=100_000, search__grid_step=0.1)),
        ("ab_initio", dict(model="a.mrc")),
        ("ab_initio", dict(n_classes=1000)),
        ("class2d", dict(particles="made", select=[1])),
        ("reconstruct", dict(symmetry="Q9")),
        ("volume_tools", dict(add=["gone.mrc"])),
        ("simulate", dict(source="gone.pdb")),
    ],
)
def test_what_is_wrong_is_told_in_the_same_words(
    there: Path, job: str, change: dict[str, Any]
) -> None:
    given = dict(out="new") | GIVEN[job] | change
    said = []
    before = snapshot(there)
    for dry_run in (True, False):
        with pytest.raises(InputError) as refused:
            run(job, dry_run=dry_run, **given)
        said.append(str(refused.value))
    gone = re.fullmatch("File (.+) does not exist: check the name.", said[1])
    assert said[0] == said[1] if gone is None else f"{gone[1]} is not there" in said[0]
    assert snapshot(there).keys() == before.keys()


def test_what_would_be_replaced(there: Path, capsys: pytest.CaptureFixture) -> None:
    before = snapshot(there / "made")
    given = dict(out="made", volume="a.mrc", threshold=0.1, dry_run=True)
    with pytest.raises(InputError, match="already holds a run"):
        run("volume_tools", **given)
    with pytest.raises(DryRun):
        run("volume_tools", overwrite=True, **given)
    assert "into made and replace 6 files of a run there: report.html" in capsys.readouterr().out
    assert snapshot(there / "made") == before


def test_a_folder_in_use(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    lock.acquire()
    held = (tmp_path / ".lock").read_text()
    with pytest.raises(InputError, match="is in use by process"):
        run("simulate", out=str(tmp_path), dry_run=True, **GIVEN["simulate"])
    assert (tmp_path / ".lock").read_text() == held
    lock.release()
    with pytest.raises(DryRun):
        run("simulate", out=str(tmp_path), dry_run=True, **GIVEN["simulate"])


def test_a_cache_is_not_made(there: Path) -> None:
    given = GIVEN["reconstruct"] | dict(cache_dir="cache/new", out="new")
    settings = without_cache(make_settings("reconstruct", dry_run=True, **given))
    assert settings.cache_dir is None
    kept = make_settings("reconstruct", **given)
    assert without_cache(kept) is kept
    with pytest.raises(InputError, match=r"cache_dir=a\.mrc/x cannot be written"):
        without_cache(
            make_settings("reconstruct", dry_run=True, **given | dict(cache_dir="a.mrc/x"))
        )


def test_a_job_that_does_not_say_where_its_work_begins(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="work_begins"), nothing_kept(tmp_path, []):
        pass
    work_begins(make_settings("sharpen"))


@pytest.mark.parametrize(
    ("job", "given", "said"),
    [
        ("homo_refine", dict(particles="particles.star", volume="begun"),
         "volume=begun is not there, .* parameters, out and particles=particles.star are sound"),
        ("validation_fsc", dict(volume="refined", mask="soft.mrc"),
         "volume=refined and mask=soft.mrc are not there, .* needs them .*; parameters and out are sound"),
        ("reconstruct", dict(particles="refined/particles.star"),
         "particles=refined/particles.star is not there, .* check this one again after that"),
        ("classify", dict(particles="gone.star"), "particles=gone.star is not there"),
    ],
)  # fmt: skip
def test_inputs_of_a_command_to_come_are_told_after_all_else(
    job: str, given: dict, said: str, there: Path
) -> None:
    before = snapshot(there)
    with pytest.raises(InputError, match=said):
        run(job, **given, out="new", dry_run=True)
    with pytest.raises(InputError, match="out=taken already holds"):
        run(job, **given, out="taken", dry_run=True)
    with pytest.raises(InputError, match="symmetry=Z9 cannot be used"):
        run(job, **given, out="new", symmetry="Z9", dry_run=True)
    with pytest.raises(InputError, match=r"does not exist|is not a folder"):
        run(job, **given, out="new")
    assert snapshot(there) == before


def test_particles_that_are_there_are_read_though_the_map_is_not(there: Path) -> None:
    with pytest.raises(InputError, match=r"a\.mrc"):
        run("homo_refine", particles="a.mrc", volume="begun", out="new", dry_run=True)
