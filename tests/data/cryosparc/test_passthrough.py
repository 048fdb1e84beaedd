"""Fields of a second .cs file come to the right particles."""

from __future__ import annotations

import numpy as np
import pytest

from cryotorch.data.cryosparc.fields import NEEDED_FIELDS
from cryotorch.data.cryosparc.file import read_cs, write_cs
from cryotorch.data.cryosparc.passthrough import read_joined
from cryotorch.data.particle_file import read_particles
from cryotorch.errors import InputError
from cryotorch.findings import codes
from cryotorch.report.sentences import say

N = 6


@pytest.fixture
def files(tmp_path):
    """A main file without CTF, and the passthrough file with more particles in another order."""
    order = np.random.default_rng(0).permutation(N + 3)
    uid = 10 * np.arange(N + 3, dtype=np.uint64)
    ctf = {
        name: np.full(N + 3, 0.5, np.float32) for name in NEEDED_FIELDS if name.startswith("ctf")
    }
    ctf["ctf/accel_kv"][:] = 300
    ctf["ctf/df1_A"] = np.arange(9000, 9000 + N + 3, dtype=np.float32)
    ctf["ctf/df2_A"] = ctf["ctf/df1_A"]
    second = {"uid": uid, **ctf, "x/y": np.arange(N + 3), "blob/idx": np.zeros(N + 3, np.uint32)}
    main = {
        "uid": uid[:N][::-1].copy(),
        "blob/path": np.array([b"J1/a.mrc"] * N),
        "blob/idx": np.arange(N, dtype=np.uint32),
        "blob/psize_A": np.ones(N, np.float32),
    }
    write_cs(tmp_path / "J2_particles.cs", main)
    second = {name: values[order] for name, values in second.items()}
    write_cs(tmp_path / "J2_passthrough_particles.cs", second)
    return tmp_path


def test_the_file_beside_it_is_found_and_joined_by_uid(files):
    fields, messages = read_joined(files / "J2_particles.cs", None)
    assert messages[0]["other"].endswith("J2_passthrough_particles.cs")
    assert fields["ctf/df1_A"].tolist() == [9005, 9004, 9003, 9002, 9001, 9000]
    assert fields["x/y"].tolist() == [5, 4, 3, 2, 1, 0]
    assert fields["blob/idx"].tolist() == [0, 1, 2, 3, 4, 5]  # the main file's stay
    file = read_particles(files / "J2_particles.cs", need_images=False)
    assert file.particles.defocus[:, 0].tolist() == [9005, 9004, 9003, 9002, 9001, 9000]


def test_a_file_elsewhere_can_be_named(files):
    (files / "other").mkdir()
    moved = files / "other" / "P.cs"
    (files / "J2_passthrough_particles.cs").rename(moved)
    with pytest.raises(InputError, match=r"has no ctf/accel_kv, .*passthrough_particles.cs"):
        read_joined(files / "J2_particles.cs", None)
    assert "ctf/df1_A" in read_joined(files / "J2_particles.cs", moved)[0]
    file = read_particles(files / "J2_particles.cs", need_images=False, passthrough=moved)
    assert len(file.particles) == N


def test_files_of_other_particles_are_passed_over_or_refused(files):
    path = files / "J2_passthrough_particles.cs"
    wrong = read_cs(path)
    good = files / "K_passthrough_particles.cs"
    write_cs(good, wrong)
    wrong["uid"] = wrong["uid"] + np.uint64(1)
    write_cs(path, wrong)
    _, messages = read_joined(files / "J2_particles.cs", None)
    assert good.name in say(messages[0])
    with pytest.raises(InputError, match=r"lacks 6 of the 6 particles .* row 1 with uid 50"):
        read_joined(files / "J2_particles.cs", path)
    write_cs(path, {name: values[:0] for name, values in wrong.items()})
    with pytest.raises(InputError, match="lacks 6 of the 6"):
        read_joined(files / "J2_particles.cs", path)


def test_two_rows_of_one_particle_are_refused(files):
    path = files / "J2_passthrough_particles.cs"
    second = read_cs(path)
    uid = read_cs(files / "J2_particles.cs")["uid"]
    last = np.flatnonzero(np.isin(second["uid"], uid))[-1]
    write_cs(path, {x: np.concatenate([v, v[last : last + 1]]) for x, v in second.items()})
    with pytest.raises(InputError, match=f"more than one row, .* uid {second['uid'][last]}: keep"):
        read_joined(files / "J2_particles.cs", None)


def test_poses_half_sets_and_positions_are_joined_too(files):
    write_cs(files / "all.cs", read_joined(files / "J2_particles.cs", None)[0])
    second = {
        "uid": 10 * np.arange(N, dtype=np.uint64),
        "alignments3D/pose": np.arange(3 * N, dtype=np.float32).reshape(N, 3) / 10,
    }
    write_cs(files / "J2_passthrough_particles.cs", second)
    fields, messages = read_joined(files / "all.cs", None)
    assert np.array_equal(fields["alignments3D/pose"], second["alignments3D/pose"][::-1])
    assert codes(messages) == ["fields_joined"] and "alignments3D/pose" in messages[0]["fields"]
    assert read_particles(files / "all.cs", need_images=False).particles.has_pose


def test_a_file_with_nothing_new_is_not_joined_and_a_broken_one_is_named(files):
    fields, _ = read_joined(files / "J2_particles.cs", None)
    write_cs(files / "all.cs", fields)
    joined, messages = read_joined(files / "all.cs", None)
    assert joined.keys() == fields.keys()
    assert not messages
    (files / "A_passthrough_particles.cs").write_bytes(b"broken")
    joined, messages = read_joined(files / "all.cs", None)
    assert joined.keys() == fields.keys()
    assert codes(messages) == ["passthrough_unused"]
    assert messages[0]["other"] == "A_passthrough_particles.cs"
    with pytest.raises(InputError, match="begins with other bytes"):
        read_joined(files / "J2_particles.cs", None)
