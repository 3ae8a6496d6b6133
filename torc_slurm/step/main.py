"""The console script torc-step: parse, then hand over to the wrapper. One of the two composition roots."""

from __future__ import annotations

import os
import sys

from torc_slurm.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from torc_slurm.step.options import Options


def _ignore_users_pythonpath() -> None:
    """PYTHONPATH is meant for the job: a ``select.py`` or an old Python's library there must not break the wrapper."""
    unwanted = os.environ.get("PYTHONPATH")
    if unwanted and not sys.flags.ignore_environment:
        entries = {os.path.abspath(entry) for entry in unwanted.split(os.pathsep)}
        sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) not in entries]


def main() -> int:
    """Run ``sys.argv``; returns only for help, version and wrong input: else the process ends as its job ended."""
    _ignore_users_pythonpath()
    from torc_slurm.step.options import USAGE, parse, unmeasured_command

    try:
        options = parse(sys.argv[1:], dict(os.environ))
    except InputError as error:
        if command := unmeasured_command(sys.argv[1:]):
            _run_unmeasured(command, str(error))
        sys.stderr.write(f"torc-step: {error}\n")
        return error.exit_status
    if options.wants == "help":
        sys.stdout.write(USAGE)
        return 0
    if options.wants == "version":
        from torc_slurm import __version__

        sys.stdout.write(f"torc-step {__version__}\n")
        return 0
    return _run(options)


def _run_unmeasured(command: list[str], why: str) -> None:
    from torc_slurm.step.job import become, given_environment, say

    if os.environ.get("SLURM_LOCALID", "0") == "0":
        say(f"{why}: this step is not measured")
    become(command, given_environment())


def _run(options: Options) -> int:
    """Start the job, watch it, and end this process as it ended; a step that is measured already just becomes it."""
    from torc_slurm.identity import identify
    from torc_slurm.step.job import become, die, given_environment, is_measured_already, start_job

    identity = identify(dict(os.environ), options.identity)
    if is_measured_already(identity):
        become(options.command, given_environment())
    job = start_job(options.command, identity)
    from torc_slurm.step.wrapper import Wrapper  # only now: the job runs

    wrapper = Wrapper(options, identity, job)
    wrapper.start()
    wrapper.watch()
    wrapper.finish()
    signal, code = wrapper.signal_and_code
    return die(signal, code)


if __name__ == "__main__":
    sys.exit(main())
