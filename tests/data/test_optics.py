from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cryotorch.data.optics import optics_table, read_optics
from cryotorch.data.table import Table
from cryotorch.errors import InputError
from cryotorch.findings import remark

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
    optics = read_optics(groups(), members(3, 7, 3), PATH)
    assert optics.row.tolist() == [1, 0, 1]
    assert optics.number.tolist() == [3, 7, 3]
    assert optics.groups.voltage_kv.tolist() == [300, 200]
    assert optics.groups.spherical_aberration.tolist() == pytest.approx([2.7, 0.01])
    assert optics.groups.amplitude_contrast.tolist() == pytest.approx([0.1, 0.07])
    assert (optics.box.tolist(), optics.pixel_size.tolist()) == ([64, 64], [1.5, 1.5])
    assert optics.main == 1
    assert optics.table() == groups()


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
    optics = read_optics(None, particles, PATH)
    assert optics.row.tolist() == [0, 1, 0]
    assert optics.number.tolist() == [1, 2, 1]
    assert optics.groups.voltage_kv.tolist() == [300, 200]
    assert optics.pixel_size.tolist() == pytest.approx([50000 / 38168] * 2)
    assert optics.box.tolist() == [0, 0]
    assert "rlnImageSize" not in optics.table()
    written = replace(optics, box=np.array([64, 64])).table()
    assert written.integers("rlnImageSize").tolist() == [64, 64]
    again = read_optics(written, members(*optics.number), PATH)
    assert again.row.tolist() == optics.row.tolist()
    assert again.groups.pixel_size.tolist() == pytest.approx(
        optics.groups.pixel_size.tolist(), abs=1e-6
    )
    assert list(optics_table(optics.groups, np.array([64, 64]))) == list(written)


def test_one_group_needs_no_numbers():
    table = Table({label: groups()[label][:1] for label in groups() if label != "rlnOpticsGroup"})
    optics = read_optics(table, Table({"x": ["a", "b"]}), PATH)
    assert optics.row.tolist() == [0, 0]
    assert optics.number.tolist() == [1, 1]
    assert optics.table()["rlnOpticsGroup"].tolist() == ["1"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rlnAmplitudeContrast": None}, "no _rlnAmplitudeContrast: add the column"),
        (
            {"rlnVoltage": None, "rlnSphericalAberration": None},
            "_rlnVoltage, _rlnSphericalAberration is missing",
        ),
        ({"rlnImagePixelSize": None}, "no pixel size: add _rlnImagePixelSize"),
        ({"rlnImagePixelSize": ["0", "0"]}, "pixel size of optics group 1 is 0 Å"),
        ({"rlnImageSize": ["0", "0"]}, "_rlnImageSize is 0"),
        ({"rlnVoltage": ["300000", "300"]}, "_rlnVoltage is 300000 .* from 1 to 10000 kV"),
        ({"rlnAmplitudeContrast": ["10", "0.1"]}, "_rlnAmplitudeContrast is 10 "),
        (
            {"rlnMagMat00": ["1", "0"]},
            r"magnification matrix of row 2 .* correct _rlnMagMat00 to 11",
        ),
        ({"rlnMagMat11": ["1", "-1"]}, "magnification matrix of row 2"),
        ({"rlnOddZernike": ["[0,1]", "[1]"]}, r"_rlnOddZernike is '\[1\]' in row 2"),
        ({"rlnBeamTiltX": ["0", "x"]}, "_rlnBeamTiltX is 'x' in row 2"),
        ({"rlnImageDimensionality": ["2", "3"]}, "_rlnImageDimensionality is 3"),
        ({"rlnOpticsGroup": ["3", "3"]}, "defined twice"),
        ({"rlnOpticsGroup": None}, "2 optics groups but no _rlnOpticsGroup in data_optics"),
        ({"rlnOpticsGroup": ["7", "4"]}, "Particle 1 .* in optics group 3, .* does not define"),
    ],
)
def test_bad_optics_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        read_optics(groups(**changes), members(3, 7), PATH)


def test_groups_may_differ_in_pixel_size_and_box():
    table = groups(rlnImagePixelSize=["1.5", "3"], rlnImageSize=["64", "32"])
    optics = read_optics(table, members(3, 3, 7), PATH)
    assert (optics.pixel_size.tolist(), optics.box.tolist()) == ([1.5, 3], [64, 32])
    assert optics.main == 1
    assert read_optics(table, members(7, 3), PATH).main == 0  # the first of equals


def test_an_unused_group_needs_no_box():
    table = groups(rlnImageSize=["64", "0"])
    assert read_optics(table, members(7, 7), PATH).box[0] == 64


def test_old_files_tell_groups_apart_by_their_beam_tilt():
    particles = Table(
        {
            "rlnVoltage": ["300"] * 3,
            "rlnSphericalAberration": ["2.7"] * 3,
            "rlnAmplitudeContrast": ["0.1"] * 3,
            "rlnImagePixelSize": ["1.1"] * 3,
            "rlnBeamTiltX": ["0.5", "0.5", "-0.25"],
            "rlnBeamTiltY": ["0", "0", "1"],
            "rlnCtfDataAreCtfPremultiplied": ["1", "1", "0"],
        }
    )
    optics = read_optics(None, particles, PATH)
    assert optics.row.tolist() == [0, 0, 1]
    assert optics.groups.beam_tilt.tolist() == [[0.5, 0], [-0.25, 1]]
    assert optics.groups.premultiplied.tolist() == [True, False]
    # written as RELION 3.1, beside the columns of the particles, they agree
    particles["rlnOpticsGroup"] = optics.number
    again = read_optics(optics.table(), particles, PATH)
    assert again.groups.beam_tilt.tolist() == optics.groups.beam_tilt.tolist()
    assert optics.ignored == again.ignored == []


def test_new_files_take_the_tilt_from_the_optics_table():
    particles = Table({"rlnOpticsGroup": ["3", "7"], "rlnBeamTiltX": ["0.1", "0.2"]})
    optics = read_optics(groups(rlnBeamTiltX=["0.2", "0"]), particles, PATH)
    assert optics.groups.beam_tilt.tolist() == pytest.approx(np.array([[0.2, 0], [0, 0]]))
    values = dict(columns="_rlnBeamTiltX", file="p.star")
    assert optics.ignored == [remark("columns_not_applied", **values)]
    particles["rlnCtfDataAreCtfPremultiplied"] = ["1", "1"]
    with pytest.raises(InputError, match=r"Premultiplied of the particles .* correct data_optics"):
        read_optics(groups(), particles, PATH)
