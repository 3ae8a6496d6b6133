"""The command line: parse, call, print. The only module that prints results or chooses the exit status."""

from __future__ import annotations

import argparse
import os
import secrets
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from . import alive_lock, bringup, daemons, users
from . import lab as labs
from .bringup import LateLabError, Wishes, bring_up, take_down
from .config import ADDRESS
from .errors import LabError, UsageError
from .install import ensure_installed
from .lab import Lab
from .places import BASE, Running, absolute, directory_of, last_lines
from .run import check_command, run_command
from .sweep import sweep

PREFIX = "torc-lab-"

DESCRIPTION = "A real two-node Slurm on this machine, private to one directory, for development and tests."
EXAMPLES = """\
examples:
  ci/slurm-lab run -- srun -N2 hostname         up, run as the caller, down; exits as the command did
  ci/slurm-lab run --user tester -- srun -N2 id the same as an ordinary user, made for the occasion
  ci/slurm-lab up; eval "$(ci/slurm-lab env)"   a lab that stays, and a shell that uses it
  sbatch job.sh; sacct; ci/slurm-lab status
  ci/slurm-lab stop slurmdbd                    take accounting away; `start slurmdbd` brings it back
  ci/slurm-lab down                             nothing is left
A second lab beside the first: give it another --dir. Exit status: 0, 1 (could not), 2 (wrong input).
"""


class Parser(argparse.ArgumentParser):
    """Prints an error in one line, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see `ci/slurm-lab --help`")


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="ci/slurm-lab",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dir", metavar="DIR", help="the lab's directory; may follow the command too")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def add(name: str, text: str, example: str) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name,
            help=text,
            description=text,
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        # without a default, which would override a --dir before the command
        command.add_argument("--dir", metavar="DIR", default=argparse.SUPPRESS, help=_dir_help(name))
        return command

    _add_lab_options(add("up", "start a lab that stays until `down`", "ci/slurm-lab up --cgroup off"))
    add("down", "take the lab away, whatever state it is in", "ci/slurm-lab down")
    add("status", "say what is up; exit status 1 when nothing is", "ci/slurm-lab status")
    add("env", "print what a shell exports to use the lab", 'eval "$(ci/slurm-lab env)"')
    run = add("run", "up, run a command, down", "ci/slurm-lab run --user tester -- bash -c 'srun -N2 id; sacct'")
    _add_lab_options(run)
    run.add_argument("--verbose", action="store_true", help="show the daemons' logs when the command fails")
    run.add_argument("argv", nargs="*", metavar="-- COMMAND", help="the command and its arguments, after --")
    for name, example in (("stop", "ci/slurm-lab stop slurmdbd"), ("start", "ci/slurm-lab start slurmdbd")):
        add(name, f"{name} one daemon of the lab", example).add_argument("daemon", help="as `status` names it")
    return parser


def _dir_help(command: str) -> str:
    if command == "run":
        return f"the lab's directory (default: a fresh one under {BASE})"
    return f"the lab's directory (default: $TORC_LAB_DIR, else one under {BASE} for this user and checkout)"


def _add_lab_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--user", metavar="NAME", help="ordinary user: an existing one, or made and removed again")
    command.add_argument(
        "--cgroup", choices=("auto", "on", "off"), default="auto", help="enforce limits (default: auto)"
    )
    command.add_argument(
        "--jobacct-gather",
        choices=("linux", "cgroup", "none"),
        help="JobAcctGatherType (default: cgroup where cgroups are on, else linux)",
    )
    command.add_argument(
        "--slurm-conf-line",
        action="append",
        default=[],
        metavar="LINE",
        help="added to slurm.conf; may be repeated",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    # A caller that ignores SIGCHLD passes that on; then no exit status of a child could be read.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        return _dispatch(build_parser().parse_args(arguments))
    except LabError as error:
        _report(error)
        return error.exit_status
    except KeyboardInterrupt:
        return 130


def _report(error: LabError) -> None:
    print(f"slurm-lab: {error}", file=sys.stderr)
    for text in error.tails if isinstance(error, LateLabError) else map(last_lines, error.logs):
        print(text, file=sys.stderr)


def _dispatch(options: argparse.Namespace) -> int:
    handlers = {
        "up": _up,
        "down": _down,
        "status": _status,
        "env": _env,
        "run": _run,
        "stop": _stop,
        "start": _start,
    }
    return handlers[options.command](options)


def _up(options: argparse.Namespace) -> int:
    directory = directory_of(options.dir or os.environ.get("TORC_LAB_DIR"), PREFIX)
    if alive_lock.is_held(directory):
        _say(f"already up in {directory}")
        return 0
    running = _bring_up(options, directory)
    running.detach()
    return 0


def _bring_up(options: argparse.Namespace, directory: Path) -> Running[Lab]:
    wishes = _wishes(options, directory)
    _need_root()
    bringup.check_directory(directory)
    ensure_installed()
    for stale in bringup.sweep_stale(BASE, PREFIX):
        _say(f"took away the lab in {stale}, which had lost its keepers")
    began = time.monotonic()
    running = bring_up(wishes)
    _say(f"up in {time.monotonic() - began:.1f} s in {directory}")
    return running


def _wishes(options: argparse.Namespace, directory: Path) -> Wishes:
    if options.user is not None:
        users.check_name(options.user)
    for line in options.slurm_conf_line:
        if "=" not in line or "\n" in line:
            raise UsageError(f"--slurm-conf-line {line!r}: not one line NAME=VALUE as in slurm.conf(5)")
    return Wishes(directory, options.cgroup, options.jobacct_gather, options.user, tuple(options.slurm_conf_line))


def _need_root() -> None:
    if os.geteuid() != 0:
        raise LabError("a lab needs root (slurmd runs jobs as other users): use sudo")


def _down(options: argparse.Namespace) -> int:
    directory = directory_of(options.dir or os.environ.get("TORC_LAB_DIR"), PREFIX)
    if labs.exists(directory):
        _need_root()
    take_down(directory)
    return 0


def _status(options: argparse.Namespace) -> int:
    directory = directory_of(options.dir or os.environ.get("TORC_LAB_DIR"), PREFIX)
    if not _is_up(directory):
        print(f"no lab is up in {directory}")
        return 1
    print(_describe(labs.load(directory)))
    return 0


def _is_up(directory: Path) -> bool:
    """A lab whose keepers were killed is not up; the next command sweeps it."""
    if not labs.exists(directory):
        return False
    if alive_lock.is_held(directory):
        return True
    if os.geteuid() == 0:
        _say(f"the lab in {directory} lost its keepers: taking it away")
        sweep(directory)
    return False


def _describe(lab: Lab) -> str:
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(lab.since))
    settings = lab.settings
    facts = {
        "lab": f"{settings.id}, up since {since}",
        "directory": str(lab.dir),
        "logs": str(lab.log),
        "nodes": ", ".join(settings.nodes),
        "user": settings.user,
        "listens on": ADDRESS if settings.loopback_only else f"0.0.0.0: the host's name is not {ADDRESS}",
        "cgroups": "on (v1)" if settings.cgroups else "off",
        "accounting": f"jobacct_gather/{settings.gather}",
        "srun ports": settings.srun_ports,
    }
    rows = [f"{name:<12}{value}" for name, value in facts.items()]
    return "\n".join([*rows, *(f"{name:<12}{_describe_daemon(lab, name)}" for name in lab.daemons)])


def _describe_daemon(lab: Lab, daemon: str) -> str:
    number = daemons.pid(lab, daemon)
    port = lab.settings.ports.get(daemon)
    where = f", port {port}" if port else ", a socket in the lab's directory"
    return f" pid {number}{where}" if number else " not running"


def _env(options: argparse.Namespace) -> int:
    for name, value in _lab_that_is_up(options).exports().items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


def _lab_that_is_up(options: argparse.Namespace) -> Lab:
    directory = directory_of(options.dir or os.environ.get("TORC_LAB_DIR"), PREFIX)
    if not _is_up(directory):
        raise LabError(f"no lab is up in {directory}: start one with `ci/slurm-lab up`")
    return labs.load(directory)


def _run(options: argparse.Namespace) -> int:
    if not options.argv:
        raise UsageError("run: no command; write it after --, as in `ci/slurm-lab run -- sinfo`")
    directory = absolute(options.dir) if options.dir else BASE / f"{PREFIX}{secrets.token_hex(4)}"
    check_command(options.argv[0])
    if alive_lock.is_held(directory):
        raise LabError(f"a lab is already up in {directory}: another --dir, or use it: `ci/slurm-lab env`")
    running = _bring_up(options, directory)
    try:
        status = run_command(running.lab, options.argv, options.user)
        if status and options.verbose:
            _show_logs(running.lab)
        return status
    finally:
        running.end()


def _show_logs(lab: Lab) -> None:
    for daemon in lab.daemons:
        for path in daemons.logs_of(lab, daemon):
            print(last_lines(path), file=sys.stderr)


def _stop(options: argparse.Namespace) -> int:
    lab = _lab_that_is_up(options)
    name = daemons.check_name(lab, options.daemon)
    _need_root()
    daemons.stop(lab, name)
    return 0


def _start(options: argparse.Namespace) -> int:
    lab = _lab_that_is_up(options)
    name = daemons.check_name(lab, options.daemon)
    _need_root()
    if daemons.pid(lab, name) is None:
        daemons.start(lab, name)
    daemons.wait_ready(lab, name)
    return 0


def _say(text: str) -> None:
    print(f"slurm-lab: {text}", file=sys.stderr, flush=True)
