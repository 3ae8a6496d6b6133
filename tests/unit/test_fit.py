"""Jobs that can never fit are named with both sizes; unknown sizes refuse nothing. Also parses sinfo's output."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torc_slurm.common.errors import ParseError
from torc_slurm.slurm.clusters import SlurmJob
from torc_slurm.slurm.submission import (
    Nodes,
    nodes_of,
    parse_active_jobs,
    parse_nodes,
    read_answer,
    time_limit_of,
)
from torc_slurm.spec.plan import JobPlan
from torc_slurm.spec.workflow import Scheduler
from torc_slurm.usecases.fit import misfits, too_few_nodes, too_late, too_long

SMALL = Nodes("debug", True, 2, 4, 16384, 0, 86400, 600)
LARGE = Nodes("debug", True, 1, 64, 4096, 2, 86400, 600)
# sinfo -h -e -o "%R|%P|%D|%c|%m|%l|%L|%G", Slurm 22.05
SINFO = """\
debug|debug*|2|4|16384|1-00:00:00|10:00|(null)
gpu|gpu|8|64|512000|2-00:00:00|n/a|gpu:a100:4(S:0-1),gpu:v100:1,nvme:1
long|long|100|128|1000000|infinite|n/a|(null)
"""


def job(num_cpus: int = 1, memory_mib: int | None = None, num_nodes: int = 1, num_gpus: int = 0) -> JobPlan:
    return JobPlan(1, "big", "x", "/", num_cpus=num_cpus, memory_mib=memory_mib, num_nodes=num_nodes, num_gpus=num_gpus)


@pytest.mark.parametrize(
    ("large", "scheduler", "said"),
    [
        (job(5), Scheduler("s"), "job 'big' needs 5 CPUs on a node, the allocation has 4 CPUs, 16384 MiB"),
        (job(1, 16385), Scheduler("s"), "needs 1 CPUs, 16385 MiB on a node, the allocation has 4 CPUs, 16384 MiB"),
        (job(num_nodes=2), Scheduler("s"), "needs 2 nodes, the allocation has 1"),
        (job(3), Scheduler("s", cpus_per_task=2), "the allocation has 2 CPUs"),
        (job(1, 2000), Scheduler("s", mem="1024M"), "the allocation has 4 CPUs, 1024 MiB"),
        (job(num_gpus=1), Scheduler("s"), "needs 1 CPUs, 1 GPUs on a node"),
    ],
)
def test_a_job_that_never_fits_is_named_with_both_sizes(large: JobPlan, scheduler: Scheduler, said: str) -> None:
    found = misfits([job(), large], scheduler, [SMALL])
    assert len(found) == 1
    assert said in found[0]


@pytest.mark.parametrize(
    "fitting", [job(4, 16384), job(64, 4096), job(1, 4096, num_gpus=2)], ids=["small node", "large node", "gpu"]
)
def test_one_kind_of_node_is_enough(fitting: JobPlan) -> None:
    assert not misfits([fitting], Scheduler("s"), [SMALL, LARGE])


def test_no_kind_of_node_has_both() -> None:
    assert misfits([job(64, 16384)], Scheduler("s"), [SMALL, LARGE])


def test_unknown_sizes_refuse_nothing_but_requested_ones_do() -> None:
    assert not misfits([job(1000, 10**9, num_gpus=9)], Scheduler("s"), [])
    assert misfits([job(3)], Scheduler("s", cpus_per_task=2), [])


def test_all_of_a_nodes_memory_is_no_limit_of_its_own() -> None:
    assert not misfits([job(1, 16384)], Scheduler("s", mem="0"), [SMALL])


def test_more_nodes_than_there_are_is_a_warning() -> None:
    assert not too_few_nodes(Scheduler("s", nodes=2), [SMALL])
    assert not too_few_nodes(Scheduler("s", nodes=99), [])
    assert "3 nodes are requested, but partition debug has 2" in too_few_nodes(Scheduler("s", nodes=3), [SMALL])[0]


def test_what_sinfo_prints() -> None:
    nodes = parse_nodes(SINFO)
    assert nodes[0] == SMALL
    assert (nodes[1].gpus, nodes[1].max_seconds, nodes[1].default_seconds) == (5, 172800, None)
    assert nodes[2].max_seconds is None
    assert [each.partition for each in nodes_of(nodes, None)] == ["debug"]
    assert [each.partition for each in nodes_of(nodes, "gpu,long")] == ["gpu", "long"]
    assert [time_limit_of(nodes_of(nodes, name)) for name in (None, "gpu", "long", "none")] == [600, 172800, None, None]


def test_another_form_is_refused() -> None:
    with pytest.raises(ParseError, match="sinfo"):
        parse_nodes("debug|2\n")


@pytest.mark.parametrize(
    ("text", "job", "others"),
    [
        ("12\n", SlurmJob(12), []),
        ("12;cluster\n", SlurmJob(12, "cluster"), []),
        ("note of the site\n7\n", SlurmJob(7), ["note of the site"]),
        ("7\nyour quota: 80 % used\n\n", SlurmJob(7), ["your quota: 80 % used"]),
        (" 7;east \nthank you\n", SlurmJob(7, "east"), ["thank you"]),
    ],
)
def test_the_job_in_what_sbatch_printed(text: str, job: SlurmJob, others: list[str]) -> None:
    assert read_answer(text) == (job, others)


@pytest.mark.parametrize("text", ["", "Submitted batch job", "12x", "12\n13\n", "Submitted batch job 12"])
def test_what_is_no_job_id_or_more_than_one_is_not_guessed(text: str) -> None:
    assert read_answer(text) == (None, text.split("\n")[: text.count("\n")] or list(filter(None, [text])))


@given(
    st.lists(st.text(alphabet=st.characters(exclude_categories=["Cc", "Nd", "Z"]), min_size=1)),
    st.lists(st.text(alphabet="abc :é", min_size=1)),
)
def test_the_job_is_found_among_other_lines(before: list[str], after: list[str]) -> None:
    text = "\n".join([*before, "4711;west", *after])
    assert read_answer(text)[0] == SlurmJob(4711, "west")


def test_a_waiting_job_has_slurms_reason() -> None:
    text = "1|PENDING|Resources\n2|RUNNING|None\n3|PENDING|None\n4|PENDING|ReqNodeNotAvail, UnavailableNodes:n[1-3]\n"
    assert parse_active_jobs(text) == {
        1: "PENDING (Resources)",
        2: "RUNNING",
        3: "PENDING",
        4: "PENDING (ReqNodeNotAvail, UnavailableNodes:n[1-3])",
    }


@pytest.mark.parametrize(
    ("limit", "runtimes", "said"),
    [
        (None, (None, 600), ()),
        (None, (601, 900), ("'big' and 1 more has a runtime of 10m 1s, and its allocation ends after 10m 0s",)),
        (3600, (3600,), ()),
        (3600, (3601,), ("runtime of 1h 0m 1s, and its allocation ends after 1h 0m 0s",)),
        (86401, (10,), ("the time limit of 24h 0m 1s is above that of partition debug, 24h 0m 0s",)),
    ],
)
def test_a_time_that_cannot_be_had_is_said(
    limit: int | None, runtimes: tuple[int | None, ...], said: tuple[str, ...]
) -> None:
    jobs = [replace(job(), runtime_seconds=runtime) for runtime in runtimes]
    lines = list(too_long(jobs, limit, [SMALL]))
    assert len(lines) == len(said)
    assert all(text in line for text, line in zip(said, lines, strict=True))
    assert not list(too_long([replace(job(), runtime_seconds=10**9)], None, []))


def test_a_time_that_a_running_allocation_no_longer_has_is_said() -> None:
    """A job may be as long as the time limit, though its allocation began some seconds ago."""
    jobs = [replace(job(), runtime_seconds=seconds) for seconds in (600, 601, 602, None)]
    (line,) = too_late(jobs, 555.5)
    assert "job 'big' and 1 more has a runtime of 10m 1s, and this allocation ends in 9m 15s;" in line
    assert not list(too_late(jobs[:1], 555.5))
    assert len(list(too_late(jobs[:1], -5.0))) == 1


def test_headings_of_other_clusters_are_no_answer() -> None:
    assert parse_active_jobs("CLUSTER: west\n1|PENDING\n\nCLUSTER: east\n2|RUNNING\n") == {1: "PENDING", 2: "RUNNING"}


def test_only_jobs_that_hold_their_place_are_active() -> None:
    text = "1|PENDING\n2|RUNNING\n3|COMPLETED\n4|CANCELLED\n5|COMPLETING\n6|TIMEOUT\n"
    assert parse_active_jobs(text) == {1: "PENDING", 2: "RUNNING", 5: "COMPLETING"}
