"""What a folder holds, whose it is, and which folders can be used."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cryotorch.errors import InputError
from cryotorch.jobs.files.manifest import (
    MANIFEST,
    Manifest,
    foreign,
    found,
    make_folder,
    matches,
    read_manifest,
    refuse_foreign,
    refuse_inputs,
    refuse_place,
    remove,
    remove_partial,
)

PATTERNS = ("map.mrc", "plots/*.png", "tensorboard")


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def names(folder: Path) -> set[str]:
    return {
        p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_symlink() or p.is_file()
    }


def test_patterns_are_matched_part_by_part() -> None:
    assert matches("plots/fsc.png", PATTERNS) and matches("tensorboard/a/b", PATTERNS)
    for name in ("map.mrcs", "plots/a/fsc.png", "a/map.mrc", "plots", "tensorboards/a"):
        assert not matches(name, PATTERNS), name


def test_what_was_written_is_told_from_the_rest(tmp_path: Path) -> None:
    fill(tmp_path, "map.mrc", "plots/fsc.png", "notes.txt")
    assert foreign(tmp_path, PATTERNS) == ["map.mrc", "plots/fsc.png"]
    running = Manifest("sharpen", patterns=PATTERNS)
    running.write(tmp_path)
    assert read_manifest(tmp_path) == running and foreign(tmp_path, PATTERNS) == []
    running.ended(tmp_path, PATTERNS).write(tmp_path)
    assert read_manifest(tmp_path).files == ("map.mrc", "plots/fsc.png")
    fill(tmp_path, "plots/mine.png")
    with pytest.raises(InputError, match=r"already holds plots/mine\.png, which no run"):
        refuse_foreign(tmp_path, "sharpen", PATTERNS)
    (tmp_path / "plots" / "mine.png").unlink()
    assert refuse_foreign(tmp_path, "sharpen", PATTERNS).job == "sharpen"
    with pytest.raises(InputError, match="holds a run of job=sharpen, which job=convert does not"):
        refuse_foreign(tmp_path, "convert", PATTERNS)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"job": "a", "files": 3, "patterns": [], "iterations": 0}', "[" * 9999, "\0"],
)
def test_a_manifest_that_cannot_be_understood_makes_nothing_ours(tmp_path: Path, text: str) -> None:
    fill(tmp_path, "map.mrc")
    (tmp_path / MANIFEST).write_text(text)
    assert read_manifest(tmp_path) is None
    with pytest.raises(InputError, match=r"already holds manifest\.json, which no run"):
        refuse_foreign(tmp_path, "sharpen", PATTERNS)


def test_nothing_outside_the_folder_is_removed(tmp_path: Path) -> None:
    """Whatever a manifest says, and where links lead."""
    out = fill(tmp_path / "out", "map.mrc", "plots/fsc.png", "plots/mine.png")
    fill(tmp_path, "other/fsc.png")
    (out / "tensorboard").symlink_to(tmp_path / "other")
    listed = ["../other/fsc.png", "tensorboard/fsc.png", str(tmp_path / "other" / "fsc.png"), "plots/fsc.png", "map.mrc"]  # fmt: skip
    remove(out, listed)
    assert names(tmp_path) == {"out/plots/mine.png", "out/tensorboard", "other/fsc.png"}
    assert found(out, PATTERNS) == ["plots/mine.png", "tensorboard"]


def test_half_written_files_of_the_dead_go(tmp_path: Path) -> None:
    mine = {"plots/.hidden", ".map.mrc.bak", ".other.mrc.12.partial"}
    fill(tmp_path, *mine, ".map.mrc.77.partial", "plots/.fsc.png.8.partial", ".manifest.json.9.partial")  # fmt: skip
    remove_partial(tmp_path, PATTERNS)
    assert names(tmp_path) == mine


def test_folders_are_made_however_deep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    deep = Path("d/" * 1010)
    made = make_folder(deep)
    assert len(made) == 1010 and deep.is_dir() and made[-1].name == "d"
    for folder in made:
        folder.rmdir()


def test_places_that_cannot_be_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    Path("dangling").symlink_to("nowhere")
    Path("file").touch()
    for place, said in {
        "loop": "loop leads nowhere",
        "loop/x": "Too many levels of symbolic links",
        "dangling/x": "dangling leads nowhere",
        "file/x": "file is a file",
        "a" * 300: "File name too long",
        "d/" * 3000: "File name too long",
        os.fsdecode(b"caf\xe9"): r"'caf\\udce9' cannot be used: its name is not in UTF-8",
    }.items():
        with pytest.raises(InputError, match=said) as caught:
            refuse_place(Path(place))
        assert "\n" not in str(caught.value)


def test_inputs_are_found_through_links(tmp_path: Path) -> None:
    out = fill(tmp_path / "out", "stack.mrcs")
    (tmp_path / "link.mrcs").symlink_to(out / "stack.mrcs")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "same").symlink_to("out")
    refuse_inputs(out, [None, tmp_path / "loop", tmp_path / "missing", tmp_path / "outside"])
    for given in (tmp_path / "link.mrcs", out, tmp_path / "same", tmp_path / "same" / "stack.mrcs"):
        with pytest.raises(InputError, match="an input of this job, name a folder of its own"):
            refuse_inputs(out, [given])
