"""The schema of the main database, ``torc.db``: what every attempt used, Slurm's accounting of it, and the sources of
both.

``results`` has one row per attempt; ``step_nodes``, ``task_exits`` and ``step_notes`` hold what the nodes wrote about
it, ``slurm_stats`` what Slurm's accounting says, ``node_files`` which files were read and their fingerprints.

An attempt is identified in one of three ways, each with its own unique index, because NULLs never clash in SQLite: by
workflow (``workflow_id, job_id, run_id, attempt_id``), ad hoc in Slurm (``slurm_job_id, step_id, run_id,
attempt_id``), outside Slurm (``local_host, run_id, job_id, attempt_id``).
"""

from __future__ import annotations

from torc_slurm.database.migrations import Schema
from torc_slurm.database.sizing_schema import SIZING_TABLES
from torc_slurm.database.slurm_stats_schema import FIRST_COLUMNS
from torc_slurm.database.workflow_schema import TORC_FILES, WORKFLOW_TABLES

# Memory and CPU are those of the largest node, like Slurm's --mem. all_nodes_* are sums over the nodes, NULL unless
# every node of the step reported.
_RESULTS = """
CREATE TABLE results (
    id INTEGER PRIMARY KEY,
    workflow_id INTEGER,
    job_id INTEGER NOT NULL,
    job_name TEXT,
    run_id INTEGER NOT NULL,
    attempt_id INTEGER NOT NULL,
    slurm_job_id INTEGER,
    slurm_array TEXT,
    step_id TEXT,
    local_host TEXT,
    user_name TEXT,
    return_code INTEGER,
    return_signal INTEGER,
    status TEXT NOT NULL,
    status_evidence TEXT,
    start_time REAL,
    end_time REAL,
    end_time_source TEXT,
    exec_time_seconds REAL,
    peak_cpu_percent REAL,
    avg_cpu_percent REAL,
    peak_memory_gb REAL,
    avg_memory_gb REAL,
    peak_memory_bytes INTEGER,
    peak_memory_source TEXT,
    peak_memory_node TEXT,
    avg_memory_bytes INTEGER,
    avg_memory_source TEXT,
    sampled_rss_peak_bytes INTEGER,
    memory_floor_bytes INTEGER,
    memory_floor_source TEXT,
    memory_best_bytes INTEGER,
    memory_best_source TEXT,
    memory_ceiling_bytes INTEGER,
    memory_ceiling_source TEXT,
    memory_limit_bytes INTEGER,
    oom_kills INTEGER,
    cpu_seconds REAL,
    cpu_source TEXT,
    num_processes_peak INTEGER,
    num_threads_peak INTEGER,
    sample_count INTEGER,
    all_nodes_peak_memory_bytes INTEGER,
    all_nodes_avg_memory_bytes INTEGER,
    all_nodes_avg_cpu_percent REAL,
    all_nodes_cpu_seconds REAL,
    all_nodes_storage_read_bytes INTEGER,
    all_nodes_storage_written_bytes INTEGER,
    all_nodes_read_chars INTEGER,
    all_nodes_written_chars INTEGER,
    all_nodes_major_faults INTEGER,
    measured_nodes TEXT,
    measured_node_count INTEGER NOT NULL,
    node_count INTEGER,
    recorded_task_count INTEGER NOT NULL,
    task_count INTEGER,
    command TEXT,
    working_dir TEXT,
    granularity TEXT,
    sample_interval_seconds REAL
)"""

_RESULT_KEYS = (
    """CREATE UNIQUE INDEX results_of_workflows ON results (workflow_id, job_id, run_id, attempt_id)
    WHERE workflow_id IS NOT NULL""",
    """CREATE UNIQUE INDEX results_ad_hoc ON results (slurm_job_id, step_id, run_id, attempt_id)
    WHERE workflow_id IS NULL AND slurm_job_id IS NOT NULL""",
    """CREATE UNIQUE INDEX results_local ON results (local_host, run_id, job_id, attempt_id)
    WHERE workflow_id IS NULL AND slurm_job_id IS NULL""",
    "CREATE INDEX results_by_allocation ON results (slurm_job_id, run_id, step_id)",
)

# One row per attempt and node, as the node wrote it: steps, step_usage and monitor_usage of the node file joined.
_STEP_NODES = """
CREATE TABLE step_nodes (
    id INTEGER PRIMARY KEY,
    result INTEGER NOT NULL REFERENCES results (id) ON DELETE CASCADE,
    node TEXT NOT NULL,
    node_file TEXT NOT NULL,
    invocation TEXT NOT NULL,
    node_index INTEGER,
    node_count INTEGER,
    local_task_count INTEGER,
    task_count INTEGER,
    begin_time REAL NOT NULL,
    end_time REAL,
    last_flush_time REAL NOT NULL,
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
    sample_count INTEGER,
    monitor_cpu_seconds REAL,
    monitor_memory_bytes INTEGER,
    monitor_mean_sample_seconds REAL,
    monitor_max_lateness_seconds REAL,
    monitor_final_interval_seconds REAL,
    monitor_reader TEXT,
    UNIQUE (result, node)
)"""

_STEP_NODES_KEY = "CREATE INDEX step_nodes_by_file ON step_nodes (node_file)"

_TASK_EXITS = """
CREATE TABLE task_exits (
    step_node INTEGER NOT NULL REFERENCES step_nodes (id) ON DELETE CASCADE,
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
    PRIMARY KEY (step_node, task)
)"""

_STEP_NOTES = """
CREATE TABLE step_notes (
    step_node INTEGER NOT NULL REFERENCES step_nodes (id) ON DELETE CASCADE,
    time REAL NOT NULL,
    note TEXT NOT NULL,
    UNIQUE (step_node, time, note)
)"""

# workflow_id, job_id and attempt_id are NULL for a step that torc did not measure (a bare srun, batch,
# extern).
_SLURM_STATS = f"""
CREATE TABLE slurm_stats (
    id INTEGER PRIMARY KEY, workflow_id INTEGER, job_id INTEGER, attempt_id INTEGER, {FIRST_COLUMNS}
)"""

_SLURM_STATS_KEYS = (
    """CREATE UNIQUE INDEX slurm_stats_of_workflows ON slurm_stats (workflow_id, job_id, run_id, attempt_id)
    WHERE workflow_id IS NOT NULL""",
    """CREATE UNIQUE INDEX slurm_stats_ad_hoc ON slurm_stats (slurm_job_id, step_id, run_id)
    WHERE workflow_id IS NULL""",
    "CREATE INDEX slurm_stats_by_allocation ON slurm_stats (slurm_job_id, run_id, step_id)",
)

# `fingerprint`: the file's state when it was last read; `problem`: why it could not be used, or NULL.
_NODE_FILES = """
CREATE TABLE node_files (
    path TEXT PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    collected_at REAL NOT NULL,
    problem TEXT
)"""

# Deleted workflows: this command or a later one removes their files after the rows.
_DELETED_WORKFLOWS = """
CREATE TABLE deleted_workflows (
    workflow_id INTEGER PRIMARY KEY,
    deleted_at REAL NOT NULL,
    is_finished INTEGER NOT NULL
)"""

# The first rows of a list of very many are read without sorting all of them; the order of attempts is
# selection.py's. Few attempts have no end.
_ORDERS = (
    """CREATE INDEX results_in_order ON results (workflow_id, coalesce(CAST(slurm_array AS INTEGER), slurm_job_id),
    CAST(substr(slurm_array, instr(slurm_array, '_') + 1) AS INTEGER), slurm_job_id, run_id, job_id, attempt_id)""",
    "CREATE INDEX results_without_end ON results (workflow_id, run_id) WHERE status = 'running'",
    "CREATE INDEX jobs_in_order ON jobs (workflow_id, job_id)",
)

# The latest record is what `torc stats` shows without an id.
_LATEST_FIRST = ("CREATE INDEX results_by_start ON results (start_time)",)

# A workflow has a row here while the statuses of its jobs follow from what is recorded, for this active run (NULL:
# none). Every change of a record that they follow from removes it, so that nobody computes them again for nothing.
_CURRENT_JOB_STATUSES = """
CREATE TABLE current_job_statuses (
    workflow_id INTEGER PRIMARY KEY REFERENCES workflows (workflow_id) ON DELETE CASCADE,
    active_run_id INTEGER
)"""


def _no_longer_current(table: str, event: str, row: str = "NEW", of: str = "", condition: str = "") -> str:
    return f"""CREATE TRIGGER {table}_{event.lower()} AFTER {event} {of} ON {table} {condition}
    BEGIN DELETE FROM current_job_statuses WHERE workflow_id = {row}.workflow_id; END"""  # noqa: S608 - constants


_CHANGES_OF_RECORDS = (
    _no_longer_current("results", "INSERT"),
    _no_longer_current("results", "DELETE", "OLD"),
    _no_longer_current("results", "UPDATE", of="OF status", condition="WHEN NEW.status <> OLD.status"),
    _no_longer_current("job_states", "DELETE", "OLD"),
    _no_longer_current("job_states", "INSERT"),
    _no_longer_current("job_states", "UPDATE", of="OF state", condition="WHEN NEW.state <> OLD.state"),
    _no_longer_current("jobs", "INSERT"),
    _no_longer_current("jobs", "DELETE", "OLD"),
    _no_longer_current("jobs", "UPDATE", of="OF status, counts_from_run_id"),
)


MAIN_SCHEMA: Schema = (
    (
        "first schema",
        (
            _RESULTS,
            *_RESULT_KEYS,
            _STEP_NODES,
            _STEP_NODES_KEY,
            _TASK_EXITS,
            _STEP_NOTES,
            _SLURM_STATS,
            *_SLURM_STATS_KEYS,
            _NODE_FILES,
        ),
    ),
    ("workflows", WORKFLOW_TABLES),
    ("changes of resource requirements", SIZING_TABLES),
    (
        "CPU of the last half of the time",
        tuple(f"ALTER TABLE {table} ADD COLUMN last_half_cpu_seconds REAL" for table in ("results", "step_nodes")),
    ),
    ("settings of workflows and jobs, user data", TORC_FILES),
    ("time that Slurm had a step suspended", ("ALTER TABLE slurm_stats ADD COLUMN suspended_seconds REAL",)),
    ("deleted workflows", (_DELETED_WORKFLOWS,)),
    ("the cluster of a run's Slurm job", ("ALTER TABLE runs ADD COLUMN cluster TEXT",)),
    # JSON: {key: number or text}
    ("what --note said", ("ALTER TABLE results ADD COLUMN user_notes TEXT",)),
    # JSON: {name: number}; NULL for a job without any
    ("parameters that are numbers", ("ALTER TABLE jobs ADD COLUMN parameters TEXT",)),
    (
        "time that threads waited for a CPU",
        (
            "ALTER TABLE step_nodes ADD COLUMN cpu_wait_seconds REAL",
            "ALTER TABLE step_nodes ADD COLUMN cpu_wait_source TEXT",
            "ALTER TABLE results ADD COLUMN cpu_wait_seconds REAL",
            "ALTER TABLE results ADD COLUMN cpu_wait_source TEXT",
            "ALTER TABLE results ADD COLUMN all_nodes_cpu_wait_seconds REAL",
        ),
    ),
    # attempts of a job in runs before this one had another command
    ("completed jobs that run again", ("ALTER TABLE jobs ADD COLUMN counts_from_run_id INTEGER NOT NULL DEFAULT 1",)),
    # of a step with a time series: 'idle', 'busy' or 'not known'; NULL: not examined
    ("whether a step was idle in its last half", ("ALTER TABLE step_nodes ADD COLUMN last_half TEXT",)),
    ("orders of lists", _ORDERS),
    ("whether the statuses of jobs are current", (_CURRENT_JOB_STATUSES, *_CHANGES_OF_RECORDS)),
    ("order of the latest record", _LATEST_FIRST),
)
