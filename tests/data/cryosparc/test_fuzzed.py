"""CryoSPARC's files with something wrong in any place: they are read or refused, and what is read can be written."""

from __future__ import annotations

import os
import pickle
import struct
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cryotorch.data.cryosparc.fields import FIELDS
from cryotorch.data.cryosparc.file import read_cs
from cryotorch.data.particle_file import read_particles, write_particles, write_tables
from cryotorch.errors import InputError
from cryotorch.jobs import convert
from cryotorch.jobs.config.catalog import make_settings

N, K = 12, 3  # particles, classes
NUMBERS = st.sampled_from(
    [0, 1, -1, 0.5, 2, 13, 300, 1e-30, -1e29, 1e31, 1e38, 2**31, 2**32 - 1, 2**63, 2**64 - 1]
    + [np.nan, np.inf, -np.inf]
)
TEXTS = st.sampled_from(
    [b"", b">", b"stack.mrcs", b">stack.mrcs", b"no.mrcs", b"/dev/zero", b"pipe", b".", b"..", b"/"]
    + [b"\xff\xfe.mrcs", "Å.mrcs".encode(), b"@", b"1@", b"a b", b"\n", b"\0x", b"x\0y", b"\x7f"]
    + [b"x" * 300, b"x/" * 3000, b"full.cs", b"particles.star", b"'\"", b"#", b"stack.mrcs:mrcs"]
) | st.binary(max_size=6)
KINDS = st.sampled_from(
    "<u8 >u8 <u4 <i8 <i4 |i1 |b1 <f8 >f4 <f4 <f2 <c8 |S1 |S7 <f16 |O |S7 <f8 <u8 <i8 |V4 <U4".split()
)
SHAPES = st.sampled_from([(), (1,), (2,), (3,), (4,), (0,), (2, 2), (3, 3), (1, 3), (5, 0), (3, 2)])
STRANGE = """
alignments3D_multi/pose alignments3D_multi/class_posterior alignments3D_multi/class alignments_class_0/pose
alignments_class_0/class_posterior alignments_class_7/pose alignments_class_99999999999999999999/class_posterior
star/rlnImageName star/rlnOpticsGroup star_optics/rlnOpticsGroup star_optics/rlnImagePixelSize star/ star/rlnTomoName
star/rlnRandomSubset star/rlnDefocusU star/cs/uid star/rlnOriginX star/rlnAngleRot star_optics/rlnOpticsGroupName star/a'b"c x / cs/x _
"""
NAMES = st.sampled_from([*FIELDS, *STRANGE.split()]) | st.text(
    st.characters(exclude_characters="\0\n\"'\\"), min_size=1, max_size=4
)
PLACE = st.integers(0, 99)  # counted around
CHANGE = st.one_of(
    st.tuples(st.just("value"), PLACE, PLACE, NUMBERS | TEXTS),
    st.tuples(st.just("column"), PLACE, PLACE, NUMBERS | TEXTS),
    st.tuples(st.just("type"), PLACE, PLACE, KINDS),
    st.tuples(st.just("shape"), PLACE, PLACE, SHAPES),
    st.tuples(st.just("delete"), PLACE, PLACE, st.none()),
    st.tuples(st.just("rename"), PLACE, PLACE, NAMES),
    st.tuples(st.just("copy"), PLACE, PLACE, NAMES),
    st.tuples(st.just("rows"), PLACE, PLACE, st.none()),
    st.tuples(st.just("repeat"), PLACE, PLACE, st.none()),
)
CHANGES = st.lists(CHANGE, min_size=1, max_size=4)
ONCE = dict(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Code:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.fixture
def fields(particle_set) -> dict[str, np.ndarray]:
    """All that is read, and the poses of three classes."""
    particle_set.add_poses()
    os.mkfifo(particle_set.folder / "pipe")
    file = read_particles(particle_set.write())
    write_tables(particle_set.folder / "full.cs", file.tables)
    found = {x: v for x, v in read_cs(particle_set.folder / "full.cs").items() if x[:4] != "star"}
    rng = np.random.default_rng(3)

    def f4(*shape):
        return rng.uniform(0.1, 0.9, shape).astype(np.float32)

    found |= {
        "blob/sign": np.full(N, -1, np.float32),
        "ctf/tilt_A": 100 * f4(N, 2),
        "ctf/anisomag": 0.01 * f4(N, 4),
        "ctf/trefoil_A": f4(N, 2),
        "location/micrograph_path": np.array([b">J2/m.mrc"] * N),
        "location/micrograph_shape": np.full((N, 2), [4000, 5000], np.uint32),
        "location/center_x_frac": f4(N),
        "location/center_y_frac": f4(N),
        "alignments2D/shift": f4(N, 2),
        "alignments2D/pose": f4(N),
        "alignments2D/psize_A": f4(N),
        "alignments2D/class": np.arange(N, dtype=np.uint32),
        "alignments3D_multi/pose": f4(N, K, 3),
        "alignments3D_multi/shift": f4(N, K, 2),
        "alignments3D_multi/class": np.tile(np.arange(K, dtype=np.uint32), (N, 1)),
        "alignments3D_multi/class_posterior": f4(N, K),
        "new/double": f4(N).astype(np.float64),
        "new/text": np.array([b"", b"a b", b"\xff", b"loop_"] * 3),
    }
    return found


def spoil(path: Path, fields: dict[str, np.ndarray], changes: list) -> None:
    """Write the fields, as they stand in memory, after some values, types, shapes and names were exchanged."""
    names, columns = list(fields), [values.copy() for values in fields.values()]
    for kind, which, where, value in changes:
        if not names or not len(columns[0]):
            break
        i = which % len(names)
        old = columns[i]
        if kind in ("value", "column"):
            columns[i] = _with(old, where % max(len(old), 1) if kind == "value" else None, value)
        elif kind == "type":
            columns[i] = _typed(old, value)
        elif kind == "shape":
            size = (len(old), *value)
            columns[i] = np.resize(old, size) if 0 not in size else np.zeros(size, old.dtype)
        elif kind == "delete":
            del names[i], columns[i]
        elif kind == "rename":
            names[i] = value
        elif kind == "copy":
            names.append(value)
            columns.append(old)
        else:
            rows = where % (N + 1)
            take = np.arange(rows) if kind == "rows" else np.arange(N + rows) % N
            columns = [x[take[take < len(x)] if kind == "rows" else take % len(x)] for x in columns]
    save(path, names, columns)


def _with(old: np.ndarray, row: int | None, value: object) -> np.ndarray:
    """One row, or all, set to a number or a text, in the type of the column where that can hold it."""
    text = isinstance(value, bytes)
    if text != (old.dtype.kind == "S"):
        return old if row is not None else np.full(len(old), value, "S" if text else None)
    if text:
        old = old.astype(f"S{max(len(value), old.itemsize, 1)}")
    with np.errstate(all="ignore"):
        old[slice(None) if row is None else row] = np.array(value).astype(old.dtype)
    return old


def _typed(old: np.ndarray, kind: str) -> np.ndarray:
    if kind[1] in "OVMU" or old.dtype.kind in "SVMU":
        return np.zeros(old.shape, kind)
    with np.errstate(all="ignore"):
        return old.astype(kind)


def save(path: Path, names: list[str], columns: list[np.ndarray]) -> None:
    """An .npy file of any fields, also of those that NumPy refuses."""
    descr = [
        (name, x.dtype.str, *([x.shape[1:]] if x.ndim > 1 else []))
        for name, x in zip(names, columns)
    ]
    n = len(columns[0]) if columns else 0
    header = repr({"descr": descr, "fortran_order": False, "shape": (n,)})
    header = header.encode("utf-8", "replace")
    if any(x.dtype.kind == "O" for x in columns):
        rows = pickle.dumps([Code(path.with_name("sprung"))])
    else:
        rows = b"".join(b"".join(x[i : i + 1].tobytes() for x in columns) for i in range(n))
    path.write_bytes(b"\x93NUMPY\x03\x00" + struct.pack("<I", len(header)) + header + rows)


def attempt(folder: Path, need_images: bool, **options) -> None:
    """Read spoilt.cs; what is read can be written in both formats, and is the same when read again."""
    try:
        file = read_particles(folder / "spoilt.cs", need_images=need_images, **options)
    except InputError as error:
        assert "\n" not in str(error) and len(str(error)) > 20
        return
    finally:
        assert not (folder / "sprung").exists()
    particles = file.particles
    for values in (particles.rotation, particles.shift, particles.defocus, particles.scale):
        assert torch.isfinite(values).all()
    assert file.box >= 0 and file.pixel_size > 0
    assert len(particles) == file.tables["particles"].rows > 0
    for name in ("again.star", "again.cs"):
        try:
            write_particles(folder / name, file, particles)
        except InputError as error:  # what the other format has no letters for
            assert "cannot be the name of a field" in str(error) or "quotes" in str(error)
            continue
        again = read_particles(folder / name, need_images=need_images).particles
        torch.testing.assert_close(again.shift, particles.shift, atol=1e-4, rtol=1e-4)
        assert (again.address[:, 1] == particles.address[:, 1]).all()
        assert torch.equal(again.half, particles.half)


def _any_fields(particle_set, fields, changes, need_images, of_class):
    spoil(particle_set.folder / "spoilt.cs", fields, changes)
    attempt(particle_set.folder, need_images, of_class=of_class)


ANY = (CHANGES, st.booleans(), st.sampled_from([None, None, 0, 1]))


@given(*ANY)
@example([("type", 26, 0, "|i1")], False, None)  # 2.5 Å became 2 Å when written again
@example([("shape", 34, 0, ())], False, None)  # refused only when written again
@example([("value", 33, 0, -1e29)], False, None)  # the same
@example([("value", 31, 0, 0)], False, None)  # a micrograph without a size
@example([("shape", 42, 0, (0,))], False, None)  # a field without values
@example([("copy", 31, 0, "star/cs/uid")], True, 0)
@example([("type", 21, 0, "<f16")], False, None)
@example([("type", 40, 0, "<c8")], False, 1)
@settings(max_examples=60, **ONCE)
def test_spoilt_files_are_read_or_refused(particle_set, fields, changes, need_images, of_class):
    _any_fields(particle_set, fields, changes, need_images, of_class)


@pytest.mark.slow
@given(*ANY)
@settings(max_examples=5000, **ONCE)
def test_many_spoilt_files(particle_set, fields, changes, need_images, of_class):
    _any_fields(particle_set, fields, changes, need_images, of_class)


PARTS = st.dictionaries(st.sampled_from(sorted(FIELDS)), st.sampled_from(["main", "both"]))


@given(PARTS, CHANGES, st.booleans(), st.booleans())
@example({"uid": "both"}, [("rows", 0, 0, None)], True, False)
@settings(max_examples=40, **ONCE)
def test_spoilt_passthrough_files(particle_set, fields, parts, changes, named, need_images):
    """Some fields are in the main file, the others, spoilt, in the second one."""
    folder = particle_set.folder
    main = {x: v for x, v in fields.items() if parts.get(x) or x in ("uid", "blob/path")}
    second = {x: v for x, v in fields.items() if parts.get(x) != "main"}
    save(folder / "spoilt.cs", list(main), list(main.values()))
    other = folder / "J1_passthrough_particles.cs"
    spoil(other, second, changes)
    attempt(folder, need_images, **({"passthrough": other} if named else {}))
    other.unlink()


@given(CHANGES, st.sampled_from([None, "star", "cs"]), st.booleans())
@settings(max_examples=30, **ONCE)
def test_spoilt_files_are_converted_or_refused(particle_set, fields, changes, form, named):
    """The job, and back from what it made."""
    folder = particle_set.folder
    spoil(folder / "spoilt.cs", fields, changes)
    given = dict(write=None if form is None else [form], project=str(folder) if named else None)
    for source, out in (("spoilt.cs", "there"), (f"there/particles.{form or 'star'}", "back")):
        try:
            convert.run(
                make_settings(
                    "convert",
                    **dict(particles=str(folder / source), out=str(folder / out), overwrite=True),
                    **given,
                )
            )
        except InputError as error:
            assert "\n" not in str(error) and len(str(error)) > 20
            return


@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 7)), min_size=1, max_size=3),
    st.none() | st.integers(0, 10**5),
)
@settings(max_examples=100, **ONCE)
def test_flipped_bits_and_cut_files(particle_set, fields, flips, end):
    """Two flips in three are in the header."""
    path = particle_set.folder / "spoilt.cs"
    save(path, list(fields), list(fields.values()))
    content = bytearray(path.read_bytes())
    header = 12 + int.from_bytes(content[8:12], "little")
    for i, (place, bit) in enumerate(flips):
        content[place % (len(content) if i == 1 else header)] ^= 1 << bit
    path.write_bytes(content[: None if end is None else end % len(content)])
    attempt(particle_set.folder, need_images=True)


FIELD = "('uid', '<u8')"
HEADERS = {
    "nested": "[" * 100_000 + "]" * 100_000,
    "nested type": f"[{FIELD}, ('x', " + "[" * 150 + "('y', '<f4')" + "]" * 150 + ")]",
    "many fields": "[" + ",".join(f"('x{i}','<f4')" for i in range(12_000)) + f",{FIELD}]",
    "one name": f"[{FIELD}," + "('x','<f4')," * 15_000 + "]",
    "dimensions": f"[{FIELD}, ('x', '<f4', ({65 * '1,'}))]",
    "many dimensions": f"[{FIELD}, ('x', '<f4', ({100_000 * '1,'}))]",
    "large shape": f"[{FIELD}, ('x', '<f4', ({18 * '9'},))]",
    "no values": f"[{FIELD}, ('x', '<f4', (0, {18 * '9'}))]",
    "large number": f"[{FIELD}, ('x', '<f4', {200_000 * '9'})]",
    "large text": f"[{FIELD}, ('x', '|S{10**9 - 1}')]",
    "text of text": "[" + "'a' " * 50_000 + "]",
    "equal keys": "{" + "1:1," * 50_000 + "}",
}


SHAPES_OF_FILES = ["(99999999999999,)", f"({5000 * '9'},)", f"({99_999 * '3,'})"]


@pytest.mark.parametrize(
    ("descr", "shape"),
    [(x, "(3,)") for x in HEADERS.values()] + [(f"[{FIELD}]", x) for x in SHAPES_OF_FILES],
    ids=[*HEADERS, "many rows", "more rows", "many numbers of rows"],
)
def test_no_header_takes_much_memory_or_time(tmp_path, descr, shape):
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".encode()
    lead = b"\x93NUMPY\x02\x00" + struct.pack("<I", len(header))
    (tmp_path / "a.cs").write_bytes(lead + header + bytes(99))
    tracemalloc.start()
    start = time.process_time()
    try:
        with pytest.raises(InputError):
            read_cs(tmp_path / "a.cs")
        assert time.process_time() - start < 5 and tracemalloc.get_traced_memory()[1] < 2**28
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_is_not_read(tmp_path, protocol):
    (tmp_path / "a.cs").write_bytes(pickle.dumps(Code(tmp_path / "sprung"), protocol))
    with pytest.raises(InputError):
        read_particles(tmp_path / "a.cs")
    assert not (tmp_path / "sprung").exists()
