"""FSC curves as files that other programs read: CryoSPARC's text table and the EMDB's XML.

Our shell s holds the coefficients with round(|k|) = s, so its centre is the wave number s exactly. CryoSPARC labels
its bins i + 0.5, their centres as well. Both columns give the resolution as box * pixel_size / wave_number: our table
starts at wave_number 1 with steps of 1 where CryoSPARC's starts at 0.5. Shell 0 (infinite resolution) is left out.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from cryotorch.data.files import replace_file

# Column -> our curve. The last three belong to the mask correction by randomised phases, named after
# FSC_true = (FSC_masked - FSC_randomised) / (1 - FSC_randomised) of Chen et al. 2013: raw is the curve of the
# randomised maps, true the corrected one, and the column without suffix the one that is claimed. Readers agree on the
# last only.
TEXT_COLUMNS = {
    "fsc_nomask": "no_mask",
    "fsc_sphericalmask": "spherical",
    "fsc_loosemask": "loose",
    "fsc_tightmask": "tight",
    "fsc_noisesub_raw": "randomised",
    "fsc_noisesub_true": "corrected",
    "fsc_noisesub": "corrected",
}

TITLES = {
    "no_mask": "cryotorch gold-standard FSC, no mask",
    "spherical": "cryotorch gold-standard FSC, spherical mask",
    "loose": "cryotorch gold-standard FSC, loose mask",
    "tight": "cryotorch gold-standard FSC, tight mask",
    "corrected": "cryotorch gold-standard FSC, tight mask, corrected by phase randomisation",
    "randomised": "cryotorch FSC of the phase-randomised half maps, tight mask",
}


def clean(curve: Tensor) -> list[float]:
    """Values for a file: clipped to [-1, 1]; a shell without a correlation (NaN) is 0."""
    return torch.nan_to_num(curve.double(), nan=0.0).clamp(-1, 1).tolist()


def write_fsc_text(path: Path, curves: Mapping[str, Tensor], band: Tensor | None = None) -> None:
    """Tab-separated table, a row per shell from 1 on; columns of curves that are not there are left out.

    The last one, ``noise_band``, is the FSC that noise in the tight mask stays below (d//2 + 1,).
    """
    names, columns = _columns(curves)
    if band is not None:
        names, columns = [*names, "noise_band"], [*columns, clean(band)[1:]]
    lines = ["\t".join(["wave_number", *names])]
    for shell, values in enumerate(zip(*columns, strict=True), start=1):
        lines.append("\t".join(f"{v:.6f}" for v in (shell, *values)))
    _write(path, lines)


def write_fsc_iterations(path: Path, iteration: int, curves: Mapping[str, Tensor]) -> None:
    """The same of all iterations in one table: those before ``iteration`` stay, this one and what came after it are replaced."""
    names, columns = _columns(curves)
    lines = ["\t".join(["iteration", "wave_number", *names])]
    before = path.read_text("utf-8").splitlines() if path.is_file() else []
    if before[:1] == lines:
        lines += [row for row in before[1:] if int(row.partition("\t")[0]) < iteration]
    for shell, values in enumerate(zip(*columns, strict=True), start=1):
        lines.append("\t".join([str(iteration), str(shell), *(f"{v:.4f}" for v in values)]))
    _write(path, lines)


def _columns(curves: Mapping[str, Tensor]) -> tuple[list[str], list[list[float]]]:
    """Names and values of the columns that there are, from shell 1 on."""
    names = [name for name, curve in TEXT_COLUMNS.items() if curve in curves]
    return names, [clean(curves[TEXT_COLUMNS[name]])[1:] for name in names]


def _write(path: Path, lines: list[str]) -> None:
    with replace_file(path) as file:
        file.write(("\n".join(lines) + "\n").encode())


def write_fsc_xml(path: Path, title: str, curve: Tensor, box: int, pixel_size: float) -> None:
    """One curve as EMDB FSC XML, schema 1.2: x in 1/Å from shell 0, y the correlation."""
    root = ElementTree.Element(
        "fsc", title=title, xaxis="Resolution (A-1)", yaxis="Correlation Coefficient"
    )
    for shell, value in enumerate(clean(curve)):
        point = ElementTree.SubElement(root, "coordinate")
        ElementTree.SubElement(point, "x").text = f"{shell / (box * pixel_size):.6f}"
        ElementTree.SubElement(point, "y").text = f"{value:.6f}"
    ElementTree.indent(root)
    with replace_file(path) as file:
        ElementTree.ElementTree(root).write(file, encoding="utf-8", xml_declaration=True)


def write_fsc_files(
    folder: Path,
    curves: Mapping[str, Tensor],
    box: int,
    pixel_size: float,
    band: Tensor | None = None,
) -> list[Path]:
    """``fsc.txt`` and one ``fsc_<curve>.xml`` per curve; their paths."""
    folder = Path(folder)
    paths = [folder / "fsc.txt"]
    write_fsc_text(paths[0], curves, band)
    for name, curve in curves.items():
        paths.append(folder / f"fsc_{name}.xml")
        write_fsc_xml(paths[-1], TITLES.get(name, f"cryotorch FSC, {name}"), curve, box, pixel_size)
    return paths
