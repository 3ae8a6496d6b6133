"""Why the wrapper's, the cgroup's and Slurm's figures of the same thing differ for one step; pure.

A cause is named only if the step's own figures show evidence for it; else the report says that no cause is known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

Row = Mapping[str, int | float | str | None]

PAGE_CACHE = "page cache"
SHARING = "shared memory"
SPIKE = "spike between samples"
LARGEST_TASK = "the largest task only"
RECORD_LOST = "record lost"
KILLED = "killed"
MONITOR = "the monitor's own"
NOT_RESIDENT = "memory of no process"
MAPPED_FILES = "mapped files"
UPPER_BOUND = "an upper bound"
FIRST_PROCESS = "the first process only"
NOT_WAITED = "children not waited for"
WHOLE_SECONDS = "whole seconds"
NOT_KNOWN = "not known"

# Slurm charges wrapper and monitor to the step: 5 to 14 MB of memory, and the start of Python.
_MONITOR_BYTES = 25_000_000
_MONITOR_CPU_SECONDS = 0.5  # of each task, besides what it recorded: 0.06 s after its last record; slow machines
_MONITOR_IO_BYTES = 2_000_000
_MONITOR_IO_PER_SECOND = 100_000
_MONITOR_CPU_SHARE = 0.01  # above this share the monitor samples less often
_ALIKE_SHARE = 0.9
_CACHE_SHARE = 0.5  # the share of an excess that the step's own I/O must explain
_PAGE_CACHE_SINCE = (23, 11)  # cgroup v2; v1 from 24.11
_DISK_NOT_KNOWN_SINCE = (23, 2)
_DISK_OF_TREE_SINCE = (24, 11)
_VERSION = re.compile(r"(\d+)\.(\d+)", re.ASCII)


class Cause(NamedTuple):
    """The name of the difference, and the evidence in words."""

    name: str
    explanation: str


def max_rss_cause(item: Row, slurm: float, own: float) -> Cause:
    """Why Slurm's MaxRSS differs from the wrapper's peak."""
    if slurm > own:
        return _lost(item) or _slurm_has_more(item, slurm, own)
    if item["state"] == "OUT_OF_MEMORY":
        return Cause(KILLED, "MaxRSS is what Slurm saw before the kernel killed the step")
    if _at_least(item, "task_count") > _at_least(item, "measured_node_count"):
        return Cause(LARGEST_TASK, "MaxRSS is of the largest task, the peak of all tasks on the largest node")
    charged = _not_charged(item, own) if str(item["gather_type"]).endswith("cgroup") else None
    return charged or _not_resident(item, own) or Cause(SPIKE, f"{_polls(item)} and misses what comes between")


def _polls(item: Row) -> str:
    frequency = f" (JobAcctGatherFrequency={item['gather_frequency']})" if item["gather_frequency"] else ""
    return f"Slurm polls{frequency}"


def _slurm_has_more(item: Row, slurm: float, own: float) -> Cause:
    gather = str(item["gather_type"] or "Slurm's gathering")
    if gather.endswith("linux"):
        sampled = item["sampled_rss_peak_bytes"]
        if sampled is None or float(sampled) > (slurm + own) / 2:
            return Cause(SHARING, f"{gather} adds up what several processes share")
    elif slurm - own <= _MONITOR_BYTES:
        return Cause(MONITOR, "torc-step's own memory is charged to the step")
    elif _counts_page_cache(item):
        return _cache_or_spike(
            item,
            slurm - own,
            f"MaxRSS of Slurm {item['slurm_version'] or '(version not known)'} can include page cache",
        )
    return Cause(SPIKE, "Slurm polled between two samples of the wrapper")


def _counts_page_cache(item: Row) -> bool:
    """Whether this Slurm's MaxRSS can include page cache: see docs/accounting.md."""
    version = _version(item)
    is_new = version is None or version >= _PAGE_CACHE_SINCE
    return is_new and "no_file_cache" not in str(item["gather_params"] or "")


def _version(item: Row) -> tuple[int, int] | None:
    match = _VERSION.match(str(item["slurm_version"] or ""))
    return None if match is None else (int(match[1]), int(match[2]))


def _cache_or_spike(item: Row, excess: float, words: str) -> Cause:
    """The page cache cannot be larger than what the step read and wrote."""
    io = [item[f"all_nodes_{name}"] for name in ("read_chars", "written_chars", "storage_read_bytes")]
    if None in io:
        return Cause(PAGE_CACHE, words)
    if sum(float(value) for value in io if value is not None) >= _CACHE_SHARE * excess:
        return Cause(PAGE_CACHE, words)
    return Cause(
        SPIKE,
        "several processes had a peak together; it is not page cache, because the step read and wrote too little",
    )


def rss_sum_cause(item: Row, rss_sum: float, own: float) -> Cause:
    """Why the largest sampled sum of resident memory differs from the peak."""
    if rss_sum > own:
        return Cause(SHARING, "the sum of RSS counts what processes share once for each")
    return _at_most(item) or _not_resident(item, own) or _SEEN_BY_THE_KERNEL


def cgroup_cause(item: Row, cgroup: float, own: float) -> Cause:
    """Why the cgroup's sampled charge differs from the peak."""
    if cgroup < own:
        return _at_most(item) or _not_charged(item, own) or _SEEN_BY_THE_KERNEL
    return Cause(NOT_KNOWN, "no cause is known")


def cgroup_peak_cause(item: Row, ceiling: float, own: float) -> Cause:
    """Why the cgroup's own high-water mark differs from the peak."""
    if ceiling < own:
        return _at_most(item) or _not_charged(item, own) or Cause(NOT_KNOWN, "no cause is known")
    if ceiling - own <= _MONITOR_BYTES:
        return Cause(MONITOR, "torc-step's own memory is charged to the cgroup")
    return _cache_or_spike(item, ceiling - own, "the cgroup's high-water mark includes page cache")


_SEEN_BY_THE_KERNEL = Cause(SPIKE, "the kernel's high-water mark of one process includes it, but no sample does")


def _at_most(item: Row) -> Cause | None:
    if item["peak_memory_source"] != "wait4_at_most":
        return None
    return Cause(UPPER_BOUND, "the step was so short and small that only an upper bound of its peak is known")


def _not_charged(item: Row, own: float) -> Cause | None:
    """The processes' samples had it, but the cgroup did not charge it as the step's own memory."""
    charged, sampled = _number(item, "memory_best_bytes"), _number(item, "sampled_rss_peak_bytes")
    if charged is None or sampled is None or not _is_cgroup(item["memory_best_source"]):
        return None
    if charged >= _ALIKE_SHARE * own or sampled < _ALIKE_SHARE * own:
        return None
    return Cause(
        MAPPED_FILES,
        "RSS counts pages of mapped files, such as programs and libraries, which the cgroup counts as page cache",
    )


def _not_resident(item: Row, own: float) -> Cause | None:
    """The cgroup charged it, but no process had it resident."""
    known = [_number(item, name) for name in ("sampled_rss_peak_bytes", "memory_floor_bytes")]
    resident = max((each for each in known if each is not None), default=None)
    if resident is None or not _is_cgroup(item["peak_memory_source"]) or resident >= _ALIKE_SHARE * own:
        return None
    return Cause(NOT_RESIDENT, "charged to the step and resident in no process: files in /dev/shm, swapped pages")


def _is_cgroup(source: object) -> bool:
    return str(source or "").startswith("cgroup")


def reads_first_process(item: Row) -> bool:
    """Whether Slurm's disk figures cover only each task's first process and what that has reaped: under torc-step its
    own few bytes, and the one byte that slurmstepd writes into a pipe before.

    Seen with jobacct_gather/cgroup on 22.05, but not on 24.11; for versions between, the figures themselves decide.
    """
    version = _version(item)
    if not str(item["gather_type"]).endswith("cgroup") or version is None or version >= _DISK_OF_TREE_SINCE:
        return False
    written, seen = _number(item, "all_nodes_written_chars"), _number(item, "total_disk_write_bytes")
    if version < _DISK_NOT_KNOWN_SINCE:
        return True
    return written is not None and seen is not None and seen < _CACHE_SHARE * written


def disk_cause(item: Row, slurm: float, own: float) -> Cause:
    """Why Slurm's disk figures, summed over the tasks, differ from the characters that the wrapper counted."""
    if slurm > own:
        return _lost(item) or _more_io(item, slurm - own)
    if reads_first_process(item):
        return Cause(FIRST_PROCESS, f"{item['gather_type']} reads only each task's first process, here torc-step")
    return Cause(SPIKE, f"{_polls(item)}, and misses what a process did after the last poll")


def _more_io(item: Row, excess_bytes: float) -> Cause:
    starts, nodes = max(1.0, _at_least(item, "task_count")), max(1.0, _at_least(item, "node_count"))
    looks = _MONITOR_IO_PER_SECOND * _at_least(item, "exec_time_seconds") * nodes
    if excess_bytes <= _MONITOR_IO_BYTES * starts + looks:
        return Cause(MONITOR, "Slurm also counts what torc-step itself reads, mostly while it starts")
    return Cause(NOT_KNOWN, "no cause is known")


def cpu_cause(item: Row, slurm: float, own: float) -> Cause:
    """Why Slurm's TotalCPU differs from the CPU time that the wrapper counted."""
    if item["backend"] == "pyslurm" and abs(slurm - own) <= 2:
        return Cause(WHOLE_SECONDS, "pyslurm has whole seconds, user and system each truncated")
    if slurm > own:
        return _lost(item) or _more_cpu(item, slurm - own)
    if item["exit_signal"] or item["return_signal"] or item["state"] == "OUT_OF_MEMORY":
        return Cause(KILLED, "if a signal ended the step, Slurm can miss its children's CPU time")
    return Cause(
        NOT_WAITED, f"Slurm counts only processes that were waited for; the wrapper's source is {item['cpu_source']}"
    )


def _more_cpu(item: Row, excess_seconds: float) -> Cause:
    starts = max(1.0, _at_least(item, "task_count"))
    looks = _MONITOR_CPU_SHARE * _at_least(item, "exec_time_seconds") * max(1.0, _at_least(item, "node_count"))
    recorded = _at_least(item, "monitor_cpu_seconds")  # 0.2 to 0.9 s on a slow or loaded machine: the start of Python
    if excess_seconds <= recorded + _MONITOR_CPU_SECONDS * starts + looks:
        return Cause(MONITOR, "Slurm also counts torc-step's own CPU time, mostly its start")
    return Cause(NOT_KNOWN, "no cause is known")


def absent_cause(item: Row) -> Cause:
    """Why Slurm lacks a figure that the wrapper has."""
    if item["slurm_job_id"] is None:
        return Cause("outside Slurm", "recorded outside Slurm")
    status = "not asked" if item["status"] is None else str(item["status"])
    name = {"missing": RECORD_LOST, "partial": "not polled"}.get(status, status)
    return Cause(name, str(item["reason"] or "Slurm gave no figure"))


def unmeasured_cause(item: Row) -> Cause:
    """Why the wrapper lacks a figure that Slurm has."""
    if item["attempt_id"] is None:
        return Cause("without torc-step", "the step ran without torc-step")
    return _lost(item) or Cause(RECORD_LOST, "the wrapper's figures were not measured, or never written")


def _lost(item: Row) -> Cause | None:
    """What is missing in the wrapper's record; None: nothing."""
    reported, nodes = _number(item, "measured_node_count"), _number(item, "node_count")
    if reported is not None and nodes is not None and reported < nodes:
        return Cause(RECORD_LOST, f"{item['measured_node_count']} of {item['node_count']} nodes have reported")
    if item["end_time_source"] in ("last flush", "accounting"):
        return Cause(RECORD_LOST, "the wrapper was killed: its figures are those of its last record")
    return None


def _number(item: Row, name: str) -> float | None:
    value = item[name]
    return None if value is None else float(value)


def _at_least(item: Row, name: str) -> float:
    """The figure, or 0 if unknown; for a bound that it can only widen."""
    value = _number(item, name)
    return 0.0 if value is None else value
