"""What was noticed is a value: compared, extended, looked into."""

from __future__ import annotations

import pytest

from cryotorch.findings import Finding, codes, remark


def test_findings_with_the_same_values_are_the_same() -> None:
    found = Finding("steep", limit=-1000.0)
    assert found == Finding("steep", limit=-1000.0) and hash(found) == hash(
        Finding("steep", limit=-1000.0)
    )
    assert found != Finding("steep", limit=-999.0) and found != Finding("shallow", limit=-1000.0)
    assert found != remark("steep", limit=-1000.0)
    assert found.serious and not remark("steep").serious


def test_values_by_name() -> None:
    found = Finding("few_shells", shells=7, coarse=9.9)
    assert (found["shells"], found.values) == (7, {"shells": 7, "coarse": 9.9})
    with pytest.raises(KeyError):
        found["fine"]


def test_more_values_make_another_finding() -> None:
    first = remark("few_shells", shells=7)
    more = first.plus(shells=8, code="a value may have this name")
    assert more.values == {"shells": 8, "code": "a value may have this name"}
    assert more.code == "few_shells" and not more.serious and first.values == {"shells": 7}


def test_codes_keep_their_order() -> None:
    assert codes([Finding("b"), remark("a"), Finding("b")]) == ["b", "a", "b"]


def test_a_finding_does_not_change() -> None:
    with pytest.raises(AttributeError):
        Finding("a").code = "b"  # type: ignore[misc]
