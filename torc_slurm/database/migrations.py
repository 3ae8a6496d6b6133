"""Brings a SQLite file's schema up to date: ordered, append-only migrations, each with its bookkeeping row.

A schema is a sequence of ``(name, statements)``. The version of a file is the number of applied migrations, which
``schema_migrations`` records with time and name. Standard library only: the monitor uses it too.
"""

from __future__ import annotations

import time

from torc_slurm.common.errors import DatabaseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3

Schema = tuple[tuple[str, tuple[str, ...]], ...]

_CREATE_BOOKKEEPING = """
CREATE TABLE IF NOT EXISTS schema_migrations (version INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at REAL NOT NULL)
"""
_RECORD = "INSERT INTO schema_migrations (version, name, applied_at) VALUES (?, ?, ?)"
_COLUMNS = """
SELECT m.name, c.name FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table'
"""
_TEXTS = "SELECT sql FROM sqlite_master WHERE type = 'table' ORDER BY name"
_EXPECTED: dict[Schema, dict[str, set[str]]] = {}
_COMPLETE: set[tuple[object, ...]] = set()  # the texts of schemas that lack nothing


def schema_version(connection: sqlite3.Connection) -> int:
    """The number of migrations that the file has; 0 for a new one. ``PRAGMA user_version`` repeats it."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def migrate(connection: sqlite3.Connection, schema: Schema) -> None:
    """Apply the missing migrations in one transaction.

    The connection must be in autocommit mode (``isolation_level=None``).

    Raises:
        DatabaseError: the file was written by a newer version of torc-slurm.
    """
    if schema_version(connection) == len(schema):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        migrate_within(connection, schema)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk has already rolled it back
            connection.execute("ROLLBACK")
        raise


def migrate_within(connection: sqlite3.Connection, schema: Schema) -> None:
    """Like `migrate`, but in the caller's transaction: one commit creates and first writes a new file.

    Raises:
        DatabaseError: the file was written by a newer version of torc-slurm.
    """
    version = schema_version(connection)
    if version > len(schema):
        raise DatabaseError(
            f"its schema has version {version}, this torc-slurm knows {len(schema)}; use the newer torc-slurm"
        )
    for number, (name, statements) in enumerate(schema[version:], start=version + 1):
        _apply(connection, number, name, statements)


def _apply(connection: sqlite3.Connection, number: int, name: str, statements: tuple[str, ...]) -> None:
    connection.execute(_CREATE_BOOKKEEPING)
    for statement in statements:
        connection.execute(statement)
    connection.execute(_RECORD, (number, name, time.time()))
    connection.execute(f"PRAGMA user_version = {number}")


def missing_column(connection: sqlite3.Connection, schema: Schema) -> str | None:
    """The first table or column that a file of its version lacks, in words; None if it has all."""
    texts = (len(schema), *(row[0] for row in connection.execute(_TEXTS)))
    if texts in _COMPLETE:
        return None
    found = _columns(connection)
    for table, names in _expected_columns(connection, schema).items():
        if table not in found:
            return f"it has no table {table}"
        lacking = sorted(names - found[table])
        if lacking:
            return f"table {table} has no column {lacking[0]}"
    _COMPLETE.add(texts)
    return None


def _columns(connection: sqlite3.Connection) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for table, column in connection.execute(_COLUMNS):
        found.setdefault(str(table), set()).add(str(column))
    return found


def _expected_columns(connection: sqlite3.Connection, schema: Schema) -> dict[str, set[str]]:
    """The columns by table, from the schema applied to a database in memory."""
    known = _EXPECTED.get(schema)
    if known is None:
        empty = type(connection)(":memory:", isolation_level=None)
        try:
            migrate(empty, schema)
            known = _EXPECTED[schema] = _columns(empty)
        finally:
            empty.close()
    return known
