"""Which run a script may run: one of many at once, the next one after an end, none while one is active."""

from __future__ import annotations

import dataclasses
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from node_files import batch, exit_record
from runs import TORC, environment, kill_quietly, plan_in, wrappers_below

from torc_slurm.common.errors import DatabaseError
from torc_slurm.common.liveness import process_here
from torc_slurm.database.journal import JOB_STATE_COLUMNS, RUN_COLUMNS, write_journal
from torc_slurm.database.node_file import write_batch
from torc_slurm.files.output_names import node_file_path, plan_path
from torc_slurm.spec.plan import JobPlan, Plan, create_plan_file, read_plan
from torc_slurm.usecases.claims import SUPERSEDED, Claim, claim_of_this_process, claim_run, read_claim
from torc_slurm.usecases.takeover import RunTakenError, take_run

ME = claim_of_this_process({})
NO_PROCESS = 2**22 + 1  # above the kernel's largest pid


@pytest.fixture
def plan(tmp_path: Path) -> Iterator[Plan]:
    """Three jobs, the last of which depends on the first; its file is written."""
    jobs = tuple(
        JobPlan(number, f"j{number}", "echo $TORC_RUN_ID >> ran; sleep 0.3", str(tmp_path), depends_on=depends_on)
        for number, depends_on in ((1, ()), (2, ()), (3, (1,)))
    )
    made = plan_in(tmp_path, jobs)
    create_plan_file(made)
    yield made
    kill_quietly(wrappers_below(tmp_path))


def next_of(plan: Plan) -> Plan:
    made = dataclasses.replace(plan, run_id=plan.run_id + 1)
    create_plan_file(made)
    return made


def claim(plan: Plan, **changes: object) -> None:
    assert claim_run(plan.output_dir, 1, plan.run_id, dataclasses.replace(ME, **changes))  # type: ignore[arg-type]


def end(plan: Plan, states: dict[int, str], *, run_has_ended: bool = True, node: str = "n1") -> None:
    """Write what a runner leaves: its journal and, with ``run_has_ended``, the run's end in it."""
    run = dict.fromkeys(RUN_COLUMNS) | {"workflow_id": 1, "run_id": plan.run_id, "host": "n1", "pid": 1}
    run |= {"launcher": "direct", "job_count": 3, "claim_time": 1.0, "end_time": 2.0 if run_has_ended else None}
    rows = [
        dict.fromkeys(JOB_STATE_COLUMNS)
        | {
            "workflow_id": 1,
            "run_id": plan.run_id,
            "job_id": job,
            "attempt_id": 1,
            "launcher": "direct",
            "state": state,
        }
        for job, state in states.items()
    ]
    write_journal(node_file_path(plan.output_dir, node, "1", plan.run_id), [run], rows)


def leave_exits(plan: Plan, job_id: int, *codes: int, task_count: int = 1, node: str = "n1") -> None:
    """Write what the wrapper of a job leaves on one node."""
    flush = batch(
        exits=[exit_record(task, code) for task, code in enumerate(codes)],
        invocation=f"{node}.{job_id}",
        node=node,
        workflow_id=1,
        run_id=plan.run_id,
        job_id=job_id,
        attempt_id=1,
        task_count=task_count,
    )
    write_batch(node_file_path(plan.output_dir, node, "1", plan.run_id), flush)


def jobs_of(plan: Plan | None) -> list[int]:
    assert plan is not None
    return [job.job_id for job in plan.jobs]


def test_a_fresh_run_is_taken_and_says_by_whom(plan: Plan) -> None:
    assert take_run(plan, ME) == plan
    found = read_claim(plan.output_dir, 1, 1)
    assert found is not None
    assert (found.pid, found.host, found.slurm_job_id, found.purpose) == (
        os.getpid(),
        socket.gethostname(),
        None,
        "run",
    )


def test_a_run_that_has_ended_goes_on_as_the_next_with_what_is_left(plan: Plan) -> None:
    claim(plan)
    end(plan, {1: "completed", 2: "failed", 3: "cancelled"})
    taken = take_run(plan, ME)
    assert taken is not None
    assert (taken.run_id, jobs_of(taken)) == (2, [2, 3])
    assert taken.jobs[1].depends_on == ()
    assert read_plan(plan_path(plan.output_dir, 1, 2)) == taken


def test_where_everything_is_completed_there_is_nothing_to_do(plan: Plan) -> None:
    claim(plan)
    end(plan, {1: "completed", 2: "completed", 3: "completed"})
    assert take_run(plan, ME) is None
    assert not os.path.exists(plan_path(plan.output_dir, 1, 2))


def test_exit_records_stand_in_for_a_journal_that_was_not_written(plan: Plan) -> None:
    claim(plan, pid=NO_PROCESS)
    end(plan, {2: "running", 3: "cancelled"}, run_has_ended=False)
    leave_exits(plan, 1, 0)
    leave_exits(plan, 2, 0)
    leave_exits(plan, 3, 0)  # exited 0, but because it was asked to end
    assert jobs_of(take_run(plan, ME)) == [3]


def test_every_task_on_every_node_must_have_exited_0(plan: Plan) -> None:
    claim(plan, pid=NO_PROCESS)
    leave_exits(plan, 1, 0, 0, task_count=4, node="n1")
    leave_exits(plan, 1, 0, 0, task_count=4, node="n2")
    leave_exits(plan, 2, 0, 0, task_count=4, node="n1")  # the other node was lost
    leave_exits(plan, 3, 0, 3, task_count=2)
    assert jobs_of(take_run(plan, ME)) == [2, 3]


def test_an_active_run_is_refused(plan: Plan) -> None:
    other = subprocess.Popen(["bash", "-c", "exec -a torc sleep 300"])
    try:
        claim(plan, pid=other.pid, process_start=process_here(other.pid).start_ticks)
        with pytest.raises(RunTakenError, match=f"run 1 of workflow 1 is active: process {other.pid} runs it"):
            take_run(plan, ME)
    finally:
        other.kill()
        other.wait()
    assert jobs_of(take_run(plan, ME)) == [1, 2, 3]


def test_a_reused_pid_is_not_mistaken_for_the_runner(plan: Plan) -> None:
    other = subprocess.Popen(["sleep", "300"])
    try:
        claim(plan, pid=other.pid)
        taken = take_run(plan, ME)
    finally:
        other.kill()
        other.wait()
    assert taken is not None
    assert taken.run_id == 2


def test_a_host_that_cannot_be_seen_counts_as_active_until_its_journal_says_otherwise(plan: Plan) -> None:
    claim(plan, host="elsewhere")
    with pytest.raises(RunTakenError, match=r"elsewhere \(torc cannot see from this host .*wf1_r1\.claim"):
        take_run(plan, ME)
    end(plan, {1: "completed"})
    assert jobs_of(take_run(plan, ME)) == [2, 3]


def test_what_was_taken_back_stays_so(plan: Plan) -> None:
    claim(plan, purpose=SUPERSEDED)
    with pytest.raises(RunTakenError, match="was withdrawn"):
        take_run(plan, ME)


def test_a_later_run_closes_those_before_it(plan: Plan) -> None:
    following = next_of(plan)
    assert take_run(following, ME) == following
    with pytest.raises(RunTakenError, match="was withdrawn"):
        take_run(plan, dataclasses.replace(ME, pid=NO_PROCESS))


def test_an_earlier_run_that_is_active_keeps_the_next_from_beginning(plan: Plan) -> None:
    claim(plan, host="elsewhere")
    with pytest.raises(RunTakenError, match="run 1 of workflow 1 is active"):
        take_run(next_of(plan), ME)


def test_a_plan_older_than_what_was_completed_since_does_not_run_it_again(plan: Plan) -> None:
    following = next_of(plan)
    claim(plan)
    end(plan, {1: "completed"})
    os.utime(following.path, (time.time() - 100,) * 2)
    taken = take_run(following, ME)
    assert taken is not None
    assert (taken.run_id, jobs_of(taken)) == (2, [2, 3])


def test_a_damaged_node_file_stops_it_rather_than_run_jobs_twice(plan: Plan) -> None:
    claim(plan, pid=NO_PROCESS)
    end(plan, {1: "completed"})
    path = Path(node_file_path(plan.output_dir, "n2", "1", 1))
    path.write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    with pytest.raises(DatabaseError, match=r"cannot tell which jobs are completed: .*n2_1_1\.db"):
        take_run(plan, ME)


def test_an_earlier_life_of_the_same_allocation_has_ended(plan: Plan) -> None:
    mine = Claim(time.time(), socket.gethostname(), os.getpid(), slurm_job_id=77, restart_count=1)
    claim(plan, slurm_job_id=77, restart_count=0)
    taken = take_run(plan, mine)
    assert taken is not None
    assert taken.run_id == 2


def test_of_many_scripts_at_once_one_runs_the_jobs(plan: Plan) -> None:
    words = [*TORC, "run", "--plan", plan.path]
    runs = [
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())
        for _ in range(6)
    ]
    said = [run.communicate()[1] for run in runs]
    assert (Path(plan.working_dir) / "ran").read_text() == "1\n" * 3
    refused = [text for run, text in zip(runs, said, strict=True) if run.returncode]
    assert all("is active" in text and text.count("\n") == 1 for text in refused)


def test_of_many_that_go_on_after_an_end_one_does(plan: Plan) -> None:
    claim(plan, pid=NO_PROCESS)
    end(plan, {1: "completed"})
    words = [*TORC, "run", "--plan", plan.path]
    runs = [subprocess.Popen(words, stderr=subprocess.DEVNULL, env=environment()) for _ in range(6)]
    for run in runs:
        run.wait()
    assert (Path(plan.working_dir) / "ran").read_text() == "2\n" * 2
