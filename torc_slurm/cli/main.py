"""The console script ``torc``: the tree of commands, and the only place that turns errors into a line and an exit
status.

Add a command to `_COMMANDS` or a group to `_GROUPS`. Only the module of the called command is imported, and a command
imports what it needs when it runs, so that all start quickly.
"""

from __future__ import annotations

import copy
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from torc_slurm import __version__
from torc_slurm.cli.options import DEBUG_VARIABLE, FormatOption, OutputDirOption, remember, say
from torc_slurm.cli.streams import OutputError, give_up_stdout, has_no_room, prepare_streams
from torc_slurm.common.errors import TorcError

_VERSION = "--version"
_INTERRUPTED = 130  # 128 + SIGINT, as a shell shows it

_EXAMPLE = """\b
Examples:
  torc seff 1234                        what a Slurm job used, and what to request next time
  srun torc-step -- ./a.out             in your own sbatch script: measure a step
  torc stats --slurm-job-id 1234        what its steps really used
  torc stats                            the run or job that was recorded last
"""

# What a user types: the module, the function and its examples, in the help's order.
_COMMANDS = {
    "seff": ("seff", "seff", "EXAMPLE"),
    "run": ("run", "run", "EXAMPLE"),
    "submit": ("submit", "submit", "SUBMIT_EXAMPLE"),
    "check": ("reports", "check_resource_utilization", "check_example"),
    "correct": ("correct", "correct_resources", "correct_example"),
    "recover": ("recover", "recover", "RECOVER_EXAMPLE"),
    "create": ("workflows", "create", "create_example"),
    "status": ("workflows", "status", "status_example"),
    "cancel": ("workflows", "cancel", "cancel_example"),
    "delete": ("workflows", "delete", "delete_example"),
    "stats": ("slurm", "stats", "stats_example"),
    "plot-resources": ("plot", "plot_resources", "EXAMPLE"),
    "workflows correct-resources": ("correct", "correct_resources", "correct_example"),
    "workflows check-resources": ("reports", "check_resource_utilization", "check_example"),
    "workflows get": ("workflows", "show", "show_example"),
    "reports html": ("html_report", "html", "EXAMPLE"),
    "slurm generate": ("submit", "generate", "GENERATE_EXAMPLE"),
}
# Modules whose ``app`` has a group's other commands.
_GROUPS = {
    "workflows": "workflows",
    "jobs": "jobs",
    "results": "results",
    "user-data": "user_data",
    "reports": "reports",
    "slurm": "slurm",
    "slurm plugin": "slurm_plugin",
}


def command_tree(name: str | None = None) -> typer.Typer:
    """The program; with the name of a command or group, only that one (all if there is none), with --version none.

    Typer reads the signature of every command that it has, which takes longer than most commands do.
    """
    names = {words.partition(" ")[0] for words in (*_COMMANDS, *_GROUPS)}
    app = typer.Typer(
        name="torc",
        rich_markup_mode=None,
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
        help="Show what Slurm jobs really used and should request; run workflows of jobs.",
        epilog=_EXAMPLE,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    )
    app.callback()(root)
    _add_commands(app, "", name if name in names or name == _VERSION else None)
    return app


def _add_commands(app: typer.Typer, above: str, only: str | None = None) -> None:
    """Add the commands and groups below the words ``above``."""
    for words, (module_name, function, example) in _COMMANDS.items():
        before, _, name = words.rpartition(" ")
        if before == above and only in (None, name):
            module = importlib.import_module(f"torc_slurm.cli.{module_name}")
            text = getattr(module, example)
            app.command(name, epilog=text if isinstance(text, str) else text(f"torc {words}"))(
                getattr(module, function)
            )
    for words, module_name in _GROUPS.items():
        before, _, name = words.rpartition(" ")
        if before == above and only in (None, name):
            own = importlib.import_module(f"torc_slurm.cli.{module_name}").app
            group = copy.copy(own)
            group.registered_commands, group.registered_groups = [*own.registered_commands], [*own.registered_groups]
            _add_commands(group, words)
            app.add_typer(group, name=name)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"torc {__version__}")
        raise typer.Exit


def root(
    context: typer.Context,
    format_: FormatOption = None,
    output_dir: OutputDirOption = None,
    _version: Annotated[
        bool, typer.Option(_VERSION, callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    remember(context, format_, output_dir)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status; the console script's entry point.

    0 done, 1 could not, 2 wrong input, 130 interrupted.
    """
    prepare_streams()
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _end)
    try:
        words = list(sys.argv[1:] if arguments is None else arguments)
        status = command_tree(words[0] if words else None)(words, prog_name="torc", standalone_mode=False)
        return status if isinstance(status, int) else 0
    except BaseException as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        return _report(error)


def _end(number: int, _frame: object) -> NoReturn:
    """Raise SystemExit, so that temporary files are deleted."""
    raise SystemExit(128 + number)


def _report(error: BaseException) -> int:
    """Print one line on stderr for an error; return the exit status for it."""
    if isinstance(error, OSError) and has_no_room(error):
        give_up_stdout()
        error = OutputError(error)
    if isinstance(error, TorcError):
        for line in getattr(error, "lines", None) or [str(error)]:  # a workflow file can have several errors
            say(line)
        return error.exit_status
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if _is_interrupt(error):
        say("interrupted")
        return _INTERRUPTED
    if hasattr(error, "format_message"):  # a usage error, from click or from typer's own copy of it
        return _report_usage(error)
    if isinstance(error, OSError) and error.filename is not None and error.strerror is not None:
        say(f"{error.filename!s}: {error.strerror}; see whether you may read and write there, or give another place")
        return 1
    say(f"unexpected {type(error).__name__}: {error}; {DEBUG_VARIABLE}=1 shows where; please report it")
    return 1


def _is_interrupt(error: BaseException) -> bool:
    """Ctrl-C, also as typer's Abort."""
    return isinstance(error, KeyboardInterrupt) or isinstance(error.__cause__ or error.__context__, KeyboardInterrupt)


def _report_usage(error: BaseException) -> int:
    context = getattr(error, "ctx", None)
    status = int(getattr(error, "exit_code", 2))
    if type(error).__name__ == "NoArgsIsHelpError":  # a group without a command: its help is the message
        print(error.format_message(), file=sys.stderr)  # type: ignore[attr-defined]  # checked by the caller
        return status
    where = getattr(context, "command_path", "torc")
    say(f"{error.format_message()} (see {where} --help)")  # type: ignore[attr-defined]  # checked by the caller
    return status


if __name__ == "__main__":
    sys.exit(main())
