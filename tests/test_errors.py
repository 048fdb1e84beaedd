"""Who tells why a run ends, and which errors mean that memory is full."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cryotorch.errors import TOLD, InputError, Stopped, first_to_tell, out_of_memory


def test_one_process_of_a_run_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOLD, str(tmp_path / "told"))
    assert first_to_tell() and not first_to_tell() and not first_to_tell()
    monkeypatch.delenv(TOLD)
    assert first_to_tell() and first_to_tell()  # alone


def test_after_the_end_of_all_the_first_rank_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder of the file is gone."""
    monkeypatch.setenv(TOLD, str(tmp_path / "gone" / "told"))
    for rank, tells in ((None, True), ("0", True), ("1", False)):
        if rank is not None:
            monkeypatch.setenv("LOCAL_RANK", rank)
        assert first_to_tell() == tells


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), True),
        (RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("shapes differ"), False),
        (ValueError("CUDA out of memory"), False),
        (InputError("the memory is full"), False),
    ],
)
def test_errors_that_say_that_memory_is_full(error: BaseException, full: bool) -> None:
    assert out_of_memory(error) == full


def test_a_stop_has_the_exit_code_of_its_signal() -> None:
    assert Stopped("a").code == 130 and Stopped("a", code=143).code == 143
    assert isinstance(Stopped(), KeyboardInterrupt) and not isinstance(Stopped(), Exception)
    assert isinstance(InputError("x"), ValueError)
