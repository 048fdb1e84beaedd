"""Whose methods a run used: told by its parameters and files."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from cryotorch.report.page.run_files import RunFiles

FSC = "fsc.txt"
SHARPENED = "map_sharp.mrc"
REFINEMENTS = ("homo_refine", "local_refine")


class Citation(NamedTuple):
    """A paper, and which runs used it."""

    paper: str
    used: Callable[[RunFiles], bool]


def _job(*jobs: str) -> Callable[[RunFiles], bool]:
    return lambda run: run.job in jobs


def _set(name: str, value: object) -> Callable[[RunFiles], bool]:
    def used(run: RunFiles) -> bool:
        at: object = run.config
        for part in name.split("."):
            at = at.get(part) if isinstance(at, dict) else None
        return at == value

    return used


CITATIONS = (
    Citation(
        "Half sets that are refined apart: Scheres & Chen 2012, Nature Methods 9, 853, doi:10.1038/nmeth.2115",
        _job(*REFINEMENTS, "classify", "hetero_refine"),
    ),
    Citation(
        "Marginalisation over poses, and the Wiener filter by the FSC: Scheres 2012, Journal of Structural Biology 180, 519, "
        "doi:10.1016/j.jsb.2012.09.006, and Journal of Molecular Biology 415, 406, doi:10.1016/j.jmb.2011.11.010",
        _job(*REFINEMENTS, "ab_initio", "class2d", "classify", "hetero_refine"),
    ),
    Citation(
        "Annealing: Rose 1998, Proceedings of the IEEE 86, 2210, doi:10.1109/5.726788",
        _job("ab_initio", "class2d"),
    ),
    Citation(
        "Search by branch and bound: Punjani et al. 2017, Nature Methods 14, 290, doi:10.1038/nmeth.4169",
        _set("search.method", "branch_and_bound"),
    ),
    Citation(
        "Non-uniform regularisation: Punjani, Zhang & Fleet 2020, Nature Methods 17, 1214, doi:10.1038/s41592-020-00990-8",
        _set("regularizer", "nonuniform"),
    ),
    Citation(
        "The FSC threshold of 0.143, and sharpening by a B-factor: Rosenthal & Henderson 2003, Journal of Molecular Biology 333, 721, "
        "doi:10.1016/j.jmb.2003.07.013",
        lambda run: run.has(FSC) or run.has(SHARPENED),
    ),
    Citation(
        "Correction for the mask by randomised phases: Chen et al. 2013, Ultramicroscopy 135, 24, doi:10.1016/j.ultramic.2013.06.004",
        lambda run: run.has(FSC) or run.has(SHARPENED),
    ),
    Citation(
        "Local FSC: Cardone, Heymann & Steven 2013, Journal of Structural Biology 184, 226, doi:10.1016/j.jsb.2013.08.002",
        lambda run: run.has("local_resolution.mrc"),
    ),
    Citation(
        "Sampling of Fourier space (SCF): Baldwin & Lyumkis 2020, doi:10.1016/j.pbiomolbio.2019.09.002, and 2021, "
        "doi:10.1016/j.pbiomolbio.2020.06.003",
        _job("orientation_diagnostics"),
    ),
    Citation(
        "Aberrations: Zivanov, Nakane & Scheres 2020, IUCrJ 7, 253, doi:10.1107/S2052252520000081",
        lambda run: run.job == "ctf_refine" or run.config.get("refine_optics") is True,
    ),
    Citation(
        "Curvature of the Ewald sphere: Russo & Henderson 2018, Ultramicroscopy 187, 26, doi:10.1016/j.ultramic.2017.11.001",
        lambda run: run.config.get("ewald") not in (None, False),
    ),
    Citation(
        "Classes of 3D maps by maximum likelihood: Scheres et al. 2007, Nature Methods 4, 27, doi:10.1038/nmeth992",
        _job("classify", "hetero_refine"),
    ),
    Citation(
        "Signal subtraction: Bai et al. 2015, eLife 4, e11182, doi:10.7554/eLife.11182",
        _job("subtract"),
    ),
    Citation(
        "Probabilistic principal components: Tipping & Bishop 1999, Journal of the Royal Statistical Society B 61, 611, "
        "doi:10.1111/1467-9868.00196; of maps, Punjani & Fleet 2021, Journal of Structural Biology 213, 107702, "
        "doi:10.1016/j.jsb.2021.107702",
        _job("variability"),
    ),
    Citation(
        "ChimeraX, where its scripts are used: Meng et al. 2023, Protein Science 32, e4792, doi:10.1002/pro.4792",
        lambda run: any(name.endswith((".bild", ".cxc")) for name in run.names),
    ),
)


def citations(run: RunFiles) -> list[str]:
    """The papers of the methods that a run used."""
    return [citation.paper for citation in CITATIONS if citation.used(run)]
