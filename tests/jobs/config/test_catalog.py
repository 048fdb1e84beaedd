"""Jobs and parameters as ``configs/`` tells them; ``tests/test_configs.py`` looks at every file there."""

from __future__ import annotations

import pytest

from cryotorch.errors import InputError
from cryotorch.jobs.config import catalog


@pytest.mark.parametrize(
    ("name", "takes"),
    [
        ("erase", True),
        ("segment.labels", True),
        ("unite", True),
        ("threshold", False),
        ("no", False),
    ],
)
def test_which_parameters_take_a_list(name: str, takes: bool) -> None:
    assert catalog.takes_list(name, "volume_tools") == takes


def test_jobs_are_found_or_the_closest_one_is_named() -> None:
    assert {"homo_refine", "volume_tools"} <= set(catalog.job_names())
    assert catalog.find_job("sharpen") == "sharpen"
    with pytest.raises(InputError, match=r"there is no job sharpn.*did you mean sharpen"):
        catalog.find_job("sharpn")


def test_defaults_come_from_the_files_and_changes_go_into_groups() -> None:
    plain = catalog.make_settings("homo_refine")
    other = catalog.make_settings("homo_refine", seed=7, search__candidates=3)
    assert (other.seed, other.search.candidates) == (7, 3)
    assert other.search.newton_steps == plain.search.newton_steps != other.search.candidates + 99
    assert catalog.make_settings("homo_refine") == plain  # nothing sticks
    with pytest.raises(InputError, match="seed"):
        catalog.make_settings("homo_refine", seed="often")


def test_names_that_are_no_parameters_are_refused() -> None:
    for name in ("seed", "search", "search.candidates", "trainer"):
        catalog.check_name(name, "homo_refine")
    with pytest.raises(InputError, match="homo_refine has no parameter sed: did you mean seed"):
        catalog.check_name("sed", "homo_refine")


def test_help_lists_every_parameter_with_default_and_meaning() -> None:
    text = catalog.list_parameters("sharpen", width=80)
    for parameter in catalog.parameters("sharpen"):
        assert f"{parameter.name}=" in text, parameter.name
    assert max(map(len, text.splitlines())) <= 80
    jobs = catalog.list_jobs(width=80)
    assert all(job in jobs for job in catalog.job_names())


@pytest.mark.parametrize("job", catalog.job_names())
def test_every_job_has_an_example_command(job: str) -> None:
    """A line such as ``# The demo: cryotorch job=homo_refine`` before the first section of its YAML file."""
    found = catalog.examples(job)
    assert found, f"configs/job/{job}.yaml lacks a line '# What for: cryotorch job={job} ...'"
    assert any(f" job={job}" in command for _, command in found)


def test_presets_of_a_group() -> None:
    assert "trainer" in catalog.groups("homo_refine") and "cpu" in catalog.options("trainer")
    assert catalog.groups("sharpen") == []
    names = [p.name for p in catalog.parameters("homo_refine")]
    assert "trainer.devices" in names and "search.candidates" in names


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("sym", "did you mean symmetry?"),
        ("candidates", "did you mean search__candidates?"),
        ("search.candidates", "did you mean search__candidates?"),
        ("search__", "did you mean search__method?"),
        ("", """no parameter '': list them with parameters("homo_refine")"""),
        ("__", "no parameter __"),
    ],
)
def test_a_name_of_python_that_there_is_not(name: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        catalog.make_settings("homo_refine", **{name: 4})
    assert said in str(caught.value)


def test_a_group_may_be_a_mapping() -> None:
    made = catalog.make_settings("homo_refine", search={"candidates": 7})
    assert made.search == catalog.make_settings("homo_refine", search__candidates=7).search
    with pytest.raises(InputError, match="there is no job homo_refin"):
        catalog.make_settings("homo_refin")
