"""The command line: parse, call, print. The only module that prints results or chooses the exit status."""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from slurm_lab import alive_lock
from slurm_lab.errors import LabError, UsageError
from slurm_lab.places import BASE, Running, absolute, directory_of, last_lines
from slurm_lab.users import check_name

from . import bringup, config, faults, state
from .bringup import BootError, bring_up, build_image, take_down
from .config import HEAD, Settings
from .inside import argv
from .state import Cluster

PREFIX = "torc-cluster-"

DESCRIPTION = "A Slurm cluster of machines with kernels of their own, on this machine, for development and tests."
EXAMPLES = """\
examples:
  ci/cluster run -- srun -N2 hostname           boot, run on the head, take away; exits as the command did
  ci/cluster run --user tester -- /mnt/checkout/ci/demo --installed
  ci/cluster run --suite forky --nodes 4 --fault node-crash:c2@20 -- bash -c 'srun -N4 sleep 60'
  ci/cluster up; ci/cluster shell               a cluster that stays, and root's shell on its head
  ci/cluster exec c1 -- cat /sys/fs/cgroup/cgroup.controllers
  ci/cluster fault nfs-stop; ci/cluster fault nfs-start
  ci/cluster down                               nothing is left but the image
Exit status: the command's, 0, 1 (could not), 2 (wrong input). docs/cluster.md has the rest.
"""


class Parser(argparse.ArgumentParser):
    """Prints an error in one line, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see `ci/cluster --help`")


def build_parser() -> argparse.ArgumentParser:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog="ci/cluster", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=formatter)
    parser.add_argument("--dir", metavar="DIR", help="the cluster's directory; may follow the command too")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def add(name: str, text: str, example: str) -> argparse.ArgumentParser:
        epilog = f"example:\n  {example}"
        command = commands.add_parser(name, help=text, description=text, epilog=epilog, formatter_class=formatter)
        # without a default, which would override a --dir before the command
        command.add_argument("--dir", metavar="DIR", default=argparse.SUPPRESS, help="the cluster's directory")
        return command

    add_settings(add("up", "boot a cluster that stays until `down`", "ci/cluster up --nodes 3"))
    add("down", "take the cluster away, whatever state it is in", "ci/cluster down")
    add("status", "say what is up; exit status 1 when nothing is", "ci/cluster status")
    shell = add("shell", "a shell on a machine", "ci/cluster shell c1")
    shell.add_argument("machine", nargs="?", default=HEAD, help=f"{HEAD} (default), c1, c2, …")
    shell.add_argument("--user", metavar="NAME", help="as this user and not as root")
    run = add("run", "boot, run the command after -- on the head, take away", "ci/cluster run -- srun -N2 hostname")
    add_settings(run)
    run.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="NAME[:NODE][@SECONDS]",
        help="a fault so many seconds after the command has started; may be repeated",
    )
    run.add_argument("--verbose", action="store_true", help="show the machines' logs when the command fails")
    execute = add("exec", "run the command after -- on a machine", "ci/cluster exec c1 -- dmesg")
    execute.add_argument("machine", help=f"{HEAD}, c1, c2, …")
    execute.add_argument("--user", metavar="NAME", help="as this user and not as root")
    fault = add("fault", "make a fault, or undo it", "ci/cluster fault node-crash:c2")
    fault.add_argument("fault", metavar="NAME[:NODE]", help=", ".join(faults.NAMES))
    return parser


def add_settings(command: argparse.ArgumentParser) -> None:
    command.add_argument("--suite", choices=config.SUITES, default="trixie", help="Debian's name (default: trixie)")
    command.add_argument("--nodes", type=int, default=2, metavar="N", help="compute nodes (default: 2)")
    command.add_argument("--user", metavar="NAME", help=f"the ordinary user (default: {config.USER}); run uses it")
    command.add_argument("--cgroup", choices=("v2", "none"), default="v2", help="limits and figures (default: v2)")
    command.add_argument(
        "--jobacct-gather", choices=("linux", "cgroup", "none"), help="default: cgroup; linux with --cgroup none"
    )
    command.add_argument("--proc", default="", metavar="OPTIONS", help="mount options of /proc, such as hidepid=2")
    command.add_argument(
        "--actimeo", type=int, default=30, metavar="SECONDS", help="NFS attribute cache (default: 30; 0: none)"
    )
    command.add_argument("--private-tmp", action="store_true", help="a /tmp for each job: job_container/tmpfs")
    command.add_argument("--no-root-squash", action="store_true", help="root may do on /home what it likes")
    command.add_argument(
        "--slurm-conf-line", action="append", default=[], metavar="LINE", help="added to slurm.conf; may be repeated"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    # argparse accepts no options between a command's own arguments and the words after --
    own = words.index("--") if "--" in words else len(words)
    try:
        options = build_parser().parse_args(words[:own])
        options.argv = words[own + 1 :]
        if options.argv and options.command not in ("run", "exec"):
            raise UsageError(f"{options.command} runs no command; leave `-- {options.argv[0]}` out")
        handler = {
            "up": _up,
            "down": _down,
            "status": _status,
            "shell": _shell,
            "run": _run,
            "exec": _exec,
            "fault": _fault,
        }[options.command]
        return handler(options)
    except LabError as error:
        print(f"cluster: {error}", file=sys.stderr)
        tails = error.tails if isinstance(error, BootError) else map(last_lines, error.logs)
        for text in tails:
            print(text, file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return 130


def _settings(options: argparse.Namespace, directory: Path) -> Settings:
    if not 1 <= options.nodes <= config.MOST_NODES:
        raise UsageError(f"--nodes {options.nodes}: a number from 1 to {config.MOST_NODES}")
    if options.actimeo < 0:
        raise UsageError(f"--actimeo {options.actimeo}: 0 or more seconds")
    if options.user is not None:
        check_name(options.user)
    if options.cgroup == "none" and options.jobacct_gather == "cgroup":
        raise UsageError("--jobacct-gather cgroup: there are no cgroups with --cgroup none; use linux or none")
    for line in options.slurm_conf_line:
        if "=" not in line or "\n" in line:
            raise UsageError(f"--slurm-conf-line {line!r}: not one line NAME=VALUE as in slurm.conf(5)")
    if not all(character.isalnum() or character in "=,_-" for character in options.proc):
        raise UsageError(f"--proc {options.proc!r}: not mount options of proc, such as hidepid=2")
    return Settings(
        dir=directory,
        suite=options.suite,
        node_count=options.nodes,
        cgroup=options.cgroup,
        gather=options.jobacct_gather or ("cgroup" if options.cgroup == "v2" else "linux"),
        proc=options.proc,
        actimeo=options.actimeo,
        private_tmp=options.private_tmp,
        root_squash=not options.no_root_squash,
        user=options.user or config.USER,
        extra_lines=tuple(options.slurm_conf_line),
    )


def _bring_up(options: argparse.Namespace, directory: Path) -> Running[Cluster]:
    settings = _settings(options, directory)
    bringup.check_request(settings)
    if alive_lock.is_held(directory):
        raise LabError(f"a cluster is already up in {directory}: another --dir, or `ci/cluster shell`")
    for stale in bringup.sweep_stale(BASE, PREFIX):
        _say(f"took away the cluster in {stale}, which had lost its keeper")
    image = build_image(settings.suite)
    began = time.monotonic()
    running = bring_up(settings, image)
    _say(f"up in {time.monotonic() - began:.1f} s in {directory}")
    return running


def _up(options: argparse.Namespace) -> int:
    directory = directory_of(options.dir or os.environ.get("TORC_CLUSTER_DIR"), PREFIX)
    if alive_lock.is_held(directory):
        _say(f"already up in {directory}")
        return 0
    _bring_up(options, directory).detach()
    return 0


def _down(options: argparse.Namespace) -> int:
    take_down(directory_of(options.dir or os.environ.get("TORC_CLUSTER_DIR"), PREFIX))
    return 0


def _status(options: argparse.Namespace) -> int:
    directory = directory_of(options.dir or os.environ.get("TORC_CLUSTER_DIR"), PREFIX)
    if not alive_lock.is_held(directory):
        print(f"no cluster is up in {directory}")
        return 1
    cluster = state.load(directory)
    settings = cluster.settings
    facts = {
        "directory": str(cluster.dir),
        "logs": str(cluster.share / "log"),
        "suite": f"{settings.suite}, from {cluster.image.root}",
        "nodes": ", ".join(settings.nodes),
        "user": settings.user,
        "cgroups": settings.cgroup,
        "accounting": f"jobacct_gather/{settings.gather}",
        "/home": f"NFS 4.2, actimeo={settings.actimeo}",
    }
    for name, value in facts.items():
        print(f"{name:<12}{value}")
    for machine in settings.machines:
        ready = (cluster.share / "ready" / machine).exists()
        print(f"{machine:<12}{config.address(settings, machine)} {'up' if ready else 'not up'}")
    return 0


def _shell(options: argparse.Namespace) -> int:
    cluster = _cluster_that_is_up(options)
    machine = _check_machine(cluster, options.machine)
    command = argv(cluster, ["bash", "-l"], machine=machine, user=options.user, terminal=sys.stdin.isatty())
    return _wait(command)


def _exec(options: argparse.Namespace) -> int:
    cluster = _cluster_that_is_up(options)
    if not options.argv:
        raise UsageError("exec: no command; write it after --, as in `ci/cluster exec c1 -- dmesg`")
    return _wait(argv(cluster, options.argv, machine=_check_machine(cluster, options.machine), user=options.user))


def _check_machine(cluster: Cluster, name: str) -> str:
    if name not in cluster.settings.machines:
        raise UsageError(f"{name!r}: the machines are {', '.join(cluster.settings.machines)}")
    return name


def _run(options: argparse.Namespace) -> int:
    if not options.argv:
        raise UsageError("run: no command; write it after --, as in `ci/cluster run -- sinfo`")
    directory = absolute(options.dir) if options.dir else BASE / f"{PREFIX}{secrets.token_hex(4)}"
    machines = _settings(options, directory).machines
    wanted = [faults.parse(text, machines) for text in options.fault]
    running = _bring_up(options, directory)
    try:
        for fault in wanted:
            timer = threading.Timer(fault.after_seconds, _make_fault, (running.lab, fault))
            timer.daemon = True
            timer.start()
        columns = os.environ.get("COLUMNS", "160")
        terminal = sys.stdin.isatty() and sys.stdout.isatty()
        command = argv(running.lab, options.argv, user=options.user, env={"COLUMNS": columns}, terminal=terminal)
        status = _wait(command)
        if status and options.verbose:
            for machine in running.lab.settings.machines:
                for path in running.lab.logs(machine):
                    print(last_lines(path), file=sys.stderr)
        return status
    finally:
        running.end()


def _make_fault(cluster: Cluster, fault: faults.Fault) -> None:
    try:
        faults.make(cluster, fault)
        _say(f"fault: {fault.name} on {fault.machine}")
    except LabError as error:
        _say(str(error))


def _fault(options: argparse.Namespace) -> int:
    cluster = _cluster_that_is_up(options)
    faults.make(cluster, faults.parse(options.fault, cluster.settings.machines))
    return 0


def _wait(command: list[str]) -> int:
    """Run it like a shell: the terminal's signals are for the command; SIGTERM ends it."""
    process = subprocess.Popen(command)
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: process.kill())
    code = process.wait()
    return 128 - code if code < 0 else code


def _cluster_that_is_up(options: argparse.Namespace) -> Cluster:
    directory = directory_of(options.dir or os.environ.get("TORC_CLUSTER_DIR"), PREFIX)
    if not alive_lock.is_held(directory):
        raise LabError(f"no cluster is up in {directory}: start one with `ci/cluster up`")
    return state.load(directory)


def _say(text: str) -> None:
    print(f"cluster: {text}", file=sys.stderr, flush=True)
