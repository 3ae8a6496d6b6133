"""The console script ``torc``: the tree of commands, and the only place that turns errors into a line and an exit
status.

A group of commands is one module with an ``app``; add it here. A command imports what it needs when it runs, so that
``torc --help`` starts quickly.
"""

from __future__ import annotations

import copy
import io
import os
import signal
import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from torc_slurm import __version__
from torc_slurm.cli import (
    correct,
    html_report,
    jobs,
    plot,
    recover,
    reports,
    results,
    run,
    seff,
    slurm,
    slurm_plugin,
    submit,
    user_data,
    workflows,
)
from torc_slurm.cli.options import DEBUG_VARIABLE, FormatOption, OutputDirOption, remember, say
from torc_slurm.common.errors import TorcError

_INTERRUPTED = 130  # 128 + SIGINT, as a shell shows it

_EXAMPLE = """\b
Examples:
  torc seff 1234                        what a Slurm job used, and what to request next time
  srun torc-step -- ./a.out             in your own sbatch script: measure a step
  torc stats --slurm-job-id 1234        what its steps really used
  torc stats                            the latest record in the output directory
"""

app = typer.Typer(
    name="torc",
    rich_markup_mode=None,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    help="Show what Slurm jobs really used, and what they should request.",
    epilog=_EXAMPLE,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
slurm.app.command("generate", epilog=submit.GENERATE_EXAMPLE)(submit.generate)
app.command("seff", epilog=seff.EXAMPLE)(seff.seff)
app.command("run", epilog=run.EXAMPLE)(run.run)
app.command("submit", epilog=submit.SUBMIT_EXAMPLE)(submit.submit)
app.add_typer(workflows.app, name="workflows")
workflows.app.command("correct-resources", epilog=correct.correct_example("torc workflows correct-resources"))(
    correct.correct_resources
)
workflows.app.command("check-resources", epilog=reports.check_example("torc workflows check-resources"))(
    reports.check_resource_utilization
)
workflows.app.command("get", epilog=workflows.show_example("torc workflows get"))(workflows.show)
app.add_typer(jobs.app, name="jobs")
app.add_typer(results.app, name="results")
app.add_typer(user_data.app, name="user-data")
app.add_typer(reports.app, name="reports")
reports.app.command("html", epilog=html_report.EXAMPLE)(html_report.html)
app.add_typer(slurm.app, name="slurm")
slurm.app.add_typer(slurm_plugin.app, name="plugin")
app.command("check", epilog=reports.check_example("torc check"))(reports.check_resource_utilization)
app.command("correct", epilog=correct.correct_example("torc correct"))(correct.correct_resources)
app.command("recover", epilog=recover.RECOVER_EXAMPLE)(recover.recover)
app.command("create", epilog=workflows.create_example("torc create"))(workflows.create)
app.command("status", epilog=workflows.status_example("torc status"))(workflows.status)
app.command("cancel", epilog=workflows.cancel_example("torc cancel"))(workflows.cancel)
app.command("delete", epilog=workflows.delete_example("torc delete"))(workflows.delete)
app.command("stats", epilog=slurm.stats_example("torc stats"))(slurm.stats)
app.command("plot-resources", epilog=plot.EXAMPLE)(plot.plot_resources)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"torc {__version__}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    format_: FormatOption = None,
    output_dir: OutputDirOption = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    remember(context, format_, output_dir)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status; the console script's entry point.

    0 done, 1 could not, 2 wrong input, 130 interrupted.
    """
    _never_fail_at_encoding()
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _end)
    try:
        words = list(sys.argv[1:] if arguments is None else arguments)
        status = _app_for(words)(words, prog_name="torc", standalone_mode=False)
        return status if isinstance(status, int) else 0
    except BaseException as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        return _report(error)


def _app_for(words: Sequence[str]) -> typer.Typer:
    """The program with only the command that is called.

    Typer reads the signature of every command that it has, which takes longer than most commands do.
    """
    name = words[0] if words else None
    commands = [each for each in app.registered_commands if each.name == name]
    groups = [each for each in app.registered_groups if each.name == name]
    if not commands and not groups:
        return app
    found = copy.copy(app)
    found.registered_commands, found.registered_groups = commands, groups
    return found


def _end(number: int, _frame: object) -> NoReturn:
    """Raise SystemExit, so that temporary files are deleted."""
    raise SystemExit(128 + number)


def _never_fail_at_encoding() -> None:
    """Write characters that stdout's or stderr's encoding lacks as escapes: LC_ALL=C is common in batch jobs."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _report(error: BaseException) -> int:
    """Print one line on stderr for an error; return the exit status for it."""
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
    _name_wrong_value(error)
    where = getattr(context, "command_path", "torc")
    say(f"{error.format_message()} (see {where} --help)")  # type: ignore[attr-defined]  # checked by the caller
    return status


def _name_wrong_value(error: BaseException) -> None:
    """Add the given value to usage errors from pydantic (typer from 0.27)."""
    problems = getattr(error.__cause__, "errors", None)
    if problems is None:
        return
    problem = problems()[0]
    given, words = repr(problem["input"]), str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "int_parsing":
        words = f"{given} is not a whole number"
    elif problem["type"] == "float_parsing":
        words = f"{given} is not a number"
    error.message = words if given in words else f"{given}: {words}"  # type: ignore[attr-defined]  # every usage error has it


if __name__ == "__main__":
    sys.exit(main())
