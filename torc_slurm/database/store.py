"""Writes what collect found into the main database, and reads all evidence of an attempt."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from operator import itemgetter
from typing import NamedTuple

from torc_slurm.database.attempts import AttemptKey, attempt_keys, create_attempt, create_attempts, find_attempt
from torc_slurm.database.job_states import store_job_states
from torc_slurm.database.merge import complete_alone
from torc_slurm.database.node_records import EXIT_COLUMNS, NodeRecords, StepRecord, StepRows, columns_of
from torc_slurm.database.rows import Row, Table, Value, by_column, insert_columns, mappings, number, whole
from torc_slurm.database.runs import store_journal_runs
from torc_slurm.database.slurm_stats import adopt_slurm_stats, upsert_slurm_stats
from torc_slurm.records.accounting import AccountingRecord
from torc_slurm.records.figures import MONITOR_COLUMNS, USAGE_COLUMNS

# The same on every node of an attempt: the first collected one counts.
_DESCRIPTION = (
    "job_name",
    "slurm_job_id",
    "slurm_array",
    "step_id",
    "user_name",
    "command",
    "working_dir",
    "user_notes",
    "granularity",
    "sample_interval_seconds",
)
_BESIDE_THE_KEY = tuple(name for name in _DESCRIPTION if name not in AttemptKey._fields)
_NODE_COLUMNS = (
    "node",
    "invocation",
    "node_index",
    "node_count",
    "local_task_count",
    "task_count",
    "begin_time",
    "end_time",
    "last_flush_time",
    *USAGE_COLUMNS,
    *MONITOR_COLUMNS,
)

_DESCRIBE = f"UPDATE results SET {', '.join(f'{name} = :{name}' for name in _DESCRIPTION)} WHERE id = :id"  # noqa: S608
_KNOWN = """
SELECT n.id, n.end_time, n.last_flush_time,
(SELECT count(*) FROM task_exits e WHERE e.step_node = n.id) AS exits,
(SELECT count(*) FROM step_notes t WHERE t.step_node = n.id) AS notes
FROM step_nodes n WHERE n.result = ? AND n.node = ?
"""
# The stored rows of one node file, in one query: most of a growing file is unchanged each time.
_KNOWN_OF_FILE = """
SELECT r.workflow_id, r.job_id, r.run_id, r.attempt_id, r.slurm_job_id, r.step_id, r.local_host,
n.node, n.end_time, n.last_flush_time,
(SELECT count(*) FROM task_exits e WHERE e.step_node = n.id) AS exits,
(SELECT count(*) FROM step_notes t WHERE t.step_node = n.id) AS notes
FROM step_nodes n JOIN results r ON r.id = n.result WHERE n.node_file = ?
"""
_KNOWN_OTHERWISE = """
SELECT r.id FROM results r WHERE r.id >= ? AND (
  EXISTS (SELECT 1 FROM slurm_stats s WHERE s.slurm_job_id = r.slurm_job_id AND s.run_id = r.run_id
  AND s.step_id = r.step_id)
  OR EXISTS (SELECT 1 FROM job_states s WHERE s.workflow_id = r.workflow_id AND s.run_id = r.run_id
  AND s.job_id = r.job_id AND s.attempt_id = r.attempt_id)
)
"""
_DELETE_NODE = "DELETE FROM step_nodes WHERE id = ?"  # its exits and notes go with it
_LAST_NODE = "SELECT coalesce(max(id), 0) FROM step_nodes"
_INSERT_NOTE = "INSERT OR IGNORE INTO step_notes (step_node, time, note) VALUES (?, ?, ?)"

_CHOSEN = """
SELECT r.id, r.workflow_id, r.job_id, r.run_id, r.attempt_id, r.slurm_job_id, r.step_id, r.return_code,
r.return_signal, r.oom_kills, r.end_time, r.status, r.status_evidence, r.end_time_source,
u.status = 'ended' AS run_ended
FROM json_each(:ids) c JOIN results r ON r.id = c.value
LEFT JOIN runs u ON u.workflow_id = r.workflow_id AND u.run_id = r.run_id ORDER BY r.id
"""
_NODE_COUNTS = """
SELECT c.value, 1 + (SELECT count(*) FROM step_nodes n WHERE n.result = c.value) FROM json_each(:ids) c
"""
_ROWS_AT_ONCE = 1000
OWN_END = "exit records"  # results.end_time_source
_NODES = """
SELECT n.* FROM json_each(:ids) c JOIN step_nodes n ON n.result = c.value ORDER BY n.result, n.node_index, n.node
"""
_EXITS = """
SELECT n.result, e.* FROM json_each(:ids) c JOIN step_nodes n ON n.result = c.value
JOIN task_exits e ON e.step_node = n.id ORDER BY n.result, e.task, e.step_node
"""
_JOURNAL = """
SELECT r.id AS result, s.* FROM json_each(:ids) c JOIN results r ON r.id = c.value
JOIN job_states s ON s.workflow_id = r.workflow_id AND s.run_id = r.run_id AND s.job_id = r.job_id
AND s.attempt_id = r.attempt_id
"""
_ACCOUNTING = """
SELECT r.id AS result, s.attempt_id, s.status, s.state, s.job_state, s.job_end_time, s.end_time, s.exit_code,
s.exit_signal, s.cancelled_by_uid, s.elapsed_seconds, s.suspended_seconds, s.allocated_tres
FROM json_each(:ids) c JOIN results r ON r.id = c.value
JOIN slurm_stats s ON s.slurm_job_id = r.slurm_job_id AND s.run_id = r.run_id AND s.step_id = r.step_id
"""
_ATTEMPTS_OF_STEPS = """
SELECT r.id FROM json_each(?) c CROSS JOIN results r ON r.slurm_job_id = ? AND r.run_id = ? AND r.step_id = c.value
"""


class Stored(NamedTuple):
    """What a node file or a query added: the ``results.id`` of changed attempts, and new accounting rows.

    ``merged``: those of the attempts whose row has its figures and its status already. ``measured``: those of which
    nodes have written more, so that their figures are to be merged.
    """

    attempts: frozenset[int]
    accounting_rows: int
    merged: frozenset[int] = frozenset()
    measured: frozenset[int] = frozenset()


FiguresAlone = Callable[[StepRows], Table]


def store_node_records(
    connection: sqlite3.Connection, records: NodeRecords, node_file: str, figures_alone: FiguresAlone
) -> Stored:
    """Store a node file's new and changed records; must run inside a transaction.

    Args:
        node_file: the file's name relative to the output directory.
        figures_alone: the columns of ``results`` for steps of `complete_alone`, if nothing else can say more.
    """
    known = _known_of_file(connection, node_file)
    alone: set[int] = set()
    rest: set[int] = set()
    for steps in _in_parts(records.steps):
        new = _store_alone(connection, steps, known, node_file, figures_alone)
        alone.update(new.values())
        rest |= _store_steps(connection, steps, known, new, node_file)
    merged = alone - rest - _known_otherwise(connection, alone)
    changed = alone | rest
    store_journal_runs(connection, records.runs)
    new_rows = upsert_slurm_stats(connection, records.slurm_stats)
    others = store_job_states(connection, records.job_states) | _attempts_of(connection, new_rows)
    return Stored(frozenset(changed | others), len(new_rows), frozenset(merged - others), frozenset(rest))


def store_accounting(connection: sqlite3.Connection, records: Iterable[AccountingRecord]) -> Stored:
    """Store assessed records that are better than the stored ones; must run inside a transaction."""
    new_rows = upsert_slurm_stats(connection, records)
    changed = _attempts_of(connection, new_rows)
    return Stored(frozenset(changed), len(new_rows))


class Evidence(NamedTuple):
    """All stored records of one attempt: from its nodes, its runner and Slurm.

    ``figures``: of its row, if those of its nodes and exits are merged there; then these are not read.
    """

    nodes: list[Row]
    exits: list[Row]
    journal: Row | None
    accounting: Row | None
    run_ended: bool
    figures: Row | None = None


def evidence_of(
    connection: sqlite3.Connection, attempts: Sequence[int], measured: Set[int] | None = None
) -> Iterator[tuple[int, Evidence]]:
    """The records of each of these attempts (``results.id``), in ascending order; must run inside a transaction.

    If an attempt has no accounting row yet, it gets its step's. One query per kind of evidence, for all attempts.

    Args:
        measured: the attempts of which nodes have written more since their figures were merged; None: any.
    """
    chosen = {"ids": json.dumps(sorted(attempts))}
    ids: dict[Value, Row] = {row["id"]: row for row in mappings(connection, _CHOSEN, chosen)}
    journal: dict[Value, Row] = {row["result"]: row for row in mappings(connection, _JOURNAL, chosen)}
    accounting: dict[Value, Row] = {row["result"]: row for row in mappings(connection, _ACCOUNTING, chosen)}
    kept = {
        attempt_id
        for attempt_id, attempt in ids.items()
        if measured is not None and attempt_id not in measured and _are_merged(attempt, accounting.get(attempt_id))
    }
    to_merge = {"ids": json.dumps([attempt_id for attempt_id in ids if attempt_id not in kept])}
    nodes = _by_result(mappings(connection, _NODES, to_merge))
    exits = _by_result(mappings(connection, _EXITS, to_merge))
    to_adopt = [
        attempt
        for attempt_id, attempt in ids.items()
        if (slurm := accounting.get(attempt_id)) is not None
        and (slurm["attempt_id"] is None or number(slurm, "attempt_id") > number(attempt, "attempt_id"))
    ]
    adopt_slurm_stats(connection, to_adopt)
    for attempt_id, attempt in ids.items():
        yield (
            whole(attempt, "id"),
            Evidence(
                nodes=nodes.get(attempt_id, []),
                exits=exits.get(attempt_id, []),
                journal=journal.get(attempt_id),
                accounting=accounting.get(attempt_id),
                run_ended=bool(attempt["run_ended"]),
                figures=attempt if attempt_id in kept else None,
            ),
        )


def _are_merged(attempt: Row, accounting: Row | None) -> bool:
    """Whether the figures in the row of an attempt that nodes added nothing to are those of its nodes.

    Others than these may have given it its end, and a suspension that Slurm knows of changes figures: that of an
    accounting row which is older than the last time (it has an attempt), or of a new one.
    """
    if attempt["end_time_source"] != OWN_END:
        return False
    return accounting is None or (accounting["attempt_id"] is None and not accounting["suspended_seconds"])


def in_portions(connection: sqlite3.Connection, attempts: Iterable[int]) -> Iterator[list[int]]:
    """The attempts in ascending order, in portions whose evidence fits into little memory."""
    counts = dict(connection.execute(_NODE_COUNTS, {"ids": json.dumps(list(attempts))}).fetchall())
    portion: list[int] = []
    rows = 0
    for attempt, count in sorted(counts.items()):
        if portion and rows + count > _ROWS_AT_ONCE:
            yield portion
            portion, rows = [], 0
        portion.append(attempt)
        rows += count
    if portion:
        yield portion


def _by_result(rows: Iterable[Row]) -> dict[Value, list[Row]]:
    found: dict[Value, list[Row]] = {}
    for row in rows:
        found.setdefault(row["result"], []).append(row)
    return found


def update_results(connection: sqlite3.Connection, figures: Iterable[tuple[int, Mapping[str, Value]]]) -> None:
    """Set columns of rows of ``results``, each given by its ``id`` and a mapping of column to value."""
    alike: dict[tuple[tuple[str, ...], tuple[type, ...]], list[tuple[Value, ...]]] = {}
    for attempt_id, values in figures:
        cells = tuple(values.values())
        alike.setdefault((tuple(values), tuple(map(type, cells))), []).append((*cells, attempt_id))
    for (columns, types), rows in alike.items():
        known = [place for place, kind in enumerate(types) if kind is not type(None)]  # slow to bind: see `insert_rows`
        texts = {place: f"{columns[place]} = ?" for place in known}
        assignments = ", ".join(texts.get(place, f"{name} = NULL") for place, name in enumerate(columns))
        statement = f"UPDATE results SET {assignments} WHERE id = ?"  # noqa: S608 - names of columns
        values_of = itemgetter(*known, -1) if known else itemgetter(slice(-1, None))  # a tuple in either case
        connection.executemany(statement, map(values_of, rows))


def _attempts_of(connection: sqlite3.Connection, records: Iterable[AccountingRecord]) -> set[int]:
    steps: dict[tuple[int, int], list[str | None]] = {}
    for record in records:
        steps.setdefault((record.slurm_job_id, record.run_id), []).append(record.step_id)
    found: set[int] = set()
    for allocation, step_ids in steps.items():
        rows = connection.execute(_ATTEMPTS_OF_STEPS, (json.dumps(step_ids), *allocation))
        found.update(row[0] for row in rows)
    return found


def _in_parts(steps: Collection[StepRecord]) -> Iterator[StepRows]:
    """The steps of a node file, some at a time: their columns need memory too."""
    if not steps:
        return
    assert isinstance(steps, StepRows)  # as `read_node_file` returns them
    for first in range(0, len(steps), _ROWS_AT_ONCE):
        yield steps.at(range(first, min(first + _ROWS_AT_ONCE, len(steps))))


def _known_of_file(connection: sqlite3.Connection, node_file: str) -> dict[tuple[Value, ...], Row]:
    """The stored rows by attempt and node."""
    rows = connection.execute(_KNOWN_OF_FILE, (node_file,))
    return {tuple(row[: len(AttemptKey._fields) + 1]): row for row in rows}


def _store_alone(
    connection: sqlite3.Connection,
    steps: StepRows,
    known: Mapping[tuple[Value, ...], Row],
    node_file: str,
    figures_alone: FiguresAlone,
) -> dict[int, int]:
    """Store the attempts of `complete_alone` that have no row, with their figures. Returns their ids by place."""
    places = complete_alone(steps)
    if known and places:
        keys = _attempts_on_nodes(steps)
        places = [place for place in places if keys[place] not in known]
    if not places:
        return {}
    chosen = steps.at(places)
    described = {name: chosen.columns[name] for name in _BESIDE_THE_KEY}
    columns = {**attempt_keys(chosen.columns), **described, **figures_alone(chosen)}
    attempts = create_attempts(connection, len(places), columns)
    new = {place: attempt for place, attempt in zip(places, attempts, strict=True) if attempt is not None}
    _insert_nodes(connection, steps, new, node_file)
    return new


def _attempts_on_nodes(steps: StepRows) -> list[tuple[Value, ...]]:
    """The keys of `_known_of_file`."""
    return list(zip(*attempt_keys(steps.columns).values(), steps.columns["node"], strict=True))


def _store_steps(
    connection: sqlite3.Connection,
    steps: StepRows,
    known: Mapping[tuple[Value, ...], Row],
    new: Mapping[int, int],
    node_file: str,
) -> set[int]:
    """Store the steps of one node without ``new``. Returns their attempts, without those of which as much is stored."""
    if len(new) == len(steps):
        return set()
    changed: set[int] = set()
    due: dict[int, int] = {}
    for place, (*key, node) in enumerate(_attempts_on_nodes(steps)):
        if place in new:
            continue
        record = steps.record(place)
        in_place = known.get((*key, node))
        if in_place is not None and not _is_newer(record, in_place):
            continue
        attempt = find_attempt(connection, AttemptKey(*key))
        if attempt is None:
            attempt = create_attempt(connection, AttemptKey(*key), _description(record))
        else:
            if attempt in changed:
                _insert_nodes(connection, steps, due, node_file)
                due = {}
            stored = connection.execute(_KNOWN, (attempt, node)).fetchone()
            if stored is not None:
                if not _is_newer(record, stored):
                    continue
                connection.execute(_DELETE_NODE, (stored["id"],))
            connection.execute(_DESCRIBE, _description(record) | {"id": attempt})
        due[place] = attempt
        changed.add(attempt)
    _insert_nodes(connection, steps, due, node_file)
    return changed


def _known_otherwise(connection: sqlite3.Connection, attempts: set[int]) -> set[int]:
    """Those of these latest rows of ``results`` of which Slurm's accounting or the runner's journal has a row."""
    if not attempts:
        return set()
    return {row[0] for row in connection.execute(_KNOWN_OTHERWISE, (min(attempts),))}


def _description(record: StepRecord) -> dict[str, Value]:
    return dict(zip(_DESCRIPTION, columns_of(record.step, _DESCRIPTION), strict=True))


def _is_newer(record: StepRecord, known: Row) -> bool:
    """Whether the record is newer than the stored row: written later or, at the same time, with more content."""

    def age(row: Row, exits: int, notes: int) -> tuple[float, bool, int, int]:
        return number(row, "last_flush_time"), row["end_time"] is not None, exits, notes

    new = age(record.step, len(record.exits), len(record.notes))
    return new > age(known, whole(known, "exits"), whole(known, "notes"))


def _insert_nodes(connection: sqlite3.Connection, steps: StepRows, attempts: Mapping[int, int], node_file: str) -> None:
    """Insert what one node wrote of these attempts, which are given by the places of their steps."""
    if not attempts:
        return
    written = steps.at(list(attempts))
    first = int(connection.execute(_LAST_NODE).fetchone()[0]) + 1
    nodes = range(first, first + len(attempts))
    columns: dict[str, Sequence[Value]] = {
        "id": nodes,
        "result": list(attempts.values()),
        "node_file": [node_file] * len(attempts),
        "last_half": [last_half for *_, last_half in written.rows],
    }
    insert_columns(connection, "step_nodes", columns | {name: written.columns[name] for name in _NODE_COLUMNS})
    exits = [each for _, exits, _, _ in written.rows for each in exits]
    if exits:
        of_exits = by_column(written.exit_names, exits)
        owners = [node for node, (_, exits, _, _) in zip(nodes, written.rows, strict=True) for _ in exits]
        columns = {"step_node": owners, **{name: of_exits[name] for name in EXIT_COLUMNS}}
        insert_columns(connection, "task_exits", columns)
    for node, (_, _, notes, _) in zip(nodes, written.rows, strict=True):
        if notes:
            connection.executemany(_INSERT_NOTE, [(node, *note) for note in notes])
