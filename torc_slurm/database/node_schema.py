"""The schema of a node file: what the processes of one node measured in one run.

The first two tables have exactly the columns, types and order of the Rust torc, which this project reimplements; all
else is in other tables. An attempt's samples are those of its ``job_id`` with a timestamp within its time.
"""

from __future__ import annotations

from torc_slurm.database.migrations import Schema
from torc_slurm.database.slurm_stats_schema import CREATE_NODE_SLURM_STATS

_JOB_RESOURCE_SAMPLES = """
CREATE TABLE job_resource_samples (
    id INTEGER PRIMARY KEY,
    job_id INTEGER,
    timestamp REAL,
    cpu_percent REAL,
    memory_bytes INTEGER,
    num_processes INTEGER
)"""

_JOB_METADATA = "CREATE TABLE job_metadata (job_id INTEGER PRIMARY KEY, job_name TEXT)"

# One row per step and node. `invocation` separates a second wrapper in the same step from the first one's next write.
_STEPS = """
CREATE TABLE steps (
    id INTEGER PRIMARY KEY,
    invocation TEXT NOT NULL UNIQUE,
    workflow_id INTEGER,
    run_id INTEGER NOT NULL,
    job_id INTEGER NOT NULL,
    attempt_id INTEGER NOT NULL,
    job_name TEXT,
    slurm_job_id INTEGER,
    slurm_array TEXT,
    step_id TEXT,
    user_name TEXT,
    node TEXT NOT NULL,
    node_index INTEGER,
    node_count INTEGER,
    local_task_count INTEGER,
    task_count INTEGER,
    command TEXT,
    working_dir TEXT,
    granularity TEXT NOT NULL,
    sample_interval_seconds REAL,
    begin_time REAL NOT NULL,
    end_time REAL,
    last_flush_time REAL NOT NULL,
    UNIQUE (job_id, attempt_id)
)"""

# What the step used on this node: the figures at the last flush, final if steps.end_time is set.
_STEP_USAGE = """
CREATE TABLE step_usage (
    step INTEGER PRIMARY KEY REFERENCES steps (id),
    elapsed_seconds REAL,
    cpu_seconds REAL,
    cpu_source TEXT,
    avg_cpu_percent REAL,
    peak_cpu_percent REAL,
    peak_memory_bytes INTEGER,
    peak_memory_source TEXT,
    memory_floor_bytes INTEGER,
    memory_floor_source TEXT,
    memory_best_bytes INTEGER,
    memory_best_source TEXT,
    memory_ceiling_bytes INTEGER,
    memory_ceiling_source TEXT,
    sampled_rss_peak_bytes INTEGER,
    avg_memory_bytes INTEGER,
    avg_memory_source TEXT,
    memory_limit_bytes INTEGER,
    oom_kills INTEGER,
    num_processes_peak INTEGER,
    num_threads_peak INTEGER,
    storage_read_bytes INTEGER,
    storage_written_bytes INTEGER,
    read_chars INTEGER,
    written_chars INTEGER,
    major_faults INTEGER,
    sample_count INTEGER
)"""

# The monitor's own use, never part of the job's figures.
_MONITOR_USAGE = """
CREATE TABLE monitor_usage (
    step INTEGER PRIMARY KEY REFERENCES steps (id),
    cpu_seconds REAL,
    memory_bytes INTEGER,
    sample_count INTEGER,
    mean_sample_seconds REAL,
    max_lateness_seconds REAL,
    final_interval_seconds REAL,
    reader TEXT
)"""

_TASK_EXITS = """
CREATE TABLE task_exits (
    step INTEGER NOT NULL REFERENCES steps (id),
    task INTEGER NOT NULL,
    local_task INTEGER NOT NULL,
    pid INTEGER,
    begin_time REAL NOT NULL,
    end_time REAL NOT NULL,
    elapsed_seconds REAL NOT NULL,
    return_code INTEGER NOT NULL,
    signal INTEGER,
    user_cpu_seconds REAL,
    system_cpu_seconds REAL,
    max_rss_bytes INTEGER,
    major_faults INTEGER,
    PRIMARY KEY (step, task)
)"""

# What was lost, slowed down or could not be measured, in words.
_STEP_NOTES = """
CREATE TABLE step_notes (
    step INTEGER NOT NULL REFERENCES steps (id),
    time REAL NOT NULL,
    note TEXT NOT NULL,
    UNIQUE (step, time, note)
)"""

# Further series; a GPU or node-wide series would be one more table each.
_IO_SAMPLES = """
CREATE TABLE job_io_samples (
    id INTEGER PRIMARY KEY,
    job_id INTEGER,
    timestamp REAL,
    storage_read_bytes INTEGER,
    storage_written_bytes INTEGER,
    read_chars INTEGER,
    written_chars INTEGER,
    num_threads INTEGER,
    major_faults INTEGER
)"""

_MEMORY_SAMPLES = """
CREATE TABLE job_memory_samples (
    id INTEGER PRIMARY KEY,
    job_id INTEGER,
    timestamp REAL,
    memory_bytes INTEGER,
    source TEXT
)"""

# The runner's journal, only in the batch host's file. One row per run: who ran it, and how it ended.
_RUNS = """
CREATE TABLE runs (
    workflow_id INTEGER NOT NULL,
    run_id INTEGER NOT NULL,
    slurm_job_id INTEGER,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    user_name TEXT,
    launcher TEXT NOT NULL,
    nodes TEXT,
    job_count INTEGER NOT NULL,
    claim_time REAL NOT NULL,
    end_time REAL,
    exit_status INTEGER,
    reason TEXT,
    PRIMARY KEY (workflow_id, run_id)
)"""

# One row per attempt, also of a job that was never started (start_time NULL: cancelled, or too large). `return_code`
# is the job's own as far as the runner knows, `launcher_status` srun's exit status (torc-step's outside Slurm),
# `launcher_stderr` the end of srun's messages. `state` is a job's status; `running` in a file without a writer means
# that the runner died first.
_JOB_STATES = """
CREATE TABLE job_states (
    workflow_id INTEGER NOT NULL,
    run_id INTEGER NOT NULL,
    job_id INTEGER NOT NULL,
    attempt_id INTEGER NOT NULL,
    job_name TEXT,
    state TEXT NOT NULL,
    reason TEXT,
    launcher TEXT NOT NULL,
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
)"""

NODE_SCHEMA: Schema = (
    (
        "first schema",
        (
            _JOB_RESOURCE_SAMPLES,
            _JOB_METADATA,
            _STEPS,
            _STEP_USAGE,
            _MONITOR_USAGE,
            _TASK_EXITS,
            _STEP_NOTES,
            _IO_SAMPLES,
            _MEMORY_SAMPLES,
            CREATE_NODE_SLURM_STATS,
        ),
    ),
    ("journal of the runner", (_RUNS, _JOB_STATES)),
    # a job that used none of it hung, which is then known without a time series
    ("CPU of the last half of the time", ("ALTER TABLE step_usage ADD COLUMN last_half_cpu_seconds REAL",)),
    # JSON: [[node, CPUs, MiB or null], ...]
    ("what a run had on each node", ("ALTER TABLE runs ADD COLUMN node_sizes TEXT",)),
    ("time that Slurm had a step suspended", ("ALTER TABLE slurm_stats ADD COLUMN suspended_seconds REAL",)),
    # JSON: {key: number or text}
    ("what --note said", ("ALTER TABLE steps ADD COLUMN user_notes TEXT",)),
    (
        "time that threads waited for a CPU",
        (
            "ALTER TABLE step_usage ADD COLUMN cpu_wait_seconds REAL",
            "ALTER TABLE step_usage ADD COLUMN cpu_wait_source TEXT",
        ),
    ),
)
