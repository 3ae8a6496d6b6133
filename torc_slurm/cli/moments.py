"""Parses the times that people type on a command line: ``2d``, ``1w``, ``yesterday``, ``2026-11-01``,
``2026-11-01T10:30``; pure.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from torc_slurm.common.errors import InputError
from torc_slurm.common.text import printable

_AGO = re.compile(r"([0-9]{1,6}) ?(m|min|h|d|w)", re.ASCII)
_SECONDS = {"m": 60, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_REMEDY = "write 2d, 1w, 12h, today, yesterday, 2026-11-01 or 2026-11-01T10:30"


def parse_moment(text: str, now: datetime, *, option: str) -> float:
    """Unix time of a moment in the user's time zone.

    Args:
        now: the present in the user's time zone; ``2d`` counts from here, ``today`` begins at its midnight.
        option: the option that gave the text, for the message.

    Raises:
        InputError: the text is not a time.
    """
    word = text.strip().lower()
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if word in ("now", "today", "yesterday"):
        return {"now": now, "today": midnight, "yesterday": midnight - timedelta(days=1)}[word].timestamp()
    if match := _AGO.fullmatch(word):
        return now.timestamp() - int(match[1]) * _SECONDS[match[2]]
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise InputError(f"{option} {printable(text, 60)!r} is not a time; {_REMEDY}") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=now.tzinfo)).timestamp()
