from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cryotorch.data.grids import boxes_of_groups, several_grids
from cryotorch.data.mrc import write_stack
from cryotorch.data.optics import OpticsOfFile, read_optics
from cryotorch.data.stacks import Stacks
from cryotorch.data.table import Table
from cryotorch.errors import InputError
from cryotorch.findings import codes
from cryotorch.report.sentences import say

PATH = Path("p.star")
# One particle of group 1 in each of the first two stacks, one of group 2 in the third; group 3 has none.
ADDRESS = np.array([[0, 0], [1, 0], [2, 0]])


@pytest.fixture
def stacks(tmp_path) -> Stacks:
    paths = [tmp_path / f"{i}.mrcs" for i in range(3)]
    for path, box, size in zip(paths, (8, 8, 6), (1.5, 0, 2.0), strict=True):
        write_stack(path, [np.zeros((1, box, box))], 1, box, size)
    return Stacks(paths)


def optics(sizes=(1.5, 2.0, 9.0), boxes=None, groups=(1, 1, 2)) -> OpticsOfFile:
    n = len(sizes)
    columns = {
        "rlnOpticsGroup": np.arange(1, n + 1),
        "rlnVoltage": ["300"] * n,
        "rlnSphericalAberration": ["2.7"] * n,
        "rlnAmplitudeContrast": ["0.1"] * n,
        "rlnImagePixelSize": np.array(sizes),
    }
    if boxes is not None:
        columns["rlnImageSize"] = np.array(boxes)
    return read_optics(Table(columns), Table({"rlnOpticsGroup": np.array(groups)}), PATH)


def test_boxes_come_from_the_headers_where_the_file_is_silent(stacks):
    for stated, boxes in ((optics(), [8, 6, 0]), (optics(boxes=(8, 6, 4)), [8, 6, 4])):
        found, told = boxes_of_groups(stacks, ADDRESS, stated, PATH)
        assert found.tolist() == boxes and told == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict(boxes=(8, 8, 8)), r"_rlnImageSize is 8 in p\.star, but the images of .*2\.mrcs have"),
        (dict(groups=(1, 2, 2)), r"1\.mrcs holds images of 8 pixels, .*2\.mrcs of 6: give each"),
        (dict(sizes=(1.5, 4.0)), r"is 4 Å in p\.star but 2 Å in the header of .*2\.mrcs"),
    ],
)
def test_contradictions_are_refused(stacks, given, message):
    with pytest.raises(InputError, match=message):
        boxes_of_groups(stacks, ADDRESS, optics(**given), PATH)


def test_a_calibration_wins_and_is_said(stacks):
    _, told = boxes_of_groups(stacks, ADDRESS, optics(sizes=(1.52, 1.95, 1)), PATH)
    assert codes(told) == ["pixel_sizes_differ"]
    values = dict(stated=1.52, header=1.5, file="p.star", differing=2, stacks=3)
    assert {name: told[0][name] for name in values} == pytest.approx(values)


def test_several_grids_are_said_and_one_is_not():
    assert several_grids(optics(sizes=(2, 2, 9), boxes=(8, 8, 4)), PATH) == []
    found = several_grids(optics(boxes=(8, 6, 4)), PATH)[0]
    assert say(found) == (
        "The images of p.star have 1.5 to 2 Å per pixel and 6 to 8 pixels: all are brought to 1.5 Å and 8 pixels, those of the largest "
        "optics group."
    )
    same_size = several_grids(optics(sizes=(2, 2, 9), boxes=(8, 6, 4)), PATH)[0]
    assert same_size["least_size"] == same_size["most_size"] == 2
    assert (same_size["least_box"], same_size["most_box"]) == (6, 8)
