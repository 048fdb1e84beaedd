"""Image names of STAR files, ``000001@stack.mrcs``: from names to files and addresses, and back."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from cryotorch.errors import InputError

FORMATS = ("mrc", "mrcs")


def parse_names(names: np.ndarray, star: Path) -> tuple[list[str], np.ndarray]:
    """Image names (n,) as bytes to the stacks they name, in order of appearance, and addresses (n, 2) int64.

    A name without "@" is a file of one image. Numbers count from 1 in the file, from 0 in the address.

    Raises:
        InputError: a number that is not one or more.
    """
    stacks: dict[bytes, int] = {}
    stack_of, number_of = [], []
    for row, name in enumerate(names.tolist()):
        number, at, stack = name.partition(b"@")
        if not at:
            number, stack = b"1", name
        if not (number.isdigit() and len(number) < 16 and int(number) > 0 and stack):
            shown = name.decode("utf-8", "replace")
            raise InputError(
                f"_rlnImageName is '{shown}' in row {row + 1} of {star}: write it as 000001@stack.mrcs, "
                "counting from 1."
            )
        stack_of.append(stacks.setdefault(stack, len(stacks)))
        number_of.append(int(number) - 1)
    return [os.fsdecode(stack) for stack in stacks], np.array(
        [stack_of, number_of], dtype=np.int64
    ).T


def refuse_duplicates(address: np.ndarray, stacks: list[Path], star: Path) -> None:
    """Raise InputError when two particles, addresses (n, 2), are the same image, for jobs that would find the same pose for both."""
    order = np.lexsort((address[:, 1], address[:, 0]))
    same = np.flatnonzero((np.diff(address[order], axis=0) == 0).all(axis=1))
    if len(same):
        first, second = sorted(int(order[same[0] + i]) + 1 for i in (0, 1))
        stack, image = address[first - 1]
        raise InputError(
            f"{star} holds {len(same)} duplicate particles, the first being image {image + 1} of {stacks[stack]} "
            f"in rows {first} and {second}. A search over all orientations would find the same pose for each: keep one row of "
            "each (job=particles one_per_image=true), or use job=local_refine or job=reconstruct, which take symmetry-expanded particles."
        )


def find_stacks(names: list[str], star: Path, project: str | Path | None) -> list[Path]:
    """The files behind stack names.

    RELION means names relative to its project folder, other programs relative to the STAR file. Tried in this
    order: ``project`` when it is given, the folder of the STAR file, its parents (one of them is the RELION
    project as a rule), the same of the file that a symbolic link leads to, the working folder. The working folder is last: a
    file of the same name lies in it by chance. An ending such as ":mrcs", Xmipp's for the format, is not part of a name.

    A name may lead out of these folders: what is opened is read as images and nothing else.

    Raises:
        InputError: a stack that is in none of them, or is a folder, a device or a pipe.
    """
    home = star.absolute().parent
    folders = [Path(project).absolute()] if project else []
    beyond = star.resolve().parent
    folders += [home, *home.parents, beyond, *beyond.parents, Path.cwd()]
    folders = list(dict.fromkeys(folders))
    found = []
    for name in map(_without_format, names):
        candidates = [folder / name for folder in folders]  # an absolute name replaces the folder
        path = next((path for path in candidates if _is_file(path)), None)
        if path is None:
            other = next(filter(_exists, candidates), None)
            if other is not None:
                kind = "a folder" if other.is_dir() else "no regular file"
                raise InputError(
                    f"Image stack {name} of {star} is {kind} ({other}): correct _rlnImageName."
                )
            first, last = os.path.normpath(folders[0]), Path.cwd()
            where = "" if os.path.isabs(name) else f" in {first}, above it or in {last}"
            if where and beyond != Path(os.path.normpath(home)):
                where += f", nor where {star.name} leads to"
            raise InputError(
                f"Image stack {name} of {star} does not exist{where}: correct _rlnImageName, or start in the folder "
                "that the names are relative to."
            )
        found.append(path)
    return found


def _without_format(name: str) -> str:
    stack, colon, ending = name.rpartition(":")
    return stack if colon and ending in FORMATS else name


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long or with characters that no file has
        return False


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def format_names(address: np.ndarray, stacks: list[Path], folder: Path) -> list[str]:
    """Image names of addresses (n, 2) for a STAR file in ``folder``: relative to it for stacks in it or below, else absolute.

    RELION opens the absolute ones from anywhere, the relative ones when it runs in ``folder``.
    """
    home = Path(os.path.abspath(folder))
    shown = []
    for stack in stacks:
        path = Path(os.path.abspath(stack))
        shown.append(str(path.relative_to(home)) if path.is_relative_to(home) else str(path))
    return [
        f"{image:06d}@{shown[stack]}" for stack, image in zip(*(address.T + [[0], [1]]).tolist())
    ]
