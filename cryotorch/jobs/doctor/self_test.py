"""A few seconds of work whose result is known: compiled loops against plain products, and a small refinement."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import torch

from cryotorch.jobs.doctor.machine import Check
from cryotorch.ops.fourier.slices import extract_slices, projector, sample, slice_coordinates
from cryotorch.ops.fourier.transforms import half_plane
from cryotorch.ops.geometry.rotations import random_rotations
from cryotorch.ops.pose.scores import Observation, gram_of_tensors, pose_terms

BOX, LIMIT, POSES = 32, 12.0, 16
CLOSE = 1e-4  # of the largest value: float32, summed in another order
SET = dict(box_size=32, pixel_size=4.0, n_particles=250, snr=0.5, resolution=9.0, seed=1)
RUN = dict(max_iterations=3, split_resolution=25, seed=1)
REACHES = 8.6  # Å; twice the pixel size are 8, one shell less 8.53; five seeds reach 8.00
BROKEN = "results would be wrong: do not use this installation, install torch and numba anew, and report this"


def self_test() -> Iterator[Check]:
    """The checks, one after the other."""
    for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        yield kernels(torch.device(device))
    yield refinement()


def kernels(device: torch.device) -> Check:
    """Slices of a map and the products of poses, by the kernels of a device and by plain tensor operations."""
    draw = torch.Generator().manual_seed(0)
    volume = torch.randn(BOX, BOX, BOX, generator=draw)
    rotation = random_rotations(POSES, draw)
    m = half_plane(BOX).count(LIMIT - 1)
    frequency = half_plane(BOX).frequency[:m]
    table = projector(volume.to(device), LIMIT)
    found = extract_slices(table, rotation.to(device), frequency.to(device))
    plain = projector(volume, LIMIT)
    expected = sample(plain, slice_coordinates(rotation, frequency))
    off = float((found.cpu() - expected).abs().max() / expected.abs().max())
    image = torch.randn(POSES, m, dtype=torch.complex64, generator=draw)
    seen = Observation(image, torch.randn(POSES, m, generator=draw), torch.ones(POSES, m), BOX)
    spectrum, gain, precision = (
        part.to(device) for part in (seen.spectrum, seen.gain, seen.precision)
    )
    there = Observation(spectrum, gain, precision, BOX)
    poses = torch.arange(POSES), rotation, torch.randn(POSES, 2, generator=draw)
    products = pose_terms(table, there, *(part.to(device) for part in poses)).gram.cpu()
    wanted = gram_of_tensors(plain, seen, *poses)
    length = wanted.diagonal(dim1=1, dim2=2).sqrt()
    off = max(
        off, float(((products - wanted).abs() / (length[:, :, None] * length[:, None])).max())
    )
    good = off < CLOSE  # not of NaN
    said = f"on {device.type}, off by {off:.1e} of the largest value"
    return Check("kernels", said, "" if good else BROKEN)


def refinement() -> Check:
    """A small set of particles, simulated and refined, which reaches a resolution that is known."""
    reached, iterations = refined()
    good = math.isfinite(reached) and reached <= REACHES
    said = f"{reached:.2f} Å after {iterations} iterations, {REACHES:g} Å are to be reached"
    return Check("refinement", said, "" if good else BROKEN)


def refined() -> tuple[float, int]:
    """The resolution in Å that the refinement claims, NaN for none, and its iterations."""
    from cryotorch.refinement.runtime.lean_lightning import import_lightning

    import_lightning()
    from cryotorch.jobs import homo_refine, simulate
    from cryotorch.jobs.config.catalog import make_settings
    from cryotorch.jobs.refinement.run import refine_in_memory
    from cryotorch.report.run_log import RunLog

    with (
        tempfile.TemporaryDirectory(prefix="cryotorch-") as place,
        RunLog(terminal=False),
        redirect_stdout(StringIO()),
    ):
        out = Path(place) / "set"
        simulate.run(make_settings("simulate", out=str(out), **SET))
        given = dict(particles=str(out / "particles.star"), volume=str(out / "initial.mrc"))
        settings = make_settings("homo_refine", **given, **RUN, trainer__devices=1)
        result, _ = refine_in_memory(settings, homo_refine.prepare)
    return result.resolution, result.iteration
