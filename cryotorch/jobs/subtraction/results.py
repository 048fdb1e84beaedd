"""What a subtraction writes: stacks, lists, a picture of some images, the summary."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from cryotorch.data.mrc import write_stack
from cryotorch.data.particle_file import write_tables
from cryotorch.findings import Finding, remark
from cryotorch.jobs.curation.originals import originals
from cryotorch.jobs.files.output_folder import require_disk
from cryotorch.jobs.subtraction.images import Cut, cut_of, new_images, remembered, subtracted
from cryotorch.jobs.subtraction.inputs import Prepared
from cryotorch.ops.fourier.filters import low_pass_gain
from cryotorch.ops.fourier.transforms import half_plane, pack, unpack
from cryotorch.refinement.half_sets import image_numbers
from cryotorch.report.figures import write_pictures
from cryotorch.report.style import Picture, render
from cryotorch.report.templates import contact_sheet

IN_A_STACK = 100_000  # images at most
SHOWN, SHOWN_LOW_PASS = 10, 15.0  # images in the picture, and Å that they are low-passed at


def write(folder: Path, out: str, prepared: Prepared) -> tuple[dict[str, object], list[Finding]]:
    """Everything but the log into ``folder``, from where it moves to ``out``; entries of the summary, and what is to be told.

    Raises:
        InputError: there is no room, or something cannot be written.
    """
    s = prepared.settings
    particles, told = originals(prepared.file, s.project or out, out)
    cut = cut_of(prepared, particles)
    require_disk(
        folder, float((cut.new.astype(float) ** 2).sum()) * np.dtype(s.stack_type).itemsize
    )
    names, stacks = _write_stacks(folder, prepared, cut)
    made = remembered(particles, names, cut)
    for ending in dict.fromkeys(s.write):
        found = write_tables(folder / f"particles.{ending}", made.tables)
        told += [x.plus(file=str(Path(out) / f"particles.{ending}")) for x in found]
    if cut.wrapped:
        told.append(remark("images_wrapped", images=cut.wrapped, of=len(made)))
    if cut.point.any():
        place, back = ("[{:.5g},{:.5g},{:.5g}]".format(*x) for x in (cut.point, -cut.point + 0.0))
        told.append(remark("centred_on_mask", place=place, back=back, box=int(cut.new[0])))
    write_pictures({"subtracted": _picture(prepared, cut)}, folder)
    return _entries(prepared, cut, stacks), told


def _write_stacks(folder: Path, prepared: Prepared, cut: Cut) -> tuple[np.ndarray, list[str]]:
    """The names of the images (n,) and of the stacks that they are written to, in the order of the rows; boxes and pixel sizes are not mixed."""
    sizes = np.stack([cut.old, cut.new, cut.pixel_size], 1)
    _, kind = np.unique(sizes, axis=0, return_inverse=True)
    parts: list[np.ndarray] = []
    for number in range(int(kind.max()) + 1):
        rows = np.flatnonzero(kind.ravel() == number)
        parts += np.split(rows, range(IN_A_STACK, len(rows), IN_A_STACK))
    names, stacks = np.empty(len(kind), object), []
    with tqdm(total=len(kind), unit=" images", disable=None) as bar:
        for number, rows in enumerate(parts):
            stacks.append(
                "particles.mrcs" if len(parts) == 1 else f"particles_{number + 1:03d}.mrcs"
            )
            size = len(rows), int(cut.new[rows[0]]), float(cut.pixel_size[rows[0]])

            def chunks(rows: np.ndarray = rows):
                for images in new_images(prepared, cut, rows):
                    yield images
                    bar.update(len(images))

            write_stack(folder / stacks[-1], chunks(), *size, prepared.settings.stack_type)
            names[rows] = [f"{i + 1:06d}@{stacks[-1]}" for i in range(len(rows))]
    return names.astype(bytes), stacks


def _picture(prepared: Prepared, cut: Cut) -> Picture:
    """Some images, what is left of them, and what was subtracted, protein bright, before they are moved and cut."""
    same = np.flatnonzero((cut.old == cut.old[0]) & (cut.pixel_size == cut.pixel_size[0]))
    rows = same[np.linspace(0, len(same) - 1, min(SHOWN, len(same))).astype(int)]
    size, stored = float(cut.pixel_size[0]), prepared.stored(rows)
    grey = prepared.images.grey(rows.tolist())[:, None, None]
    less = subtracted(prepared, stored, rows, size)
    images = torch.cat([stored * grey, stored * grey - less, less])
    captions = [f"{what} {row + 1}" for what in ("image", "kept of", "less") for row in rows]
    title = f"{len(rows)} images, what is kept, what is subtracted"
    subtitle = f"low-passed at {SHOWN_LOW_PASS:g} Å, before they are moved and cut"
    return render(contact_sheet(_smooth(images, size), captions, size, title, subtitle))


def _smooth(images: Tensor, pixel_size: float) -> Tensor:
    box = images.shape[-1]
    frequency = half_plane(box).radius / (box * pixel_size)
    gain = low_pass_gain(frequency * SHOWN_LOW_PASS, "butterworth", 8)
    return unpack(pack(images) * gain, box)


def _entries(prepared: Prepared, cut: Cut, stacks: list[str]) -> dict[str, object]:
    """The entries of ``summary.json`` on what was done."""
    s, match = prepared.settings, prepared.match
    return {
        "particles": len(cut.new),
        "images_of": len(image_numbers(prepared.particles).unique()),
        "volume": str(Path(str(s.volume)).resolve()),
        "one_map": prepared.one_map,
        "mask": str(Path(str(s.mask)).resolve()),
        "mask_keeps": prepared.kept["share"],
        "box": int(cut.new[0]),
        "pixel_size": float(cut.pixel_size[0]),
        "center": cut.point.tolist(),
        "images_wrapped": cut.wrapped,
        "grey_scale": match.factor,
        "amplitude": match.amplitude.tolist(),
        "left": prepared.left,
        "stacks": stacks,
        "device": str(prepared.made.outside.device),
    }
