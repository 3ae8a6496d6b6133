"""Core-hours and GB-hours requested, used and wasted, before and after correction."""

from __future__ import annotations

import itertools
from decimal import Decimal

from sizing_cases import attempt, facts, job, killed

from torc_slurm.sizing.corrections import correct
from torc_slurm.sizing.decision import Options
from torc_slurm.sizing.documents import savings_document
from torc_slurm.sizing.facts import Facts, Request
from torc_slurm.sizing.savings import Amount, Saving, savings

ASKED = Request(memory="8g", num_cpus=4, runtime="PT4H", num_nodes=2)
MEASURED = {"all_nodes_cpu_seconds": 7200.0, "all_nodes_avg_memory_bytes": 2 * 10**9}


def hours(amount: Amount) -> tuple[float, float]:
    return float(amount.core_hours or 0), float(amount.gb_hours or 0)


def saved(known: Facts, run_id: int | None = None) -> tuple[Saving, ...]:
    return savings(known, correct(known, Options()), run_id)


def test_one_job() -> None:
    row, total = saved(facts(job(1, attempt(ASKED, exec_time_seconds=3600.0, **MEASURED)), asked=ASKED))
    assert hours(row.asked) == (8, 16)
    assert hours(row.used) == (2, 2)
    assert hours(row.wasted) == (6, 14)
    assert hours(row.asked_after) == (6, 10)  # 3 CPUs and 5g on two nodes
    assert row.reserved.core_hours == 32
    assert row.reserved_after.core_hours == Decimal("7.2")  # 3 CPUs, 2 nodes, PT1H12M
    assert (total.requirement, total.asked) == (None, row.asked)


def test_what_was_not_measured_is_neither_used_nor_wasted() -> None:
    known = attempt(ASKED, exec_time_seconds=3600.0, **MEASURED)
    row, _ = saved(facts(job(1, known), job(2, attempt(ASKED, exec_time_seconds=3600.0)), asked=ASKED))
    assert [each.core_hours for each in (row.asked, row.used, row.wasted)] == [16, 2, 6]
    assert (row.attempts, row.unmeasured_attempts) == (2, 1)
    row, _ = saved(facts(job(2, attempt(ASKED)), asked=ASKED))
    assert row.used.core_hours is None


def test_attempts_that_did_not_complete_were_lost() -> None:
    shot = killed(ASKED, exec_time_seconds=1800.0)
    known = facts(job(1, shot, attempt(ASKED, run_id=2, exec_time_seconds=3600.0)), asked=ASKED)
    assert saved(known)[0].lost.core_hours == 4
    assert saved(known, run_id=2)[0].lost.core_hours == 0


def test_sums_are_those_of_the_attempts_one_by_one() -> None:
    """Attempts that lack different figures, with two requests."""
    requests = (ASKED, Request(memory="3g", num_cpus=2), Request(num_cpus=1))
    kinds = itertools.product(requests, (0.1, 3.3, None), (0.7, None), (10**9 + 7, None), ("completed", "failed"))
    attempts = [
        attempt(
            request,
            status=status,
            run_id=number,
            exec_time_seconds=seconds,
            all_nodes_cpu_seconds=cpu,
            all_nodes_avg_memory_bytes=memory,
        )
        for number, (request, seconds, cpu, memory, status) in enumerate(kinds)
    ]
    together = saved(facts(job(1, *attempts), asked=ASKED))[0]
    alone = [saved(facts(job(1, each), asked=ASKED), each.run_id)[0] for each in attempts]
    for name in ("asked", "used", "wasted", "lost"):
        amounts = [getattr(each, name) for each in alone]
        assert getattr(together, name) == Amount(
            *(sum(part for part in parts if part is not None) for parts in zip(*amounts, strict=True))
        )
    assert together.attempts == len(attempts)
    assert together.unmeasured_attempts == sum(each.unmeasured_attempts for each in alone) == 5 * len(attempts) // 6


def test_the_document() -> None:
    known = facts(job(1, attempt(ASKED, exec_time_seconds=3600.0, **MEASURED)), asked=ASKED)
    document = savings_document(123, None, saved(known))
    assert list(document) == ["workflow_id", "run_id", "items", "total"]
    (item,) = document["items"]
    assert item["asked_core_hours"] == 8.0
    assert item["used_gb_hours"] == 2.0
    assert document["total"]["name"] is None
    assert savings_document(1, None, saved(Facts(1, ())))["items"] == []
