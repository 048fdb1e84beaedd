from __future__ import annotations

import numpy as np
import pytest
import torch

from cryotorch.data.mtf import mtf_of_groups, read_mtf
from cryotorch.data.particle_file import read_particles
from cryotorch.data.star import Table, write_star
from cryotorch.errors import InputError
from cryotorch.findings import codes, remark


def curve(frequency: np.ndarray) -> np.ndarray:
    """A detector's MTF in closed form: sinc of the pixel, frequency in 1/pixel."""
    return np.sinc(frequency)


def write_mtf(path, frequency=None, value=None) -> None:
    if frequency is None:
        frequency = np.linspace(0, 0.5, 101)
    value = curve(frequency) if value is None else value
    write_star(path, {"": Table({"rlnResolutionInversePixel": frequency, "rlnMtfValue": value})})


def test_an_mtf_is_read_in_order_of_frequency(tmp_path):
    write_mtf(tmp_path / "m.star", np.array([0.5, 0, 0.25]), np.array([0.2, 1, 0.6]))
    frequency, value = read_mtf(tmp_path / "m.star")
    assert (frequency.tolist(), value.tolist()) == ([0, 0.25, 0.5], [1, 0.6, 0.2])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1, -0.1], "_rlnMtfValue is -0.1 in .*: an MTF goes from 1 towards 0"),
        ([1, 100], "_rlnMtfValue is 100"),
        ([0, 0], "_rlnMtfValue is 0"),
        (["a", "b"], "_rlnMtfValue is 'a' in row 1"),
    ],
)
def test_curves_that_are_none_are_refused(tmp_path, value, message):
    write_mtf(tmp_path / "m.star", [0, 0.5], value)
    with pytest.raises(InputError, match=message):
        read_mtf(tmp_path / "m.star")


def test_another_table_is_no_mtf(tmp_path):
    write_star(tmp_path / "m.star", {"": Table({"rlnX": [1]})})
    with pytest.raises(InputError, match=r"m\.star is no MTF: .* name the right file"):
        read_mtf(tmp_path / "m.star")


def test_groups_have_the_curve_at_their_own_pixel_size(tmp_path):
    write_mtf(tmp_path / "m.star")
    table = Table(
        {
            "rlnMtfFileName": ["m.star", "", "m.star"],
            "rlnMicrographOriginalPixelSize": ["0.8", "0.8", "0.4"],
        }
    )
    pixel_size = np.array([1.6, 1.6, 0.5])
    found, messages = mtf_of_groups(table, pixel_size, tmp_path / "p.star", None)
    assert messages == []
    nyquist = torch.linspace(0, 1, found.shape[1]).double().numpy()
    # Nyquist of 1.6 Å pixels is a quarter of a 0.8 Å pixel's inverse
    np.testing.assert_allclose(found[0], curve(nyquist * 0.25), atol=1e-4)
    assert (found[1] == 1).all()
    np.testing.assert_allclose(found[2], curve(nyquist * 0.4), atol=1e-4)


def test_what_is_missing_is_said_and_left_out(tmp_path):
    table = Table({"rlnMtfFileName": ["m.star", "m.star"]})
    star = tmp_path / "p.star"
    found, messages = mtf_of_groups(table, np.ones(2), star, None)
    assert found is None
    values = dict(mtf="m.star", file=str(star), column="_rlnMicrographOriginalPixelSize")
    assert messages == [remark("mtf_not_applied", **values)]
    table["rlnMicrographPixelSize"] = ["1", "1"]
    found, messages = mtf_of_groups(table, np.ones(2), star, None)
    assert found is None
    assert codes(messages) == ["mtf_missing"]
    write_mtf(tmp_path / "m.star")
    found, messages = mtf_of_groups(table, np.ones(2), star, None)
    assert found.shape[0] == 2
    assert messages == []
    table["rlnMicrographPixelSize"] = ["1", "0"]
    with pytest.raises(InputError, match="_rlnMicrographPixelSize is 0"):
        mtf_of_groups(table, np.ones(2), star, None)
    assert mtf_of_groups(Table({"x": ["1"]}), np.ones(1), star, None)[0] is None


def test_a_particle_file_with_an_mtf(particle_set):
    particle_set.optics["rlnMtfFileName"] = ["m.star"]
    particle_set.optics["rlnMicrographOriginalPixelSize"] = ["2.5"]
    write_mtf(particle_set.folder / "m.star")
    file = read_particles(particle_set.write())
    mtf = file.particles.optics.mtf[0]
    assert mtf[0].item() == pytest.approx(1)
    assert mtf[-1].item() == pytest.approx(2 / np.pi, abs=1e-5)  # sinc at half the sampling rate
    assert read_particles(particle_set.star, need_images=False).particles.optics.mtf is None
