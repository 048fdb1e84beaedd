"""What is said of 3D classes."""

from __future__ import annotations

import math

from cryotorch.findings import Finding, remark
from cryotorch.report.sentences import line, say


def test_a_class_without_resolution_has_none() -> None:
    known = dict(number=2, share=0.405, size=327.4, reason=None)
    assert say(remark("class_3d", **known, resolution=8.204, ended_by="threshold")) == (
        "class 2: 40.5% of the particles, effective number 327, 8.20 Å"
    )
    capped = say(remark("class_3d", **known, resolution=8.0, ended_by="limit"))
    assert capped.endswith("8.00 Å or better: the search went no further than final_resolution")
    assert say(remark("class_3d", **known, resolution=math.nan, ended_by="")).endswith(
        "no resolution can be claimed of it here"
    )
    why = Finding("within_noise", level=0.3, resolution=12.0, symmetric=False)
    said = say(remark("class_3d", **{**known, "reason": why}, resolution=math.nan, ended_by=""))
    assert "claimed of it here. Nothing to claim: the half maps agree no further than noise" in said


def test_classes_that_had_not_settled() -> None:
    said = say(Finding("classes_unsettled", changed=0.052, passes=20))
    assert "5.2% of the particles changed class in the last of 20" in said and "max_passes" in said


def test_no_second_state_is_a_warning_that_says_what_was_compared() -> None:
    said = line(Finding("no_second_state", classes=2, lead=-1.23, images=1400))
    assert said.startswith("WARNING: No second state is seen: 1,400 particles")
    assert "by -1.2 standard errors" in said and "do not use them" in said
    seen = say(remark("second_state", classes=2, lead=10.9, gain=3.12, images=160))
    assert "more than one state is seen. Whether it is of the molecule" in seen
