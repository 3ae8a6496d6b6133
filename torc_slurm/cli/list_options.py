"""The options of commands that list attempts: order and number."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

DEFAULT_LIMIT = 500  # rows of a table; JSON and CSV have all


class Sort(str, Enum):
    """Orders of `torc_slurm.database.selection.SORTS`."""

    memory = "memory"
    cpu = "cpu"
    elapsed = "elapsed"
    start = "start"
    name = "name"
    state = "state"


SortOption = Annotated[
    Sort | None,
    typer.Option(
        "--sort",
        help="Order of the rows; default: by job. Largest or latest first; names and states alphabetically.",
    ),
]
LimitOption = Annotated[
    int | None,
    typer.Option(
        "--limit",
        metavar="N",
        min=0,
        help=f"At most N rows, 0 for all; default: {DEFAULT_LIMIT} in a table, all in JSON and CSV.",
    ),
]
