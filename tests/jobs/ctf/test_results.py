"""The numbers of an optics group: known, clear of their errors, or left as they were."""

from __future__ import annotations

from cryotorch.jobs.ctf.results import Number, insignificant, number_finding, untold


def test_what_is_not_told_from_zero_is_said() -> None:
    near = Number(0.0, 0.0, 0.5, "rad Å³", True, significant=False)
    far = Number(3.0, 3.0, 0.5, "rad Å³", True)
    assert number_finding("trefoil_cos", near).code == "number_unclear"
    assert number_finding("trefoil_cos", far)["change"] == 3
    groups = [{"numbers": {"beam_tilt_x": far, "beam_tilt_y": near, "trefoil_cos": near}}]
    assert insignificant(groups) == ["trefoil"]


def test_a_group_of_coarse_pixels_is_told_that_it_was_not_fitted() -> None:
    group = {"name": "g2", "particles": 40, "resolution_limit": 12.0}
    values = dict(group="g2", particles=40, numbers="beam tilt x", begin=10.0)
    found = untold(group, ["beam_tilt_x"], 10.0)
    assert found.code == "group_not_fitted" and found.values == {**values, "end": 12.0}
    group["resolution_limit"] = 6.0
    found = untold(group, ["beam_tilt_x"], 10.0)
    assert found.code == "group_vague" and found.values == {**values, "end": 6.0}
