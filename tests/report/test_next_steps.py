"""Commands for after a job can be typed, and none claims what the summary does not."""

from __future__ import annotations

import shlex

import pytest

from cryotorch.jobs.config import catalog
from cryotorch.report.next_steps import AFTER, claimed, next_steps

HALVES = {"half_map_a": "a b.mrc", "half_map_b": "b.mrc", "pixel_size": 1.2}
REFINED = {"particles": "in.star", "max_iterations": 30, "symmetry": "D7", "write": ["star"]}
UNSETTLED = {"findings": [{"code": "not_converged"}], "resolution": 8.0}
# job, summary, settings, and the jobs of the commands that follow
CASES = [
    (
        "homo_refine",
        {"resolution": 3.2},
        REFINED,
        "ctf_refine local_resolution orientation local_refine",
    ),
    ("homo_refine", {"resolution": 8.0}, REFINED, "local_resolution orientation local_refine"),
    ("homo_refine", {"resolution": None}, REFINED, "class2d"),
    ("local_refine", {"resolution": None}, REFINED, "class2d"),
    ("ab_initio", {"resolution": None}, REFINED, "homo_refine"),
    ("ab_initio", {"findings": [{"code": "no_structure"}]}, REFINED, "class2d"),
    ("class2d", {"suggested": [1, 4], "resolution": [9.0, None]}, {}, "class2d"),
    ("class2d", {"suggested": []}, {}, ""),
    ("class2d", {"particles": 10}, {"select": [1]}, "ab_initio"),
    ("convert", {"has_pose": True, "files": ["particles.cs"]}, {}, "reconstruct"),
    ("convert", {"has_pose": False, "files": ["particles.cs"]}, {}, ""),
    ("particles", {"particles": 9, "half_sets": [5, 4], "files": ["particles.star"]}, {}, "rec"),
    ("particles", {"particles": 5, "half_sets": [5, 0], "files": ["particles.star"]}, {}, ""),
    ("reconstruct", {"resolution": 4.0}, REFINED, "local_resolution orientation"),
    ("reconstruct", {"resolution": None}, REFINED, "homo_refine"),
    ("validation_fsc", {"resolution": 4.0}, HALVES, "sharpen local_resolution"),
    ("validation_fsc", {"resolution": None}, HALVES, ""),
    ("sharpen", {"resolution": 4.0}, HALVES, "sharpen"),
    ("sharpen", {"resolution": None}, HALVES, ""),
    ("ctf_refine", {}, {"write": ["cs"]}, "reconstruct"),
    ("simulate", {}, {"symmetry": "C4"}, "homo_refine"),
    (
        "homo_refine",
        {"resolution": 8.0, "junk_share": 0.1},
        REFINED,
        "local_resolution orientation local_refine particles",
    ),
    (
        "classify",
        {"second_state": True, "classes": [{"class": 1, "share": 0.6}]},
        {},
        "homo_refine",
    ),
    ("classify", {"second_state": False, "classes": [{"class": 1, "share": 0.6}]}, {}, ""),
    (
        "hetero_refine",
        {"second_state": None, "classes": [{"class": 2, "share": 0.6}]},
        {},
        "homo_refine",
    ),
    ("subtract", {}, {}, "reconstruct classify particles"),
    ("variability", {"real": 0}, {}, ""),
    ("volume_tools", {"result": "mask.mrc"}, {}, "validation_fsc"),
    ("volume_tools", {"result": "map.mrc"}, {}, ""),
]


@pytest.mark.parametrize(("job", "summary", "settings", "jobs"), CASES)
def test_what_follows(job: str, summary: dict, settings: dict, jobs: str) -> None:
    steps = next_steps(job, "my runs/1", summary, settings)
    commands = [shlex.split(step.command) for step in steps]
    assert len(commands) == len(jobs.split())
    for words, wanted in zip(commands, jobs.split(), strict=True):
        after = words[1].removeprefix("job=")
        assert after.startswith(wanted)
        for word in words[2:]:
            catalog.check_name(word.partition("=")[0], catalog.find_job(after))


def test_a_row_for_every_job() -> None:
    missing = set(catalog.job_names()) - AFTER.keys()
    assert not missing, f"say in cryotorch/report/next_steps.py what comes after {missing}"


def test_sharpening_only_of_what_is_claimed() -> None:
    for job in AFTER:
        for step in next_steps(job, "out", {"resolution": None}, REFINED):
            assert ("job=sharpen" not in step.command and "local_resolution" not in step.command) \
                or job == "local_resolution"  # fmt: skip


def test_values_are_quoted_and_kept() -> None:
    first = next_steps("validation_fsc", "my out", {"resolution": 4.0}, HALVES)[0]
    assert "half_map_a=a b.mrc" in shlex.split(first.command)
    assert "mask=my out/mask_fsc.mrc" in shlex.split(first.command)
    assert "pixel_size=1.2" in first.command


def test_the_largest_class_is_refined() -> None:
    classes = [{"class": 1, "share": 0.2}, {"class": 2, "share": 0.8}]
    step = next_steps("ab_initio", "begun/", {"classes": classes}, {"symmetry": "D7"})[0]
    assert step.command == (
        "cryotorch job=homo_refine particles=begun/particles_class_2.star volume=begun/map_class_2.mrc symmetry=D7"
    )


def test_a_run_that_has_not_converged_goes_on() -> None:
    at_the_end = next_steps("homo_refine", "run", UNSETTLED | {"iterations": 30}, REFINED)[0]
    assert at_the_end.command == "cryotorch out=run resume=true max_iterations=60"
    before = next_steps("homo_refine", "run", UNSETTLED | {"iterations": 9}, REFINED)[0]
    assert before.command == "cryotorch out=run resume=true extra_final_passes=2"


def test_claimed() -> None:
    assert claimed({"resolution": 3.5}) == 3.5
    for nothing in (None, [3.5], float("nan"), "3.5"):
        assert claimed({"resolution": nothing}) is None
