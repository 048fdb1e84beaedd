from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
import torch

from cryotorch.report.fsc_files import (
    clean,
    write_fsc_files,
    write_fsc_iterations,
    write_fsc_xml,
)
from cryotorch.results import IterationResult

BOX, PIXEL = 32, 2.5


def test_text_table_has_cryosparcs_columns_and_true_wave_numbers(
    result: IterationResult, tmp_path: Path
) -> None:
    write_fsc_files(tmp_path, result.curves, BOX, PIXEL)
    lines = (tmp_path / "fsc.txt").read_text().splitlines()
    assert lines[0].split("\t") == [
        *("wave_number", "fsc_nomask", "fsc_sphericalmask", "fsc_loosemask", "fsc_tightmask"),
        *("fsc_noisesub_raw", "fsc_noisesub_true", "fsc_noisesub"),
    ]
    assert lines[1].startswith("1.000000\t")
    table = np.genfromtxt(tmp_path / "fsc.txt", names=True)
    np.testing.assert_array_equal(table["wave_number"], np.arange(1, 17))
    for column, name in dict(
        fsc_nomask="no_mask",
        fsc_sphericalmask="spherical",
        fsc_loosemask="loose",
        fsc_tightmask="tight",
        fsc_noisesub_raw="randomised",
        fsc_noisesub_true="corrected",
        fsc_noisesub="corrected",
    ).items():
        np.testing.assert_allclose(table[column], result.curves[name][1:].numpy(), atol=6e-7)
    # What a reader of this layout computes: the resolution of our shell 8 is box * pixel / 8.
    assert BOX * PIXEL / table["wave_number"][7] == 10.0


def test_missing_curves_have_no_column(result: IterationResult, tmp_path: Path) -> None:
    paths = write_fsc_files(tmp_path, {"no_mask": result.curves["no_mask"]}, BOX, PIXEL)
    assert (tmp_path / "fsc.txt").read_text().splitlines()[0] == "wave_number\tfsc_nomask"
    assert [p.name for p in paths] == ["fsc.txt", "fsc_no_mask.xml"]


def test_values_are_clipped_and_never_nan() -> None:
    curve = torch.tensor([1.0000001, -1.5, torch.nan, torch.inf, 0.25])
    assert clean(curve) == [1, -1, 0, 1, 0.25]


def check_by_hand(path: Path, shells: int) -> None:
    """The rules of EMDB's FSC schema 1.2, for machines without an XML schema library."""
    assert path.read_text(encoding="utf-8").startswith("<?xml")
    root = ElementTree.parse(path).getroot()
    assert root.tag == "fsc" and set(root.attrib) == {"title", "xaxis", "yaxis"}
    assert root.get("xaxis") == "Resolution (A-1)" and root.get("title")
    assert root.get("yaxis") == "Correlation Coefficient"
    assert len(root) == shells
    for number, point in enumerate(root):
        assert point.tag == "coordinate" and not point.attrib
        assert [child.tag for child in point] == ["x", "y"]
        assert float(point[0].text) == pytest.approx(number / (BOX * PIXEL), abs=1e-6)
        assert -1 <= float(point[1].text) <= 1


def test_the_curves_of_all_iterations(tmp_path: Path) -> None:
    """A run that goes on from an earlier iteration replaces what it does again."""
    path = tmp_path / "fsc_iterations.txt"
    for iteration, value in ((1, 0.25), (2, 0.5), (3, 0.75), (2, 0.125)):
        curves = {"tight": torch.tensor([1.0, value, -value])}
        write_fsc_iterations(path, iteration, curves)
    table = np.genfromtxt(path, names=True)
    assert table.dtype.names == ("iteration", "wave_number", "fsc_tightmask")
    assert table["iteration"].tolist() == [1, 1, 2, 2]
    assert table["fsc_tightmask"].tolist() == [0.25, -0.25, 0.125, -0.125]


def test_xml_keeps_emdbs_rules(result: IterationResult, tmp_path: Path) -> None:
    paths = write_fsc_files(tmp_path, result.curves, BOX, PIXEL)
    assert sorted(p.name for p in paths[1:]) == sorted(f"fsc_{n}.xml" for n in result.curves)
    for path in paths[1:]:
        check_by_hand(path, 17)
    tight = ElementTree.parse(tmp_path / "fsc_tight.xml").getroot()
    values = [float(point[1].text) for point in tight]
    np.testing.assert_allclose(values, result.curves["tight"].numpy(), atol=6e-7)
    assert "tight mask" in tight.get("title") and "correct" not in tight.get("title")


@pytest.mark.data
def test_xml_is_valid_against_emdbs_schema(
    result: IterationResult, tmp_path: Path, shared_data: Path
) -> None:
    etree = pytest.importorskip("lxml.etree", reason="needs lxml to read the XML schema")
    schema = etree.XMLSchema(etree.parse(str(shared_data / "real" / "emdb_fsc.xsd")))
    odd = torch.tensor([1.0000001, torch.nan, -2.0])
    write_fsc_xml(tmp_path / "odd.xml", 'a <title> & "marks" Å', odd, BOX, PIXEL)
    paths = [*write_fsc_files(tmp_path, result.curves, BOX, PIXEL)[1:], tmp_path / "odd.xml"]
    assert len(paths) == 7
    for path in paths:
        assert schema.validate(etree.parse(str(path))), schema.error_log
    broken = (tmp_path / "odd.xml").read_text().replace("-1.000000", "NaN")
    assert not schema.validate(etree.fromstring(broken.encode()))
