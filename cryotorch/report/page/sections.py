"""The sections of a page, as HTML: each of one run, or of several side by side, and "" where there is nothing to show."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from cryotorch.report.page import tables
from cryotorch.report.page.gathered import MOST_PICTURES, Gathered, Parameter
from cryotorch.report.page.headline import tiles, warnings
from cryotorch.report.page.run_files import RunFiles


def head(title: str, runs: Sequence[Gathered]) -> str:
    first = runs[0].page
    told = []
    if len(runs) == 1:
        told = [escape(f"job={first.run.job}. {first.about}" if first.run.job else first.about)]
    ended = str(first.run.summary.get("finished", ""))[:16].replace("T", " ")
    facts = [text for text in (ended, str(first.run.summary.get("device") or "")) if text]
    version = first.run.summary.get("version")
    facts += [f"cryotorch {version}"] if version else []
    if len(runs) == 1 and facts:
        told.append(escape(" · ".join(facts)))
    folder = "".join(f'<p class="from">{text}</p>\n' for text in told if text)
    command = first.run.summary.get("command")
    typed = _copied(str(command)) if command and len(runs) == 1 else ""
    theme = '<button type="button" id="theme" hidden>Light or dark</button>'
    return f"<header><h1>{escape(title)}</h1>{theme}\n{folder}{typed}<!--nav--></header>\n"


def _copied(command: str) -> str:
    """A command with a button that copies it."""
    button = '<button type="button" class="copy" hidden>Copy</button>'
    return f'<div class="command"><code>{escape(command)}</code>{button}</div>\n'


def _warned(texts: Sequence[str]) -> str:
    return "".join(f'<p class="warning">{escape(text)}</p>\n' for text in texts)


def headline(of: Gathered) -> str:
    run = of.page.run
    shown = "".join(
        f'<div class="tile{" doubtful" if t.doubtful else ""}"><span>{escape(t.name)}</span><b>{escape(t.value)}</b>'
        f"<small>{escape(t.note)}</small></div>\n"
        for t in tiles(run, of.particles.count if of.particles else 0)
    )
    reading = run.summary.get("reading")
    read = f'<p class="reading">{escape(reading)}</p>\n' if isinstance(reading, str) else ""
    said = of.particles.refused if of.particles else ""
    told = _warned([*warnings(run), *([said] if said else [])])
    return f'<section class="headline" aria-label="Results">\n{told}<div class="tiles">\n{shown}</div>\n{read}</section>\n'


def headline_table(runs: Sequence[Gathered]) -> str:
    columns = [{t.name: t for t in tiles(run.page.run)} for run in runs]
    names = list(dict.fromkeys(name for column in columns for name in column))
    head = "".join(
        f'<th><i class="key" style="background:{run.colour}"></i>{escape(run.page.run.name)}</th>'
        for run in runs
    )
    rows = []
    jobs = [f"<td>{escape(run.page.run.job)}</td>" for run in runs]
    rows.append("<tr><th>Job</th>" + "".join(jobs))
    for name in names:
        cells = ""
        for column in columns:
            tile = column.get(name)
            text = f"<b>{escape(tile.value)}</b><small>{escape(tile.note)}</small>" if tile else "–"
            cells += f'<td class="{"doubtful" if tile and tile.doubtful else ""}">{text}</td>'
        rows.append(f"<tr><th>{escape(name)}</th>{cells}")
    said = ["".join(f"<p>{escape(w)}</p>" for w in warnings(run.page.run)) for run in runs]
    if any(said):
        cells = "".join(f'<td class="warned">{text or "none"}</td>' for text in said)
        rows.append(f"<tr><th>Warnings</th>{cells}")
    body = "\n".join(rows)
    return (
        '<section class="headline" aria-label="Results"><div class="scroll"><table class="compared">'
        f"<thead><tr><th></th>{head}</thead><tbody>\n{body}</tbody></table></div></section>\n"
    )


def _host(kind: str, label: str, of: Sequence[Gathered], names: Sequence[str]) -> str:
    """Where a script draws, and the plain figures for where none runs."""
    plain = "".join(_picture(run, name) for run in of for name in names)
    return (
        f'<div class="host" data-draw="{kind}" role="group" aria-label="{escape(label)}"></div>\n'
        f"<noscript>{plain}</noscript>\n"
    )


def _picture(of: Gathered, name: str) -> str:
    if name not in of.pictures:
        return ""
    title = name.replace("_", " ").replace("fsc", "FSC")
    text = escape(f"{title}, {of.page.run.name}")
    return f'<figure><img alt="{text}" src="{of.pictures[name]}"><figcaption>{text}</figcaption></figure>\n'


def fsc(runs: Sequence[Gathered]) -> str:
    have = [run for run in runs if run.fsc]
    label = "Fourier shell correlation of the half maps over the resolution"
    return _host("fsc", label, have, ["fsc"]) if have else ""


def iterations(runs: Sequence[Gathered]) -> str:
    have = [run for run in runs if run.history]
    if not have:
        return ""
    drawn = _host("history", "Numbers over the iterations", have, ["resolution"])
    listed = "".join(
        f"<details><summary>Table of the iterations{_of(run, runs)}</summary>{tables.iterations(run.page.run)}</details>\n"
        for run in have
    )
    return drawn + listed


def _of(run: Gathered, runs: Sequence[Gathered]) -> str:
    return f" of {escape(run.page.run.name)}" if len(runs) > 1 else ""


def maps(runs: Sequence[Gathered]) -> str:
    have = [run for run in runs if run.grids]
    if not have:
        return ""
    drawn = _host("slices", "Slices of maps and masks", have, ["slices", "mask"])
    return drawn + _host("surface", "Surface of the map, which can be turned", have, [])


def particles(runs: Sequence[Gathered]) -> str:
    have = [run for run in runs if run.particles and run.particles.count]
    if not have:
        return ""
    names = ["orientations", "viewing_directions", "scales"]
    seen = [run for run in have if run.particles.orientations]
    drawn = _host("orientations", "Viewing directions of the particles", seen, names[:2])
    spread = [run for run in have if run.particles.histograms]
    more = _host("histograms", "Histograms of numbers of the particles", spread, names[2:])
    return (drawn if seen else "") + (more if spread else "")


def lists(of: Gathered) -> str:
    """Lists, facts and explanations of the summary."""
    run = of.page.run
    text = "".join(f"<h3>{escape(t)}</h3>{shown}" for t, shown in tables.summary_lists(run))
    facts, said = run.summary.get("facts"), run.summary.get("explanations")
    if isinstance(facts, dict) and facts:
        rows = [[str(name), str(value)] for name, value in facts.items()]
        text += f"<h3>What was computed</h3>{tables.table(['', ''], rows, [False, False])}"
    if isinstance(said, list) and said:
        lines = "".join(f"<p>{escape(str(line))}</p>\n" for line in said)
        text += f"<h3>What the scores mean</h3>{lines}"
    return text


def figures(of: Gathered) -> str:
    drawn = {"fsc": bool(of.fsc), "resolution": bool(of.history)}
    drawn |= dict.fromkeys(("slices", "mask"), bool(of.grids))
    seen = of.particles is not None and of.particles.orientations is not None
    drawn |= dict.fromkeys(("orientations", "viewing_directions", "scales"), seen)
    names = [name for name in of.pictures if not drawn.get(name, False)]
    return "".join(_picture(of, name) for name in names[:MOST_PICTURES])


def commands(runs: Sequence[Gathered]) -> str:
    texts = []
    for run in runs:
        rows = "".join(
            f"<p class=purpose>{escape(c.purpose)}</p>{_copied(c.command)}"
            for c in run.page.commands
        )
        if rows and len(runs) > 1:
            rows = f"<details><summary>{escape(run.page.run.name)}</summary>{rows}</details>\n"
        texts.append(rows)
    return "".join(texts)


def parameters(rows: Sequence[Parameter]) -> str:
    if not rows:
        return ""
    changed = [p for p in rows if p.changed]
    rest = [p for p in rows if not p.changed]
    text = f"<p>{len(changed)} of {len(rows)} differ from their defaults, and are marked.</p>\n"
    for marked, title in ((changed, ""), (rest, f"The {len(rest)} that have their defaults")):
        lines = "\n".join(
            f"<tr{' class=changed' if p.changed else ''}><td><code>{escape(p.name)}</code></td>"
            f"<td><code>{escape(p.value)}</code></td><td><code>{escape(p.default)}</code></td><td>{escape(p.meaning)}</td>"
            for p in marked
        )
        head = "<thead><tr><th>Parameter</th><th>Value</th><th>Default</th><th>Meaning</th></thead>"
        body = f'<div class="scroll"><table class="parameters one">{head}<tbody>\n{lines}</tbody></table></div>'
        if marked:
            text += f"<details><summary>{title}</summary>{body}</details>\n" if title else body
    return text


def parameters_of(runs: Sequence[Gathered]) -> str:
    """A column for each run; only what differs between runs, or from a default."""
    columns = [{p.name: p for p in run.page.parameters} for run in runs]
    names = list(dict.fromkeys(name for column in columns for name in column))
    rows = []
    for name in names:
        found = [column.get(name) for column in columns]
        values = [p.value if p else "–" for p in found]
        differ = len({p.value for p in found if p}) > 1
        if name == "out" or not (differ or any(p and p.changed for p in found)):
            continue
        cells = "".join(f"<td><code>{escape(v)}</code></td>" for v in values)
        default = next((p.default for p in found if p), "")
        mark = " class=changed" if differ else ""
        rows.append(
            f"<tr{mark}><td><code>{escape(name)}</code></td>{cells}<td><code>{escape(default)}</code></td>"
        )
    head = "".join(f"<th>{escape(run.page.run.name)}</th>" for run in runs)
    body = "\n".join(rows)
    return (
        "<p>Those that differ between the runs are marked; what has its default in all of them is left out.</p>\n"
        f'<div class="scroll"><table class="parameters"><thead><tr><th>Parameter</th>{head}<th>Default</th></thead><tbody>\n{body}</tbody></table></div>\n'
    )


def files(runs: Sequence[Gathered]) -> str:
    if len(runs) == 1:
        return tables.files(runs[0].page.run)
    rows = "".join(
        f"<li>{escape(run.page.run.name)}: <code>{escape(str(run.page.run.place))}</code></li>"
        for run in runs
    )
    return f"<ul>{rows}</ul>\n"


def citations(runs: Sequence[Gathered]) -> str:
    found = dict.fromkeys(text for run in runs for text in run.page.citations)
    rows = "".join(f"<li>{escape(text)}</li>\n" for text in found)
    return f"<p>To cite with the results:</p>\n<ul>\n{rows}</ul>\n" if rows else ""


def log(run: RunFiles) -> str:
    if not run.log:
        return ""
    text = escape("\n".join(run.log))
    return f"<details><summary>The last lines of log.txt</summary><pre>{text}</pre></details>\n"
