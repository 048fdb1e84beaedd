"""From plain values to a typed dataclass, and what is refused on the way."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from cryotorch.errors import InputError
from cryotorch.jobs.config import catalog
from cryotorch.jobs.config.catalog import make_settings
from cryotorch.jobs.config.parse import in_angstrom, to_yaml


def homo_refine(**changes: object):
    return catalog.make_settings("homo_refine", **changes)


@pytest.mark.parametrize(
    ("name", "given", "kept"),
    [
        ("initial_resolution", "25A", 25.0),
        ("mask_far", "2nm", 20.0),
        ("mask_far", "7px", "7px"),
        ("particle_diameter", None, None),
        ("out", 2024, "2024"),
        ("max_iterations", 4.0, 4),
        ("minibatch_size", 64, 64),
        ("compile", True, True),
        ("bfactor", -80, -80.0),
        ("write", "cs", ["cs"]),
        ("write", ["star", "cs"], ["star", "cs"]),
        ("max_iterations", np.int64(4), 4),
        ("max_iterations", torch.tensor(4), 4),
        ("bfactor", np.float32(-80), -80.0),
        ("compile", np.bool_(True), True),
        ("symmetry", np.str_("C4"), "C4"),
        ("volume", Path("a.mrc"), "a.mrc"),
    ],
)
def test_accepted(name: str, given: object, kept: object) -> None:
    value = getattr(homo_refine(**{name: given}), name)
    assert value == kept and type(value) is type(kept)


@pytest.mark.parametrize("given", [3.54, "3.54", "3.54A", "0.354nm"])
def test_a_pixel_size_may_have_a_unit(given: object) -> None:
    value = catalog.make_settings("simulate", pixel_size=given).pixel_size
    assert type(value) is float and value == pytest.approx(3.54)


def test_gpu_means_cuda() -> None:
    assert catalog.make_settings("reconstruct", device="gpu").device == "cuda"


def test_a_pixel_size_in_pixels_says_nothing() -> None:
    with pytest.raises(InputError, match=r"pixel_size=6px is in pixels.*: give it in Å"):
        catalog.make_settings("simulate", pixel_size="6px")


@pytest.mark.parametrize(
    ("name", "given", "sentence"),
    [
        ("max_iterations", "many", "max_iterations must be a whole number, got 'many'"),
        ("max_iterations", 2.5, "max_iterations must be a whole number, got '2.5'"),
        ("max_iterations", True, "max_iterations must be a whole number, got 'true'"),
        ("max_iterations", 0, "max_iterations=0 cannot be used: it must be above zero"),
        (
            "half_sets",
            "kept",
            r"half_sets must be keep or resplit, got 'kept' \(did you mean keep\?\)",
        ),
        ("normalize", 1, "normalize must be auto or true or false, got '1'"),
        ("resume", "yes", "resume must be true or false, got 'yes'"),
        ("symmetry", None, "symmetry must be text, got 'null'"),
        ("out", 1.5, "out must be text or null, got '1.5'"),
        ("window_inner", float("nan"), "window_inner must be a number, got 'nan'"),
        ("window_outer", 0.5, "window_outer=0.5 cannot be used"),
        ("particles", "", "particles is empty: write particles=<value> or particles=null"),
        ("write", "csv", r"write must be \[star\], \[cs\] or \[star,cs\], got 'csv'"),
        ("write", ["mrc"], r"write must be \[star\], \[cs\] or \[star,cs\], got '\[mrc\]'"),
        ("box_size", 255, "box_size=255 cannot be used: it must be even"),
        ("mask_far", 3, "mask_far=3 cannot be used: it must be above mask_near=6"),
        ("mask_far", "-3px", "mask_far=-3px cannot be used"),
        ("mask_mode", "static", "mask_mode=static cannot be used: it needs a mask"),
        ("particles", "a.star", "add volume=<file>"),
        ("search", 3, "search is a group of parameters"),
        ("symmetry", {"x": 1}, "symmetry is one parameter"),
        ("search__posterior", "best", "search.posterior must be laplace or best_pose"),
        ("search__candidates", 0, "search.candidates=0 cannot be used"),
        ("trainer__devices", None, "trainer.devices must be"),
        ("symetry", "C4", "homo_refine has no parameter symetry: did you mean symmetry?"),
        ("search__newton", 2, "no parameter search__newton: did you mean search__newton_steps?"),
    ],
)
def test_refused_with_a_sentence(name: str, given: object, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        homo_refine(**{name: given})
    assert "\n" not in str(caught.value)


def test_lengths_in_pixels_wait_for_the_pixel_size() -> None:
    settings = homo_refine(mask_far="7px", mask_near="4A", search__shift_extent="6px", out="6px")
    resolved = in_angstrom(settings, 2.5)
    assert (resolved.mask_far, resolved.mask_near, resolved.search.shift_extent) == (
        17.5,
        4.0,
        15.0,
    )
    assert resolved.out == "6px"
    assert settings.mask_far == "7px"


def test_checks_come_again_with_the_pixel_size() -> None:
    with pytest.raises(InputError, match=r"mask_far=5 cannot be used"):
        in_angstrom(homo_refine(mask_far="2px", mask_near=6), 2.5)


def test_yaml_round_trip() -> None:
    settings = homo_refine(symmetry="D7", mask_far="7px")
    written = asdict(settings)
    written["class"] = written.pop("class_")
    assert yaml.safe_load(to_yaml(settings)) == written


def test_a_long_value_is_cut_in_the_sentence() -> None:
    with pytest.raises(InputError) as caught:
        homo_refine(max_iterations=np.arange(1000))
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("job", ["ab_initio", "classify", "hetero_refine"])
def test_resolutions_with_units_are_compared_where_they_can_be(job: str) -> None:
    make_settings(job, initial_resolution="3nm", final_resolution="10px")
    make_settings(job, initial_resolution="8px", final_resolution="4px")
    with pytest.raises(InputError, match="must be finer than initial_resolution=30"):
        make_settings(job, initial_resolution="3nm", final_resolution=40)
