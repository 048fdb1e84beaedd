"""The command line: Hydra composes the settings, a dataclass checks them, the job runs.

Every problem that a user can mend ends as one sentence on stderr and exit code 1; ``CRYOTORCH_DEBUG=1`` shows the
traceback as well.
"""

from __future__ import annotations

import datetime
import importlib
import io
import itertools
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import redirect_stderr, suppress
from pathlib import Path
from typing import Any, NoReturn

from cryotorch.errors import DryRun, InputError, Stopped, first_to_tell, out_of_memory
from cryotorch.jobs.config import catalog
from cryotorch.jobs.config.parse import build, closest
from cryotorch.jobs.config.process import collect_rarely, keep_freed_memory
from cryotorch.jobs.files.ranks import refuse_several, starter
from cryotorch.jobs.files.sweep import Ranks, Run, finish, found_runs, run_name, verdict
from cryotorch.version import __version__

_STARTED = "CRYOTORCH_STARTED"
_HYDRA_OPTIONS = (
    "--hydra-help --cfg -c --resolve --package -p --run -r --multirun -m --info -i --shell-completion -sc "
    "--config-path -cp --config-name -cn --config-dir -cd"
).split()


class _SweepFailed(Exception):
    """One job of a sweep failed and has said why; the others go on."""


def main() -> None:
    """Entry of ``python -m cryotorch`` and of the console script ``cryotorch``."""
    # Threads that wait spin for milliseconds by default. On a machine that others use too, that is measured to slow a refinement
    # down tenfold and more; a short spin costs 10 % on an idle one. It must be set before torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # no stack of C++ where a rank is lost
    keep_freed_memory()
    collect_rarely()
    for stream in (sys.stdout, sys.stderr):  # file names need not be in UTF-8
        with suppress(AttributeError):
            stream.reconfigure(  # pyright: ignore[reportAttributeAccessIssue]
                errors="backslashreplace"
            )
    before = signal.signal(signal.SIGTERM, _terminated)
    try:
        if not _answer(sys.argv[1:]):
            # In place: Lightning starts further ranks with these arguments.
            sys.argv[1:] = _tidy([*sys.argv[1:], *_job_to_resume(sys.argv[1:])])
            _check_options(sys.argv[1:])
            _check(sys.argv[1:])
            _check_sweep(sys.argv[1:])
            _start_clock()
            _run_hydra()
    except InputError as error:
        _fail(error)
    except BrokenPipeError:  # `cryotorch --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        _fail(_refused(error))
    except _SweepFailed:
        sys.exit(1)
    except KeyboardInterrupt as error:
        if first_to_tell():
            print(": ".join(["interrupted", *map(str, error.args)]), file=sys.stderr)
        sys.exit(getattr(error, "code", 130))
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminated(number: int, frame: object) -> None:
    raise Stopped(code=128 + number)


def _answer(arguments: Sequence[str]) -> bool:
    """Prints version or help, or examines the machine, where that is what was asked for."""
    if list(arguments) == ["doctor"]:
        from cryotorch.jobs.doctor.examine import examine

        sys.exit(examine())
    if "--version" in arguments:
        print(f"cryotorch {__version__}")
        return True
    if arguments and not {"--help", "-h"} & set(arguments):
        return False
    width = min(100, shutil.get_terminal_size((100, 24)).columns)
    jobs = [job for name, value in _assignments(arguments) if name == "job" for job in value]
    print(*(catalog.list_parameters(catalog.find_job(job), width) for job in jobs), sep="\n\n")
    if not jobs:
        print(catalog.list_jobs(width))
    return True


def _tidy(arguments: Sequence[str]) -> list[str]:
    """The arguments as Hydra can read them: parameters first, odd file names such as ``a (1).star`` quoted."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser = OverridesParser.create()
    parameters, options = [], []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if argument.startswith("-"):
            if name not in _HYDRA_OPTIONS:
                requirement = argument.lstrip("-") if equals else f"{name.lstrip('-')}=<value>"
                raise InputError(
                    f"there is no option {name}: parameters are written as {requirement}"
                )
            options.append(argument)
        elif not equals:
            options.append(argument)  # the word after an option, as in `--cfg job`
        else:
            try:
                parser.parse_override(argument)
            except HydraException:
                argument = name + "='" + value.replace("'", "\\'") + "'"
            parameters.append(argument)
    return [*parameters, *options]


def _check_options(arguments: Sequence[str]) -> None:
    """Refuses options without their word, or with a wrong one, with a sentence, before Hydra prints all that there are."""
    if not any(argument.startswith("-") for argument in arguments):
        return
    from hydra._internal.utils import get_args_parser

    said = io.StringIO()
    try:
        with redirect_stderr(said):
            get_args_parser().parse_args(list(arguments))
    except SystemExit:
        reason = said.getvalue().strip().rpartition("error: ")[2]
        raise InputError(f"the command cannot be read ({reason}): correct it") from None


def _job_to_resume(arguments: Sequence[str]) -> list[str]:
    """``job=<job>`` where the command leaves it to the folder of the run that it goes on with."""
    given = {name: value.strip("'\"") for name, _, value in (a.partition("=") for a in arguments)}
    if given.get("resume", "").lower() != "true" or not given.get("out") or "job" in given:
        return []
    from cryotorch.jobs.files.resume import job_of

    return [f"job={job_of(given['out'])}"]


def _check(arguments: Sequence[str]) -> None:
    """Refuses misspelt jobs, presets and parameters with a sentence, before Hydra meets them with a page."""
    given = _assignments(arguments)
    jobs = [job for name, value in given if name == "job" for job in value if job]
    about_hydra = {"--hydra-help", "--info", "-i", "--shell-completion", "-sc"}
    if not jobs and not about_hydra & set(arguments):
        names = " or ".join(f"job={name}" for name in catalog.job_names())
        raise InputError(f"no job was named: add {names}, or list them with --help")
    # Someone's own config folder may bring presets that are not among ours.
    own_configs = any(a.startswith(("--config", "-cd", "-cp", "-cn")) for a in arguments)
    for job in map(catalog.find_job, jobs):
        for name, value in given:
            if name == "job" or name.split(".")[0] == "hydra" or name.startswith("hydra/"):
                continue
            if name in catalog.groups(job):
                known = catalog.options(name)
                for option in value:
                    if option not in known and not own_configs and not option.startswith("{"):
                        hint = closest(option, known)
                        raise InputError(
                            f"there is no preset {name}={option}{hint}: use {', '.join(known)}"
                        )
            else:
                catalog.check_name(name, job)


def _is_sweep(arguments: Sequence[str]) -> bool:
    return bool({"--multirun", "-m"} & set(arguments))


def _check_sweep(arguments: Sequence[str]) -> None:
    """Refuses one output folder for all runs of a sweep, of which only the first could write into it."""
    if not _is_sweep(arguments):
        return
    for name, values in _assignments(arguments):
        one = len(values) == 1 and values[0] not in ("", "null") and "${" not in values[0]
        if name == "out" and one:
            raise InputError(
                f"out={values[0]} would be the folder of every run of --multirun: leave out unset, each run then gets "
                "a folder of its own below runs/sweep"
            )


def _assignments(arguments: Sequence[str]) -> list[tuple[str, list[str]]]:
    """The ``name=value`` arguments as (name, values of a sweep); Hydra's ``+name`` and ``~name`` too."""
    pairs = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not argument.startswith("-") and (equals or argument.startswith("~")):
            pairs.append((name.lstrip("+~"), value.split(",") if equals else []))
    return pairs


def swept(arguments: Sequence[str]) -> list[str]:
    """The parameters that a command gives several values."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser, names = OverridesParser.create(), []
    for argument in arguments:
        if argument.startswith("-") or "=" not in argument:
            continue
        try:
            override = parser.parse_override(argument)
        except HydraException:
            continue
        if override.is_sweep_override():
            names.append(override.key_or_group)
    return names


def _start_clock() -> None:
    # Lightning starts further ranks as copies of this command; they inherit the time and so share the run folder.
    if int(os.environ.get("LOCAL_RANK", "0")) == 0 or _STARTED not in os.environ:
        os.environ[_STARTED] = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")


def _run_hydra() -> None:
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    # With this Hydra raises its errors instead of printing them over several lines.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    start = hydra.main(config_path=str(catalog.CONFIGS), config_name="config", version_base="1.3")
    runs: list[Run] = []
    names, ranks = swept(sys.argv[1:]), Ranks()

    def task(config: Any) -> None:
        runs.extend(_task(config, names, ranks))

    try:
        start(task)()
    except InputError:
        raise
    # Hydra's own refusals; what a job raises ends in ``_task``
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise InputError(_sentence(error)) from error
    if _is_sweep(sys.argv[1:]) and int(os.environ.get("LOCAL_RANK", "0")) == 0:
        folder = dict(_assignments(sys.argv[1:])).get("hydra.sweep.dir", [""])[0]
        folder = Path(folder or os.path.join("runs", "sweep", os.environ[_STARTED]))
        done = runs or found_runs(folder)  # in other processes
        if done:
            print(finish(done, folder, names), verdict(done, folder), sep="\n")
    if any(run.error for run in runs):
        raise _SweepFailed


def _task(config: Any, names: Sequence[str], ranks: Ranks) -> list[Run]:
    """What Hydra calls, once per job of a sweep over ``names``: check, choose the run folder, run; none where it is not for this rank."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    state = HydraConfig.get()
    job = state.runtime.choices["job"]
    sweep = state.mode == RunMode.MULTIRUN
    run = Run("", "")
    if sweep:
        if not ranks.take_part(state.job.num):
            return []
        run.name = run_name(state.overrides.task, names, job, state.job.num)
    try:
        try:
            values: Any = OmegaConf.to_container(config, resolve=True)
        except OmegaConfBaseException as error:
            raise InputError(_sentence(error)) from error
        if values.get("out", "") is None:
            values["out"] = _sweep_folder(state, run.name) if sweep else _run_folder(job)
        run.out = str(values.get("out", ""))
        if values.get("resume") is True:
            from cryotorch.jobs.files.resume import completed

            given = [name for name, _ in _assignments(state.overrides.task)]
            values = completed(job, values, given)
        settings = build(catalog.settings_class(job), values, job)
        if not {"trainer", "devices"} & values.keys():
            refuse_several(job)
        if settings.dry_run:
            from cryotorch.jobs.files.dry_run import without_cache

            settings = without_cache(settings)
        importlib.import_module(f"cryotorch.jobs.{job}").run(settings)
    except DryRun:
        return []
    except Exception as raised:
        error = _refused(raised) if isinstance(raised, OSError) else raised
        # Not left to Hydra, which would put its own lines around it.
        if out_of_memory(error):
            error = _too_large(error)
        if isinstance(error, InputError):
            _print_error(error)
        else:
            traceback.print_exc()
        if not sweep:
            sys.exit(1)
        # Hydra puts a line of its own around what is raised; but from other processes it is all that comes back.
        if state.runtime.choices.get("hydra/launcher") != "basic":
            raise _SweepFailed from None
        run.error = " ".join(str(error).split()) or type(error).__name__
    return [run]


def _too_large(error: Exception) -> InputError:
    """The sentence for memory that ran out where nobody predicted it."""
    said = str(error).partition("allocate")[2].split(".")[0].strip()
    reason = f" (it was to allocate {said})" if said else ""
    return InputError(
        f"the memory of this machine is too small for this job{reason}: choose a smaller box_size or minibatch_size, or end "
        "what else uses it"
    )


def _sweep_folder(state: Any, name: str) -> str:
    """The folder of a run in that of its sweep; someone's own ``hydra.sweep.subdir`` has its way."""
    own = state.sweep.subdir != "."
    return state.runtime.output_dir if own else os.path.join(state.runtime.output_dir, name)


def _run_folder(job: str) -> str:
    """``runs/<job>/<date>_<time>``, the same on every rank."""
    environment = os.environ
    if starter() == "srun":
        step = environment.get("SLURM_STEP_ID", "0")
        return os.path.join("runs", job, f"slurm_{environment['SLURM_JOB_ID']}_{step}")
    if "TORCHELASTIC_RUN_ID" in environment and int(environment.get("WORLD_SIZE", "1")) > 1:
        raise InputError("out=null is not the same on all ranks under torchrun: add out=<folder>")
    return os.path.join("runs", job, environment[_STARTED])


def _sentence(error: Exception) -> str:
    """One sentence for what Hydra or OmegaConf says over several lines."""
    first, *rest = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    if type(error).__name__ == "OverrideParseException":
        return f"cannot read {getattr(error, 'override', '')}: write parameters as name=value"
    if first.startswith("Ambiguous value"):
        override = first.split("'")[1]
        return f"{override} has several values: {_for_several(override)}"
    if "Could not find" in first:
        options = itertools.takewhile(lambda line: not line.startswith("Config search"), rest)
        return "; ".join([first, " ".join(options)])
    return first


def _for_several(override: str) -> str:
    name, _, value = override.partition("=")
    jobs = [job for key, values in _assignments(sys.argv[1:]) if key == "job" for job in values]
    sweep = "add --multirun to run the job once for each"
    if any(catalog.takes_list(name.lstrip("+"), job) for job in jobs):
        return f"write {name}=[{value}] for a list, or {sweep}"
    return sweep


def _refused(error: OSError) -> InputError:
    """The sentence for what the system did not allow and no one told better."""
    reason = error.strerror or str(error)
    where = f"{error.filename}: " if error.filename is not None else ""
    return InputError(f"{where}{reason}: mend that, then start again")


def _print_error(error: InputError) -> None:
    if os.environ.get("CRYOTORCH_DEBUG"):
        traceback.print_exc()
    if not first_to_tell():
        return
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)


def _fail(error: InputError) -> NoReturn:
    _print_error(error)
    sys.exit(1)


if __name__ == "__main__":
    main()
