"""``job=validation_fsc`` and what it computes, beside ``relion_postprocess`` on the same half maps.

Processes are timed before torch is loaded: a child's peak memory starts at what its parent had.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

from benchmarks.refinement import cryotorch, finish

PIXEL = 1.2  # Å
MAKE = """
import sys, torch
from cryotorch.data.mrc import write_volume
from cryotorch.ops.fourier.transforms import resize_volume
from cryotorch.ops.masks.soft import density_mask
from cryotorch.ops.models.phantom import phantom
from cryotorch.ops.geometry.symmetry import point_group

box, pixel, folder = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
# signal up to half of Nyquist: the FSC falls within the box
signal = resize_volume(phantom(box // 2, 2 * pixel, point_group("C1")), box)
signal /= signal.std()
draw = torch.Generator().manual_seed(0)
for name in ("half1", "half2"):
    noisy = signal + 2 * torch.randn(signal.shape, generator=draw)
    write_volume(f"{folder}/{name}_unfil.mrc", noisy, pixel)
write_volume(f"{folder}/mask.mrc", density_mask(signal, pixel, 0.2, 6, 18, 12), pixel)
"""


def processes(boxes: list[int], folder: Path) -> list[dict[str, object]]:
    """Wall seconds and peak memory of whole programs, from start to end."""
    rows = []
    for box in boxes:
        here = folder / f"box_{box}"
        here.mkdir(parents=True)
        make = [sys.executable, "-c", MAKE, str(box), str(PIXEL), str(here)]
        finish(make, here / "make.log")
        halves = [f"half_map_{side}={here}/half{i}_unfil.mrc" for side, i in (("a", 1), ("b", 2))]
        mask = f"mask={here}/mask.mrc"
        commands = {
            "validation_fsc, given mask": cryotorch(
                "validation_fsc", *halves, mask, f"out={here}/1"
            ),
            "validation_fsc, mask made and tightened": cryotorch(
                "validation_fsc", *halves, f"out={here}/2"
            ),
            "sharpen, given mask": cryotorch("sharpen", *halves, mask, f"out={here}/3"),
        }
        if (peer := shutil.which("relion_postprocess")) is not None:
            commands["relion_postprocess, given mask"] = [
                *(peer, "--i", f"{here}/half1_unfil.mrc", "--i2", f"{here}/half2_unfil.mrc"),
                *("--mask", f"{here}/mask.mrc", "--angpix", str(PIXEL), "--auto_bfac"),
                *("--o", f"{here}/relion"),
            ]
        for name, command in commands.items():
            run = finish(command, here / "log.txt")
            row = {"box": box, "program": name, "seconds": run.seconds, "MiB": run.memory}
            rows.append(row)
    return rows


def computation(boxes: list[int], folder: Path, devices: list[str]) -> list[dict[str, object]]:
    """Seconds of the parts with the maps in memory; the first call on a device is not counted."""
    import torch

    from cryotorch.data.mrc import read_volume
    from cryotorch.ops.masks.soft import density_region, soft_mask
    from cryotorch.ops.resolution.fsc import first_randomised_shell, fsc_curves, shell_correlation
    from cryotorch.ops.resolution.mask_tightening import tighten

    rows = []
    for box in boxes:
        here = folder / f"box_{box}"
        names = ("half1_unfil", "half2_unfil", "mask")
        volumes = [read_volume(here / f"{name}.mrc")[0] for name in names]
        for device in devices:
            maps, mask = torch.stack(volumes[:2]).to(device), volumes[2].to(device)
            region = density_region(maps.mean(0), PIXEL, 0.5, 12)
            onset = first_randomised_shell(shell_correlation(*maps))
            parts = {
                "one FSC": lambda m=maps: shell_correlation(*m),
                "distance transform and soft mask": lambda r=region: soft_mask(r, 5, 10),
                "all curves, given masks": lambda m=maps, k=mask: fsc_curves(m, PIXEL, k, k),
                "tightening": lambda m=maps, r=region, o=onset: tighten(m, PIXEL, r, o, 6, 12),
            }
            row: dict[str, object] = {"box": box, "device": device}
            for name, call in parts.items():
                if device != "cpu":
                    call()
                    torch.cuda.synchronize()
                start = time.perf_counter()
                call()
                if device != "cpu":
                    torch.cuda.synchronize()
                row[f"{name}, s"] = time.perf_counter() - start
            rows.append(row)
    return rows
