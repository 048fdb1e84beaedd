"""The steps of ``job=particles`` in their order, each counted: those that choose particles, then those that change them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cryotorch.errors import InputError
from cryotorch.findings import Finding, remark
from cryotorch.jobs.config.parse import require
from cryotorch.jobs.config.units import parse_length
from cryotorch.jobs.curation import choose, views
from cryotorch.jobs.curation.duplicates import MOVIE_PIXEL, find_duplicates, pixel_label
from cryotorch.jobs.curation.expression import Condition
from cryotorch.jobs.curation.join import join
from cryotorch.jobs.curation.mixture import Mixture, fit_mixture
from cryotorch.jobs.curation.names import optics_from_names
from cryotorch.jobs.curation.originals import returned
from cryotorch.jobs.curation.particle_list import ParticleList, read_list
from cryotorch.jobs.curation.poses import columns_of, expanded, one_of_each_image, recentred
from cryotorch.jobs.curation.settings import Particles
from cryotorch.jobs.inputs.source_run import doubts
from cryotorch.ops.geometry.symmetry import point_group

CLEAR_GAIN = 0.0  # nats per value by which Gaussians must be preferred to one


@dataclass(frozen=True)
class Step:
    """What a step left.

    Attributes:
        name: of the parameter; before, after: rows; said: what it did, for the log.
    """

    name: str
    before: int
    after: int
    said: str


@dataclass
class Course:
    """A list on its way through the steps.

    Attributes:
        particles: as they are now; rows: (n,) which row of ``start`` each was, as long as rows are only taken out.
        start: after reading and joining.
        steps: that were taken; told: what is to be told; values: columns that decided, (n,) of ``start``; say: is called with every step.
    """

    particles: ParticleList
    start: ParticleList
    rows: np.ndarray
    say: Callable[[Step], None]
    steps: list[Step] = field(default_factory=list)
    told: list[Finding] = field(default_factory=list)
    values: dict[str, np.ndarray] = field(default_factory=dict)

    def keep(self, name: str, rows: np.ndarray, said: str) -> None:
        """Keep some of the rows, (m,) which or (n,) bool whether; raises InputError where none are left."""
        before = len(self.particles)
        if rows.dtype != bool:
            rows = np.isin(np.arange(before), rows)
        if not rows.any():
            counts = ", ".join(f"{step.after:,} after {step.name}" for step in self.steps)
            raise InputError(
                f"{name} leaves none of {before:,} particles ({said}; {counts}): nothing is written"
            )
        self.particles, self.rows = self.particles.taken(rows), self.rows[rows]
        self._took(Step(name, before, len(self.particles), said))

    def change(self, name: str, particles: ParticleList, said: str) -> None:
        """Go on with changed particles, as many or more or fewer."""
        before, self.particles = len(self.particles), particles
        self._took(Step(name, before, len(particles), said))

    def decided_by(self, label: str) -> None:
        """Remember the column for the picture."""
        self.values.setdefault(label, self.start.numbers(label))

    def _took(self, step: Step) -> None:
        self.steps.append(step)
        self.say(step)


def files_of(settings: Particles) -> list[str]:
    """The files that particles are read from; raises InputError where none is named."""
    given = settings.particles
    requirement = "name a STAR file, particles=run_data.star, a .cs file, or several, particles=[a.star,b.star]"
    require(given is not None, "particles", None, requirement)
    return [given] if isinstance(given, str) else list(given or [])


def curated(settings: Particles, say: Callable[[Step], None]) -> Course:
    """The particles of all files after all steps; ``say`` is called with each.

    Raises:
        InputError: there is no such point group, a file cannot be read, or a step cannot be done or leaves nothing.
    """
    refuse_groups(settings)
    course = read_all(settings, say)
    choose_particles(course, settings)
    change_particles(course, settings)
    return course


def refuse_groups(settings: Particles) -> None:
    """Raises InputError for a point group that there is not."""
    names = {"expand_symmetry": settings.expand_symmetry, "views.symmetry": settings.views.symmetry}
    for name, value in names.items():
        try:
            point_group(value or "C1")
        except ValueError:
            requirement = "choose one of C1, C2, ..., D1, D2, ..., T, O, I, I1, I2, I3, I4"
            require(False, name, value, requirement)


def read_all(settings: Particles, say: Callable[[Step], None]) -> Course:
    """The particles of all files in one list.

    Raises:
        InputError: a file cannot be read, or the files do not fit together.
    """
    lists, told, renamed = [], [], 0
    for path in files_of(settings):
        where = dict(project=settings.project, out=str(settings.out))
        given = (settings.class_, settings.move_paths)
        one, found, count = read_list(path, *given, **where, originals=settings.originals)
        if settings.originals:
            one, back = returned(one)
            found = [*found, *back]
        lists.append(one)
        if settings.restack is not None:  # the new names are others
            found = [x for x in found if x.code not in ("names_absolute", "names_lost")]
        told += found
        renamed += count
    dropped = columns_of(settings.reset or [])
    whole, more = join(lists, settings.join_optics == "match", dropped)
    if settings.one_per_image:  # they will not be there twice
        more = [x for x in more if x.code != "images_joined_twice"]
    told = list(dict.fromkeys([*told, *more, *doubts(*files_of(settings))]))
    course = Course(whole, whole, np.arange(len(whole)), say, told=told)
    names = ", ".join(Path(one.path).name for one in lists)
    counts = " + ".join(f"{len(one):,}" for one in lists) if len(lists) > 1 else "all"
    names += "" if settings.class_ is None else f", class {settings.class_}"
    names += ", the original images" if settings.originals else ""
    groups = f", optics groups: {whole.optics.rows}"
    course._took(Step("particles", len(whole), len(whole), f"{counts} of {names}{groups}"))
    if settings.move_paths is not None:
        old, new = settings.move_paths
        requirement = f"no image file begins with {old}, {whole.stacks[0]} is one"
        require(renamed > 0, "move_paths", settings.move_paths, requirement)
        course.change("move_paths", whole, f"the images of {renamed:,} are found in {new}")
    return course


def choose_particles(course: Course, settings: Particles) -> None:
    """Where, micrographs, other lists, best, mixture, one per image, distance, views, random: as far as they are asked for.

    Raises:
        InputError: a step cannot be done, or leaves nothing.
    """
    if settings.where is not None:
        condition = Condition(settings.where)
        rows = condition.rows(course.particles)
        for label in condition.columns:
            course.decided_by(label)
        course.keep("where", rows, condition.text)
    if settings.micrographs is not None:
        _micrographs(course, settings.micrographs)
    for name in ("intersect", "subtract"):
        if getattr(settings, name) is not None:
            _other(course, name, getattr(settings, name), settings.match_by)
    if settings.best is not None:
        value, share = settings.best_share() or (1.0, True)
        rows = choose.best_rows(_score(course, settings), value, share)
        course.keep("best", rows, f"the best {settings.best} by {settings.score}")
    if settings.mixture.column is not None:
        _mixture(course, settings)
    if settings.one_per_image:
        score = _scores(course, settings)
        one, rows, undone = one_of_each_image(course.particles, score)
        course.rows = course.rows[rows]
        turned = f", an operator of the symmetry undone for {undone:,}" if undone else ""
        said = f"one row of each image{turned}"
        course.change("one_per_image", one, said)
    if settings.min_distance is not None:
        _apart(course, settings)
    if settings.views.most is not None:
        _views(course, settings)
    if settings.random is not None:
        rows = choose.random_rows(course.particles, settings.random, settings.seed)
        course.keep("random", rows, "at random, alike in half sets and optics groups")


def change_particles(course: Course, settings: Particles) -> None:
    """Symmetry, centre, what is forgotten, optics groups: as far as they are asked for.

    Raises:
        InputError: a step cannot be done.
    """
    if settings.expand_symmetry is not None:
        many = expanded(course.particles, settings.expand_symmetry)
        said = f"every particle in its orientations by {settings.expand_symmetry.upper()}"
        course.change("expand_symmetry", many, said)
        course.told.append(remark("expanded_now"))
    if settings.recenter is not None:
        sizes = course.particles.pixel_size()
        pixel_size = float(np.median(sizes))
        point = np.array([parse_length(x, pixel_size, "recenter") for x in settings.recenter])
        said = "[{:.4g},{:.4g},{:.4g}] Å of the map comes to its middle".format(*point)
        course.change("recenter", recentred(course.particles, point), said)
    if settings.reset:
        gone = [x for x in columns_of(settings.reset) if x in course.particles.table]
        said = f"without {', '.join(gone)}" if gone else "there was nothing to forget"
        course.change("reset", course.particles.without(gone), said)
    if settings.optics_from_names is not None:
        grouped = optics_from_names(course.particles, settings.optics_from_names)
        said = f"{grouped.optics.rows} optics groups by {settings.optics_from_names}"
        course.change("optics_from_names", grouped, said)
    course.particles = course.particles.pruned()


def _score(course: Course, settings: Particles) -> np.ndarray:
    score = str(settings.score)
    values = choose.score_of(course.particles, score)
    course.decided_by(score.removeprefix("-").removeprefix("_"))
    return values


def _scores(course: Course, settings: Particles) -> np.ndarray | None:
    return None if settings.score is None else _score(course, settings)


def _micrographs(course: Course, given: str | list[str]) -> None:
    names = choose.named_micrographs(given)
    try:
        rows, loosely = choose.of_micrographs(course.particles, names)
    except InputError as error:
        raise InputError(f"micrographs cannot be used: {error}") from None
    how = ", by their names without folders" if loosely else ""
    course.keep("micrographs", rows, f"those of {len(names):,} micrographs{how}")


def _other(course: Course, name: str, path: str, by: str) -> None:
    other, _, _ = read_list(path)
    rows = choose.in_other(course.particles, other, by)
    if not rows.any():
        pair = dict(one=_shown(course.particles), other=_shown(other))
        course.told.append(Finding("nothing_in_common", file=path, by=by, **pair))
    what = "which are" if name == "intersect" else "which are not"
    said = f"{what} among the {len(other):,} of {Path(path).name}"
    course.keep(name, rows if name == "intersect" else ~rows, said)


def _shown(particles: ParticleList) -> str:
    return particles.table["rlnImageName"][:1][0]


def _mixture(course: Course, settings: Particles) -> None:
    given = settings.mixture
    label = str(given.column).removeprefix("_")
    try:
        values = course.particles.numbers(label)
        fitted = fit_mixture(values, given.components, settings.seed)
    except (InputError, ValueError) as error:
        reason = str(error).rstrip(".")
        raise InputError(f"mixture.column={label} cannot be used: {reason}") from None
    course.decided_by(label)
    kept = given.keep or [given.components]
    course.told.append(remark("mixture_fitted", column=label, gaussians=_in_words(fitted)))
    if fitted.gain <= CLEAR_GAIN:
        course.told.append(Finding("mixture_not_seen", column=label, count=given.components))
    rows = np.isin(fitted.component(values) + 1, kept)
    said = f"Gaussian {' and '.join(map(str, kept))} of {given.components} in {label}"
    course.keep("mixture", rows, said)


def _in_words(fitted: Mixture) -> str:
    rows = zip(fitted.mean, fitted.sigma, fitted.weight, strict=True)
    return "; ".join(f"{mean:.4g} +- {sigma:.3g} ({share:.0%})" for mean, sigma, share in rows)


def _apart(course: Course, settings: Particles) -> None:
    distance = float(settings.min_distance or 0.0)
    score = _scores(course, settings)
    found = find_duplicates(course.particles, distance, score, settings.micrograph_pixel_size)
    across = f", {found.across:,} of them in different half sets" if found.across else ""
    said = f"{len(found.pairs):,} pairs are closer than {distance:g} Å{across}"
    if settings.micrograph_pixel_size is None and pixel_label(course.particles) == MOVIE_PIXEL:
        course.told.append(remark("movie_pixels", column=f"_{MOVIE_PIXEL}"))
    if found.across:
        course.told.append(Finding("halves_shared", pairs=found.across, distance=distance))
    course.keep("min_distance", found.stays, said)


def _views(course: Course, settings: Particles) -> None:
    given = settings.views
    try:
        cell, count = views.cells(course.particles, given.spacing, given.symmetry)
    except InputError as error:
        raise InputError(f"views.most cannot be used: {error}") from None
    score = _scores(course, settings)
    most = given.most if given.most is not None else "median"
    rows, limit = views.capped(cell, most, score, settings.seed)
    full = int((np.bincount(cell) > limit).sum())
    said = f"at most {limit:,} of each view, which {full:,} of {count:,} views had more of"
    course.keep("views.most", rows, said)
