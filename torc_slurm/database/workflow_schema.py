"""The tables of workflows in the main database: workflows, jobs, dependencies and runs.

Ids are never reused, because file names contain them. Lists and mappings are JSON in a text column. What a job used is
in ``results``, one row per attempt; ``jobs.status`` is the job's current status.
"""

from __future__ import annotations

_WORKFLOWS = """
CREATE TABLE workflows (
    workflow_id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    description TEXT,
    user_name TEXT,
    spec_file TEXT,
    working_dir TEXT NOT NULL,
    created_at REAL NOT NULL,
    monitor_enabled INTEGER NOT NULL,
    granularity TEXT NOT NULL,
    sample_interval_seconds REAL NOT NULL,
    flush_interval_seconds REAL NOT NULL,
    generate_plots INTEGER NOT NULL,
    limit_resources INTEGER NOT NULL,
    enforce_runtime INTEGER NOT NULL,
    srun_options TEXT NOT NULL,
    slurm_defaults TEXT NOT NULL
)"""

# Per node, like Slurm's --mem; memory and runtime as the user wrote them, NULL if nothing was requested.
_REQUIREMENTS = """
CREATE TABLE resource_requirements (
    resource_requirements_id INTEGER PRIMARY KEY AUTOINCREMENT,
    workflow_id INTEGER NOT NULL REFERENCES workflows (workflow_id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    num_cpus INTEGER NOT NULL,
    num_gpus INTEGER NOT NULL,
    num_nodes INTEGER NOT NULL,
    ntasks_per_node INTEGER NOT NULL,
    memory TEXT,
    runtime TEXT,
    UNIQUE (workflow_id, name)
)"""

_SCHEDULERS = """
CREATE TABLE slurm_schedulers (
    slurm_scheduler_id INTEGER PRIMARY KEY AUTOINCREMENT,
    workflow_id INTEGER NOT NULL REFERENCES workflows (workflow_id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    settings TEXT NOT NULL,
    UNIQUE (workflow_id, name)
)"""

# status: blocked ready submitted running completed failed oom timeout cancelled node_fail preempted
_JOBS = """
CREATE TABLE jobs (
    job_id INTEGER PRIMARY KEY AUTOINCREMENT,
    workflow_id INTEGER NOT NULL REFERENCES workflows (workflow_id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    command TEXT NOT NULL,
    working_dir TEXT NOT NULL,
    env TEXT NOT NULL,
    srun_options TEXT NOT NULL,
    resource_requirements_id INTEGER REFERENCES resource_requirements (resource_requirements_id),
    status TEXT NOT NULL,
    UNIQUE (workflow_id, name)
)"""

_DEPENDENCIES = """
CREATE TABLE job_dependencies (
    job_id INTEGER NOT NULL REFERENCES jobs (job_id) ON DELETE CASCADE,
    depends_on_job_id INTEGER NOT NULL REFERENCES jobs (job_id) ON DELETE CASCADE,
    PRIMARY KEY (job_id, depends_on_job_id)
) WITHOUT ROWID"""

# status: generated (a script exists for the user to submit), submitted (sbatch accepted it), running, ended. The
# columns
# from host on come from the runner's journal; note says why the run counts as ended if the journal does not.
_RUNS = """
CREATE TABLE runs (
    workflow_id INTEGER NOT NULL REFERENCES workflows (workflow_id) ON DELETE CASCADE,
    run_id INTEGER NOT NULL,
    status TEXT NOT NULL,
    created_at REAL NOT NULL,
    scheduler TEXT,
    script TEXT,
    slurm_job_id INTEGER,
    note TEXT,
    host TEXT,
    pid INTEGER,
    launcher TEXT,
    nodes TEXT,
    claim_time REAL,
    end_time REAL,
    exit_status INTEGER,
    reason TEXT,
    PRIMARY KEY (workflow_id, run_id)
)"""

# The runner's state of every attempt, and of jobs that it did not start (start_time NULL).
_JOB_STATES = """
CREATE TABLE job_states (
    workflow_id INTEGER NOT NULL,
    run_id INTEGER NOT NULL,
    job_id INTEGER NOT NULL,
    attempt_id INTEGER NOT NULL,
    job_name TEXT,
    state TEXT NOT NULL,
    reason TEXT,
    launcher TEXT,
    slurm_job_id INTEGER,
    step_id TEXT,
    step_name TEXT,
    nodes TEXT,
    pid INTEGER,
    start_time REAL,
    end_time REAL,
    return_code INTEGER,
    launcher_status INTEGER,
    launcher_stderr TEXT,
    PRIMARY KEY (workflow_id, run_id, job_id, attempt_id)
) WITHOUT ROWID"""

# Settings that few workflows and jobs have, as JSON; see plan_settings.py. Values that jobs share start with data.
_SETTINGS = tuple(
    f"ALTER TABLE {table} ADD COLUMN settings TEXT NOT NULL DEFAULT '{{}}'" for table in ("workflows", "jobs")
)
_USER_DATA = """
CREATE TABLE user_data (
    user_data_id INTEGER PRIMARY KEY AUTOINCREMENT,
    workflow_id INTEGER NOT NULL REFERENCES workflows (workflow_id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    data TEXT NOT NULL,
    UNIQUE (workflow_id, name)
)"""
TORC_FILES: tuple[str, ...] = (*_SETTINGS, _USER_DATA)

WORKFLOW_TABLES: tuple[str, ...] = (
    _WORKFLOWS,
    _REQUIREMENTS,
    _SCHEDULERS,
    _JOBS,
    _DEPENDENCIES,
    "CREATE INDEX dependents ON job_dependencies (depends_on_job_id)",
    "CREATE INDEX requirements_of_jobs ON jobs (resource_requirements_id)",
    _RUNS,
    _JOB_STATES,
)
