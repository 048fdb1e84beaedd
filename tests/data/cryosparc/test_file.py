"""The container of .cs files: what is written comes back, and damaged ones are refused in a sentence."""

from __future__ import annotations

import struct
import sys
from types import ModuleType

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cryotorch.data.cryosparc.file import is_cs, read_cs, write_cs
from cryotorch.errors import InputError

FIELDS = {
    "uid": np.array([5, 2**64 - 1, 0], np.uint64),
    "blob/path": np.array([b"J1/a b.mrc", b">J1/c.mrc", b""]),
    "blob/shape": np.array([[8, 8]] * 3, np.uint32),
    "alignments3D/pose": np.array([[0.1, -3e-38, np.pi], [1, 2, 3], [0, -0.0, 1e30]], np.float32),
    "x/double": np.array([1 / 3, -0.0, 1e300]),
    "x/complex": np.array([1j, 2, 3], np.complex64),
    "x/matrix": np.arange(12, dtype=np.int8).reshape(3, 2, 2),
}


def npy(descr: str, shape: str = "(1,)", rows: bytes = b"", magic: bytes = b"\x93NUMPY\x01\x00"):
    """A file by hand."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return magic + struct.pack("<H", len(header)) + header + rows


def same(a: dict, b: dict) -> bool:
    return list(a) == list(b) and all(
        a[x].dtype == b[x].dtype and a[x].tobytes() == b[x].tobytes() for x in a
    )


def test_round_trip_to_the_bit(tmp_path):
    write_cs(tmp_path / "a.cs", FIELDS)
    assert is_cs(tmp_path / "a.cs")
    assert same(read_cs(tmp_path / "a.cs"), FIELDS)
    rows = np.load(tmp_path / "a.cs", allow_pickle=False)  # NumPy agrees
    assert rows["uid"].tolist() == [5, 2**64 - 1, 0]
    assert rows["blob/path"][1] == b">J1/c.mrc"


def test_no_rows(tmp_path):
    write_cs(tmp_path / "a.cs", {name: x[:0] for name, x in FIELDS.items()})
    read = read_cs(tmp_path / "a.cs")
    assert same(read, {name: x[:0] for name, x in FIELDS.items()})
    assert read["x/matrix"].shape == (0, 2, 2)


def test_headers_longer_than_numpy_and_than_64_kib_accept(tmp_path):
    fields = {"uid": FIELDS["uid"], **{f"x/{i:060d}": FIELDS["uid"] for i in range(1000)}}
    write_cs(tmp_path / "a.cs", fields)
    assert (tmp_path / "a.cs").read_bytes()[6] == 2
    assert same(read_cs(tmp_path / "a.cs"), fields)
    with pytest.raises(ValueError, match="Header info length"):
        np.load(tmp_path / "a.cs")


def test_big_endian_files_come_in_native_order(tmp_path):
    rows = np.zeros(2, [("uid", ">u8"), ("x", ">f4")])
    rows["uid"], rows["x"] = [1, 2], [0.5, -2]
    np.save(tmp_path / "a.npy", rows)
    read = read_cs(tmp_path / "a.npy")
    assert read["x"].dtype == np.float32 and read["x"].tolist() == [0.5, -2]


def test_files_larger_than_what_is_read_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("cryotorch.data.cryosparc.file.BYTES_AT_ONCE", 1000)
    fields = {"uid": np.arange(333, dtype=np.uint64), "x": np.arange(666.0).reshape(333, 2)}
    write_cs(tmp_path / "a.cs", fields)
    assert same(read_cs(tmp_path / "a.cs"), fields)


@pytest.mark.data
def test_real_files_are_read_as_numpy_reads_them(shared_data):
    for name, rows in (("empiar_10076_7.cs", 7), ("cryosparc_P12_J24_001_particles.cs", 2019)):
        fields = read_cs(shared_data / "real" / name)
        reference = np.load(shared_data / "real" / name)
        assert len(fields["uid"]) == rows
        assert list(fields) == list(reference.dtype.names)
        assert all(np.array_equal(fields[x], reference[x]) for x in fields)


class Trap:
    """Would leave a file behind if it were unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_room_between_fields_is_passed_over(tmp_path):
    """What np.save makes of some fields of an array."""
    dtype = [("a", "f8"), ("uid", "u8"), ("b", "f4", 3), ("c/d", "f4", 2), ("e", "S3")]
    rows = np.zeros(3, dtype)
    rows["uid"], rows["c/d"] = [1, 2, 3], [[1, 2], [3, 4], [5, 6]]
    np.save(tmp_path / "a.npy", rows[["uid", "c/d"]])
    assert b"|V" in (tmp_path / "a.npy").read_bytes()
    fields = read_cs(tmp_path / "a.npy")
    assert list(fields) == ["uid", "c/d"]
    assert fields["uid"].tolist() == [1, 2, 3]
    assert fields["c/d"].tolist() == [[1, 2], [3, 4], [5, 6]]


def test_never_unpickles(tmp_path):
    rows = np.zeros(1, [("uid", "<u8"), ("blob/path", "O")])
    rows["blob/path"][0] = Trap(tmp_path / "sprung")
    np.save(tmp_path / "a.npy", rows, allow_pickle=True)
    with pytest.raises(InputError, match="holds Python objects"):
        read_cs(tmp_path / "a.npy")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "begins with other bytes"),
        (b"\x93NUMPY", "unknown version"),
        (b"\x93NUMPY\x09\x00\x10\x00", "unknown version"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "claims 4294967295 bytes"),
        (b"\x93NUMPY\x01\x00\xff\xff{}", "cannot be read"),
        (npy("'<f4'"), "has no named fields"),
        (npy("'<f4'", "(5, 3)"), "has no named fields"),
        (npy("[('uid', '<u8')]", "()"), "one row per particle"),
        (npy("[('uid', '<u8')]", "(1, 1)"), "one row per particle"),
        (npy("[('uid', '<u8')]", "(10**9,)"), "cannot be read"),  # nothing is computed
        (npy("[('uid', '<u8')]", "(" + "-" * 9999 + "1,)"), "cannot be read"),
        (npy("[" * 9999 + "]" * 9999), "cannot be read"),
        (npy("[('uid', '<u8')]", "(9999999999999,)"), "is truncated, 0 of its 9999999999999"),
        (npy("[('uid', '<u8')]", "(3,)", bytes(23)), "is truncated, 2 of its 3 rows"),
        (npy("[('uid', '<u8'), ('x', '|V8')]"), "Field x .* type"),
        (npy("[('uid', '<u8'), ('x', [('y', '<f4')])]"), "cannot be understood"),
        (npy("[('uid', '<u8'), ('x', '<f4', (1000000,))]"), "claims 4000008"),
        (npy("[('uid', '<u8'), ('x', '|S999999999')]"), "claims"),
        (npy("[('uid', '<u8'), ('uid', '<u8')]"), "cannot be understood"),
        (npy("[('uid', '<u8'), ('a b', '<u8')]"), "no name in plain letters"),
        (npy("[('uid', '<f8')]", rows=bytes(8)), "no field uid"),
        (npy("[('blob/idx', '<u4')]", rows=bytes(4)), "no field uid"),
        (npy("[]"), "claims 0 bytes"),
        (b"\x95CSDAT\xff\xff\xff\xff{}", "cannot be read"),
        (
            b'\x95CSDAT\x30\x00\x00\x00{"length": 9999999999, "dtype": [["uid", "<u8"]]}',
            "cannot be read",
        ),
    ],
)
def test_damaged_files_are_refused(tmp_path, content, says):
    (tmp_path / "a.cs").write_bytes(content)
    with pytest.raises(InputError, match=says):
        read_cs(tmp_path / "a.cs")


def test_missing_files_and_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        is_cs(tmp_path / "no.cs")
    with pytest.raises(InputError, match="is a folder"):
        read_cs(tmp_path)


def test_a_name_that_no_header_holds_is_refused_and_nothing_is_replaced(tmp_path):
    write_cs(tmp_path / "a.cs", FIELDS)
    before = (tmp_path / "a.cs").read_bytes()
    with pytest.raises(InputError, match="cannot be the name of a field"):
        write_cs(tmp_path / "a.cs", {**FIELDS, "star/\udc80": FIELDS["uid"]})
    assert (tmp_path / "a.cs").read_bytes() == before


def stream(n: int = 2) -> bytes:
    """The beginning of a CSDAT file."""
    header = b'{"length": %d, "dtype": [["uid", "<u8"], ["blob/path", "|O"]]}' % n
    return b"\x95CSDAT" + struct.pack("<I", len(header)) + header + bytes(64)


def test_csdat_is_left_to_cryosparc_tools(tmp_path, monkeypatch):
    (tmp_path / "a.cs").write_bytes(stream())
    monkeypatch.setitem(sys.modules, "cryosparc", None)
    with pytest.raises(InputError, match="pip install cryosparc-tools"):
        read_cs(tmp_path / "a.cs")

    class Dataset(dict):
        @classmethod
        def load(cls, path):
            assert path == str(tmp_path / "a.cs")
            paths = np.array(["J1/ä.mrc", "b.mrc"], object)
            return cls({"uid": np.array([7, 8], np.uint64), "blob/path": paths})

        def fields(self):
            return list(self)

    module = ModuleType("cryosparc.dataset")
    module.Dataset = Dataset
    monkeypatch.setitem(sys.modules, "cryosparc", ModuleType("cryosparc"))
    monkeypatch.setitem(sys.modules, "cryosparc.dataset", module)
    read = read_cs(tmp_path / "a.cs")
    assert read["uid"].tolist() == [7, 8]
    assert read["blob/path"].tolist() == ["J1/ä.mrc".encode(), b"b.mrc"]
    monkeypatch.setattr(Dataset, "load", lambda path: 1 / 0)
    with pytest.raises(InputError, match=r"ZeroDivisionError.*damaged"):
        read_cs(tmp_path / "a.cs")


def test_csdat_of_cryosparc_tools(tmp_path):
    dataset = pytest.importorskip("cryosparc.dataset", reason="needs cryosparc-tools")
    fields = {name: x for name, x in FIELDS.items() if name not in ("x/complex", "x/matrix")}
    write_cs(tmp_path / "a.cs", fields)
    theirs = dataset.Dataset.load(str(tmp_path / "a.cs"))
    theirs.save(str(tmp_path / "b.cs"), format=dataset.CSDAT_FORMAT)
    assert (tmp_path / "b.cs").read_bytes()[:6] == b"\x95CSDAT"
    read = read_cs(tmp_path / "b.cs")
    assert all(np.array_equal(read[name], x) for name, x in fields.items())


FUZZ = settings(
    deadline=None,
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@FUZZ
@given(st.binary(max_size=200), st.sampled_from([b"", b"\x93NUMPY\x01\x00", b"\x95CSDAT"]))
def test_any_bytes_give_fields_or_an_input_error(tmp_path, content, magic):
    attempt(tmp_path, magic + content)


TYPES = st.sampled_from(
    ["<u8", "<f4", ">i2", "|S5", "|O", "|V4", "f4,f4", "a5", "<M8[ns]", "", "|b1"]
)
SHAPES = st.one_of(st.just(()), st.tuples(st.integers(-1, 5)), st.just((2**40,)))


@FUZZ
@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from(["uid", "a", "b/c", "é", " "]), TYPES),
            st.tuples(st.sampled_from(["uid", "x"]), TYPES, st.one_of(SHAPES, st.integers(0, 3))),
            st.text(max_size=3),
        ),
        max_size=4,
    ),
    st.one_of(st.tuples(st.integers(-2, 9)), st.integers(), st.text(max_size=3)),
    st.integers(0, 400),
)
@example([("uid", "<u8"), ("x", "<f4", 1)], (1,), 12)
def test_any_header_gives_fields_or_an_input_error(tmp_path, descr, shape, size):
    attempt(tmp_path, npy(repr(descr), repr(shape), bytes(size)))


@FUZZ
@given(st.integers(0, 2**31), st.integers(0, 255), st.integers(0, 2**31))
def test_a_changed_or_cut_file_gives_fields_or_an_input_error(tmp_path, place, value, end):
    write_cs(tmp_path / "good.cs", FIELDS)
    content = bytearray((tmp_path / "good.cs").read_bytes())
    content[place % len(content)] = value
    attempt(tmp_path, bytes(content[: end % (2 * len(content))]))


def attempt(tmp_path, content: bytes) -> None:
    (tmp_path / "fuzz.cs").write_bytes(content)
    try:
        fields = read_cs(tmp_path / "fuzz.cs")
    except InputError:
        return
    assert len({len(x) for x in fields.values()}) == 1
    assert all(x.dtype.kind in "biufcS" for x in fields.values())
