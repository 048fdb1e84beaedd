"""The hand of maps, which images cannot tell: that of a map or an atomic model of the same molecule."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from cryotorch.data.atoms import density, read_atoms
from cryotorch.errors import InputError
from cryotorch.findings import remark
from cryotorch.jobs.files.memory import require_room
from cryotorch.jobs.initial_map.inputs import Inputs
from cryotorch.jobs.initial_map.steps import Made, told
from cryotorch.jobs.inputs.maps import load_map, map_path
from cryotorch.jobs.volume.inputs import box_for, is_model
from cryotorch.ops.geometry.map_fit import fit_map
from cryotorch.refinement.em.hands import Frame

log = logging.getLogger("cryotorch")


def with_hand(made: Made, inputs: Inputs) -> Made:
    """In the hand in which the largest map fits ``like`` or ``model``, if one is given."""
    known = known_hand(inputs)
    if known is None:
        return replace(made, findings=[*made.findings, told(remark("either_hand"))])
    name, path, volume, size = known
    pixel = inputs.images.pixel_size
    try:
        fit = fit_map(made.maps[0].cpu(), volume, size, moving_pixel_size=pixel)
    except ValueError as error:
        raise InputError(f"{name}={path} cannot be fitted: {error}") from None
    both = dict(correlation=fit.correlation, other=fit.other_hand)
    said = remark("hand_fitted", given=name, mirrored=fit.mirrored, **both)
    if fit.mirrored:
        frame = Frame(torch.eye(3, dtype=torch.float64), mirrored=True)
        maps = torch.stack([frame.map(volume) for volume in made.maps])
        found = replace(made.found, rotation=frame.poses(made.found.rotation))
        made = replace(made, maps=maps, found=found)
    findings = [*made.findings, told(said)]
    return replace(made, findings=findings, fit=(fit.correlation, fit.other_hand))


def known_hand(inputs: Inputs) -> tuple[str, str, Tensor, float] | None:
    """The parameter that gives it and its file, the map (d, d, d) and its pixel size in Å; None where neither is given."""
    like, model = inputs.settings.like, inputs.settings.model
    if like is not None:
        if is_model(Path(like)):
            raise InputError(f"like={like} is an atomic model: give it as model={like}")
        return "like", like, *load_map(map_path(like, "like"), "like")
    if model is None:
        return None
    if not is_model(Path(model)):
        raise InputError(f"model={model} is no PDB or mmCIF file: a map is given as like={model}")
    atoms, pixel = read_atoms(model), inputs.images.pixel_size
    box = box_for(atoms, pixel)
    require_room(box, torch.device("cpu"), f"model={model}")
    return "model", model, density(atoms, box, pixel, 2 * pixel), pixel
