"""Runs the commands of the tutorial, and puts what they print and draw into the page.

python docs/make/tutorial.py <folder> [<folder of real particles>]

The second folder holds particles.star of the last section, which is left as it is without. What a command printed is
kept beside its output folder, as <out>.printed: such a command is not run again.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

from look import PICTURES
from PIL import Image

PAGE = Path(__file__).parents[1] / "tutorial.md"
REAL = "## The same on real particles"
TAKEN = {  # picture -> file of the run, and its width in pixels
    "tutorial_classes.png": ("classes/classes.png", 900),
    "tutorial_slices.png": ("refined/plots/slices.png", 520),
    "tutorial_fsc.png": ("judged/fsc.png", 800),
}
# Times, memory, warnings said a second time, and the commands to go on with.
LEFT_OUT = re.compile(
    r"compiling loops|needs about|left, for |more at this pace|^The images take |^About |^\d+ particles of .*on cpu( |$)|^Next: |^ +cryotorch "
    r"|^Resolution [\d.]+ Å$|^\d+ warnings?, in full|^ {4}.* \.\.\.$"
)
TIMES = re.compile(r" +[\d.]+ s, [\d,]+ particles/s$|, [\d.]+ (s|min)(: .*)?$")
# A block of the page that shows what the command with this output folder printed; of its lines those that match.
SHOWN = re.compile(
    r"(<!-- printed: (\S+)(?: ([^\n]+?))? -->\n+( *)```text\n).*?(?=^ *```$)",
    re.MULTILINE | re.DOTALL,
)


def run(text: str, folder: Path) -> None:
    """Every command of a text that names an output folder, once."""
    for block in re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            arguments = shlex.split(line, comments=True)[1:]
            out = next((a[4:] for a in arguments if a.startswith("out=")), None)
            if out and not (folder / f"{out}.printed").exists():
                print(line, flush=True)
                command = [sys.executable, "-m", "cryotorch", *arguments]
                done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True)
                if done.returncode:
                    sys.exit(f"{line}\n{done.stdout}")
                (folder / f"{out}.printed").write_text(done.stdout)


def printed(folder: Path, out: str, wanted: str | None) -> list[str]:
    """What a command printed, without times and memory."""
    text = (folder / f"{out}.printed").read_text().replace(f"{folder.resolve()}/", "")
    lines = text.splitlines()
    lines = [TIMES.sub("", line) for line in lines if not LEFT_OUT.search(line)]
    return [line for line in lines if line and (not wanted or re.search(wanted, line))]


def filled(text: str, folder: Path) -> str:
    """The text with what was printed in its blocks."""

    def block(found: re.Match[str]) -> str:
        lines = printed(folder, found[2], found[3])
        return found[1] + "".join(f"{found[4]}{line}\n" for line in lines)

    return SHOWN.sub(block, text)


def take(folder: Path) -> None:
    """The pictures of the page."""
    for name, (source, width) in TAKEN.items():
        image = Image.open(folder / source).convert("RGB")
        image.thumbnail((width, 2 * width))
        image.quantize(128, dither=Image.Dither.NONE).save(PICTURES / name, optimize=True)
        print(f"{name}: {(PICTURES / name).stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    texts = list(PAGE.read_text().partition(REAL))
    for i, folder in zip((0, 2), map(Path, sys.argv[1:]), strict=False):
        run(texts[i], folder)
        texts[i] = filled(texts[i], folder)
    take(Path(sys.argv[1]))
    PAGE.write_text("".join(texts))
