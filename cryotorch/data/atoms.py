"""Atomic models (PDB, mmCIF) to atoms, and atoms to density."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gemmi
import torch
from torch import Tensor

from cryotorch.data.files import check_unpacked
from cryotorch.errors import InputError
from cryotorch.ops.models.gaussians import bfactor_to_sigma, gaussian_density

# A map at resolution r has Gaussians of sigma = 0.225 r, the convention of UCSF Chimera's molmap.
SIGMA_PER_RESOLUTION = 0.225
# The one Gaussian per element has the true scattering factor at zero and at this spatial frequency, 1/Å.
MATCHED_FREQUENCY = 1 / 3


@dataclass(frozen=True)
class Atoms:
    """Atoms as Gaussian scatterers.

    Attributes:
        position: (n, 3) float32, Å, (x, y, z).
        weight: (n,) float32, occupancy times the electron scattering factor at zero angle, Å.
        bfactor: (n,) float32, Å^2: the file's displacement plus the width of the element itself.
    """

    position: Tensor
    weight: Tensor
    bfactor: Tensor

    def __len__(self) -> int:
        return len(self.weight)

    def centre_of_mass(self) -> Tensor:
        """(3,) Å, weighted by the scattering."""
        weight = self.weight.double()[:, None]
        return ((self.position * weight).sum(0) / weight.sum()).float()


def read_atoms(
    path: str | Path,
    assembly: str | None = "1",
    centre: bool = True,
    select: Sequence[str] = (),
) -> Atoms:
    """The heavy atoms of the first model in a PDB or mmCIF file, gzipped or not; hydrogens and waters are dropped.

    ``assembly`` names the biological assembly to build (BIOMT in PDB files); a file that defines none is
    taken as it is, and so is every file with ``None``. ``centre`` moves the centre of mass to the origin; without
    it the file's coordinates are kept, as a symmetry axis through their origin may demand. ``select`` keeps parts
    of the file, chosen before the assembly is built: ``A`` a chain, ``A/10-120`` residues of it, ``A,B`` two chains
    (https://gemmi.readthedocs.io/en/latest/analysis.html#selections); several parts are taken together.

    Raises InputError for a file that does not exist, or is no atomic model.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"The atomic model {path} does not exist: check the path.")
    check_unpacked(path)
    try:
        structure = gemmi.read_structure(str(path))
    except Exception as error:  # gemmi raises RuntimeError, ValueError, OSError and others
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{path} cannot be read as an atomic model ({reason}): give a PDB or mmCIF file."
        ) from None
    while len(structure) > 1:
        del structure[-1]
    structure.setup_entities()  # tells waters from ligands in files without entities
    structure.remove_hydrogens()
    structure.remove_waters()
    if select:
        _select(structure, select, path)
    _build_assembly(structure, assembly, path)
    rows = [
        (*atom.pos.tolist(), atom.occ, max(atom.b_iso, 0.0), *_scattering(atom.element))
        for model in structure
        for chain in model
        for residue in chain
        for atom in residue
        if atom.occ > 0
    ]
    table = torch.tensor(rows, dtype=torch.float64)
    if len(rows) == 0 or not bool(table.isfinite().all()):
        what = "holds no atoms" if len(rows) == 0 else "has atoms without finite coordinates"
        raise InputError(f"The atomic model {path} {what}: give a PDB or mmCIF file.")
    position, occupancy, bfactor, weight, width = table.split([3, 1, 1, 1, 1], 1)
    atoms = Atoms(
        position.float(), (occupancy * weight)[:, 0].float(), (bfactor + width)[:, 0].float()
    )
    if not centre:
        return atoms
    return Atoms(atoms.position - atoms.centre_of_mass(), atoms.weight, atoms.bfactor)


def _select(structure: gemmi.Structure, parts: Sequence[str], path: Path) -> None:
    """Remove everything but the parts."""
    for part in parts:
        try:
            selection = gemmi.Selection(part)
        except (RuntimeError, ValueError):
            raise InputError(
                f"select={part} cannot be read: write a chain (A), chains (A,B) or residues of one (A/10-120)."
            ) from None
        found = [
            atom
            for model in selection.models(structure)
            for chain in selection.chains(model)
            for residue in selection.residues(chain)
            for atom in selection.atoms(residue)
        ]
        if not found:
            raise InputError(
                f"select={part} chooses no atom of {path}: {_what_there_is(structure, selection)}"
            )
        for atom in found:
            atom.flag = "s"
    gemmi.Selection().set_atom_flags("s").remove_not_selected(structure)


def _what_there_is(structure: gemmi.Structure, selection: gemmi.Selection) -> str:
    """The residues of the chains that a selection names, else the chains."""
    found: dict[str, list[int]] = {}
    for model in structure:
        for chain in selection.chains(model):
            found.setdefault(chain.name, []).extend(r.seqid.num or 0 for r in chain)
    if found:
        ranges = (
            f"chain {name} has residues {min(n)} to {max(n)}" for name, n in found.items() if n
        )
        return ", ".join(ranges) + "."
    chains = ", ".join(dict.fromkeys(c.name for model in structure for c in model))
    return f"its chains are {chains}; residues of one are written A/10-120."


def _build_assembly(structure: gemmi.Structure, name: str | None, path: Path) -> None:
    names = [assembly.name for assembly in structure.assemblies]
    if name is None or (not names and name == "1"):
        return
    if name not in names:
        known = ", ".join(names) or "none"
        raise InputError(
            f"{path} has no assembly {name!r} (it has: {known}): name one of these, or null for the file as it is."
        )
    structure.transform_to_assembly(name, gemmi.HowToNameCopiedChain.AddNumber)


_CACHE: dict[str, tuple[float, float]] = {}


def _scattering(element: gemmi.Element) -> tuple[float, float]:
    """Weight (Å) and B-factor (Å^2) of one Gaussian for the element's electron scattering factor.

    f(k) = sum a_i exp(-b_i k^2 / 4), International Tables C 4.3.2.2 (Peng et al. 1996,
    doi:10.1107/S0108767395014371), becomes f(0) exp(-B k^2 / 4), right at 0 and at ``MATCHED_FREQUENCY``.
    """
    if element.name not in _CACHE:
        # X and other unknown elements scatter like carbon
        table = element.c4322 or gemmi.Element("C").c4322
        a, b, q = table.a, table.b, MATCHED_FREQUENCY**2 / 4
        zero = sum(a)
        there = sum(ai * math.exp(-bi * q) for ai, bi in zip(a, b, strict=True))
        _CACHE[element.name] = (zero, -math.log(there / zero) / q)
    return _CACHE[element.name]


def density(atoms: Atoms, box: int, pixel_size: float, resolution: float) -> Tensor:
    """The map of atoms, (d, d, d) float32, in Å per Å^3: Gaussians of variance B / (8 pi^2) + (0.225 resolution)^2.

    The origin of the atoms' coordinates lies on voxel d // 2. Atoms beyond the box are left out.
    """
    blur = SIGMA_PER_RESOLUTION * resolution
    sigma = (bfactor_to_sigma(atoms.bfactor) ** 2 + blur**2).sqrt()
    return gaussian_density(atoms.position, atoms.weight, sigma, box, pixel_size)
