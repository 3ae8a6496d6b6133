"""What MaxRSS means, by version and plugins."""

from __future__ import annotations

import pytest

from torc_slurm.slurm.configuration import SlurmFacts, parse_config
from torc_slurm.slurm.max_rss import max_rss_meaning


def facts(version: str | None, gather: str, plugin: str | None = None, params: str | None = None) -> SlurmFacts:
    return SlurmFacts(version, f"jobacct_gather/{gather}", params, "task=30", plugin)


@pytest.mark.parametrize(
    ("known", "says", "has_page_cache", "is_polled"),
    [
        (facts("22.05.8", "linux"), "resident memory of the task's processes", False, True),
        (facts("22.05.8", "linux", params="UsePss"), "PSS", False, True),
        (facts("20.11.9", "cgroup"), "resident memory of the task's cgroup", False, True),
        (facts("23.02.1", "cgroup", "cgroup/v1"), "resident memory of the task's cgroup", False, True),
        (facts("24.11.5", "cgroup", "cgroup/v1"), "the kernel's own peak", True, False),
        (facts("22.05.8", "cgroup", "cgroup/v2"), "anonymous memory", False, True),
        (facts("23.11.10", "cgroup", "cgroup/v2"), "page cache included", True, True),
        (facts("24.11.0", "cgroup", "cgroup/v2"), "the kernel's own peak", True, False),
        (facts("25.11.1", "cgroup", "cgroup/v2", "no_file_cache"), "less its file cache", False, True),
        (facts("25.11.0", "cgroup", "cgroup/v2", "no_file_cache"), "the kernel's own peak", True, False),
    ],
)
def test_what_it_is(known: SlurmFacts, says: str, has_page_cache: bool, is_polled: bool) -> None:
    found = max_rss_meaning(known)
    assert says in found.text
    assert (found.is_known, found.has_page_cache, found.is_polled) == (True, has_page_cache, is_polled)
    assert found.poll_interval_seconds == (30 if is_polled else None)
    assert "\n" not in found.text


def test_where_the_cgroup_version_is_not_known_the_worse_of_both_counts() -> None:
    found = max_rss_meaning(facts("23.11.1", "cgroup", "autodetect"))
    assert (found.has_page_cache, found.is_polled) == (True, True)
    assert "v1" in found.text
    assert "v2" in found.text
    assert (
        max_rss_meaning(facts("24.11.1", "cgroup")).text
        == "Slurm's MaxRSS here is the kernel's own peak of the task's cgroup, page cache included"
    )


@pytest.mark.parametrize("known", [SlurmFacts(), facts(None, "cgroup"), SlurmFacts("24.11.1")])
def test_what_is_not_known_never_sizes_down(known: SlurmFacts) -> None:
    found = max_rss_meaning(known)
    assert not found.is_known


def test_the_plugin_is_read_from_the_configuration() -> None:
    assert (
        parse_config("Cgroup Support Configuration:\nCgroupPlugin            = cgroup/v1\n").cgroup_plugin
        == "cgroup/v1"
    )
