"""Parses texts of the kernel and of the tools, and compares figures. Pure."""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

_MIB = 1024 * 1024


class Reported(NamedTuple):
    """A tool's report on a job; None: not reported. ``how`` says where its output has the figure."""

    cpu_seconds: float | None
    peak_memory_bytes: float | None
    how: str


def relative_error(measured: float | None, truth: float | None) -> float | None:
    """The error of a figure, relative to the truth: -0.98 is 98 % too little; None if one of them is missing."""
    if measured is None or not truth:
        return None
    return measured / truth - 1


def times(figure: float | None, base: float | None) -> float | None:
    """How many times the base a figure is; None if one of them is missing or the base is 0."""
    return None if figure is None or not base else figure / base


def median(figures: Sequence[float]) -> float | None:
    return statistics.median(figures) if figures else None


def lost_samples(times: Sequence[float], begin: float, end: float, interval: float) -> int:
    """How many samples are missing between ``begin`` and ``end``, with one due every ``interval``."""
    stops = [begin, *times]
    gaps = [now - before for before, now in pairwise(stops)]
    at_the_end = int((end - stops[-1]) / interval)
    return at_the_end + sum(max(0, round(gap / interval) - 1) for gap in gaps)


def waited_ticks(stat: str) -> int:
    """Clock ticks used by the children that a process has waited for: cutime + cstime of /proc/PID/stat (proc(5))."""
    fields = stat.rpartition(")")[2].split()
    return int(fields[13]) + int(fields[14])


def sizes_in(text: str) -> dict[str, int]:
    """The sizes of /proc/PID/status, smaps_rollup or a block of smaps (``Name:  12 kB``), in bytes."""
    rows = (line.split() for line in text.splitlines())
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows if len(row) == 3 and row[2] == "kB"}


def file_pages_by_mapping(smaps: str) -> dict[tuple[str, str], int]:
    """Resident bytes of files in /proc/PID/smaps, by (path, offset): other processes may share them."""
    found: dict[tuple[str, str], int] = {}
    for key, block in _mappings(smaps):
        sizes = sizes_in(block)
        pages = sizes.get("Rss", 0) - sizes.get("Anonymous", 0)
        if pages > 0:
            found[key] = found.get(key, 0) + pages
    return found


def _mappings(smaps: str) -> Iterable[tuple[tuple[str, str], str]]:
    """Each mapping's (path, offset) and the lines below its heading."""
    key, lines = ("", ""), list[str]()
    for line in smaps.splitlines():
        words = line.split(None, 5)
        if "-" in words[0] and not words[0].endswith(":"):
            yield key, "\n".join(lines)
            key, lines = (words[5] if len(words) > 5 else "", words[2]), []
        else:
            lines.append(line)
    yield key, "\n".join(lines)


def alone_bytes(anonymous_bytes: int, files: Sequence[Mapping[tuple[str, str], int]]) -> int:
    """Memory of a few processes as if no other process on the node shared the files they map.

    ``anonymous_bytes`` is their PSS of anonymous memory; a file's pages count once, for the process with the most.
    """
    keys = {key for mapped in files for key in mapped}
    return anonymous_bytes + sum(max(mapped.get(key, 0) for mapped in files) for key in keys)


# --- what the tools report ---------------------------------------------------------------------------------------


def torc_step_report(usage: Mapping[str, float | str | None]) -> Reported:
    """The row of ``step_usage`` in the node file: exact CPU, and the peak memory."""
    cpu, peak = usage["cpu_seconds"], usage["peak_memory_bytes"]
    how = f"CPU: {usage['cpu_source']}, memory: {usage['peak_memory_source']}"
    return Reported(_number(cpu), _number(peak), how)


def _number(value: float | str | None) -> float | None:
    return None if value is None else float(value)


def con_duct_report(info: str) -> Reported:
    """con-duct's ``info.json``: it has no CPU time, so mean CPU % x wall clock replaces it; the peak is of RSS sums."""
    summary = json.loads(info)["execution_summary"]
    percent, seconds = summary["average_pcpu"], summary["wall_clock_time"]
    cpu = None if percent is None else percent / 100 * seconds
    return Reported(cpu, _number(summary["peak_rss"]), "CPU: average_pcpu x wall_clock_time, memory: peak_rss")


def psrecord_report(log: str) -> Reported:
    """psrecord's CSV: CPU % x time since the line before, added up; the largest sum of RSS (its MB are 1024 x 1024)."""
    rows = [(float(r["elapsed_time"]), float(r["cpu"]), float(r["mem_real"]) * _MIB) for r in _csv_rows(log)]
    return _sampled(rows, "CPU: cpu x time, memory: largest mem_real")


def recipe_report(log: str) -> Reported:
    """The same from psutil_recipe.py's CSV."""
    rows = [(float(r["elapsed_seconds"]), float(r["cpu_percent"]), float(r["rss_bytes"])) for r in _csv_rows(log)]
    return _sampled(rows, "CPU: cpu_percent x time, memory: largest rss_bytes")


def _csv_rows(text: str) -> list[dict[str, str]]:
    return [row for row in csv.DictReader(io.StringIO(text)) if None not in row.values()]


def _sampled(rows: Sequence[tuple[float, float, float]], how: str) -> Reported:
    """From samples of (time in s, CPU % since the one before, bytes)."""
    if not rows:
        return Reported(None, None, "no sample was taken")
    gaps = [now[0] - before[0] for before, now in pairwise(rows)]
    cpu = sum(gap * row[1] / 100 for gap, row in zip(gaps, rows[1:], strict=True))
    return Reported(cpu, max(row[2] for row in rows), how)
