"""SQLite for the monitor: ``_sqlite3``, on which Python's ``sqlite3`` stands, without all that the two bring along.

``sqlite3`` imports datetime and collections; ``_sqlite3`` imports functools, which imports collections, for the
``lru_cache`` that it keeps prepared statements in. Together that is 1 MB and 7 ms of every step's monitor, which runs
each statement once.
"""

from __future__ import annotations

import sys


def _without_functools() -> object:
    """``_sqlite3``; where functools is not loaded yet, with a stand-in for it that caches nothing."""
    if "functools" not in sys.modules:
        stand_in = type(sys)("functools")
        stand_in.lru_cache = lambda _size: lambda make_statement: make_statement  # type: ignore[attr-defined]
        sys.modules["functools"] = stand_in
        try:
            import _sqlite3
        except Exception:
            pass
        finally:
            del sys.modules["functools"]
    import _sqlite3

    return _sqlite3


sqlite3 = _without_functools()
