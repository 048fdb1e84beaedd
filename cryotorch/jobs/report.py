"""The pages of runs: of one made again, or of several side by side."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from cryotorch.jobs.config.parse import require

# Everything the job may leave in ``out``; the summary comes last and so says that all is there.
FILES = ("config.yaml", "log.txt", "report.html", "summary.json")


@dataclass(frozen=True)
class Report:
    """The parameters; meanings and defaults in ``configs/job/report.yaml``."""

    runs: list[str] | None
    out: str | None
    overwrite: bool
    dry_run: bool

    def __post_init__(self) -> None:
        """Refuses what is wrong whatever the runs are."""
        require(self.runs != [], "runs", "[]", "name the folders of runs, runs=[a,b]")


def run(settings: Report) -> Path:
    """One page over the runs in ``settings.out``; their folders are read only."""
    started = time.perf_counter()
    require(settings.runs is not None, "runs", None, "name the folders of runs, runs=[a,b]")
    from cryotorch.jobs.files.dry_run import work_begins
    from cryotorch.jobs.files.ending import tell_end
    from cryotorch.jobs.files.output_folder import new_files
    from cryotorch.jobs.pages.compared import compared_runs, entry
    from cryotorch.jobs.pages.write import write_comparison
    from cryotorch.report.run_log import RunLog
    from cryotorch.report.sentences import in_summary
    from cryotorch.report.summary import provenance, write_json

    folders = compared_runs(settings.runs)
    with RunLog() as log:
        with new_files(settings, FILES, folders) as made:
            log.open(made / "log.txt")
            work_begins(settings)
            entries = [entry(folder) for folder in folders]
            for row in entries:
                log.info("%s: %s", row["run"], row["said"])
            title = folders[0].name if len(folders) == 1 else f"{len(folders)} runs"
            write_comparison(made / "report.html", title, folders)
            summary = {
                "runs": entries,
                **in_summary([]),
                "seconds": {"total": time.perf_counter() - started},
                **provenance(),
            }
            write_json(made / "summary.json", summary)
        tell_end(settings, started)
    return Path(str(settings.out))
