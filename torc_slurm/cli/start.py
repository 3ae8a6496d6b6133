"""The console script ``torc``: names the process, and restarts it if libraries meant for jobs break its Python."""

from __future__ import annotations

import os
import sys

from torc_slurm.common.process_name import set_command_line, set_process_name


def main() -> int:
    """Run the command line and return its exit status."""
    if os.environ.get("LD_LIBRARY_PATH"):
        try:
            import sqlite3  # noqa: F401 - the library that modules and conda shadow most often
        except ImportError:
            _start_again()
    set_process_name("torc")
    set_command_line(["torc", *sys.argv[1:]])
    from torc_slurm.cli.main import main as run

    return run()


def _start_again() -> None:
    """Restart through the launcher, which removes the job's libraries; returns if there is no launcher."""
    from torc_slurm.usecases.installation import torc_command

    command = torc_command()
    if command[0] != sys.executable:
        os.execv(command[0], [*command, *sys.argv[1:]])
