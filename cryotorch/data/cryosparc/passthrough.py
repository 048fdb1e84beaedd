"""Fields that CryoSPARC keeps in a second file, joined by the particles' uid."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cryotorch.data.cryosparc.fields import FIELDS, IMAGE_FIELDS, NEEDED_FIELDS
from cryotorch.data.cryosparc.file import read_cs
from cryotorch.errors import InputError
from cryotorch.findings import Finding, remark


def read_joined(
    path: str | Path,
    passthrough: str | Path | None,
    need_ctf: bool = True,
) -> tuple[dict[str, np.ndarray], list[Finding]]:
    """The fields (n, ...) of a .cs file of particles, those it lacks from its passthrough file, and which these are; without ``need_ctf`` the CTF may be missing.

    Without ``passthrough`` the files ``*passthrough_particles*.cs`` beside it are joined where they hold all its
    particles and fields that it lacks and cryotorch knows: images, CTF, poses, half sets, positions. Particles keep
    their order; others in the passthrough file are left out.

    Raises:
        InputError: a file that cannot be read, a particle that the passthrough file lacks or holds twice, or missing
            fields.
    """
    path = Path(path)
    fields, found = read_cs(path), []
    if passthrough is not None:
        fields = _joined(fields, read_cs(passthrough), path, Path(passthrough))
        return _needed(fields, path, need_ctf), []
    for other in sorted(path.absolute().parent.glob("*passthrough_particles*.cs")):
        lacking = [name for name in FIELDS if name not in fields]
        if not lacking or other == path.absolute():
            continue
        try:
            second = read_cs(other)
            new = [name for name in lacking if name in second]
            if new and np.isin(fields["uid"], second["uid"]).all():
                fields = _joined(fields, second, path, other)
                what = dict(file=str(path), other=str(other), fields=", ".join(new))
                found.append(remark("fields_joined", **what))
        except InputError as error:
            if any(name not in fields for name in NEEDED_FIELDS):
                raise
            what = dict(other=other.name, file=str(path), reason=str(error))
            found.append(remark("passthrough_unused", **what))
    return _needed(fields, path, need_ctf), found


def _joined(
    fields: dict[str, np.ndarray], second: dict[str, np.ndarray], path: Path, other: Path
) -> dict[str, np.ndarray]:
    order = np.argsort(second["uid"], kind="stable")
    place = np.searchsorted(second["uid"], fields["uid"], sorter=order)
    row = order[np.minimum(place, len(order) - 1)] if len(order) else place
    lost = ~np.isin(fields["uid"], second["uid"])
    if lost.any():
        first = int(np.argmax(lost))
        raise InputError(
            f"{other} lacks {np.count_nonzero(lost)} of the {len(lost)} particles of {path}, the first being that of "
            f"row {first + 1} with uid {fields['uid'][first]}: name the passthrough file of the same job."
        )
    known = second["uid"][order]
    twice = np.intersect1d(known[1:][known[1:] == known[:-1]], fields["uid"])
    if len(twice):
        raise InputError(
            f"{other} has {len(twice)} particles of {path} in more than one row, the first being uid {twice[0]}: keep one "
            "row of each."
        )
    return {**fields, **{x: values[row] for x, values in second.items() if x not in fields}}


def _needed(fields: dict[str, np.ndarray], path: Path, need_ctf: bool) -> dict[str, np.ndarray]:
    missing = [name for name in (NEEDED_FIELDS if need_ctf else IMAGE_FIELDS) if name not in fields]
    if missing:
        raise InputError(
            f"{path} has no {', '.join(missing)}, nor has a passthrough file beside it: put "
            "<job>_passthrough_particles.cs of the same job there."
        )
    return fields
