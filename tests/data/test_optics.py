from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cryotorch.data.optics import optics_table, read_optics
from cryotorch.data.table import Table
from cryotorch.errors import InputError

PATH = Path("p.star")


def groups(**changes) -> Table:
    """Two groups whose numbers are not in order."""
    columns = {
        "rlnOpticsGroup": ["7", "3"],
        "rlnVoltage": ["300", "200"],
        "rlnSphericalAberration": ["2.7", "0.01"],
        "rlnAmplitudeContrast": ["0.1", "0.07"],
        "rlnImagePixelSize": ["1.5", "1.5"],
        "rlnImageSize": ["64", "64"],
    }
    columns.update(changes)
    return Table({label: values for label, values in columns.items() if values is not None})


def members(*numbers: int) -> Table:
    return Table({"rlnOpticsGroup": np.array(numbers)})


def test_groups_are_joined_by_number():
    optics = read_optics(groups(), members(3, 7, 3), PATH, [])
    assert optics.row.tolist() == [1, 0, 1]
    assert optics.number.tolist() == [3, 7, 3]
    assert optics.groups.voltage_kv.tolist() == [300, 200]
    assert optics.groups.spherical_aberration.tolist() == pytest.approx([2.7, 0.01])
    assert optics.groups.amplitude_contrast.tolist() == pytest.approx([0.1, 0.07])
    assert (optics.box, optics.pixel_size) == (64, 1.5)
    assert optics.table(64) == groups()


def test_old_columns_make_groups_in_order_of_appearance():
    particles = Table(
        {
            "rlnVoltage": ["300", "200", "300"],
            "rlnSphericalAberration": ["2.7"] * 3,
            "rlnAmplitudeContrast": ["0.1"] * 3,
            "rlnMagnification": ["38168"] * 3,
            "rlnDetectorPixelSize": ["5"] * 3,
        }
    )
    optics = read_optics(None, particles, PATH, [])
    assert optics.row.tolist() == [0, 1, 0]
    assert optics.number.tolist() == [1, 2, 1]
    assert optics.groups.voltage_kv.tolist() == [300, 200]
    assert optics.pixel_size == pytest.approx(50000 / 38168)
    assert optics.box is None
    written = optics.table(64)
    assert written.integers("rlnImageSize").tolist() == [64, 64]
    again = read_optics(written, members(*optics.number), PATH, [])
    assert again.row.tolist() == optics.row.tolist()
    assert again.groups.pixel_size.tolist() == pytest.approx(
        optics.groups.pixel_size.tolist(), abs=1e-6
    )
    assert list(optics_table(optics.groups, 64)) == list(written)


def test_one_group_needs_no_numbers():
    table = Table({label: groups()[label][:1] for label in groups() if label != "rlnOpticsGroup"})
    optics = read_optics(table, Table({"x": ["a", "b"]}), PATH, [])
    assert optics.row.tolist() == [0, 0]
    assert optics.number.tolist() == [1, 1]
    assert optics.table(64)["rlnOpticsGroup"].tolist() == ["1"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rlnAmplitudeContrast": None}, "no _rlnAmplitudeContrast: add the column"),
        (
            {"rlnVoltage": None, "rlnSphericalAberration": None},
            "_rlnVoltage, _rlnSphericalAberration is missing",
        ),
        ({"rlnImagePixelSize": None}, "no pixel size: add _rlnImagePixelSize"),
        ({"rlnImagePixelSize": ["1.24", "1.25"]}, r"different pixel sizes \(1.24, 1.25 Å\)"),
        ({"rlnImageSize": ["64", "128"]}, r"different boxes \(64, 128 pixels\)"),
        ({"rlnImagePixelSize": ["0", "0"]}, "pixel size is 0 Å"),
        ({"rlnImageSize": ["0", "0"]}, "_rlnImageSize is 0"),
        ({"rlnVoltage": ["300000", "300"]}, "_rlnVoltage is 300000 .* from 1 to 10000 kV"),
        ({"rlnAmplitudeContrast": ["10", "0.1"]}, "_rlnAmplitudeContrast is 10 "),
        ({"rlnCtfDataAreCtfPremultiplied": ["0", "1"]}, "_rlnCtfDataAreCtfPremultiplied is 1"),
        ({"rlnImageDimensionality": ["2", "3"]}, "_rlnImageDimensionality is 3"),
        ({"rlnOpticsGroup": ["3", "3"]}, "defined twice"),
        ({"rlnOpticsGroup": None}, "2 optics groups but no _rlnOpticsGroup in data_optics"),
        ({"rlnOpticsGroup": ["7", "4"]}, "Particle 1 .* in optics group 3, .* does not define"),
    ],
)
def test_bad_optics_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        read_optics(groups(**changes), members(3, 7), PATH, [])


def test_an_unused_group_may_differ():
    table = groups(rlnImagePixelSize=["1.5", "9"], rlnImageSize=["64", "128"])
    assert read_optics(table, members(7, 7), PATH, []).box == 64


def test_aberrations_that_are_not_applied_are_said():
    neutral = {"rlnBeamTiltX": ["0", "0"], "rlnMagMat00": ["1", "1"], "rlnMagMat01": ["0", "0"]}
    messages: list[str] = []
    read_optics(groups(**neutral), members(3), PATH, messages)
    assert messages == []
    read_optics(
        groups(rlnBeamTiltX=["0", "0.5"], rlnOddZernike=["[0]", "[1]"]), members(3), PATH, messages
    )
    assert messages == [
        "Aberrations of p.star are kept but not applied: _rlnBeamTiltX, _rlnOddZernike."
    ]
