"""Takes the pictures of the tutorial from the folder in which its commands were run:  python docs/make/tutorial.py <folder>"""

from __future__ import annotations

import sys
from pathlib import Path

from look import PICTURES
from PIL import Image

TAKEN = {  # picture -> file of the run, and its width in pixels
    "tutorial_classes.png": ("classes/classes.png", 900),
    "tutorial_slices.png": ("refined/plots/slices.png", 520),
    "tutorial_fsc.png": ("judged/fsc.png", 800),
}


def take(folder: Path) -> None:
    for name, (source, width) in TAKEN.items():
        image = Image.open(folder / source).convert("RGB")
        image.thumbnail((width, 2 * width))
        image.quantize(128, dither=Image.Dither.NONE).save(PICTURES / name, optimize=True)
        print(f"{name}: {(PICTURES / name).stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    take(Path(sys.argv[1]))
