"""Class and pose of the particles that maps were not made of."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from cryotorch.jobs.initial_map.inputs import Inputs
from cryotorch.jobs.inputs import damage
from cryotorch.ops.pose.scores import Observation
from cryotorch.refinement.ab_initio.pipeline import AbInitio, search_others
from cryotorch.refinement.class_search import Found
from cryotorch.refinement.runtime.kept import Kept
from cryotorch.refinement.runtime.team import Team, on
from cryotorch.refinement.spectra import READ_AT_ONCE

BLOCK = 8 * READ_AT_ONCE  # particles of a process between two looks at the clock
SAVED_EVERY = 60.0  # seconds


@dataclass(frozen=True)
class Others:
    """What was found of the first of them; damaged: name -> what is wrong with an image, of all that were read."""

    found: Found
    damaged: dict[str, str]


class OthersPart:
    """Those that a process searches: what ``team`` can be asked for as "others"."""

    def __init__(self, inputs: Inputs, team: Team) -> None:
        self.inputs, self.team = inputs, team
        self._search: Callable[[Observation, Tensor], Found] | None = None
        team.tasks["others"] = self.find

    def find(self, rows: Tensor, of: tuple[Tensor, Tensor, Tensor] | None) -> Others | None:
        """This process's part of the particles ``rows`` (n,); ``of``: maps, share and noise, None = as before. None for no particle."""
        inputs = self.inputs
        if of is not None:
            self._search = search_others(*on(of, inputs.spectra.device), inputs.algorithm)
        assert self._search is not None
        group, parts = inputs.particles.optics_group, []
        for some in rows[self.team.part(len(rows), 1)].split(READ_AT_ONCE):
            if len(some):
                seen = inputs.spectra.read(some)
                parts.append(self._search(seen, group[some].to(inputs.spectra.device)).cpu())
        return Others(Found.joined(parts), self.damaged()) if parts else None

    def damaged(self) -> dict[str, str]:
        """Of the images that this process has read."""
        images = self.inputs.images
        return damage.damaged_images(
            images, self.inputs.spectra.watch.faults(images.box, images.pixel_size)
        )


def find_others(
    inputs: Inputs, result: AbInitio, team: Team, kept: Kept
) -> tuple[Found, dict[str, str]]:
    """What was found of all particles, in file order, in host memory, and which images are damaged."""
    part, rest = OthersPart(inputs, team), inputs.rest
    earlier = kept.find("others", Others)
    found, damaged = ([], {}) if earlier is None else ([earlier.found.cpu()], earlier.damaged)
    damaged |= part.damaged()
    if not len(rest):
        return result.found.cpu(), damaged
    done = sum(len(one.share) for one in found)
    blocks = rest[done:].split(BLOCK * team.world) if done < len(rest) else ()
    of: tuple[Tensor, Tensor, Tensor] | None = (result.maps, result.share, result.noise)
    saved = time.monotonic()
    with tqdm(total=len(rest), unit=" particles", desc="others", disable=None) as bar:
        bar.update(done)
        for rows in blocks:
            for one in team.ask("others", rows, of):
                if one is not None:
                    found.append(one.found)
                    damaged |= one.damaged
            of, done = None, done + len(rows)
            bar.update(len(rows))
            if time.monotonic() - saved > SAVED_EVERY or done == len(rest):
                found = [Found.joined(found)]
                kept.put("others", Others(found[0], damaged))
                saved = time.monotonic()
    every = Found.joined([result.found.cpu(), *found])
    return every.of(torch.cat([inputs.rows, rest]).argsort()), damaged
