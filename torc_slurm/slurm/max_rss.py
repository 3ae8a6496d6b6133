"""What ``MaxRSS`` means on this cluster: it depends on Slurm's version and plugins; pure.

Sources: Slurm's jobacct_gather plugins of 20.11 to 26.05 and docs/accounting.md.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from torc_slurm.slurm.configuration import SlurmFacts

_IS = "Slurm's MaxRSS here is"
_VERSION = re.compile(r"([0-9]{1,4})\.([0-9]{1,4})(?:\.([0-9]{1,4}))?", re.ASCII)
_PEAK_OF_KERNEL = (24, 11, 0)
_PAGE_CACHE_FROM = (23, 11, 0)
_NO_FILE_CACHE_FROM = (25, 11, 1)
_V2_FROM = (22, 5, 0)


class MaxRssMeaning(NamedTuple):
    """The meaning of this cluster's MaxRSS.

    ``text`` says it in one line. ``has_page_cache``: the figure can include page cache, and is then too large to reduce
    a request. ``is_polled``: a peak between two polls is missed. ``is_known``: False if version or plugins are unknown;
    the other fields then have their least favourable value. ``poll_interval_seconds``: None if not polled or unknown.
    """

    text: str
    has_page_cache: bool
    is_polled: bool
    poll_interval_seconds: float | None = None
    is_known: bool = True


def max_rss_meaning(facts: SlurmFacts) -> MaxRssMeaning:
    """The meaning of MaxRSS with these settings."""
    interval = facts.gather_interval_seconds
    version = _version(facts.slurm_version)
    gather = (facts.gather_type or "").rpartition("/")[2]
    if gather == "none":
        return MaxRssMeaning("this cluster measures no memory (JobAcctGatherType is none)", False, False)
    if gather == "linux":
        return _of_processes(facts, interval)
    if gather != "cgroup" or version is None:
        text = "the meaning of MaxRSS on this cluster is unknown (no answer from scontrol show config)"
        return MaxRssMeaning(text, True, True, interval, is_known=False)
    if version < _V2_FROM or _plugin(facts) == "v1":
        return _of_cgroup_v1(version, interval)
    if _plugin(facts) == "v2":
        return _of_cgroup_v2(version, facts.gather_params or "", interval)
    one, other = _of_cgroup_v1(version, interval), _of_cgroup_v2(version, facts.gather_params or "", interval)
    text = f"{one.text} (cgroup v1), or {other.text.removeprefix(_IS).strip()} (cgroup v2)"
    cache, polled = one.has_page_cache or other.has_page_cache, one.is_polled or other.is_polled
    return MaxRssMeaning(text if one != other else one.text, cache, polled, interval)


def _of_processes(facts: SlurmFacts, interval: float | None) -> MaxRssMeaning:
    parameters = (facts.gather_params or "").lower()
    what = "resident memory of the task's processes, added up (shared memory counts once for each)"
    if "usepss" in parameters:
        what = "proportional memory (PSS) of the task's processes, added up"
    elif "noshare" in parameters:
        what = "resident memory of the task's processes without shared pages, added up"
    return MaxRssMeaning(f"{_IS} {what}, polled{_every(interval)}", False, True, interval)


def _of_cgroup_v1(version: tuple[int, int, int], interval: float | None) -> MaxRssMeaning:
    if version >= _PEAK_OF_KERNEL:
        return MaxRssMeaning(f"{_IS} the kernel's own peak of the task's cgroup, page cache included", True, False)
    return MaxRssMeaning(f"{_IS} resident memory of the task's cgroup, polled{_every(interval)}", False, True, interval)


def _of_cgroup_v2(version: tuple[int, int, int], parameters: str, interval: float | None) -> MaxRssMeaning:
    if version >= _NO_FILE_CACHE_FROM and "no_file_cache" in parameters.lower():
        text = f"{_IS} memory of the task's cgroup less its file cache, polled{_every(interval)}"
        return MaxRssMeaning(text, False, True, interval)
    if version >= _PEAK_OF_KERNEL:
        return MaxRssMeaning(f"{_IS} the kernel's own peak of the task's cgroup, page cache included", True, False)
    if version >= _PAGE_CACHE_FROM:
        text = f"{_IS} all memory of the task's cgroup, page cache included, polled{_every(interval)}"
        return MaxRssMeaning(text, True, True, interval)
    return MaxRssMeaning(
        f"{_IS} anonymous memory of the task's cgroup, polled{_every(interval)}", False, True, interval
    )


def _plugin(facts: SlurmFacts) -> str | None:
    name = (facts.cgroup_plugin or "").rpartition("/")[2]
    return name if name in ("v1", "v2") else None


def _version(text: str | None) -> tuple[int, int, int] | None:
    match = _VERSION.match(text or "")
    return None if match is None else (int(match[1]), int(match[2]), int(match[3] or 0))


def _every(interval: float | None) -> str:
    return "" if not interval else f" every {interval:g} s"
