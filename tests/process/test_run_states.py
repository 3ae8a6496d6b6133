"""A run that ends while a command runs: that command sees its last records."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from node_files import batch, write

from torc_slurm.database.journal import JOB_STATE_COLUMNS, write_journal
from torc_slurm.database.main import open_to_write, transaction
from torc_slurm.database.runs import SUBMITTED, insert_run
from torc_slurm.database.workflows import create_workflow, job_rows, workflow_row
from torc_slurm.files.output_names import node_file_path
from torc_slurm.slurm.clusters import SlurmJob
from torc_slurm.spec.load import parse_workflow
from torc_slurm.usecases.collect import collect_node_files
from torc_slurm.usecases.next_run import plan_next_run
from torc_slurm.usecases.run_states import refresh_workflow


def test_jobs_that_complete_between_the_collect_and_the_question_are_not_run_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    spec = json.dumps({"name": "w", "jobs": [{"name": name, "command": "true"} for name in ("a", "b")]})

    def end_meanwhile(jobs: Iterable[SlurmJob]) -> Mapping[SlurmJob, str]:
        """Slurm's answer, that the allocation has ended; its runner wrote the end of job 1 just before."""
        assert [job.slurm_job_id for job in jobs] == [7]
        write(out, batch(workflow_id=1, run_id=1, job_id=1, attempt_id=1))
        state = {"workflow_id": 1, "run_id": 1, "job_id": 1, "attempt_id": 1, "launcher": "srun", "state": "completed"}
        write_journal(node_file_path(str(out), "n1", "1", 1), [], [dict.fromkeys(JOB_STATE_COLUMNS) | state])
        return {}

    with open_to_write(str(out)) as database:
        connection = database.connection
        with transaction(connection):
            workflow = parse_workflow(spec, "w.json", "json")
            create_workflow(
                connection,
                workflow,
                output_dir=str(out),
                working_dir=str(tmp_path),
                spec_file=None,
                user_name="u",
                now=1.0,
            )
            insert_run(connection, 1, 1, status=SUBMITTED, created_at=1.0, slurm_job_id=7)
        collect_node_files(database)
        with transaction(connection):
            states = refresh_workflow(database, 1, end_meanwhile)
            assert [(state.run_id, state.is_active) for state in states] == [(1, False)]
            assert [row["status"] for row in job_rows(connection, 1)] == ["completed", "ready"]
            plan = plan_next_run(connection, str(out), workflow_row(connection, 1))
    assert [job.name for job in plan.jobs] == ["b"]
