"""torc-step's command line, parsed by hand: importing argparse would delay the job by 8 ms."""

from __future__ import annotations

import os

from torc_slurm.common.errors import InputError
from torc_slurm.common.identity import IDENTITY_NUMBERS, ids_in_environment, whole_number

USAGE = """\
Usage: torc-step [OPTIONS] -- COMMAND [ARG...]

  Run COMMAND, and record what it and its children use: CPU, memory, I/O, processes.

  COMMAND behaves as without torc-step. torc-step exits like COMMAND: with the same exit status, or by the same signal.

Options:
  --output-dir DIR             Directory for the records; default: $TORC_OUTPUT_DIR, else torc_output.
  --granularity summary|time_series
                               Record only peaks and averages, or every sample too; default: summary.
  --sample-interval-seconds S  Time between two samples, at least 0.1; default: 10.
  --flush-interval-seconds S   Time between two writes to the node file, at least 1; default: 60.
  --reader auto|procfs|psutil  How to read the process tree; default: auto.
  --no-sampling                Take no samples: record only how COMMAND exits and how long it runs.
  --note KEY=VALUE             Record a value that describes the input, such as size=123. May be repeated.
  --best-effort                If an option is wrong, say so and run COMMAND unmeasured.
  -h, --help                   Show this message and exit.
  --version                    Show the version and exit.

Options that a site's plugin sets:
  --site-output-dir PATTERN    Directory for the records of each user: %u is the user's name, %U the uid. Ignored if
                               --output-dir or TORC_OUTPUT_DIR is set. Not used if others can write to it.

Options that torc sets for a workflow's job:
  --workflow-id N, --run-id N, --job-id N, --job-name NAME, --attempt-id N

  If one of these options is not given, torc-step takes it from the environment: TORC_GRANULARITY,
  TORC_SAMPLE_INTERVAL_SECONDS, TORC_FLUSH_INTERVAL_SECONDS, TORC_READER, TORC_WORKFLOW_ID, TORC_RUN_ID, TORC_JOB_ID,
  TORC_JOB_NAME, TORC_ATTEMPT_ID.

  Examples:
    srun torc-step -- ./a.out --input x     measure a step of your own sbatch script
    torc-step -- make -j8                   the same without Slurm
    torc stats --slurm-job-id 1234          what the steps of allocation 1234 really used
"""

DEFAULT_SAMPLE_INTERVAL_SECONDS = 10.0
DEFAULT_FLUSH_INTERVAL_SECONDS = 60.0
_IDENTITY_TEXTS = ("output_dir", "job_name")
_CHOICES = {"granularity": ("summary", "time_series"), "reader": ("auto", "procfs", "psutil")}
_LEAST = {"sample_interval_seconds": 0.1, "flush_interval_seconds": 1.0}
_VALUED = (*IDENTITY_NUMBERS, *_IDENTITY_TEXTS, *_CHOICES, *_LEAST, "site_output_dir", "note")
_MOST_NOTES = 20
_LONGEST_NOTE = 200  # characters of a value; a key may have a quarter of that
_MOST_DIGITS = 15  # some readers of JSON do not keep longer whole numbers exactly
_FLAGS = ("no_sampling", "best_effort", "group", "fork_server", "help", "version")


class Options:
    """The options of the command line; ``identity`` holds only those that were given."""

    __slots__ = (
        "command",
        "flush_interval_seconds",
        "given",
        "granularity",
        "identity",
        "ignored",
        "notes",
        "reader",
        "sample_interval_seconds",
        "sampling",
        "site_output_dir",
        "wants",
    )

    def __init__(self) -> None:
        self.command: list[str] = []
        self.given: set[str] = set()
        self.granularity = "summary"
        self.reader = "auto"
        self.sample_interval_seconds = DEFAULT_SAMPLE_INTERVAL_SECONDS
        self.flush_interval_seconds = DEFAULT_FLUSH_INTERVAL_SECONDS
        self.identity: dict[str, str | int] = {}
        self.ignored: list[str] = []  # bad values in the environment: a typo, or meant for another program
        self.notes: dict[str, str | int | float] = {}
        self.sampling = True
        self.site_output_dir = ""  # the expanded --site-output-dir, if it is the output directory
        self.wants = "run"  # or group, fork_server (step/group.py, step/fork_server.py), help, version


def parse(arguments: list[str], environ: dict[str, str]) -> Options:
    """Read the command line; a ``TORC_*`` variable gives the value of an option that is absent.

    A bad value in the environment never stops a job: it is listed in ``ignored``.

    Raises:
        InputError: an unknown option, a bad value, or no command.
    """
    options = Options()
    rest = _read_options(options, arguments)
    if options.wants != "run":
        return options
    if not rest:
        raise InputError("no command was given; write it after --, as in: torc-step -- ./a.out")
    options.command = rest
    _check_environment(options, environ)
    if "site_output_dir" in options.given and "output_dir" not in options.given and not environ.get("TORC_OUTPUT_DIR"):
        options.site_output_dir = _expanded(options.site_output_dir, environ)
        options.identity["output_dir"] = options.site_output_dir
    else:
        options.site_output_dir = ""
    return options


def unmeasured_command(arguments: list[str]) -> list[str]:
    """The command to run after ``parse`` refused the arguments: COMMAND with ``--best-effort``, else nothing."""
    if "--" not in arguments:
        return []
    place = arguments.index("--")
    return arguments[place + 1 :] if "--best-effort" in arguments[:place] else []


def _expanded(pattern: str, environ: dict[str, str]) -> str:
    """The site's directory for this user. The name comes from Slurm, not from $USER.

    Raises:
        InputError: the user name is unknown, or the pattern has another code.
    """
    user = environ.get("SLURM_JOB_USER", "")
    if "%u" in pattern and (not user or "/" in user or user.startswith(".")):
        raise InputError(f"--site-output-dir {pattern!r}: SLURM_JOB_USER {user!r} is not a user's name")
    path = pattern.replace("%u", user).replace("%U", str(os.getuid()))
    if "%" in path or not path.startswith("/"):
        raise InputError(f"--site-output-dir {pattern!r} is not an absolute path with %u or %U")
    return path


def _read_options(options: Options, arguments: list[str]) -> list[str]:
    """Read options up to ``--`` or the first word that is not an option; return the words after it."""
    position = 0
    while position < len(arguments):
        word = arguments[position]
        if word == "--":
            return arguments[position + 1 :]
        if not word.startswith("-") or word == "-":
            return arguments[position:]
        name, given, value = word.partition("=")
        key = _known_option("--help" if name == "-h" else name)
        if key in _FLAGS:
            _set_flag(options, key)
        else:
            if not given:
                position += 1
                if position >= len(arguments) or arguments[position] == "--":
                    raise InputError(f"{name} needs a value; see torc-step --help")
                value = arguments[position]
            _set_value(options, key, name, value)
        position += 1
    return []


def _known_option(name: str) -> str:
    key = name[2:].replace("-", "_")
    if name.startswith("--") and (key in _VALUED or key in _FLAGS):
        return key
    import difflib  # only after an error

    names = [f"--{known.replace('_', '-')}" for known in (*_VALUED, *_FLAGS)]
    near = difflib.get_close_matches(name, names, 1)
    hint = f"did you mean {near[0]}?" if near else "see torc-step --help"
    raise InputError(f"unknown option {name!r}; {hint} (the command itself goes after --)")


def _set_flag(options: Options, key: str) -> None:
    if key == "no_sampling":
        options.sampling = False
    elif key != "best_effort":
        options.wants = key


def _set_value(options: Options, key: str, name: str, value: str) -> None:
    options.given.add(key)
    if key in _CHOICES:
        if value not in _CHOICES[key]:
            raise InputError(f"{name} {value!r} is not one of {', '.join(_CHOICES[key])}")
        setattr(options, key, value)
    elif key in _LEAST:
        setattr(options, key, _seconds(name, value, _LEAST[key]))
    elif key in IDENTITY_NUMBERS:
        options.identity[key] = _positive(name, value)
    elif key == "note":
        _add_note(options.notes, value)
    elif key == "site_output_dir":
        options.site_output_dir = _filled(name, value)
    else:
        options.identity[key] = _filled(name, value)


def _add_note(notes: dict[str, str | int | float], text: str) -> None:
    key, given, value = text.partition("=")
    is_key = key[:1].isalpha() and key.replace("_", "").replace("-", "").isalnum() and key.isascii()
    if not given or not is_key or len(key) * 4 > _LONGEST_NOTE:
        raise InputError(
            f"--note {text!r} is not KEY=VALUE with a key such as size: a letter, then letters, digits, - or _"
        )
    if not value or len(value) > _LONGEST_NOTE:
        raise InputError(f"--note {key}: its value has {len(value)} characters; give 1 to {_LONGEST_NOTE}")
    if key in notes:
        raise InputError(f"--note {key} is given twice; give it once")
    if len(notes) == _MOST_NOTES:
        raise InputError(f"--note {key}: more than {_MOST_NOTES} notes are given; leave some out")
    notes[key] = _number_or_text(value)


def _number_or_text(value: str) -> str | int | float:
    if value.lstrip("-").isdecimal() and value.isascii() and len(value) <= _MOST_DIGITS and "-" not in value[1:]:
        return int(value)
    try:
        number = float(value) if value.isascii() and "_" not in value else float("nan")
    except ValueError:
        return value
    return number if abs(number) < float("inf") else value  # NaN fails here too


def _filled(name: str, value: str) -> str:
    if not value:
        raise InputError(f"{name} is empty; give it a value or leave it out")
    return value


def _seconds(name: str, value: str, least: float) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not least <= seconds < 1e9:  # NaN fails here too
        raise InputError(f"{name} {value!r} is not a number of seconds of at least {least:g}")
    return seconds


def _positive(name: str, value: str) -> int:
    number = whole_number(value)
    if number is None:
        raise InputError(f"{name} {value!r} is not a whole number")
    return number


def _check_environment(options: Options, environ: dict[str, str]) -> None:
    for key in (*_CHOICES, *_LEAST):
        variable = f"TORC_{key.upper()}"
        if key not in options.given and environ.get(variable):
            try:
                _set_value(options, key, f"the environment variable {variable}", environ[variable])
            except InputError as error:
                options.ignored.append(str(error))
    if "workflow_id" in options.identity:
        known = options.identity.keys() | ids_in_environment(environ).keys()
        for key in ("run_id", "job_id", "attempt_id"):
            if key not in known:
                raise InputError(f"a workflow id was given without --{key.replace('_', '-')}; torc sets them all")
