"""Makes the pictures of the pages, in docs/pictures:  python docs/make/figures.py [conventions] [curves] [refinement]"""

from __future__ import annotations

import importlib
import sys

if __name__ == "__main__":
    for name in sys.argv[1:] or ("conventions", "curves", "refinement"):
        importlib.import_module(name).make()
