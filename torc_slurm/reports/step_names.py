"""The names of a step in tables and messages: its label, its name, its status; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from torc_slurm.records.statuses import FAILED, signal_name, verdict
from torc_slurm.records.step_names import step_name

Value = int | float | str | None
Row = Mapping[str, Value]
StepKey = tuple[Value, Value, Value]


def step_label(item: Row, *, numbered: bool = False) -> str:
    """The label of a step: ``12.0``, ``12.batch``, ``12_3.0``, ``local run 4``, ``job 7``.

    If torc-step ran several commands one after another in one step, they are ``12.batch command 2``; the first has a
    number only if ``numbered``. A second attempt at a workflow's job is ``attempt 2``.
    """
    number = item["attempt_id"] or 1
    if item["slurm_job_id"] is not None:
        word = "command" if item["workflow_id"] is None else "attempt"
        more = f" {word} {number}" if number != 1 or numbered else ""
        return f"{item['slurm_array'] or item['slurm_job_id']}.{item['step_id']}{more}"
    attempt = f" attempt {number}" if number != 1 else ""
    if item["workflow_id"] is not None:
        return f"job {item['job_id']}{attempt}"
    return f"local run {item['run_id']}{attempt}"


def steps_of_several_commands(items: Iterable[Row]) -> frozenset[StepKey]:
    """The steps in which torc-step ran more than one command; see `step_key`."""
    counts = Counter(step_key(item) for item in items if item["workflow_id"] is None and item["attempt_id"] is not None)
    return frozenset(key for key, count in counts.items() if count > 1)


def step_key(item: Row) -> StepKey:
    """What identifies a step of an allocation."""
    return item["slurm_job_id"], item["run_id"], item["step_id"]


def shown_name(item: Row) -> str | None:
    """The step's own name, else its command."""
    known = (item[name] for name in ("step_id", "job_name", "step_name", "command"))
    step_id, job_name, slurms_name, command = (None if value is None else str(value) for value in known)
    if item["slurm_job_id"] is None:
        slurms_name = None
    is_a_job = item["workflow_id"] is not None or item["attempt_id"] is None
    return step_name(step_id, job_name, slurms_name, command, is_a_job=is_a_job)


def step_verdict(item: Row) -> str | None:
    """torc's status of a step that it measured, with the signal that killed it; Slurm's state of any other."""
    status = item["job_status"]
    if status is None:
        return None if item["state"] is None else str(item["state"])
    word = verdict(str(status))
    signal = item["return_signal"]
    return f"{word} {signal_name(int(signal))}" if status == FAILED and isinstance(signal, int) and signal else word


def slurm_differs(item: Row) -> str | None:
    """Slurm's state if it differs from torc's status; else None."""
    state = item["state"]
    if state is None or item["job_status"] is None:
        return None
    word = verdict(str(item["job_status"]))
    return None if state == word else str(state)
