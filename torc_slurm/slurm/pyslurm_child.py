"""The child process that loads pyslurm: prints one job's records as JSON. Not for users.

It may be ended by libslurm at any time: its parent takes that as "pyslurm cannot be used".
"""

from __future__ import annotations

import importlib
import json
import sys

from torc_slurm.slurm.pyslurm_backend import snapshot


def main() -> None:
    """Exit status 1 and one line on stderr where pyslurm cannot be had or was refused."""
    try:
        pyslurm = importlib.import_module("pyslurm")
    except ImportError as error:
        sys.exit(f"it cannot be imported: {error}")
    try:
        jobs = pyslurm.db.Jobs.load(pyslurm.db.JobFilter(ids=[int(sys.argv[1])]))
        print(json.dumps([snapshot(job) for job in jobs.values()]))
    except Exception as error:  # pyslurm's own errors have no base class that older versions share
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
