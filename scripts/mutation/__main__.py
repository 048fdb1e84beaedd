"""Make small faults in the core functions of cryotorch/ops, one at a time; count those caught."""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.table import markdown

from mutation.core import CORE, Core, is_same
from mutation.edits import Edit, changed, edits
from mutation.trial import SURVIVED, Copy, load

REPOSITORY = Path(__file__).parents[2]
SLOWER = 4  # times the tests' time without a fault, and
AT_LEAST = 60.0  # seconds: what takes longer hangs


def main(arguments: Sequence[str] | None = None) -> int:
    """0 where enough was caught, 1 where not, 2 where tests fail without a fault."""
    o = _parser().parse_args(arguments)
    # before torch is loaded: many small operations
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("NUMBA_NUM_THREADS", "1")
    chosen = [core for core in CORE if not o.function or core.name in o.function]
    unknown = set(o.function) - {core.name for core in chosen}
    if unknown:
        names = ", ".join(core.name for core in CORE)
        print(f"error: --function {min(unknown)} is none of {names}", file=sys.stderr)
        return 2
    results = _known(o.json) if o.resume else {}
    load()
    with tempfile.TemporaryDirectory() as folder:
        copy = Copy(REPOSITORY, Path(folder))
        for core in chosen:
            if not _measure(core, copy, o, results):
                return 2
    rows = _rows(chosen, results)
    print(f"\n{markdown('Faults', rows)}\n")
    for name, found in results.items():
        if name in {core.name for core in chosen}:
            print(*(_shown(name, trial) for trial in found if _survived(trial)), sep="", end="")
    return 0 if rows[-1]["caught"] >= o.least * rows[-1]["made"] else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/mutants", description=__doc__)
    add = parser.add_argument
    add("--function", nargs="+", default=[], metavar="MODULE.NAME", help="else all twenty")
    add("--sample", type=int, default=8, metavar="N", help="faults of each; 0 = all; else 8")
    add("--seed", type=int, default=0, help="of the sample")
    add("--json", type=Path, metavar="FILE", help="for the same, after every fault")
    add("--resume", action="store_true", help="try anew only what --json lacks or says survived")
    add("--least", type=float, default=0.95, help="part to be caught for exit code 0; else 0.95")
    return parser


def sample(core: Core, tree: ast.Module, n: int, seed: int) -> list[Edit]:
    """n faults of a function drawn at random, in order, of those that change results; 0 = all."""
    every = edits(tree, core.functions)
    drawn = list(range(len(every)))
    random.Random(f"{seed} {core.name}").shuffle(drawn)
    kept = [i for i in drawn if not is_same(core.module, every[i])]
    return [every[i] for i in sorted(kept[: n or None])]


def _measure(core: Core, copy: Copy, o: argparse.Namespace, results: dict) -> bool:
    """Fill in the trials of one function; False where its tests fail without a fault."""
    tree = ast.parse((REPOSITORY / core.path).read_text(encoding="utf-8"))
    done = {(t["function"], t["line"], t["edit"]): t for t in results.get(core.name, [])}
    found = results[core.name] = []
    limit = 0.0
    for edit in sample(core, tree, o.sample, o.seed):
        known = done.get((edit.function, edit.line, str(edit)))
        if known is None or _survived(known):
            if not limit:
                start = time.monotonic()
                if copy.unchanged(core.tests, 1200) != SURVIVED:
                    print((copy.folder / "log").read_text(errors="replace"), file=sys.stderr)
                    print(f"error: the tests of {core.name} fail without a fault", file=sys.stderr)
                    return False
                limit = max(AT_LEAST, SLOWER * (time.monotonic() - start))
            with copy.changed(core.path, changed(tree, edit)) as compiled:
                outcome = copy.run(core.tests, limit, compiled)
            known = dict(function=edit.function, line=edit.line, edit=str(edit), outcome=outcome)
            if outcome == SURVIVED:
                print(_shown(core.name, known), end="", flush=True)
        found.append(known)
        if o.json:
            _write(o.json, results)
    caught = len(found) - sum(map(_survived, found))
    print(f"{core.name}: {caught} of {len(found)} caught", flush=True)
    return True


def _survived(trial: dict) -> bool:
    return trial["outcome"] == SURVIVED


def _shown(name: str, trial: dict) -> str:
    where = f"{name.split('.')[0]}.{trial['function']}, line {trial['line']}"
    return f"survived: {where}: {trial['edit']}\n"


def _rows(chosen: list[Core], results: dict) -> list[dict]:
    rows = []
    for core in chosen:
        found = results[core.name]
        caught = len(found) - sum(map(_survived, found))
        rows.append({"function": core.name, "made": len(found), "caught": caught})
    total = {key: sum(row[key] for row in rows) for key in ("made", "caught")}
    rows.append({"function": "all", **total})
    for row in rows:
        row["part"] = row["caught"] / max(1, row["made"])
    return rows


def _known(file: Path | None) -> dict:
    return json.loads(file.read_text()) if file and file.is_file() else {}


def _write(file: Path, results: dict) -> None:
    part = file.with_name(file.name + ".part")
    part.write_text(json.dumps(results, indent=1, ensure_ascii=False))
    part.replace(file)


if __name__ == "__main__":
    sys.exit(main())
