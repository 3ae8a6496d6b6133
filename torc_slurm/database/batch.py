"""What one flush writes of one step. Separate from the writer: the monitor samples before it loads SQLite."""

from __future__ import annotations

Row = dict[str, object]


class Batch:
    """What one flush writes of one step: rows as dicts keyed by column, series as tuples without id and job_id."""

    def __init__(self, step: Row) -> None:
        self.step = step  # the columns of `steps`; attempt_id None: this job's next one in the file
        self.usage: Row | None = None
        self.usage_at_exit: Row | None = None  # only wait4's figures: raises what a monitor wrote before it died
        self.monitor: Row | None = None
        self.exits: list[Row] = []
        self.notes: list[tuple[float, str]] = []
        self.samples: list[tuple[float, float, int, int]] = []
        self.io_samples: list[tuple[float | int | None, ...]] = []
        self.memory_samples: list[tuple[float, int, str]] = []
