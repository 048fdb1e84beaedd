"""Which particles stay: by micrograph, by another list, by score, at random."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cryotorch.data.cryosparc.fields import MICROGRAPH
from cryotorch.data.files import open_input
from cryotorch.data.half_sets import HALF
from cryotorch.data.optics import GROUP
from cryotorch.data.star import read_star
from cryotorch.errors import InputError
from cryotorch.jobs.config.parse import require
from cryotorch.jobs.curation.particle_list import UID, ParticleList

MOST_BYTES = 2**28  # of a text file with names


def score_of(particles: ParticleList, score: str) -> np.ndarray:
    """(n,) values of which the highest are the best: a column, or after a minus the lowest of it; raises InputError for no column of numbers."""
    label = score.removeprefix("-").removeprefix("_")
    try:
        values = particles.numbers(label)
    except InputError as error:
        raise InputError(f"score={score} cannot be used: {error}") from None
    return -values if score.startswith("-") else values


def best_rows(score: np.ndarray, count: float, share: bool) -> np.ndarray:
    """Rows (m,), in order, of the highest of scores (n,): so many, or this share of all; of equals the first."""
    most = round(count * len(score)) if share else int(count)
    return np.sort(np.argsort(-score, kind="stable")[:most])


def named_micrographs(given: str | list[str]) -> list[str]:
    """Names of micrographs: a list of them, or those in a STAR file or in the lines of a text file.

    Raises:
        InputError: the file cannot be read or names none.
    """
    if not isinstance(given, str):
        return given
    with open_input(given) as file:
        text = file.read(MOST_BYTES)
    if f"_{MICROGRAPH}".encode() in text:
        tables = [table for table in read_star(given).values() if MICROGRAPH in table]
        names = [name for table in tables for name in table[MICROGRAPH].tolist()]
    else:
        lines = text.decode("utf-8", "surrogateescape").splitlines()
        names = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    requirement = (
        f"it names no micrograph: write one per line, or the column _{MICROGRAPH} of a STAR file"
    )
    require(len(names) > 0, "micrographs", given, requirement)
    return list(dict.fromkeys(names))


def of_micrographs(particles: ParticleList, names: list[str]) -> tuple[np.ndarray, bool]:
    """Whether each particle is of one of the micrographs (n,) bool, and whether folders were left out of account.

    That is so where no name fits with its folder.

    Raises:
        InputError: the particles say nothing of micrographs.
    """
    if MICROGRAPH not in particles.table:
        raise InputError(f"{particles.path} does not name the micrographs (_{MICROGRAPH})")
    given = [name.encode("utf-8", "surrogateescape") for name in names]
    column = particles.table.raw(MICROGRAPH)
    found = np.isin(column, given)
    if found.any():
        return found, False
    known, place = np.unique(column, return_inverse=True)
    wanted = {name.rpartition(b"/")[2] for name in given}
    fits = np.array([name.rpartition(b"/")[2] in wanted for name in known.tolist()])
    return fits[place.ravel()], True


def in_other(particles: ParticleList, other: ParticleList, by: str) -> np.ndarray:
    """Whether each particle's image is in another list too, (n,) bool.

    Args:
        by: "image", the file and number of the image; "name", the same without folders; "uid", CryoSPARC's number of the particle.

    Raises:
        InputError: there are no such numbers.
    """
    if by == "uid":
        for one in (particles, other):
            if UID not in one.table:
                raise InputError(
                    f"match_by=uid cannot be used: {one.path} has no uid (only .cs files and what was made of them have), use match_by=image"
                )
        pair = [one.table.column(UID).astype(np.uint64) for one in (particles, other)]
        return np.isin(*pair)
    number: dict[str, int] = {}
    codes = []
    for one in (particles, other):
        names = [Path(name).name if by == "name" else name for name in one.stacks]
        stack = np.array([number.setdefault(name, len(number)) for name in names])
        codes.append(stack[one.image[:, 0]] * 2**40 + one.image[:, 1])
    return np.isin(*codes)


def _images(particles: ParticleList) -> tuple[np.ndarray, np.ndarray]:
    """The image (n,) of each row, as a number from 0, and the stratum (u,) of each image: its half set and optics group."""
    _, first, image = np.unique(particles.image_code(), return_index=True, return_inverse=True)
    table = particles.table
    labels = [GROUP, *([HALF] if HALF in table else [])]
    values = np.stack([table.floats(label, particles.path) for label in labels], 1)[first]
    _, stratum = np.unique(values, axis=0, return_inverse=True)
    return image.ravel(), stratum.ravel()


def random_rows(particles: ParticleList, count: int, seed: int) -> np.ndarray:
    """Whether each row stays (n,) bool: those of ``count`` images, in each half set and optics group as large a share of them as of all."""
    image, stratum = _images(particles)
    draw, most = np.random.default_rng(seed), min(count, len(stratum))
    size = np.bincount(stratum)
    exact = size * (most / len(stratum))
    quota = np.floor(exact).astype(int)
    largest = np.argsort(quota - exact, kind="stable")[: most - quota.sum()]
    quota[largest] += 1
    rank = _ranks(stratum, draw)
    return (rank < quota[stratum])[image]


def parts_of(particles: ParticleList, parts: int, seed: int) -> np.ndarray:
    """Which of several equal parts each row is in, (n,) from 0: at random, the rows of an image together, half sets and optics groups spread evenly."""
    image, stratum = _images(particles)
    rank = _ranks(stratum, np.random.default_rng(seed))
    before = np.cumsum([0, *np.bincount(stratum)])[:-1]  # so that no part is larger by more than 1
    return ((rank + before[stratum]) % parts)[image]


def _ranks(stratum: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """A random order (u,), from 0, within every stratum (u,)."""
    order = np.lexsort((draw.permutation(len(stratum)), stratum))
    start = np.cumsum([0, *np.bincount(stratum)])[:-1]
    rank = np.empty(len(stratum), int)
    rank[order] = np.arange(len(stratum)) - start[stratum[order]]
    return rank
