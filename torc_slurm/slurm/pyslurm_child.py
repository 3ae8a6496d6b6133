"""The child process that loads pyslurm: prints one job's records as JSON. Not for users.

libslurm may end it at any time; to its parent that means that pyslurm cannot be used.
"""

from __future__ import annotations

import importlib
import json
import sys

from torc_slurm.slurm.pyslurm_backend import snapshot


def main() -> None:
    """Exits 1 with one line on stderr if pyslurm is not usable or refused."""
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
