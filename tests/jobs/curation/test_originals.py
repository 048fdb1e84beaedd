"""From images that were made of others back to these: poses, boxes and names are theirs again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from cryotorch.findings import codes
from cryotorch.jobs.curation.originals import FOCUS, ORIGINAL_BOX, remembering, returned
from cryotorch.jobs.curation.particle_list import ParticleList
from cryotorch.jobs.curation.poses import recentred
from cryotorch.ops.geometry.rotations import from_rotation_vector

POINT = np.array([12.0, -20.0, 24.0])
NAMES = np.array([b"%06d@new.mrcs" % (i + 1) for i in range(30)])
STRETCH = {"rlnMagMat00": ["1.02"], "rlnMagMat01": ["0.01"], "rlnMagMat11": ["0.98"]}
STRETCH["rlnMagMat10"] = ["0"]


def moved(some: ParticleList, point: np.ndarray = POINT, height: float | None = 7.0):
    move = (
        1.5 * np.round(recentred(some, point).shift() / 1.5) if point.any() else np.zeros((30, 2))
    )
    high = None if height is None else np.full(30, height)
    return remembering(some, NAMES, np.array([24]), point, move, high), move


def test_what_is_recorded(make_list) -> None:
    """The point lies at M^T (R p) - s in the image; pixels that are moved by +m leave s - m."""
    some = make_list(optics=STRETCH)
    made, move = moved(some)
    place = np.einsum("nij,j->ni", some.rotation().numpy(), POINT)[:, :2]
    m = np.array([[1.02, 0.01], [0, 0.98]])
    assert np.allclose(made.shift(), some.shift() - place @ m - move, atol=1e-5)
    assert made.table["rlnImageName"].tolist() == [x.decode() for x in NAMES.tolist()]
    assert made.table["rlnImageOriginalName"].tolist() == some.table["rlnImageName"].tolist()
    assert made.optics.integers("rlnImageSize").tolist() == [24]
    assert made.optics.integers(ORIGINAL_BOX).tolist() == [64]
    assert np.allclose(made.numbers("rlnDefocusU"), some.numbers("rlnDefocusU") + 7)
    assert made.table["rlnAngleRot"].tolist() == some.table["rlnAngleRot"].tolist()
    assert made.table["someoneElsesColumn"].tolist() == some.table["someoneElsesColumn"].tolist()


def test_there_and_back(make_list) -> None:
    some = make_list(optics=STRETCH)
    back, told = returned(moved(some)[0])
    assert codes(told) == ["originals_again"]
    assert np.allclose(back.shift(), some.shift(), atol=1e-5)
    assert np.allclose(back.numbers("rlnDefocusU"), some.numbers("rlnDefocusU"), atol=1e-4)
    assert back.optics.integers("rlnImageSize").tolist() == [64]
    assert not [x for x in back.labels if "Subtracted" in x or x == ORIGINAL_BOX]


def test_what_was_refined_since_is_kept(make_list) -> None:
    """A pose that is turned about the new centre by Q, and moved by d, shows every point of the old map where the new one does."""
    some = make_list(optics=STRETCH)
    made, _ = moved(some)
    turn = from_rotation_vector(torch.from_numpy(np.random.default_rng(2).normal(0, 0.1, (30, 3))))
    refined = made.with_rotation(turn @ made.rotation(), np.ones(30, bool))
    shift = made.shift() + [1.25, -0.5]
    refined = refined.with_columns(
        dict(zip(("rlnOriginXAngst", "rlnOriginYAngst"), shift.T, strict=True))
    )
    back, _ = returned(refined)
    x = np.array([3.0, 8.0, -20.0])  # of the old map, Å
    m = np.array([[1.02, 0.01], [0, 0.98]])

    def place(of: ParticleList, at: np.ndarray) -> np.ndarray:
        return np.einsum("nij,j->ni", of.rotation().numpy(), at)[:, :2] @ m - of.shift()

    move = np.stack([refined.numbers(f"cryotorchSubtractedMove{a}") for a in "XY"], 1)
    assert np.allclose(place(back, x), place(refined, x - POINT) - move, atol=1e-4)
    assert np.abs(place(some, x) - place(back, x)).max() > 1


def test_twice_is_undone_at_once(make_list) -> None:
    some = make_list()
    once, _ = moved(some)
    twice, _ = moved(once, np.array([-5.0, 1.0, 2.0]))
    assert twice.table["rlnImageOriginalName"].tolist() == some.table["rlnImageName"].tolist()
    assert np.allclose(twice.numbers(FOCUS), 14)
    back, _ = returned(twice)
    assert np.allclose(back.shift(), some.shift(), atol=1e-5)
    assert np.allclose(back.numbers("rlnDefocusV"), some.numbers("rlnDefocusV"), atol=1e-4)
    assert back.optics.integers("rlnImageSize").tolist() == [64]


def test_nothing_moved_leaves_every_digit(make_list) -> None:
    some = make_list()
    made = remembering(some, NAMES, np.array([64]), np.zeros(3), np.zeros((30, 2)), None)
    for label in ("rlnOriginXAngst", "rlnDefocusU", "rlnAnglePsi"):
        assert np.array_equal(made.table.raw(label), some.table.raw(label))
        assert np.array_equal(returned(made)[0].table.raw(label), some.table.raw(label))


def test_lists_of_other_programs_keep_their_poses(make_list, tmp_path: Path) -> None:
    names = [f"{i + 1:06d}@old.mrcs" for i in range(30)]
    some = make_list(rlnImageOriginalName=names)
    back, told = returned(some)
    assert codes(told) == ["originals_as_posed"] and told[0].serious
    assert np.array_equal(back.shift(), some.shift()) and "rlnImageSize" not in back.optics
