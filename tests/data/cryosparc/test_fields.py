"""What fields may hold, and what they hold where nothing is known."""

from __future__ import annotations

import numpy as np

from cryotorch.data.cryosparc.fields import (
    FIELDS,
    NEEDED_FIELDS,
    OF_OPTICS,
    OF_PARTICLES,
    default,
    is_of_kind,
    is_printable,
)


def test_defaults():
    assert default("ctf/type", 2).tolist() == [b"imported"] * 2
    assert default("ctf/tetra_A", 3).shape == (3, 4)
    assert default("blob/sign", 1).tolist() == [1]
    assert default("blob/path", 1) is None and default("nonsense", 1) is None


def test_control_characters_are_seen():
    assert is_printable(np.array([b"a b", b"", "ä".encode()]))
    for text in (b"a\nb", b"a\0b", b"\t"):
        assert not is_printable(np.array([b"abcd", text]))


def test_kinds():
    assert is_of_kind("alignments3D/pose", "f", (3,))
    assert not is_of_kind("alignments3D/pose", "f", ()) and not is_of_kind("uid", "f", ())
    assert is_of_kind("ctf/df1_A", "u", ()) and not is_of_kind("blob/path", "f", ())
    assert is_of_kind("anything/else", "S", (2, 2))


def test_the_dictionary_speaks_of_fields_that_exist():
    told = {*NEEDED_FIELDS, *OF_PARTICLES.values(), *OF_OPTICS.values()}
    assert told <= FIELDS.keys()
