"""The node files that the main database has read: their fingerprint then, and what was wrong with them."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

_KNOWN = "SELECT path, fingerprint, problem FROM node_files"
_REMEMBER = """
INSERT INTO node_files (path, fingerprint, collected_at, problem) VALUES (?, ?, ?, ?)
ON CONFLICT (path) DO UPDATE SET fingerprint = excluded.fingerprint, collected_at = excluded.collected_at,
problem = excluded.problem
WHERE node_files.fingerprint <> excluded.fingerprint OR node_files.problem IS NOT excluded.problem
"""


class Known(NamedTuple):
    """The fingerprint of a node file when it was last read, and what was wrong with it."""

    fingerprint: str
    problem: str | None


def known_node_files(connection: sqlite3.Connection) -> dict[str, Known]:
    """Every node file that was read, by its path relative to the output directory."""
    return {row["path"]: Known(row["fingerprint"], row["problem"]) for row in connection.execute(_KNOWN)}


def remember_node_file(
    connection: sqlite3.Connection, path: str, condition: str, problem: str | None, *, now: float
) -> None:
    """Record the fingerprint of a node file that was read at Unix time ``now``."""
    connection.execute(_REMEMBER, (path, condition, now, problem))
