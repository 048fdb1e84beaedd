"""Optics groups by what the names of micrographs tell of the exposure."""

from __future__ import annotations

import re

import numpy as np

from cryotorch.data.cryosparc.fields import MICROGRAPH
from cryotorch.data.optics import GROUP
from cryotorch.errors import InputError
from cryotorch.jobs.curation.join import GROUP_NAME, unique_names
from cryotorch.jobs.curation.particle_list import ParticleList

MOST_GROUPS = 10_000


def optics_from_names(particles: ParticleList, pattern: str) -> ParticleList:
    """Optics groups of the particles whose micrographs have the same text where a regular expression has its groups (...).

    Groups that were apart stay apart. Where micrographs are not named, the image files are.

    Raises:
        InputError: the pattern is none, has no group, fits a name nowhere, or makes more groups than anybody can use.
    """
    what = f"optics_from_names={pattern} cannot be used"
    try:
        found = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise InputError(f"{what}: it is no regular expression ({error})") from None
    if not found.groups:
        raise InputError(f"{what}: put what tells the groups apart between ( and )")
    if MICROGRAPH in particles.table:
        names, name = np.unique(particles.table.raw(MICROGRAPH), return_inverse=True)
    else:
        names = np.array([stack.encode("utf-8", "surrogateescape") for stack in particles.stacks])
        name = particles.image[:, 0]
    texts = [text.decode("utf-8", "surrogateescape") for text in names.tolist()]
    matches = [found.search(text) for text in texts]
    lost = [text for text, match in zip(texts, matches, strict=True) if match is None]
    if lost:
        raise InputError(
            f"{what}: it fits {len(lost)} of {len(texts)} names nowhere, {lost[0]} for example"
        )
    keys = ["_".join(part or "" for part in match.groups()) for match in matches if match]
    labels, key = np.unique(np.array(keys), return_inverse=True)
    old = particles.group()
    pairs, row = np.unique(
        np.stack([old, key.ravel()[name.ravel()]], 1), axis=0, return_inverse=True
    )
    if len(pairs) > MOST_GROUPS:
        raise InputError(f"{what}: it makes {len(pairs)} groups, at most {MOST_GROUPS} are of use")
    optics = particles.optics.taken(pairs[:, 0])
    optics.single = False
    optics[GROUP] = np.arange(1, len(pairs) + 1)
    several = len(np.unique(pairs[:, 0])) > 1 and GROUP_NAME in optics
    before = [f"{x}_" for x in optics[GROUP_NAME].tolist()] if several else [""] * len(pairs)
    told = [f"{a}{labels[b]}" for a, b in zip(before, pairs[:, 1], strict=True)]
    optics[GROUP_NAME] = unique_names([text or "none" for text in told])
    made = particles.with_columns({GROUP: row.ravel() + 1})
    return ParticleList(made.path, {**made.tables, "optics": optics}, made.stacks, made.image)
