"""Particle STAR files with something wrong in any place: they are read or refused, and what is read can be written."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cryotorch.data.particle_file import read_particles, write_particles
from cryotorch.data.star import write_star
from cryotorch.data.table import Table
from cryotorch.errors import InputError

VALUES = st.sampled_from(
    "0 1 2 -1 0.5 1e-30 -1e29 1e31 1e999 nan inf abc 99999999999999999999 [] [1,2] [nan] [1,2 None 000001@ @x 1@.. "
    "1@/dev/zero 0@stack.mrcs 13@stack.mrcs 2@stack.mrcs stack.mrcs 1@particles.star 9@pipe".split()
) | st.text(st.characters(codec="utf-8", exclude_characters="\0\n\"'"), max_size=6)
PLACE = st.integers(0, 99)  # counted around
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["value", "value", "column", "delete", "rename"]), PLACE, PLACE, VALUES
    ),
    min_size=1,
    max_size=4,
)
ONCE = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def full(particle_set):
    """Every column that is read."""
    particle_set.add_poses()
    ones, two = np.ones(1), np.arange(12) % 2
    for label in (
        "rlnBeamTiltX",
        "rlnBeamTiltY",
        "rlnMagMat00",
        "rlnMagMat11",
        "rlnMicrographOriginalPixelSize",
    ):
        particle_set.optics[label] = ones
    for label in ("rlnMagMat01", "rlnMagMat10", "rlnCtfDataAreCtfPremultiplied"):
        particle_set.optics[label] = 0 * ones
    particle_set.optics["rlnOddZernike"] = np.full((1, 6), 0.1)
    particle_set.optics["rlnEvenZernike"] = np.full((1, 9), 0.1)
    particle_set.optics["rlnMtfFileName"] = ["mtf.star"]
    for label in (
        "rlnPhaseShift",
        "rlnCtfBfactor",
        "rlnCtfScalefactor",
        "cryotorchScale",
        "rlnOriginX",
    ):
        particle_set.particles[label] = 1.0 + two
    frequency = np.linspace(0, 0.5, 9)
    mtf = {"rlnResolutionInversePixel": frequency, "rlnMtfValue": 1 - frequency}
    write_star(particle_set.folder / "mtf.star", {"": Table(mtf)})
    particle_set.write()
    return particle_set


def spoil(path, tables, changes) -> None:
    """Write the tables as text after some values, columns and names were exchanged."""
    tables = {name: {x: table[x].tolist() for x in table} for name, table in tables.items()}
    for kind, which, where, value in changes:
        name = sorted(tables)[which % len(tables)]
        table = tables[name]
        label = list(table)[where % len(table)] if table else None
        if kind == "rename":
            tables[value.split()[0] if value.split() else ""] = tables.pop(name)
        elif label and kind == "delete":
            del table[label]
        elif label and kind == "column":
            table[label] = [value] * len(table[label])
        elif label:
            table[label][which % len(table[label])] = value
    text = ""
    for name, table in tables.items():
        text += f"data_{name}\nloop_\n" + "".join(f"_{label}\n" for label in table)
        text += "\n".join(map(" ".join, zip(*table.values()))) + "\n\n"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))


@given(CHANGES, st.booleans())
@example([("value", 0, 0, "1"), ("delete", 0, 40, "0")], False)  # optics without a voltage
@ONCE
def test_spoilt_files_are_read_or_refused(full, changes, need_images):
    path = full.folder / "spoilt.star"
    spoil(path, {"optics": full.optics, "particles": full.particles}, changes)
    try:
        file = read_particles(path, need_images=need_images)
    except InputError:
        return
    particles = file.particles
    for values in (particles.rotation, particles.shift, particles.defocus, particles.scale):
        assert torch.isfinite(values).all()
    assert file.box >= 0 and file.pixel_size > 0
    assert len(particles) == file.tables["particles"].rows
    write_particles(full.folder / "again.star", file, particles)
    again = read_particles(full.folder / "again.star", need_images=need_images)
    torch.testing.assert_close(again.particles.shift, particles.shift, atol=1e-5, rtol=1e-6)
    assert (again.particles.address[:, 1] == particles.address[:, 1]).all()


@given(st.binary(max_size=80), st.integers(0, 2000), st.integers(0, 40))
@ONCE
def test_spoilt_bytes_are_read_or_refused(full, junk, start, length):
    text = full.star.read_bytes()
    path = full.folder / "spoilt.star"
    path.write_bytes(text[:start] + junk + text[start + length :])
    try:
        file = read_particles(path)
    except InputError:
        return
    assert len(file.particles) == file.tables["particles"].rows > 0
