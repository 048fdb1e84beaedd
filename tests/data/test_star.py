from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cryotorch.data.star import Table, read_star, write_star
from cryotorch.errors import InputError

RELION = """
# version 30001

data_general

_rlnReferenceDimensionality                        3
_rlnName  "two words"   # a comment

# version 30001
data_optics
loop_
_rlnOpticsGroup #1
_rlnOddZernike #2 [six of them]
1 [1.7055,-1.2131,2.5452,0,0,3.5618]

data_particles

loop_

_rlnImageName
_rlnDefocusU #2
# in between
000001@a/b.mrcs   10000.5
\t3@data_2020/c.mrcs 1.20000000e+04\t
data_2020/x.mrcs 5


data_empty

loop_
_rlnX
"""


@pytest.fixture
def star(tmp_path):
    def write(text: str | bytes):
        path = tmp_path / "x.star"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


def test_syntax_that_relion_files_use(star):
    blocks = read_star(star(RELION))
    assert list(blocks) == ["general", "optics", "particles", "empty"]
    assert blocks["general"].single
    assert blocks["general"]["rlnName"].tolist() == ["two words"]
    assert blocks["optics"]["rlnOddZernike"][0] == "[1.7055,-1.2131,2.5452,0,0,3.5618]"
    table = blocks["particles"]
    assert table["rlnImageName"].tolist() == [
        "000001@a/b.mrcs",
        "3@data_2020/c.mrcs",
        "data_2020/x.mrcs",
    ]
    assert table["rlnDefocusU"].tolist() == ["10000.5", "1.20000000e+04", "5"]
    assert table.floats("rlnDefocusU").tolist() == [10000.5, 12000, 5]
    assert list(blocks["empty"]) == ["rlnX"]
    assert blocks["empty"].rows == 0


def test_windows_line_ends_and_gzip(tmp_path, star):
    text = RELION.replace("\n", "\r\n").encode()
    expected = read_star(star(RELION))
    packed = tmp_path / "x.star.gz"
    packed.write_bytes(gzip.compress(text))
    assert read_star(star(text)) == expected
    assert read_star(packed) == expected


def test_a_byte_order_mark_is_passed_over(tmp_path):
    (tmp_path / "mark.star").write_bytes(b"\xef\xbb\xbfdata_x\n\n_rlnA 1\n")
    assert read_star(tmp_path / "mark.star")["x"]["rlnA"].tolist() == ["1"]


def test_round_trip_keeps_every_digit_and_the_order(star, tmp_path):
    blocks = read_star(star(RELION))
    write_star(tmp_path / "y.star", blocks)
    again = read_star(tmp_path / "y.star")
    assert again == blocks
    assert list(again) == list(blocks)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no data_ block"),
        ("# only a comment\n", "no data_ block"),
        ("hello\n", "Line 1 .* 'hello' stands outside"),
        ("data_\n\nloop_\n_a\n_b\n1 2\n1 2 3\n", "Line 7 .*: 3 values for 2 labels"),
        ("data_\n\nloop_\n_a\n_b\n1\n", "Line 6 .*: 1 values for 2 labels"),
        ("data_\nloop_\n1 2\n", "without labels"),
        ("data_\nloop_\n_a\n_a\n1 1\n", "'_a' is empty or given twice"),
        ("data_\nloop_\n_\n1\n", "'_' is empty"),
        ("data_\n_a\n_b\n1 2\n", r"loop_ missing\?"),
        ("data_x\n_a 1\ndata_x\n_a 2\n", "second block data_x"),
        ("data_\nloop_\n_a\n1\n\n2\n", "Line 6 .* '2' stands outside"),
        ("data_\nloop_\n_a\n1\nloop_\n_b\n1\n", "Line 5 .* 'loop_' stands outside"),
        ("data_\nloop_ _a _b\n1 2\n", "Line 2 .* a loop_ with something behind it"),
        ("data_\n_a 1 2\n", "Line 2 .* not a label with one value"),
        (b"data_\0", "not a text file"),
        (b"data_\n_a 1\n" + 2000 * b"#" + b"\0", "not a text file"),
    ],
)
def test_malformed_files_are_refused_with_the_line(star, text, message):
    with pytest.raises(InputError, match=message):
        read_star(star(text))


VALUE = st.text(st.characters(codec="utf-8", exclude_characters="\0\n"), max_size=8).filter(
    lambda text: not (text.count('"') and text.count("'"))
)
PIECES = st.sampled_from(
    [
        "data_",
        "data_a",
        "loop_",
        "_x",
        "_y #2",
        "1 2",
        "1",
        "'",
        '"a b" 3',
        "#",
        "\n",
        "\n\n",
        " ",
        "_x 1",
        "\t",
        "é",
    ]
)


@given(st.lists(PIECES, max_size=12).map("\n".join).map(str.encode) | st.binary(max_size=60))
@example(b"data_\nloop_\n")
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_bytes_are_read_or_refused(star, text):
    try:
        blocks = read_star(star(text))
    except InputError:
        return
    assert all(len({len(table[label]) for label in table}) <= 1 for table in blocks.values())


@given(st.lists(st.tuples(VALUE, VALUE), min_size=1, max_size=4), st.booleans())
@example([("", "#")], True)  # between quotes it begins no comment
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_text_survives_a_round_trip(tmp_path, rows, single):
    rows = rows[:1] if single else rows
    first, second = zip(*rows, strict=True)
    table = Table({"a": first, "b": second}, single=single)
    write_star(tmp_path / "r.star", {"t": table})
    assert read_star(tmp_path / "r.star") == {"t": table}


ROWS = st.lists(
    st.sampled_from(
        [
            "1 2",
            "1\t 22 ",
            "# note",
            "'a b' 3",
            '"" x#y',
            "",
            "data_x",
            "data_x/m 1",
            "loop_",
            "_y 1",
            "1",
            "1 2 3",
        ]
    ),
    max_size=9,
)


@given(ROWS, st.sampled_from(["\n", "\r\n"]), st.sampled_from(["", "\n"]))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_many_rows_at_once_are_read_as_one_by_one(star, monkeypatch, rows, end, last):
    """A file shorter than what is read ahead goes row by row, all lines but the first few of a longer one together."""
    path = star(end.join(["data_", "loop_", "_a", "_b", "1 2", *rows]) + last)

    def read(ahead: int) -> dict | str:
        monkeypatch.setattr("cryotorch.data.star.BYTES_AT_ONCE", ahead)
        try:
            return read_star(path)
        except InputError as error:
            return str(error)

    slow = read(10**6)
    assert [read(ahead) for ahead in (1, 4, 9, 20)] == [slow] * 4


def test_many_rows_are_read_and_written_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr("cryotorch.data.star.BYTES_AT_ONCE", 100)
    monkeypatch.setattr("cryotorch.data.star.ROWS_AT_ONCE", 7)
    names = [f"{10**i}@s.mrcs" for i in range(10)] * 3
    numbers = np.arange(30.0)
    table = Table({"name": names, "x": numbers, "v": np.stack([numbers, -numbers], 1)})
    write_star(tmp_path / "m.star", {"": table})
    again = read_star(tmp_path / "m.star")
    assert again == {"": table}
    assert again[""].vectors("v").tolist() == [[i, -i] for i in range(30)]


def test_one_long_value_does_not_fill_the_memory(star, monkeypatch):
    """A column takes the room of its longest value in every row."""
    monkeypatch.setattr("cryotorch.data.star.MAX_COLUMN", 10**6)
    rows = 1000 * "1\n" + 2000 * "x" + "\n"
    for ahead in (100, 10**6):
        monkeypatch.setattr("cryotorch.data.star.BYTES_AT_ONCE", ahead)
        with pytest.raises(InputError, match="a value of 2000 characters in a loop of 1001 rows"):
            read_star(star("data_\nloop_\n_a\n" + rows))


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ({"": Table({"a": ["1", "x\ny"]})}, r"cannot hold 'x\\ny' in _a: take out the line ends"),
        ({"": Table({"a": ["""it's 3" long"""]})}, "one of both kinds of quotes"),
        ({"": Table({"a": [b"1\0002"]})}, r"cannot hold '1\\x002' in _a"),
        ({"": Table({"a b": ["1"]})}, "cannot hold the name '_a b'"),
        ({"": Table({"": ["1"]})}, "cannot hold the name '_'"),
        ({"a b": Table({"a": ["1"]})}, "cannot hold the name 'data_a b'"),
    ],
)
def test_what_a_star_file_cannot_hold_is_refused_and_nothing_lost(tmp_path, blocks, message):
    path = tmp_path / "x.star"
    path.write_text("before")
    with pytest.raises(InputError, match=message):
        write_star(path, blocks)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@given(st.lists(st.binary(max_size=6), min_size=1, max_size=4))
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_bytes_come_back_or_are_refused(tmp_path, values):
    table = Table({"a": np.array(values, dtype=bytes), "b": np.arange(len(values))})
    try:
        write_star(tmp_path / "r.star", {"t": table})
    except InputError:
        assert any(set(value) & set(b"\0\n\"'") for value in values)
        return
    assert read_star(tmp_path / "r.star") == {"t": table}


@pytest.mark.data
def test_real_files(shared_data, tmp_path):
    rows = {
        "real/relion31.6opticsgroups.star": ("particles", 139),
        "real/relion5.star": ("particles", 17),
        "real/starfile.star.gz": ("", 3796),
        "real/sample_particles_relion31.star": ("particles", 17),
        "real/rib80s_run003_model_trunc.star": ("model_class_1", 181),
        "real/trpv1_small_stack.star": ("particles", 10),
        "real/empiar_10076_7.star": ("", 7),
        "relion_c1/truth/truth.star": ("particles", 2000),
    }
    for name, (block, n) in rows.items():
        blocks = read_star(shared_data / name)
        assert blocks[block].rows == n, name
        write_star(tmp_path / "again.star", blocks)
        assert read_star(tmp_path / "again.star") == blocks, name
    model = read_star(shared_data / "real/rib80s_run003_model_trunc.star")
    assert model["model_general"].single
    assert model["model_general"].floats("rlnCurrentResolution")[0] == 3.8592
    zernike = read_star(shared_data / "real/relion31.6opticsgroups.star")["optics"]["rlnOddZernike"]
    assert zernike[0].startswith("[1.70554063513,1.2131261042,")


@pytest.mark.data
def test_agrees_with_starfile(shared_data):
    starfile = pytest.importorskip("starfile")
    path = shared_data / "real" / "sample_particles_relion31.star"
    theirs = starfile.read(path)["particles"]
    ours = read_star(path)["particles"]
    assert list(ours) == list(theirs.columns)
    for label in ("rlnDefocusU", "rlnAngleTilt", "rlnLogLikeliContribution"):
        np.testing.assert_allclose(ours.floats(label), theirs[label], rtol=1e-12)


MEASURE = """
import json, resource, sys, time
from cryotorch.data.star import read_star, write_star

def megabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10

before, seconds = megabytes(), [time.process_time()]
tables = read_star(sys.argv[1])
seconds.append(time.process_time())
for label in tables["particles"]:
    if label.startswith("rlnX"):
        tables["particles"][label] = tables["particles"].floats(label)
seconds.append(time.process_time())
write_star(sys.argv[2], tables)
seconds.append(time.process_time())
print(json.dumps([*(b - a for a, b in zip(seconds, seconds[1:])), megabytes() - before]))
"""


@pytest.mark.slow
def test_many_rows_take_seconds_and_little_memory(tmp_path):
    """A million rows of 30 columns are to be read in 15 s, written in as many, in 3 GiB; here a fifth of it."""
    n, rng = 200_000, np.random.default_rng(0)
    columns = {f"rlnX{i}": rng.uniform(-1e4, 1e4, n) for i in range(25)}
    columns |= {f"rlnN{i}": rng.integers(0, 1000, n) for i in range(3)}
    micrograph = [
        f"MotionCorr/job002/Movies/FoilHole_20170629_{i // 150:07d}.mrc" for i in range(n)
    ]
    images = [f"{i % 150 + 1:06d}@{name}s" for i, name in enumerate(micrograph)]
    table = Table({"rlnImageName": images, "rlnMicrographName": micrograph, **columns})
    first, second = tmp_path / "first.star", tmp_path / "second.star"
    write_star(first, {"particles": table})
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, first, second], check=True, capture_output=True, text=True
    )
    read, numbers, written, megabytes = json.loads(done.stdout)
    assert max(read, numbers, written) < 6 and megabytes < 600, done.stdout  # twice a busy machine
    assert second.read_bytes() == first.read_bytes()


@pytest.mark.parametrize("value", [b'"a\'"b', b"a\"b'c", b"'a\"'b", b"it's", b'"', b"'"])
def test_quotes_of_other_programs_come_back(tmp_path: Path, value: bytes) -> None:
    """Also with a value behind that must have quotes itself."""
    (tmp_path / "a.star").write_bytes(b"data_p\n\nloop_\n_a\n_b\n%s 'x y'\n1 2\n" % value)
    read = read_star(tmp_path / "a.star")
    assert read["p"].raw("a").tolist() == [value, b"1"]
    write_star(tmp_path / "b.star", read)
    assert read_star(tmp_path / "b.star")["p"] == read["p"]


@pytest.mark.parametrize("row", [b"\"' 1", b"1 '\""])
def test_a_value_that_could_not_be_written_is_refused_at_once(tmp_path: Path, row: bytes) -> None:
    """Not after the run; the line is named."""
    (tmp_path / "a.star").write_bytes(b"data_p\n\nloop_\n_a\n_b\n%s\n" % row)
    with pytest.raises(InputError, match=r"Line 6 .* begins with a quote that has no end"):
        read_star(tmp_path / "a.star")
    (tmp_path / "a.star").write_bytes(b"data_p\n\n_a \"'\n")
    with pytest.raises(InputError, match=r"Line 3 .* begins with a quote that has no end"):
        read_star(tmp_path / "a.star")
