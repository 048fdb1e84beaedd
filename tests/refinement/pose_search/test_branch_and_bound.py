"""Branch and bound: no better pose is thrown away, the optimum is found, extents and priors hold, the counts add up."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from cryotorch.ops.fourier.slices import extract_slices
from cryotorch.ops.fourier.transforms import half_plane, pack
from cryotorch.ops.geometry.rotations import (
    from_rotation_vector,
    rotation_angle,
    rotation_grid,
)
from cryotorch.ops.pose.bounds import ring_number
from cryotorch.ops.pose.scores import Observation, grid_scores, shift_scores, templates
from cryotorch.refinement.image_terms import observe
from cryotorch.refinement.pose_search import branch_and_bound
from cryotorch.refinement.pose_search.branch_and_bound import (
    PowerTable,
    Pruning,
    _Descent,
    bounded_search,
    power_table,
)
from cryotorch.refinement.pose_search.cells import (
    Level,
)
from cryotorch.refinement.pose_search.local import local_candidates
from cryotorch.refinement.pose_search.pose_prior import PosePrior
from cryotorch.refinement.pose_search.search import (
    Poses,
    Reference,
    ascend,
    coarse_candidates,
    polish,
    prepare_reference,
)
from cryotorch.refinement.settings import SearchExtent, SearchSettings

FULCRUM = (3.0, -2.0, 4.0)
NO_CAP = 6000


def reference(world, limit: float, settings: SearchSettings, local: bool = False) -> Reference:
    group = None if local else world.settings.group
    return prepare_reference(world.volume, limit, settings, group, torch.float32)


def observation(world) -> Observation:
    """White noise of variance 1, which is what the model takes it for; without a window."""
    s, n = world.settings, len(world.truth)
    seen = observe(
        world.truth, torch.arange(n), world.images, torch.ones(1, s.box // 2 + 1), s.grid
    )
    return Observation(pack(world.images), seen.gain, seen.precision, s.box)


def scores(
    table: Reference,
    seen: Observation,
    image: Tensor,
    rotation: Tensor,
    shift: Tensor,
    limit: float,
) -> Tensor:
    """Of poses one by one, (p,)."""
    plane = half_plane(seen.box)
    count, parts = plane.count(limit), []
    for rows in torch.arange(len(image)).split(8192):
        view = seen.limited(count).of(image[rows])
        p = extract_slices(table.slices, rotation[rows], plane.frequency[:count])
        cross = shift_scores(view, shift[rows][:, None], p[:, None])[:, 0, 0]
        parts.append(cross - 0.5 * (p.abs().square() * view.gain**2 * view.precision).sum(1))
    return torch.cat(parts)


def truth_of(world) -> tuple[Tensor, Tensor]:
    return world.truth.rotation, world.truth.shift / world.settings.pixel_size


@pytest.mark.parametrize("snr", [0.05, 0.5, 3.0])
def test_the_bound_holds_for_cells_with_the_truth_or_the_optimum(snr: float, simulate) -> None:
    """Places in cells drawn evenly, at all levels: two in 10^4 may fail where noise is small and a rare view counts most."""
    n, each, generator = 80, 160, torch.Generator().manual_seed(7)
    settings = SearchSettings(grid_step=0.15, coarse_limit=7)
    world = simulate(n, snr, box=32)
    table, seen = reference(world, 12.0, settings, local=True), observation(world)
    bounds, truth = power_table(table, settings), truth_of(world)
    seen = seen.limited(half_plane(32).count(12))
    margins = bounds.margins(seen)
    assert [level.limit for level in bounds.levels] == [7, 12]
    optimum = ascend(table.slices, seen, torch.arange(n), *truth, 12)[1:]
    image, failed, pairs, most = torch.arange(n).repeat_interleave(each), 0, 0, []
    for level, margin in zip(bounds.levels, margins, strict=True):
        for rotation, shift in (truth, optimum):
            place = torch.rand(len(image), 5, generator=generator) - 0.5
            centre = from_rotation_vector(level.turn * place[:, :3]) @ rotation[image]
            best = scores(table, seen, torch.arange(n), rotation, shift, 12.0)
            low = scores(
                table, seen, image, centre, shift[image] + level.move * place[:, 3:], level.limit
            )
            gained = (best[image] - low) / margin[image]
            failed, pairs = failed + int((gained > 1).sum()), pairs + len(gained)
            most.append(float(gained.max()))
    assert pairs > 5e4 and failed <= 2e-4 * pairs, (failed, pairs)
    assert max(most) > 0.5  # nor is it empty


@pytest.mark.parametrize(("snr", "limit"), [(0.1, 5.0), (0.1, 8.0), (1.0, 8.0)])
def test_nothing_discarded_is_better_than_the_best(snr: float, limit: float, simulate) -> None:
    """At grid points, against exhaustive scores and against the Cauchy-Schwarz bound, which cannot fail."""
    n, full = 60, 12.0
    world = simulate(n, snr, box=32, shift_px=0.5)
    table = reference(world, full, SearchSettings(), local=True)
    plane, seen = half_plane(32), observation(world)
    high, low = seen.limited(plane.count(full)), seen.limited(plane.count(limit))
    rotation = rotation_grid(0.3)
    rotation = torch.cat([rotation, world.truth.rotation])
    p = extract_slices(table.slices, rotation, plane.frequency[: plane.count(full)])
    shift = truth_of(world)[1][:, None]
    whole = grid_scores(high, shift, templates(p, rotation))
    part = grid_scores(low, shift, templates(p[:, : plane.count(limit)], rotation))
    bounds = PowerTable(
        [Level(limit, 0.0, 0.0), Level(full, 0.0, 0.0)],
        power_table(table, SearchSettings()).power,
        torch.zeros(2, 1, 17),
    )
    likely = part + bounds.margins(high)[0][:, None]
    # sum over rings of sqrt(P_X P_Y) - P_Y / 2, which bounds <y, f> - <f, f> / 2
    certain, ring = part.clone(), ring_number(32)[: p.shape[1]]
    weight = high.gain**2 * high.precision
    for r in range(int(limit) + 1, int(full) + 1):
        here = ring == r
        mine = (weight[:, here] @ p[:, here].abs().square().T).repeat(1, 2)  # the turned ones too
        image = (high.precision * high.spectrum.abs().square())[:, here].sum(1, keepdim=True)
        certain += (mine * image).sqrt() - mine / 2
    best = whole.amax(1, keepdim=True)
    assert whole.numel() > 1e5
    assert (certain >= whole - 1e-2).all()
    assert (likely < whole).sum() <= 3e-5 * whole.numel()
    assert not ((likely < best) & (whole >= best)).any()
    assert not ((certain < best) & (whole >= best)).any()
    # where the tail matters the certain bound is of little use
    discarded = ((likely < best).float().mean(), (certain < best).float().mean())
    assert discarded[0] > 0.3 and (limit > 5 or discarded[0] > 4 * discarded[1])


def exhaustive(world, seen: Observation, limit: float, step: float, extent: float) -> Poses:
    """Every rotation of a fine grid at the full limit, and a long climb from the best 48."""
    settings = SearchSettings(grid_step=step, coarse_limit=limit, candidates=48, newton_steps=6)
    table, zero = reference(world, limit, settings), torch.zeros(len(world.truth), 2)
    found = coarse_candidates(table, seen, None, zero, extent, settings)
    return polish(table, seen.limited(half_plane(seen.box).count(limit)), *found, settings)


@pytest.mark.parametrize(
    ("symmetry", "box", "limit", "coarse", "step"),
    [("C1", 32, 14.0, 12, 0.1), ("D2", 24, 11.0, 8, 0.13)],
)
def test_finds_the_exhaustive_optimum(symmetry, box, limit, coarse, step, simulate) -> None:
    n = 10
    settings = SearchSettings(grid_step=step, coarse_limit=coarse)
    world = simulate(n, 1.0, box=box, symmetry=symmetry, shift_px=0.3)
    table, seen, zero = reference(world, limit, settings), observation(world), torch.zeros(n, 2)
    bounds = power_table(table, settings)
    poses, pruning = bounded_search(table, bounds, seen, None, zero, 1.0, None, settings, NO_CAP)
    assert pruning.cap_active == 0 and pruning.by_cap == 0
    assert pruning.by_bound > 0.9 * pruning.candidates
    best = exhaustive(world, seen, limit, step, 1.0).terms.score
    assert (poses.terms.score > best - 0.05).all()
    # and under the cap, as polish does from the grid's best
    narrow, counts = bounded_search(table, bounds, seen, None, zero, 1.0, None, settings)
    assert (narrow.terms.score > best - 0.2).all()
    assert counts.cap_active > 0 and counts.evaluations < pruning.evaluations
    newton = polish(
        table,
        seen.limited(half_plane(box).count(limit)),
        *coarse_candidates(table, seen, None, zero, 1.0, settings),
        settings,
    )
    same = (newton.terms.score - narrow.terms.score).abs() < 0.05
    assert same.float().mean() > 0.8
    angle = rotation_angle(
        narrow.rotation[:, None], newton.rotation[:, None] @ world.settings.group.float()
    )
    angle = angle.amin(1)[same]  # a score 0.05 lower is half a sigma away
    assert angle.max() < math.radians(1.5) and angle.median() < math.radians(0.2)
    assert (narrow.shift_px - newton.shift_px)[same].norm(dim=1).max() < 0.1
    torch.testing.assert_close(
        narrow.covariance[same], newton.covariance[same], rtol=0.2, atol=1e-3
    )


def ball(n: int, radius: float, dimensions: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    v = torch.randn(n, dimensions, generator=generator)
    return radius * v / v.norm(dim=1, keepdim=True) * torch.rand(n, 1, generator=generator)


def local_world(simulate, n: int = 16, snr: float = 0.5):
    """A world, its table, its images, and starts that are off by up to 0.25 rad about the fulcrum and 1.5 px."""
    world = simulate(n, snr, box=32)
    settings = SearchSettings(coarse_limit=9, grid_step=0.12)
    start = PosePrior(*truth_of(world), SearchExtent(FULCRUM, 1.0, 9.0)).pose(
        ball(n, 0.25, 3, 3), ball(n, 1.5, 2, 4)
    )
    return world, reference(world, 13.0, settings, local=True), observation(world), settings, start


@pytest.mark.parametrize("sigma", [(math.inf, math.inf), (0.1, 0.7)])
def test_finds_the_exhaustive_optimum_around_known_poses(sigma, simulate) -> None:
    world, table, seen, settings, start = local_world(simulate)
    held = PosePrior(*start, SearchExtent(FULCRUM, 0.3, 2.0, *sigma))
    bounds = power_table(table, settings, held.extent)
    poses, pruning = bounded_search(table, bounds, seen, *start, 0.0, held, settings, NO_CAP)
    assert pruning.cap_active == 0
    fine = SearchSettings(coarse_limit=13, grid_step=0.08, candidates=48, newton_steps=6)
    dense = reference(world, 13.0, fine, local=True)
    view = seen.limited(half_plane(32).count(13))
    best = polish(dense, view, *local_candidates(dense, seen, *start, held, fine), fine, held)

    def value(p: Poses) -> Tensor:
        return p.terms.score - held.cost(p.rotation, p.shift_px)

    assert (value(poses) > value(best) - 0.05).float().mean() >= 0.99
    narrow, _ = bounded_search(table, bounds, seen, *start, 0.0, held, settings)
    assert (value(narrow) > value(best) - 0.05).float().mean() >= 0.97
    for p in (poses, narrow):
        w, d = held.relative(p.rotation, p.shift_px)
        assert w.norm(dim=1).max() <= 0.3 + 1e-4 and d.norm(dim=1).max() <= 2.0 + 1e-3
    if math.isinf(sigma[0]):
        assert rotation_angle(poses.rotation, truth_of(world)[0]).rad2deg().median() < 2.5


@pytest.mark.parametrize("sigma", [(math.inf, math.inf), (0.1, 0.7)])
def test_cells_are_worth_their_score_less_the_least_cost_in_them(sigma, simulate) -> None:
    """Swing about the fulcrum and priors included, at the first level and after branching."""
    _, table, seen, settings, start = local_world(simulate, 6)
    held = PosePrior(*start, SearchExtent((9.0, -7.0, 8.0), 0.3, 2.0, *sigma))
    bounds = power_table(table, settings, held.extent)
    descent = _Descent(table, bounds, seen.limited(half_plane(32).count(13)), held, settings, 50)
    cells, generator = descent.open_locally(), torch.Generator().manual_seed(5)
    for level, at in enumerate(bounds.levels):
        cells = descent.branch(cells, level) if level else cells
        image, slot = cells.alive.nonzero(as_tuple=True)
        pose = descent._pose(image, cells.rotation[image, slot], cells.offset[image, slot])
        least = scores(table, seen, image, *pose, at.limit) - cells.score[image, slot]
        here = held.of(image)
        turn, offset = here.relative(*pose)
        assert len(image) > 50 and offset.norm(dim=1).max() <= 2.0 + 1e-4
        if math.isinf(sigma[0]):
            assert least.abs().max() < 1e-2
        else:
            assert least.min() > -1e-2 and least.max() > 0.1
            assert (least < here.cost(*pose) + 1e-2).all()
        for _ in range(20):
            place = torch.rand(len(image), 5, generator=generator) - 0.5
            inside = here.pose(turn + at.turn * place[:, :3], offset + at.move * place[:, 3:])
            assert (here.cost(*inside) >= least - 1e-2).all()


def test_priors_narrow_and_wide_and_no_room_at_all(simulate) -> None:
    _, table, seen, settings, start = local_world(simulate, 20)

    def search(*extent: float) -> tuple[Poses, PosePrior]:
        held = PosePrior(*start, SearchExtent(FULCRUM, *extent))
        bounds = power_table(table, settings, held.extent)
        return bounded_search(table, bounds, seen, *start, 0.0, held, settings)[0], held

    for tight, held in (search(0.3, 2.0, 1e-4, 1e-3), search(0.0, 0.0)):
        w, d = held.relative(tight.rotation, tight.shift_px)
        assert w.norm(dim=1).max() < 1e-3 and d.norm(dim=1).max() < 1e-2
    free, wide = search(0.3, 2.0)[0], search(0.3, 2.0, 1e6, 1e6)[0]
    assert torch.equal(free.rotation, wide.rotation) and torch.equal(free.shift_px, wide.shift_px)
    at_the_edge = search(0.03, 0.2)
    w, d = at_the_edge[1].relative(at_the_edge[0].rotation, at_the_edge[0].shift_px)
    assert w.norm(dim=1).max() <= 0.03 + 1e-5 and d.norm(dim=1).max() <= 0.2 + 1e-4
    assert w.norm(dim=1).median() > 0.029  # most of them would go farther


def test_the_previous_pose_is_one_of_the_hypotheses(simulate) -> None:
    """With a grid and a cap far too small, the search still does not lose what it had."""
    n, settings = 40, SearchSettings(grid_step=1.2, coarse_limit=4)
    world = simulate(n, 1.0)
    table, seen = reference(world, 9.0, settings), observation(world)
    bounds, (rotation, shift) = power_table(table, settings), truth_of(world)
    kept, _ = bounded_search(table, bounds, seen, rotation, shift, 1.0, None, settings, 1)
    lost, _ = bounded_search(table, bounds, seen, None, shift, 1.0, None, settings, 1)
    assert rotation_angle(kept.rotation, rotation).rad2deg().quantile(0.9) < 5
    assert rotation_angle(lost.rotation, rotation).rad2deg().quantile(0.9) > 20
    true = scores(table, seen, torch.arange(n), rotation, shift, 9.0)
    assert (kept.terms.score >= true - 1e-2).all()


def test_the_counts_add_up(simulate) -> None:
    n, settings = 30, SearchSettings(grid_step=0.3, coarse_limit=6)
    world = simulate(n, 1.0)
    table, seen, zero = reference(world, 11.0, settings), observation(world), torch.zeros(n, 2)
    bounds = power_table(table, settings)
    first = len(table.grid.rotation) * 5  # a disc of one pixel
    one = bounded_search(table, bounds, seen, None, zero, 1.0, None, settings, 20)[1]
    assert one.images == n and one.cap_active == n
    # all but the first level's hypotheses are the 32 children of cells that were kept
    children = one.candidates - n * first
    assert children % 32 == 0 and 0 < children <= 32 * 20 * n * (len(bounds.levels) - 1)
    survivors = one.candidates - one.by_bound - one.by_cap - children // 32
    assert 0 <= survivors <= 20 * n
    climbed = one.evaluations - one.candidates
    assert 20 * n < climbed < 120 * n
    wide = bounded_search(table, bounds, seen, None, zero, 1.0, None, settings, 200)[1]
    assert wide.candidates > one.candidates and wide.by_cap < one.by_cap
    both = one + wide
    assert both.images == 2 * n and both.by_bound == one.by_bound + wide.by_bound
    share = both.fractions()
    assert share["by_bound"] == pytest.approx(both.by_bound / both.candidates)
    assert share["by_bound"] + share["by_cap"] <= 1
    assert share["evaluations"] == pytest.approx(both.evaluations / (2 * n))
    assert Pruning().fractions() == dict.fromkeys(share, 0.0)


def test_the_documentation_names_the_patent() -> None:
    text = " ".join(branch_and_bound.__doc__.split())
    assert "patented" in text and "US 9,830,732" in text and "newton" in text
