"""A saved state is taken over whole, or refused in a sentence."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch

from cryotorch.errors import InputError
from cryotorch.refinement.em.initialise import initialise_state
from cryotorch.refinement.em.module import coming
from cryotorch.refinement.saved_state import check_saved
from cryotorch.refinement.state import State


def test_a_state_of_another_kind_is_refused(simulate: Callable) -> None:
    world = simulate(48, 4.0)
    given = (world.blind, world.volume, world.batches(), world.settings, 24.0, torch.device("cpu"))
    state, _ = initialise_state(*given, fresh=False)
    for change, said in (
        (lambda s: s.pop("noise"), "the state lacks noise"),
        (lambda s: s.update(spare=1), "the state has an unknown spare"),
        (lambda s: s.update(references=torch.zeros(2, 8, 8, 8)), "references is not what it was"),
        (lambda s: s["poses"].update(shift=None), "poses has no value for shift"),
        (lambda s: s["poses"].update(shift=torch.zeros(48, 2, dtype=torch.int64)), "shift is not"),
        (lambda s: s["convergence"].update(areas=3.0), "areas is not what it was"),
        (lambda s: s.update(max_shell="far"), "max_shell is not what it was"),
        (lambda s: s.update(optics=None), "optics lacks"),
    ):
        saved = state.state_dict()
        change(saved)
        with pytest.raises(InputError, match=said):
            state.load_state_dict(saved, torch.device("cpu"))
    for course in (None, {"steps": []}, {"crossings": 3}):
        with pytest.raises(InputError, match="its course is not that of a run"):
            coming({"convergence": course}, world.settings)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s["noise"].fill_(0), "noise"),
        (lambda s: s["references"][0, 0, 0].fill_(torch.nan), "references"),
        (lambda s: s["poses"]["shift"].fill_(1e10), "shift"),
        (lambda s: s["poses"]["half"].add_(1), "half"),
        (lambda s: s.update(share=1.5), "share"),
        (lambda s: s.update(max_shell=-1.0), "max_shell"),
        (lambda s: s.update(mask=torch.zeros(8, 8, 8)), "mask"),
        (lambda s: s.update(anchor_rotation=torch.zeros(16, 3, 3).long()), "anchor_rotation"),
        (lambda s: s["optics"]["voltage_kv"].fill_(-300.0), "voltage_kv"),
        (lambda s: s.update(history=[{"iteration": 1}]), "history"),
        (lambda s: s.update(history=[{}]), "history"),
    ],
)
def test_values_that_no_run_writes_are_named(simulate: Callable, change, said: str) -> None:
    world = simulate(16, None)
    state = State(world.blind, world.volume.repeat(2, 1, 1, 1), torch.ones(2, 1, 13), 4.0)
    known, saved = state.state_dict(), copy.deepcopy(state.state_dict())
    check_saved(known, saved)
    change(saved)
    with pytest.raises(InputError, match=rf"^the checkpoint cannot be used: {said} is not what"):
        check_saved(known, saved)


def test_what_a_run_may_come_to_have_is_taken_over(simulate: Callable) -> None:
    """Masks, anchors with unknown poses, and coefficients of the optics that the start did not have."""
    world = simulate(16, None)
    state = State(world.blind, world.volume.repeat(2, 1, 1, 1), torch.ones(2, 1, 13), 4.0)
    saved = copy.deepcopy(state.state_dict())
    saved |= dict(mask=torch.ones(24, 24, 24), mask_radius=9.0)
    saved |= dict(
        anchor_rotation=torch.full((16, 3, 3), torch.nan), anchor_shift=torch.zeros(16, 2)
    )
    saved["optics"]["odd_zernike"] = torch.ones(1, 6)
    saved["optics"]["magnification"] = torch.eye(2)[None]
    check_saved(state.state_dict(), saved)
    state.load_state_dict(saved, torch.device("cpu"))
    assert state.mask_radius == 9.0 and state.anchor_rotation.isnan().all()
    assert state.particles.optics.odd_zernike.tolist() == [[1.0] * 6]
