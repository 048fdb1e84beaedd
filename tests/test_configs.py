"""Every YAML file composes, is explained line by line, and fits its dataclass."""

from __future__ import annotations

import dataclasses
from typing import get_type_hints

import pytest
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
    assert (s.symmetry, s.initial_resolution, s.split_resolution) == ("C1", 30, 20)
    assert (s.rescale_reference, s.extra_final_passes, s.max_iterations) == (True, 0, 30)
    assert (s.half_sets, s.per_particle_scale, s.scale_start_iteration) == ("keep", True, 1)
    assert (s.mask_mode, s.mask_threshold, s.mask_near, s.mask_far) == ("dynamic", 0.2, 6, 14)
    assert (s.mask_start_resolution, s.window_inner, s.window_outer) == (12, 0.85, 0.99)
    assert (s.bfactor, s.minibatch_size, s.compile, s.normalize) == (None, "auto", "auto", "auto")
    assert (s.seed, s.resume, s.overwrite, s.invert) == (0, False, False, False)
    assert (s.max_align_resolution, s.particle_diameter, s.cache_dir) == (None, None, None)
    assert (s.search.coarse_limit, s.search.grid_step, s.search.candidates) == (12, None, 24)
