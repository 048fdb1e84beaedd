"""The self-test passes here, and fails where arithmetic is wrong."""

from __future__ import annotations

import logging

import pytest
import torch

from cryotorch.jobs.doctor import self_test
from cryotorch.ops.pose.scores import pose_terms


def test_kernels_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    assert self_test.kernels(torch.device("cpu")).mend == ""
    right = self_test.extract_slices
    for wrong in (lambda *given: 1.001 * right(*given), lambda *given: right(*given) * torch.nan):
        monkeypatch.setattr(self_test, "extract_slices", wrong)
        assert "results would be wrong" in self_test.kernels(torch.device("cpu")).mend
    monkeypatch.setattr(self_test, "extract_slices", right)

    def shifted(table, seen, rows, rotation, shift):
        return pose_terms(table, seen, rows, rotation, shift + 0.01)

    monkeypatch.setattr(self_test, "pose_terms", shifted)
    assert "results would be wrong" in self_test.kernels(torch.device("cpu")).mend


def test_a_refinement_that_reaches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for reached, fine in ((8.0, True), (8.53, True), (9.14, False), (float("nan"), False)):
        monkeypatch.setattr(self_test, "refined", lambda reached=reached: (reached, 4))
        assert (self_test.refinement().mend == "") == fine


def test_the_refinement_reaches_what_is_known(capsys: pytest.CaptureFixture) -> None:
    check = self_test.refinement()
    assert check.mend == "" and check.found.startswith("8.00 Å after 3 iterations")
    assert capsys.readouterr().out == ""  # silent
    assert logging.getLogger("cryotorch").handlers == []
