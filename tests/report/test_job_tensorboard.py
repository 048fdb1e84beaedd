"""TensorBoard runs of jobs without a trainer: what is written is what TensorBoard reads."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from cryotorch.report.job_tensorboard import LiveBoard, add_hyperparameters, write_tensorboard
from cryotorch.report.style import Picture

CURVES = {"tight": torch.tensor([1.0, 0.75, 0.25]), "no_mask": torch.tensor([1.0, 0.5, 0.0])}


def events(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder), {"images": 0, "scalars": 0})
    found.Reload()
    return found


def test_numbers_pictures_and_curves(tmp_path: Path) -> None:
    picture = Picture(b"\x89PNG of mine", 320, 200)
    write_tensorboard(tmp_path, {"resolution/tight": 3.5}, {"fsc": picture}, CURVES)
    found = events(tmp_path)
    assert found.Tags()["images"] == ["plots/fsc"]
    (image,) = found.Images("plots/fsc")
    assert image.encoded_image_string == picture[0]  # as it is, not compressed anew
    assert (image.width, image.height, image.step) == (320, 200, 0)
    (number,) = found.Scalars("resolution/tight")
    assert (number.value, number.step) == (3.5, 0)
    curve = found.Scalars("fsc/tight")
    assert [(e.step, e.value) for e in curve] == [(0, 1.0), (1, 0.75), (2, 0.25)]


def test_settings_are_text(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("job: sharpen\nout: a*b*\n")
    write_tensorboard(tmp_path / "tensorboard", {}, {}, {})
    (text,) = events(tmp_path / "tensorboard").Tensors("settings/text_summary")
    assert text.tensor_proto.string_val[0] == b"    job: sharpen\n    out: a*b*"


def test_what_a_run_of_a_sweep_differs_in(tmp_path: Path) -> None:
    """As the plugin of TensorBoard reads it back."""
    write_tensorboard(tmp_path, {"resolution/tight": 3.5}, {}, {})
    name = add_hyperparameters(tmp_path, {"seed": "1", "symmetry": "C4"}, {"resolution": 4.25})
    assert (tmp_path / name).is_file()
    found = events(tmp_path)
    assert found.Scalars("result/resolution")[0].value == 4.25
    data = found.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    started = HParamsPluginData.FromString(data).session_start_info
    assert {k: v.string_value for k, v in started.hparams.items()} == {
        "seed": "1",
        "symmetry": "C4",
    }


def test_a_board_that_grows(tmp_path: Path) -> None:
    """All numbers, and pictures as long as drawing them takes a small part of the time."""
    drawn: list[int] = []

    def draw(step: int) -> dict[str, Picture]:
        drawn.append(step)
        time.sleep(0.05)
        return {"start": Picture(b"\x89PNG", 1, 1)}

    board = LiveBoard(tmp_path, share=0.1)
    for step in (1, 2, 3):
        board.add(step, {"score": step / 2}, lambda step=step: draw(step))
    assert [(e.step, e.value) for e in events(tmp_path).Scalars("score")] == [
        (1, 0.5),
        (2, 1.0),
        (3, 1.5),
    ]
    assert drawn == [1]
    board.share = 1e9
    board.add(4, {}, lambda: draw(4))
    board.close()
    assert [event.step for event in events(tmp_path).Images("plots/start")] == [1, 4]
