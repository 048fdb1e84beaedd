"""A page for every job, in Markdown, made of the files that ``--help`` reads, so that the two cannot differ."""

from __future__ import annotations

import re

from cryotorch.jobs.config import catalog
from cryotorch.jobs.config.parse import shown

# Where the pages say what the job is for, what its numbers mean and what it cannot do.
EXPLAINED = {
    "ab_initio": ("First maps", "first_maps.md#a-first-map"),
    "class2d": ("2D classes", "first_maps.md#2d-classes-what-is-in-a-set"),
    "classify": ("What the verdict on classes means", "heterogeneity.md#what-the-verdict-means"),
    "convert": ("Files of RELION and CryoSPARC", "particles.md#of-relion-and-of-cryosparc"),
    "create_templates": ("Particles", "particles.md#templates-for-picking"),
    "ctf_refine": ("Aberrations and defocus", "refine.md#the-image-model"),
    "hetero_refine": ("What the verdict and junk mean", "heterogeneity.md#what-the-verdict-means"),
    "homo_refine": ("Refine", "refine.md"),
    "local_refine": ("One region", "refine.md#one-region"),
    "local_resolution": ("Judge, sharpen and edit maps", "maps.md"),
    "orientation_diagnostics": ("Judge, sharpen and edit maps", "maps.md"),
    "particles": ("Lists between refinements", "particles.md#lists-between-refinements"),
    "reconstruct": ("At poses that exist", "refine.md#at-poses-that-exist"),
    "report": ("Several runs side by side", "heterogeneity.md#several-runs-side-by-side"),
    "sharpen": ("Judge, sharpen and edit maps", "maps.md"),
    "simulate": ("Tutorial", "tutorial.md#1-particles"),
    "subtract": ("One part alone", "heterogeneity.md#one-part-alone"),
    "validation_fsc": ("Reading an FSC curve", "fsc.md"),
    "variability": ("What a component is, and what real means", "heterogeneity.md#motion"),
    "volume_tools": ("Masks", "masks.md#how-wide"),
}


def index() -> str:
    """The page that lists the jobs."""
    rows = [
        f"| [{job}]({job}.md) | {escaped(catalog.summary(job))} |" for job in catalog.job_names()
    ]
    return "\n".join(
        [
            "# All jobs",
            "",
            "These pages are made of the files in `configs/`, like `cryotorch job=<job> --help`.",
            "",
            "| job | what it does |",
            "|---|---|",
            *rows,
            "",
        ]
    )


def page(job: str) -> str:
    """What the job does, commands to begin with, and every parameter with its default and meaning."""
    lines = [f"# {job}", "", escaped(catalog.summary(job)), ""]
    block = [f"# {title}\n{command}" for title, command in catalog.examples(job)]
    lines += ["```bash", "\n\n".join(block), "```", ""]
    lines += [
        "Lengths are in Å unless they carry a unit (`14A`, `1.4nm`, `6px`), angles in degrees unless they do "
        "(`0.35rad`). Relative paths start at the current folder.",
    ]
    title, place = EXPLAINED[job]
    lines += ["", f"What it is for, and what its numbers mean: [{title}](../{place}).", ""]
    section = None
    for parameter in catalog.parameters(job):
        if parameter.section != section:
            section = parameter.section
            lines += ["", f"## {escaped(section)}", ""]
        default = "''" if parameter.default == "" else shown(parameter.default)
        lines += [f"`{parameter.name}={default}` {{ #{parameter.name} }}"]
        lines += [f":   {escaped(meaning(parameter.meaning))}", ""]
    return "\n".join(lines)


def meaning(text: str) -> str:
    """The comment of a parameter; ``Path.`` at its end is for programs that build forms."""
    return re.sub(r" Path\.$", " *A file or folder.*", text)


def escaped(text: str) -> str:
    """Plain text for Markdown, but for what stands in `` ` `` and for the note on paths."""
    parts = re.split(r"(`[^`]*`| \*A file or folder\.\*$)", text)
    for i in range(0, len(parts), 2):
        parts[i] = re.sub(r"([\\*_#|\[\]])", r"\\\1", parts[i].replace("<", "&lt;"))
    return "".join(parts)
