"""One job from Slurm's records and torc-step's: what adds up, and which of the two counts."""

from __future__ import annotations

import pytest
from recordings import CLUSTERS, sacct_rows

from torc_slurm.cli.seff_block import block
from torc_slurm.cli.seff_view import answer
from torc_slurm.database.own_records import OwnRecord
from torc_slurm.records.accounting import AccountingRecord
from torc_slurm.sizing.job_groups import groups_of, spread, two_clusters
from torc_slurm.sizing.job_use import JobUse
from torc_slurm.slurm.configuration import SlurmFacts
from torc_slurm.slurm.max_rss import MaxRssMeaning, max_rss_meaning
from torc_slurm.usecases.efficiency import group_of
from torc_slurm.usecases.job_uses import job_use, job_uses

POLLED: MaxRssMeaning = max_rss_meaning(SlurmFacts("slurm 22.05.8", "jobacct_gather/linux", None, "30"))
JOB = AccountingRecord(
    7,
    name="job",
    shown_job_id="7",
    state="COMPLETED",
    start_time=100.0,
    end_time=200.0,
    elapsed_seconds=100.0,
    time_limit_seconds=600.0,
    total_cpu_seconds=150.0,
    allocated_tres="billing=4,cpu=4,mem=8G,node=2",
    node_list="n[1-2]",
)


def step(step_id: str, begin: float, end: float, max_rss: int, **more: object) -> AccountingRecord:
    values = {"state": "COMPLETED", "task_count": 1, "node_list": "n1", "total_cpu_seconds": 1.0} | more
    return AccountingRecord(7, step_id, start_time=begin, end_time=end, max_rss_bytes=max_rss, **values)  # type: ignore[arg-type] # fields by name


def own(step_id: str = "0", **more: object) -> OwnRecord:
    values: dict[str, object] = {
        "slurm_job_id": 7,
        "step_id": step_id,
        "name": None,
        "command": "./a.out",
        "status": "completed",
        "return_code": 0,
        "return_signal": None,
        "start_time": 100.5,
        "end_time": 199.5,
        "cpu_seconds": 90.0,
        "peak_cpu_percent": 200.0,
        "peak_memory_bytes": 5000,
        "peak_memory_source": "cgroup_v2",
        "cpu_wait_seconds": None,
        "user_notes": None,
        "is_partial": False,
    }
    return OwnRecord(**values | more)  # type: ignore[arg-type] # fields by name


def test_memory_is_per_node_and_cpus_are_of_the_allocation() -> None:
    use = job_use(JOB, [step("0", 100, 200, 1000)], [], POLLED)
    assert (use.requested_memory_bytes, use.allocated_cpus, use.node_count) == (4 * 2**30, 4, 2)
    assert use.cpu_efficiency_percent == pytest.approx(150 / 400 * 100)
    assert use.time_efficiency_percent == pytest.approx(100 / 6)
    assert (use.peak_memory_bytes, use.peak_memory_source) == (1000, "slurm_maxrss")


def test_steps_at_the_same_time_on_one_node_add_up() -> None:
    steps = [step("0", 100, 150, 1000), step("1", 120, 180, 2000), step("2", 150, 200, 1500)]
    assert job_use(JOB, steps, [], POLLED).peak_memory_bytes == 3500


def test_steps_one_after_another_or_on_other_nodes_do_not() -> None:
    assert job_use(JOB, [step("0", 100, 150, 1000), step("1", 150, 180, 2000)], [], POLLED).peak_memory_bytes == 2000
    apart = [step("0", 100, 150, 1000), step("1", 100, 150, 2000, node_list="n2")]
    assert job_use(JOB, apart, [], POLLED).peak_memory_bytes == 2000


def test_of_several_tasks_the_sum_of_their_peaks_counts() -> None:
    use = job_use(JOB, [step("0", 100, 200, 1000, task_count=4, total_rss_bytes=3900)], [], POLLED)
    assert (use.peak_memory_bytes, use.peak_memory_source) == (3900, "slurm_task_sum")
    assert use.memory_is_upper_bound


def test_torc_steps_figures_take_the_place_of_slurms() -> None:
    use = job_use(JOB, [step("0", 100, 200, 9000, name="torc-step", total_cpu_seconds=95.0)], [own()], POLLED)
    assert (use.peak_memory_bytes, use.peak_memory_source, use.is_measured) == (5000, "cgroup_v2", True)
    assert use.peak_cpu_percent == 200.0
    assert use.steps[0].name == "a.out"


@pytest.mark.parametrize(
    ("step_id", "slurms_name", "records", "name"),
    [
        ("0", "torc-step", [{"command": "/usr/bin/python x.py"}], "python x.py"),
        ("0", "fold3", [{"command": "/usr/bin/python x.py"}], "fold3"),
        ("batch", "batch", [{"command": "./a.out", "name": "job.sh"}], "a.out"),
        ("batch", "batch", [{"command": "a"}, {"command": "b"}], "2 commands"),
        ("0", "torc-step", [{"command": "sh -c 'x'", "name": "train", "is_a_job": True}], "train"),
    ],
)
def test_a_step_has_the_name_that_stats_gives_it(
    step_id: str, slurms_name: str, records: list[dict[str, object]], name: str
) -> None:
    use = job_use(
        JOB, [step(step_id, 100, 200, 1, name=slurms_name)], [own(step_id, **each) for each in records], POLLED
    )
    assert use.steps[0].name == name


def test_not_where_torc_step_saw_only_a_part() -> None:
    use = job_use(JOB, [step("0", 100, 200, 9000)], [own(is_partial=True)], POLLED)
    assert (use.peak_memory_bytes, use.is_measured) == (9000, False)


def test_a_batch_step_that_used_a_little_more_than_its_commands_stays_measured() -> None:
    use = job_use(JOB, [step("batch", 100, 200, 5500)], [own("batch")], POLLED)
    assert (use.peak_memory_bytes, use.peak_memory_source) == (5500, "cgroup_v2")


@pytest.mark.parametrize(
    ("state", "exit_signal", "uid", "verdict"),
    [
        ("CANCELLED", 11, None, "FAILED"),
        ("CANCELLED", 15, 1000, "CANCELLED"),
        ("OUT_OF_MEMORY", 125, None, "OUT_OF_MEMORY"),
    ],
)
def test_a_steps_state_is_a_verdict(state: str, exit_signal: int, uid: int | None, verdict: str) -> None:
    row = step("0", 100, 150, 1000, state=state, exit_signal=exit_signal, exit_code=0, cancelled_by_uid=uid)
    assert job_use(JOB, [row], [], POLLED).steps[0].state == verdict


def test_a_step_that_its_jobs_time_limit_ended_is_a_timeout() -> None:
    job = JOB._replace(state="TIMEOUT")
    row = step("0", 100, 201, 1000, state="CANCELLED", exit_signal=15, exit_code=0)
    use = job_use(job, [row], [own(status="failed", return_code=143)], POLLED)
    assert (use.state, use.steps[0].state) == ("TIMEOUT", "TIMEOUT")


def test_a_job_that_failed_since_a_step_ran_out_of_memory_says_so() -> None:
    row = step("0", 100, 150, 1000, state="OUT_OF_MEMORY", exit_signal=125)
    use = job_use(JOB._replace(state="FAILED"), [row], [], POLLED)
    assert (use.state, use.slurm_state) == ("OUT_OF_MEMORY", "FAILED")


def test_nothing_known_is_none_and_never_0() -> None:
    use = job_use(AccountingRecord(8, state="PENDING", shown_job_id="8"), [], [], POLLED)
    figures = (use.peak_memory_bytes, use.cpu_seconds, use.cpu_efficiency_percent, use.memory_efficiency_percent)
    assert figures == (None, None, None, None)


def use_of(number: int, name: str, peak: int | None) -> JobUse:
    return JobUse(number, str(number), name=name, peak_memory_bytes=peak, state="COMPLETED", submit_time=float(number))


def test_groups_are_of_one_name_and_request_oldest_first() -> None:
    groups = groups_of([use_of(3, "b", 1), use_of(2, "a", 1), use_of(1, "a", 1)])
    assert [(group.name, [job.slurm_job_id for job in group.jobs]) for group in groups] == [("a", [1, 2]), ("b", [3])]


def test_spread_and_clusters() -> None:
    found = spread([None, *range(1, 101)])
    assert found is not None
    assert (found.number, found.median, found.p95, found.maximum) == (100, 50.5, 95, 100)
    assert spread([None]) is None
    assert two_clusters([10, 11, 12, 50, 52, 55]) == ([10, 11, 12], [50, 52, 55])
    assert two_clusters([10, 11, 12, 13, 14, 15]) is None
    assert two_clusters([1, 2, 4, 8, 16, 32]) is None


def test_a_job_that_waits_has_used_no_time_and_shows_its_request() -> None:
    waits = JOB._replace(
        state="PENDING",
        start_time=None,
        end_time=None,
        elapsed_seconds=0.0,
        total_cpu_seconds=0.0,
        allocated_tres=None,
        requested_tres="billing=4,cpu=4,mem=8G,node=2",
        node_list=None,
        pending_reason="Dependency",
    )
    use = job_use(waits, [], [], POLLED)
    assert (use.time_efficiency_percent, use.cpu_efficiency_percent, use.peak_memory_bytes) == (None, None, None)
    assert [line for line in block(use, group_of([use]), POLLED) if line] == [
        "Job 7  job  PENDING",
        "Requests 4.29 GB of memory a node, 10m 0s",
        "No advice: the job is PENDING (Dependency).",
    ]


GPUS = {"allocated_tres": "billing=4,cpu=4,gres/gpu=2,mem=8G,node=1", "node_list": "n1"}


@pytest.mark.parametrize(
    ("figures", "percent", "memory"),
    [
        ({"gpu_utilization_percent": 150.0, "gpu_memory_bytes": 3000}, 75.0, 3000),  # one task with two GPUs
        ({"gpu_utilization_percent": 90.0, "total_gpu_percent": 160.0}, 80.0, None),  # two tasks with one each
        ({"gpu_utilization_percent": 0.0, "gpu_memory_bytes": 2000, "total_gpu_memory_bytes": 4000}, 0.0, 4000),
        ({"gpu_utilization_percent": 0.0, "gpu_memory_bytes": 0}, None, None),  # so are GPUs that Slurm cannot measure
        ({}, None, None),
    ],
)
def test_the_use_of_gpus_is_a_share_of_them(
    figures: dict[str, float], percent: float | None, memory: int | None
) -> None:
    use = job_use(
        JOB._replace(allocated_tres=GPUS["allocated_tres"], node_list="n1"),
        [step("0", 100, 200, 1000, **GPUS | figures)],
        [],
        POLLED,
    )
    assert (use.gpu_count, use.gpu_utilization_percent, use.gpu_memory_bytes) == (2, percent, memory)
    table = answer([use], POLLED, columns=(), expand=False, is_named=False).tables[0]
    shown = dict(zip((column.name for column in table.columns), next(iter(table.rows)), strict=True))
    assert shown["gpu"] == ("2 GPU" if percent is None else f"2 GPU {percent:.0f}%")
    (line,) = (line for line in block(use, group_of([use]), POLLED) if line.startswith("GPU "))
    assert ("not known" in line) == (percent is None)
    assert not [each for each in group_of([use]).advice if "gpu" in each.resource.lower()]


def test_without_gpus_there_is_no_column_for_them() -> None:
    use = job_use(JOB, [step("0", 100, 200, 1000, gpu_utilization_percent=0.0)], [], POLLED)
    table = answer([use], POLLED, columns=(), expand=False, is_named=False).tables[0]
    assert "gpu" not in [column.name for column in table.columns]
    assert not [line for line in block(use, group_of([use]), POLLED) if line.startswith("GPU ")]


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_each_component_of_a_heterogeneous_job_has_the_records_of_its_nodes(cluster: str) -> None:
    """The tasks of all components see the first one's job id; step 0 ran in both components, step 1 in the second."""
    rows = sacct_rows(cluster, "het")
    first, second = (row for row in rows if row.step_id is None)
    assert first.node_list != second.node_list
    records = [
        own("0", node=first.node_list, peak_memory_bytes=7_000_000_000, cpu_seconds=10.0),
        own("0", node=second.node_list, peak_memory_bytes=8_000_000_000, cpu_seconds=20.0),
        own("1", node=second.node_list, peak_memory_bytes=9_000_000_000, cpu_seconds=40.0, cpu_wait_seconds=3.0),
    ]
    one, other = job_uses(rows, {first.slurm_job_id: records}, POLLED)
    assert (one.slurm_job_id, other.slurm_job_id) == (first.slurm_job_id, first.slurm_job_id + 1)
    assert {step.step_id: step.peak_memory_bytes for step in one.steps if step.is_measured} == {"0": 7_000_000_000}
    peaks = {step.step_id: step.peak_memory_bytes for step in other.steps if step.is_measured}
    assert peaks == {"0": 8_000_000_000, "1": 9_000_000_000}
    assert (one.cpu_wait_seconds, other.cpu_wait_seconds) == (None, 3.0)
    assert [sum(step.cpu_seconds or 0 for step in use.steps if step.is_measured) for use in (one, other)] == [10, 60]
