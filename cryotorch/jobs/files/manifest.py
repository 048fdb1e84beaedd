"""What lies in an output folder and which of it a run of ours wrote: nothing else is ever replaced or removed."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

from cryotorch.data.files import replace_file
from cryotorch.errors import InputError

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Manifest:
    """``manifest.json``: the job that writes into a folder, and the files that are its own.

    Attributes:
        job: its name.
        files: what it had written when it ended, relative to the folder.
        patterns: of what it writes, while it runs or if it was killed: none was there when it began, so all there is is its own.
        iterations: of a refinement, those that ended with a checkpoint.
    """

    job: str
    files: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    iterations: int = 0

    def write(self, folder: Path) -> None:
        """Put it into its folder, whole."""
        with replace_file(folder / MANIFEST) as file:
            file.write((json.dumps(asdict(self), indent=1) + "\n").encode())

    def owns(self, name: str) -> bool:
        """Whether the run wrote the file of this name."""
        return name == MANIFEST or name in self.files or matches(name, self.patterns)

    def ended(self, folder: Path, patterns: Sequence[str]) -> Manifest:
        """The same with the files that are there now."""
        return replace(self, files=tuple(found(folder, patterns)), patterns=())


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a folder, None where there is none or it cannot be understood."""
    try:
        values = json.loads((folder / MANIFEST).read_bytes())
        files, patterns = (tuple(map(str, values[name])) for name in ("files", "patterns"))
        return Manifest(str(values["job"]), files, patterns, int(values["iterations"]))
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def summary_of(folder: Path | None) -> dict[str, Any]:
    """The summary of a run folder, empty where there is none."""
    try:
        found = (
            json.loads((folder / "summary.json").read_text(encoding="utf-8")) if folder else None
        )
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a relative path fits one of the patterns, part by part; a pattern of a folder fits all below it."""
    parts = name.split("/")
    for pattern in patterns:
        wanted = pattern.split("/")
        if len(wanted) <= len(parts) and all(map(fnmatch, parts, wanted)):
            return True
    return False


def found(folder: Path, patterns: Iterable[str]) -> list[str]:
    """Relative paths of all files below ``folder`` that fit, in the order of the patterns; links are not followed."""
    patterns = list(patterns)
    names: dict[str, None] = {}
    for pattern in patterns:
        for path in sorted(_glob(folder, pattern)):
            names |= dict.fromkeys(_below(folder, path))
    return list(names)


def _glob(folder: Path, pattern: str) -> list[Path]:
    places = [folder]
    for part in PurePosixPath(pattern).parts:
        inner: list[Path] = []
        for place in places:
            with suppress(OSError):
                inner += [place / name for name in os.listdir(place) if fnmatch(name, part)]
        places = inner
    return places


def _below(folder: Path, path: Path) -> list[str]:
    if path.is_symlink() or not path.is_dir():
        return [path.relative_to(folder).as_posix()]
    inside = (Path(place) / name for place, _, names in os.walk(path) for name in names)
    return sorted(inner.relative_to(folder).as_posix() for inner in inside)


def foreign(folder: Path, patterns: Sequence[str]) -> list[str]:
    """What a run would replace though none of ours wrote it."""
    manifest = read_manifest(folder) or Manifest("")
    there = found(folder, [MANIFEST, *patterns])
    if not manifest.job:
        return there
    return [name for name in there if not manifest.owns(name)]


def remove(folder: Path, names: Iterable[str]) -> None:
    """Remove files and the folders that they leave empty."""
    places = set()
    for name in names:
        path = folder / name
        if ".." in PurePosixPath(name).parts or not _is_within(path.parent, folder):
            continue  # a manifest that was tampered with, or a link to elsewhere
        path.unlink(missing_ok=True)
        places |= {path.parent, *path.parent.parents}
    below = (p for p in places if p != folder and p.is_relative_to(folder))
    remove_empty(sorted(below, key=lambda p: len(p.parts), reverse=True))


def make_folder(out: Path) -> list[Path]:
    """Make it with all above it that are missing; these, the innermost first. However deep, which ``Path.mkdir`` is not."""
    missing = [p for p in (out, *out.absolute().parents) if not os.path.lexists(p)]
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
    return missing


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove those that are empty, in this order."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def remove_partial(folder: Path, patterns: Sequence[str]) -> None:
    """Remove what killed runs left half written under temporary names; only with the folder's lock."""
    stale = [(PurePosixPath(p).parent / f".{PurePosixPath(p).name}.*partial") for p in patterns]
    remove(folder, found(folder, map(str, [*stale, f".{MANIFEST}.*partial"])))


def refuse_place(out: Path) -> None:
    """Raises InputError unless ``out`` is a folder that can be written, or can be made, and has a name that all libraries take."""
    try:
        str(out).encode()
    except UnicodeEncodeError:
        raise InputError(
            f"out={str(out)!a} cannot be used: its name is not in UTF-8, which TensorBoard needs, name another folder"
        ) from None
    try:
        above = next(p for p in (out, *out.absolute().parents) if _is_there(p))
        is_folder = os.path.isdir(above)
    except OSError as error:
        raise cannot_write(out, error) from None
    if not is_folder:
        what = "leads nowhere" if os.path.islink(above) else "is a file"
        raise InputError(f"out={out} cannot be made: {above} {what}, name another folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise InputError(
            f"out={out} cannot be written (no permission in {above}): name a folder that you can write to"
        )


def refuse_inputs(out: Path, inputs: Iterable[str | Path | None]) -> None:
    """Raises InputError if a file of the user that is to be read lies in ``out``, or is it."""
    place = Path(os.path.realpath(out))
    for path in inputs:
        if path is not None and _is_within(Path(path), place):
            what = (
                "it is itself"
                if os.path.realpath(path) == str(place)
                else f"its {Path(path).name} is"
            )
            raise InputError(
                f"out={out} cannot be used: {what} an input of this job, name a folder of its own"
            )


def refuse_foreign(out: Path, job: str, patterns: Sequence[str]) -> Manifest | None:
    """The manifest of what ``job`` wrote into ``out`` before, None for nothing.

    Raises:
        InputError: another job did, or something that no run wrote lies where this one writes.
    """
    theirs = foreign(out, patterns)
    if theirs:
        raise InputError(
            f"out={out} already holds {theirs[0]}, which no run of cryotorch is known to have written and this one would replace: "
            "name another folder"
        )
    manifest = read_manifest(out)
    if manifest is not None and manifest.job != job:
        raise InputError(
            f"out={out} holds a run of job={manifest.job}, which job={job} does not replace: name another folder"
        )
    return manifest


def cannot_write(out: Path, error: OSError) -> InputError:
    """The sentence for a folder that the system does not let us write."""
    reason = error.strerror or str(error)
    manifest = read_manifest(out)
    goes_on = manifest is not None and manifest.iterations
    way = "then add resume=true" if goes_on else "or name another folder"
    return InputError(f"out={out} cannot be written ({reason}): mend that, {way}")


def job_name(settings: Any) -> str:
    """The job that settings are of: ``homo_refine`` for a ``HomoRefine``."""
    return re.sub("(?<!^)(?=[A-Z])", "_", type(settings).__name__).lower()


def _is_there(path: Path) -> bool:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _is_within(path: Path, folder: Path) -> bool:
    real, place = os.path.realpath(path), os.path.realpath(folder)
    return Path(real).is_relative_to(place)
