"""The console script torc-step: parses the command line, then starts the wrapper. One of the two entry points."""

from __future__ import annotations

import os
import sys

from torc_slurm.common.errors import InputError
from torc_slurm.common.process_name import set_command_line, set_process_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from torc_slurm.step.options import Options


def _ignore_users_pythonpath() -> None:
    """PYTHONPATH is for the job: a ``select.py`` or an old Python's library in it must not break the wrapper."""
    unwanted = os.environ.get("PYTHONPATH")
    if unwanted and not sys.flags.ignore_environment:
        entries = {os.path.abspath(entry) for entry in unwanted.split(os.pathsep)}
        sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) not in entries]


def load() -> None:
    """Import what is needed until the job runs. If that fails, the launcher's code runs the command alone."""
    import resource  # noqa: F401 - os.wait4 loads it: without a free descriptor for that, the status is lost

    import torc_slurm.common.identity
    import torc_slurm.step.job
    import torc_slurm.step.options  # noqa: F401


def main() -> int:
    """Run ``sys.argv``. Returns only after help, version or wrong input; else the process ends as its job ended."""
    _ignore_users_pythonpath()
    set_process_name("torc-step")
    load()
    from torc_slurm.step.job import say
    from torc_slurm.step.options import USAGE, parse, unmeasured_command

    try:
        options = parse(sys.argv[1:], dict(os.environ))
    except InputError as error:
        if command := unmeasured_command(sys.argv[1:]):
            _run_unmeasured(command, str(error))
        say(str(error))
        return error.exit_status
    except Exception as error:  # out of memory, for example: find the command as the launcher does
        _run_unmeasured(sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else sys.argv[1:], str(error))
        raise
    if options.wants == "help":
        sys.stdout.write(USAGE)
        return 0
    if options.wants == "version":
        from torc_slurm import __version__

        sys.stdout.write(f"torc-step {__version__}\n")
        return 0
    if options.wants == "group":
        return _run_group(options)
    if options.wants == "fork_server":
        return _run_fork_server()
    return _run(options)


def _run_unmeasured(command: list[str], why: str) -> None:
    from torc_slurm.step.job import become, given_environment, say

    if os.environ.get("SLURM_LOCALID", "0") == "0":
        say(f"{why}: the command runs unmeasured")
    become(command, given_environment())


def _run(options: Options) -> int:
    """Start the job, watch it, and end this process as the job ended. If the step is measured already, exec the job."""
    from torc_slurm.common.identity import identify
    from torc_slurm.step.job import become, die, given_environment, is_measured_already, say, start_job, wait_only

    for text in options.ignored:
        say(f"{text}; it is ignored")
    try:
        identity = identify(dict(os.environ), options.identity)
        if is_measured_already(identity):
            become(options.command, given_environment())
        job = start_job(options.command, identity)
    except Exception as error:
        say(f"the command runs unmeasured ({type(error).__name__}: {error})")
        become(options.command, given_environment())
    try:
        set_command_line(["torc-step", *_own_words(options)])
        from torc_slurm.step.wrapper import Wrapper  # only now: the job runs

        wrapper = Wrapper(options, identity, job)
    except Exception as error:
        say(f"the command runs unmeasured ({type(error).__name__}: {error})")
        return die(*wait_only(job))
    return die(*wrapper.run())


def _run_group(options: Options) -> int:
    """The jobs that the runner names on stdin."""
    from torc_slurm.step.group import run_group

    set_command_line(["torc-step", *sys.argv[1:]])
    try:
        return run_group(options)
    except InputError as error:
        sys.stderr.write(f"torc-step: {error}\n")
        return error.exit_status


def _run_fork_server() -> int:
    """Fork wrappers for the runner. Each continues here, with the words and variables of its job."""
    from torc_slurm.step.fork_server import serve

    try:
        serve()
    except InputError as error:
        sys.stderr.write(f"torc-step: {error}\n")
        return error.exit_status
    return main()


def _own_words(options: Options) -> list[str]:
    """The command line without COMMAND: ``pkill -f`` on the command's words must not match the wrapper."""
    return sys.argv[1 : len(sys.argv) - len(options.command)]


if __name__ == "__main__":
    sys.exit(main())
