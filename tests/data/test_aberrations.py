from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cryotorch.data.aberrations import optics_columns, read_aberrations, updated_optics
from cryotorch.data.table import Table
from cryotorch.errors import InputError
from cryotorch.particles import Optics

PATH = Path("p.star")


def optics(**aberrations) -> Optics:
    lens = [torch.tensor(pair) for pair in ([300.0, 200], [2.7, 0.01], [0.1, 0.07], [1.5, 1.25])]
    return Optics(*lens, **aberrations)


FULL = dict(
    beam_tilt=torch.tensor([[0.5, -1.0], [0.0, 0.25]]),
    odd_zernike=torch.arange(12.0).reshape(2, 6) / 8,
    even_zernike=torch.arange(18.0).reshape(2, 9) / -8,
    magnification=torch.tensor([[[1.01, 0.02], [0.03, 0.99]], [[1.0, 0], [0, 1]]]),
    premultiplied=torch.tensor([False, True]),
)


def test_everything_becomes_columns_and_is_read_again():
    columns = optics_columns(optics(**FULL))
    assert columns["rlnMagMat01"].tolist() == pytest.approx([0.02, 0])  # row 0, column 1
    assert columns["rlnMagMat10"].tolist() == pytest.approx([0.03, 0])
    text = Table(columns)
    assert text["rlnOddZernike"][0] == "[0.000000,0.125000,0.250000,0.375000,0.500000,0.625000]"
    table = Table({label: text[label] for label in text})
    again = read_aberrations(table, PATH)
    assert again.keys() == FULL.keys()
    for name, values in FULL.items():
        assert again[name].dtype == values.dtype
        assert torch.allclose(again[name].double(), values.double(), atol=1e-6), name


def test_what_no_group_has_is_left_out():
    neutral = {
        "rlnBeamTiltX": ["0.0", "0"],
        "rlnOddZernike": ["[0,0]", "[0,0]"],
        "rlnEvenZernike": ["[0.0]", "[0]"],
        "rlnMagMat00": ["1", "1.0"],
        "rlnMagMat10": ["0", "0"],
        "rlnCtfDataAreCtfPremultiplied": ["0", "0"],
    }
    assert read_aberrations(Table(neutral), PATH) == {}
    assert set(optics_columns(optics())) == {
        "rlnVoltage",
        "rlnSphericalAberration",
        "rlnAmplitudeContrast",
        "rlnImagePixelSize",
    }


@pytest.mark.parametrize(
    ("label", "value", "message"),
    [
        ("rlnMagMat00", "0.1", r"row 2 of data_optics in p\.star is \[\[0\.1, 0\.0\], \[0\.0, 1"),
        ("rlnMagMat01", "3", "are near 1, 0, 0, 1"),
        ("rlnMagMat11", "-1", "magnification matrix of row 2"),
        ("rlnMagMat11", "nan", "_rlnMagMat11 is 'nan' in row 2"),
        ("rlnBeamTiltY", "", "_rlnBeamTiltY is '' in row 2"),
        ("rlnEvenZernike", "0.5", r"_rlnEvenZernike is '0\.5' in row 2"),
        ("rlnCtfDataAreCtfPremultiplied", "0.5", "Premultiplied is '0.5' in row 2"),
    ],
)
def test_bad_values_are_named(label, value, message):
    table = Table({label: ["[0]" if "Zernike" in label else "1", value]})
    with pytest.raises(InputError, match=message):
        read_aberrations(table, PATH)


def test_only_what_changed_is_written_anew():
    text = Table(optics_columns(optics(**FULL)))
    table = Table({label: [f"{x}" for x in text[label]] for label in text})
    table["rlnBeamTiltX"] = ["0.5000000000001", "0e0"]
    table["rlnUnknown"] = ["a", "b"]
    old = optics(**FULL)
    assert updated_optics(table, old, old) == table
    new = old.replace(
        beam_tilt=old.beam_tilt + torch.tensor([0, 0.125]),
        even_zernike=None,
        odd_zernike=None,
        voltage_kv=torch.tensor([300.0, 100]),
    )
    found = updated_optics(table, old, new)
    assert found["rlnBeamTiltX"].tolist() == table["rlnBeamTiltX"].tolist()
    assert found["rlnBeamTiltY"].tolist() == ["-0.875000", "0.375000"]
    assert found["rlnVoltage"].tolist() == ["300.000000", "100.000000"]
    assert found["rlnEvenZernike"].tolist() == table["rlnEvenZernike"].tolist()
    assert list(found) == list(table)
    added = updated_optics(Table({"rlnVoltage": ["300", "200"]}), optics(), optics(**FULL))
    np.testing.assert_allclose(added.vectors("rlnOddZernike"), FULL["odd_zernike"], atol=1e-6)
