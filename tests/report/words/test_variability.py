"""Sentences on components."""

from __future__ import annotations

from cryotorch.findings import Finding, remark
from cryotorch.report.sentences import line


def test_how_many_are_real() -> None:
    assert line(remark("components_real", real=1, looked=3, needed=5.0)).startswith(
        "1 of 3 components is real: "
    )
    assert "2 of 3 components are real" in line(
        remark("components_real", real=2, looked=3, needed=5.0)
    )


def test_none_is_a_warning_with_numbers() -> None:
    said = line(Finding("no_component", looked=3, best=-0.35, needed=5.0))
    assert said.startswith("WARNING: No component is real: of 3 ")
    assert "by -0.3 standard errors, and 5 are needed" in said or "by -0.4" in said
    faulty = line(Finding("component_by_faults", number=2, part=0.74))
    assert "Component 2" in faulty and "74%" in faulty
    faint = line(Finding("component_faint", number=1, sigma=0.97))
    assert "error of 0.97" in faint and "Do not sort particles by it" in faint
    coarse = line(Finding("component_coarse", number=1, reached=48.0))
    assert "Component 1" not in coarse and "component 1 to 48 Å only" in coarse
