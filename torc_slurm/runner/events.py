"""The actions of a workflow: commands that run when the run begins, jobs are ready or have ended, or everything is
over.

Commands run before the event takes effect: jobs that become ready wait for the commands of ``on_jobs_ready``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from torc_slurm.files.output_names import action_log_name
from torc_slurm.runner.scripts import Script, Scripts
from torc_slurm.spec.plan import Plan
from torc_slurm.spec.workflow import Action


class Events:
    """Counts what the actions of one run wait for, and runs those that are due."""

    def __init__(self, plan: Plan, scripts: Scripts, note: Callable[[str], None]) -> None:
        self._plan = plan
        self._scripts = scripts
        self._note = note
        self._missing = {number: set(each.jobs) for number, each in enumerate(plan.actions)}

    def begin(self, then: Callable[[], None]) -> None:
        """The run begins."""
        self._run(self._of("workflow_start", "worker_start"), then)

    def ready(self, job_ids: Iterable[int], then: Callable[[], None]) -> None:
        """These jobs wait for nothing any more; ``then`` starts them."""
        self._run(self._reached("jobs_ready", job_ids), then)

    def ended(self, job_ids: Iterable[int], then: Callable[[], None]) -> None:
        """These jobs have ended, in any way; ``then`` continues with those that waited for them."""
        self._run(self._reached("jobs_complete", job_ids), then)

    def end(self, *, all_ended: bool) -> None:
        """The run is over. ``all_ended``: no job of the workflow is left for a later run."""
        self._run(self._of("workflow_complete", "worker_complete") if all_ended else self._of("worker_complete"))

    def _of(self, *triggers: str) -> list[int]:
        return [number for number, each in enumerate(self._plan.actions) if each.trigger in triggers]

    def _reached(self, trigger: str, job_ids: Iterable[int]) -> list[int]:
        jobs = set(job_ids)
        found = []
        for number in self._of(trigger):
            if self._missing[number] & jobs:
                self._missing[number] -= jobs
                if not self._missing[number]:
                    found.append(number)
        return found

    def _run(self, numbers: Sequence[int], then: Callable[[], None] = lambda: None) -> None:
        if not numbers:
            then()
            return
        for number in numbers:
            self._note(f"{self._title(number)} runs: {len(self._plan.actions[number].commands)} commands")
        self._scripts.run_all([self._script(number, self._plan.actions[number]) for number in numbers], then)

    def _title(self, number: int) -> str:
        return f"action {number + 1} (on_{self._plan.actions[number].trigger})"

    def _script(self, number: int, action: Action) -> Script:
        plan = self._plan
        return Script(
            title=self._title(number),
            commands=action.commands,
            log=action_log_name(plan.workflow_id, plan.run_id, number + 1),
            working_dir=plan.output_dir,
            variables={
                "TORC_WORKFLOW_ID": str(plan.workflow_id),
                "TORC_RUN_ID": str(plan.run_id),
                "TORC_OUTPUT_DIR": plan.output_dir,
            },
        )
