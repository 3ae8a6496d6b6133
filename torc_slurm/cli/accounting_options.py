"""The options of commands that ask Slurm's accounting, and messages on how it was asked."""

from __future__ import annotations

import os
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from torc_slurm.cli.options import say

if TYPE_CHECKING:
    from torc_slurm.usecases.late_accounting import UpToDate


class Backend(str, Enum):
    """The ways to ask Slurm's accounting."""

    auto = "auto"
    sacct = "sacct"
    pyslurm = "pyslurm"


NoAccountingOption = Annotated[
    bool, typer.Option("--no-accounting", help="Do not ask Slurm's accounting for missing records.")
]
BackendOption = Annotated[
    Backend | None,
    typer.Option(
        "--accounting-backend",
        help="How to ask Slurm's accounting; default: $TORC_ACCOUNTING_BACKEND, else sacct.",
    ),
]


def backend_of(given: Backend | None) -> str:
    """The backend from the command line, else from the environment.

    Raises:
        InputError: ``TORC_ACCOUNTING_BACKEND`` is not a backend.
    """
    from torc_slurm.slurm.accounting import chosen_backend

    return chosen_backend(None if given is None else given.value, os.environ)


def say_which_backend(collected: UpToDate) -> None:
    """Say on stderr if another backend was used than the requested one."""
    if collected.backend_note is not None:
        say(f"accounting: {collected.backend_note}")
