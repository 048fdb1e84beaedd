"""A dry run: a job up to where its work would begin, with every check of a run, and nothing written.

The folders of a job (``new_files``, ``RunFolder``) make nothing then, and say what a run would leave in them; the job says where
its work begins, and ends there.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from cryotorch.errors import DryRun, InputError
from cryotorch.findings import Finding, remark
from cryotorch.jobs.files.manifest import found, read_manifest
from cryotorch.report.sentences import line

log = logging.getLogger("cryotorch")
S = TypeVar("S")


def work_begins(settings: Any, *known: Finding) -> None:
    """Inputs are read and checked: says what is ``known`` of the work, its memory for example; a dry run ends here.

    Raises:
        DryRun: it is one.
    """
    for finding in known:
        log.info(line(finding))
    if settings.dry_run:
        raise DryRun


def without_cache(settings: S) -> S:
    """The settings as a dry run takes them: images are read from their stacks, as a cache would be written.

    Raises:
        InputError: a run could not write its cache.
    """
    place = getattr(settings, "cache_dir", None)
    if place is None or not getattr(settings, "dry_run", False):
        return settings
    above = next(p for p in (Path(place), *Path(place).absolute().parents) if os.path.lexists(p))
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise InputError(
            f"cache_dir={place} cannot be written: name a folder that you can write to"
        )
    return replace(settings, cache_dir=None)  # pyright: ignore[reportArgumentType, reportCallIssue]


@contextmanager
def nothing_kept(out: Path, patterns: Sequence[str]) -> Iterator[Path]:
    """A folder that goes when the block ends, which is the end of the dry run of a job; it says what a run would have left in ``out``.

    Raises:
        DryRun: always, unless something is wrong.
    """
    with tempfile.TemporaryDirectory(prefix="cryotorch-") as folder:
        ended = False
        try:
            yield Path(folder)
        except DryRun:
            ended = True
    assert ended, "this job does not call work_begins once it has read its inputs"
    tell_plan(out, patterns)
    raise DryRun


def tell_plan(out: Path, patterns: Sequence[str], goes_on: bool = False) -> None:
    """Says what a run would write into ``out`` and what it would replace there; ``goes_on``: with the run in it."""
    manifest = read_manifest(out)
    names = [] if manifest is None else [n for n in found(out, patterns) if manifest.owns(n)]
    shown = dict.fromkeys(p if "/" not in p else p.partition("/")[0] + "/" for p in patterns)
    about = dict(out=str(out), files=", ".join(shown), replaced=len(names), goes_on=goes_on)
    log.info(line(remark("dry_run", **about)))
