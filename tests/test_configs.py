"""Every YAML file composes, is explained line by line, and fits its dataclass."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from pathlib import Path
from typing import get_type_hints

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from cryotorch.jobs.config import catalog
from cryotorch.jobs.config.parse import TrainerSettings, build, spelled

JOBS = catalog.job_names()


def composed(job: str, *overrides: str) -> dict:
    with initialize_config_dir(str(catalog.CONFIGS), version_base="1.3"):
        return OmegaConf.to_container(compose("config", [f"job={job}", *overrides]), resolve=True)


def leaves(cls: type, prefix: str = "") -> list[str]:
    names = []
    for name, hint in get_type_hints(cls).items():
        name = spelled(name)
        names += leaves(hint, f"{name}.") if dataclasses.is_dataclass(hint) else [prefix + name]
    return names


def lines_of(path: Path) -> list[tuple[str, str, str, str]]:
    """(section with its note, comment, parameter, default) of every parameter of a YAML file, read line by line."""
    found, section, comment, group = [], "", [], ""
    for line in path.read_text().splitlines():
        text = line.strip()
        name, _, default = text.partition(":")
        if text.startswith("# ---"):
            section, comment = text.strip("# -"), []
        elif text.startswith("#"):
            comment.append(text.lstrip("# "))
        elif text and not text.startswith("-") and name != "defaults":
            group = group if line.startswith(" ") else ""
            if default:
                found.append((section, " ".join(comment), group + name, default.strip()))
            else:
                group = f"{name}."
            comment = []
        else:
            comment = []
    return found


def shared_by(path: Path) -> list[Path]:
    """The files that a file builds on."""
    named = yaml.safe_load(path.read_text()).get("defaults", [])
    lists = [entry["/shared"] for entry in named if isinstance(entry, dict) and "/shared" in entry]
    shared = [catalog.CONFIGS / "shared" / f"{name}.yaml" for names in lists for name in names]
    presets = [n for n in named if isinstance(n, str) and n != "_self_" and "hydra" not in n]
    return shared + [path.with_name(f"{name}.yaml") for name in presets]


def test_the_main_job_is_there() -> None:
    assert "homo_refine" in JOBS


@pytest.mark.parametrize("job", JOBS)
def test_defaults_fit_the_dataclass(job: str) -> None:
    """Hydra's composition and the YAML reader behind --help give the same settings."""
    cls = catalog.settings_class(job)
    assert build(cls, composed(job), job) == catalog.make_settings(job)


@pytest.mark.parametrize("job", JOBS)
def test_names_and_order_are_those_of_the_dataclass(job: str) -> None:
    names = [p.name for p in catalog.parameters(job)]
    assert sorted(names) == sorted(leaves(catalog.settings_class(job)))


@pytest.mark.parametrize("job", JOBS)
def test_every_parameter_says_what_it_means(job: str) -> None:
    for parameter in catalog.parameters(job):
        assert len(parameter.meaning) > 8, f"{parameter.name} lacks its comment line"
        assert parameter.meaning[-1] in ".)?", parameter.name
    assert len(catalog.summary(job)) > 20


@pytest.mark.parametrize("job", JOBS)
def test_help_lists_every_parameter_with_its_default(job: str) -> None:
    text = catalog.list_parameters(job, width=100)
    for p in catalog.parameters(job):
        assert f"  {p.name}=" in text
        assert p.meaning.split(".")[0].split()[0] in text
    assert max(map(len, text.splitlines())) <= 100


def test_no_parameter_stands_twice() -> None:
    """One line per parameter in the whole tree: the same name with the same meaning is shared, not repeated."""
    files = sorted(catalog.CONFIGS.rglob("*/*.yaml"))
    stands = Counter((name, said) for path in files for _, said, name, _ in lines_of(path) if said)
    assert len(stands) > 200
    assert [key for key, times in stands.items() if times > 1] == []
    assert [s for s, n in Counter(said for _, said in stands).items() if n > 1] == []


def test_a_line_without_a_comment_changes_a_shared_default() -> None:
    for path in sorted(catalog.CONFIGS.rglob("*/*.yaml")):
        given = {n: value for base in shared_by(path) for _, _, n, value in lines_of(base)}
        bare = {name: value for _, said, name, value in lines_of(path) if not said}
        for name, value in bare.items():
            assert name in given, f"{path.name}: {name} lacks its comment line"
            assert value != given[name], f"{path.name}: {name} is {value} anyway"


@pytest.mark.parametrize("job", JOBS)
def test_a_job_says_where_its_other_parameters_are(job: str) -> None:
    """The title of a section names the shared files with more of it."""
    path = catalog.CONFIGS / "job" / f"{job}.yaml"
    own = {name for _, said, name, _ in lines_of(path) if said}
    # Of a parameter that two of them have, the later file counts.
    place = {n: (part, p.stem) for p in shared_by(path) for part, _, n, _ in lines_of(p)}
    wanted: dict[str, list[str]] = {}
    for part, stem in dict.fromkeys(place[name] for name in place if name not in own):
        wanted.setdefault(part, []).append(stem)
    titles = [line.strip("# -") for line in path.read_text().splitlines() if line[:5] == "# ---"]
    named = {t.partition(" (")[0]: re.findall(r"shared/(\w+)\.yaml", t) for t in titles}
    assert {part: files for part, files in named.items() if files} == wanted


def test_class_chooses_particles_wherever_they_are_read() -> None:
    names = {job: {p.name for p in catalog.parameters(job)} for job in JOBS}
    reading = {job for job in JOBS if "particles" in names[job]}
    assert {"homo_refine", "local_refine", "ctf_refine", "reconstruct", "convert"} <= reading
    assert all("class" in names[job] for job in reading)


@pytest.mark.parametrize("preset", catalog.options("trainer"))
def test_trainer_presets(preset: str) -> None:
    trainer = build(TrainerSettings, composed("homo_refine", f"trainer={preset}")["trainer"], "x")
    wanted = {"auto": "auto", "cpu": "cpu", "gpu": "gpu", "ddp": "auto"}
    assert trainer.accelerator == wanted[preset]
    assert (trainer.strategy == "ddp") == (preset == "ddp")


def test_issue_defaults_of_homo_refine() -> None:
    """The defaults that the manual promises; a change here is a change for every user."""
    s = catalog.make_settings("homo_refine")
    assert (s.particles, s.volume, s.mask, s.out, s.box_size) == ("demo", None, None, None, None)
    assert (s.symmetry, s.initial_resolution, s.split_resolution) == ("C1", "auto", 20)
    assert (s.rescale_reference, s.extra_final_passes, s.max_iterations) == (True, 0, 30)
    assert (s.half_sets, s.per_particle_scale, s.scale_start_iteration) == ("keep", True, 1)
    assert (s.mask_mode, s.mask_threshold, s.mask_near, s.mask_far) == ("dynamic", 0.2, 6, 14)
    assert (s.mask_start_resolution, s.window_inner, s.window_outer) == (12, 0.85, 0.99)
    assert (s.bfactor, s.minibatch_size, s.compile, s.normalize) == (None, "auto", "auto", "auto")
    assert (s.seed, s.resume, s.overwrite, s.invert) == (0, False, False, False)
    assert (s.max_align_resolution, s.particle_diameter, s.cache_dir) == (None, None, None)
    assert (s.search.coarse_limit, s.search.grid_step, s.search.candidates) == (12, None, 24)
