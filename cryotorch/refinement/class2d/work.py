"""How fine each iteration compares images, and how much work that is: in images of the last pass, so that progress goes with the time."""

from __future__ import annotations

from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.refinement.class2d.settings import ClassSettings
from cryotorch.refinement.pose_search.search import shift_grid

GROWTH = (
    0.75  # part of the iterations after which the limit is the last one, and no class is re-seeded
)
SHIFT_STEP = 0.3  # wave lengths of the limit between shifts
COARSE_LIMIT = 12.0  # Fourier pixels, up to which shifts are tried all over the extent; beyond, about the best of those
NEAR = 1.5  # steps around it


def limit_of(iteration: int, settings: ClassSettings) -> float:
    """Fourier pixels of an iteration of the online part, counted from 0."""
    done = min(1.0, iteration / max(1, settings.iterations - 1) / GROWTH)
    return settings.first_limit + done * (settings.last_limit - settings.first_limit)


def shifts_of(limit: float, settings: ClassSettings) -> tuple[float, float, bool]:
    """Radius and step (pixels) of the shifts that are tried at a limit, and whether they lie around the best of a coarser one."""
    step = SHIFT_STEP * settings.grid.box / limit
    twice = limit > COARSE_LIMIT and settings.extent > NEAR * step
    extent = NEAR * step if twice else settings.extent
    return extent, min(step, max(extent, 1e-3)), twice


def effort(limit: float, settings: ClassSettings) -> float:
    """Products of an image with a class: turns, shifts and Fourier pixels."""
    extent, step, twice = shifts_of(limit, settings)
    poses = settings.angles(limit) * len(shift_grid(extent, step))
    before = effort(COARSE_LIMIT, settings) if twice else 0.0
    return poses * half_plane(settings.grid.box).count(limit) + before


def share_of_last(limit: float, settings: ClassSettings) -> float:
    """The work for an image at a limit, as a part of that in the last pass."""
    return effort(limit, settings) / effort(settings.last_limit, settings)


def work(n: int, settings: ClassSettings, iterations: int | None = None, passes: int | None = None) -> float:  # fmt: skip
    """Of n images until so many iterations and passes are done, by default all, in images of the last pass."""
    batch = min(settings.batch, n)
    iterations = settings.iterations if iterations is None else iterations
    online = sum(share_of_last(limit_of(k, settings), settings) for k in range(iterations))
    return batch * online + (settings.passes if passes is None else passes) * n
