"""What ``local_resolution`` leaves; ``sharpen`` with ``local=true`` leaves the values in the same files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from cryotorch.data.files import replace_file
from cryotorch.data.mrc import write_volume
from cryotorch.jobs.fsc.mask import mask_summary
from cryotorch.jobs.inputs.half_maps import HalfMaps
from cryotorch.jobs.resolution_map.measure import LocalMap, LocalResult
from cryotorch.jobs.resolution_map.settings import LocalResolution
from cryotorch.report.figures import write_pictures
from cryotorch.report.local_resolution import chimerax_script, local_resolution_figure
from cryotorch.report.maps import slice_figure
from cryotorch.report.sentences import in_summary
from cryotorch.report.style import Picture, render
from cryotorch.report.summary import provenance, write_json
from cryotorch.results import told

MAP, FILTERED, SCRIPT = "local_resolution.mrc", "map_local_filtered.mrc", "local_resolution.cxc"


class Shown(NamedTuple):
    """The map under the colours.

    Attributes:
        volume: (d, d, d); name: what it is, in words; file: its name from the output folder.
        ends: of the colours, Å; None = as the values are spread.
    """

    volume: Tensor
    name: str
    file: str
    ends: tuple[float, float] | None = None


def write_local(
    folder: Path,
    local: LocalMap,
    shown: Shown,
    pixel_size: float,
    corner: tuple[float, float, float],
) -> Picture:
    """Write the values as a map, and the script that colours another by them; their picture."""
    write_volume(folder / MAP, local.resolution, pixel_size, corner)
    values = local.resolution[local.stated].numpy()
    with replace_file(folder / SCRIPT) as file:
        file.write(chimerax_script(shown.file, MAP, values, shown.ends).encode())
    figure = local_resolution_figure(
        local.shown, shown.volume, local.inside.float(), pixel_size, "Local resolution",
        f"within the mask, over slices of the {shown.name}; local FSC = {local.threshold:g}", ends=shown.ends,
    )  # fmt: skip
    return render(figure)


def write(folder: Path, found: LocalResult, halves: HalfMaps, settings: LocalResolution) -> None:
    """The maps, the figures and the script for ChimeraX; ``folder`` becomes ``settings.out``."""
    pixel_size, corner, made = halves.pixel_size, halves.corner, found.claim
    write_volume(folder / FILTERED, found.filtered, pixel_size, corner)
    if made.mask_file is None:
        write_volume(folder / "mask_fsc.mrc", made.made.mask.cpu(), pixel_size, corner)
    name = "mean half map" if found.file is None else "map"
    # with another pixel size than that of its header the given map would not lie under the values
    file = FILTERED
    if found.file is not None and found.file.is_file() and settings.pixel_size is None:
        file = os.path.relpath(found.file.resolve(), Path(str(settings.out)).resolve())
    low, high = settings.color_range or (None, None)
    ends = None if low is None or high is None else (low, high)
    shown = Shown(found.volume, name, file, ends)
    rows = {name.capitalize(): found.volume, "Locally filtered": found.filtered}
    median = f"median {told(found.local.percentiles['50'])}"
    size = f"{len(found.volume)} px of {pixel_size:.4g} Å, the whole: {told(made.resolution)}"
    pictures = {
        "local_resolution": write_local(folder, found.local, shown, pixel_size, corner),
        "slices": render(slice_figure(rows, pixel_size, f"Local filter, {median}", size)),
    }
    write_pictures(pictures, folder)


def write_summary(
    folder: Path,
    settings: LocalResolution,
    found: LocalResult,
    halves: HalfMaps,
    seconds: dict[str, float],
) -> None:
    """``summary.json``."""
    made = found.claim
    summary: dict[str, object] = {
        "resolution": made.resolution,
        "resolutions": made.resolutions,
        "ended_by": made.ended_by or None,
        "local_resolution": found.local.numbers,
        "map": None if found.file is None else str(found.file.resolve()),
        "color_range": settings.color_range,
        "mask": mask_summary(made.made, made.mask_file, halves.pixel_size),
        "symmetry": halves.known.symmetry,
        **halves.in_summary,
        **in_summary(found.warnings),
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        **provenance(),
    }
    write_json(folder / "summary.json", summary)
