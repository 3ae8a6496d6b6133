"""The first version of the table ``slurm_stats``, the same in node files (from the epilog) and in the main database.

One row per step and Slurm record. NULL means that Slurm did not measure it; ``status`` and ``reason`` say why. This
text is frozen: migrations add later columns, and `records.accounting.COLUMN_NAMES` has the current ones.
"""

from __future__ import annotations

FIRST_COLUMNS = """
    slurm_job_id INTEGER NOT NULL,
    step_id TEXT NOT NULL,  -- '0', 'batch', 'extern', 'interactive'
    run_id INTEGER NOT NULL,  -- ad hoc: Slurm's restart count + 1
    step_name TEXT,
    status TEXT NOT NULL,  -- found | partial | pending | missing | unavailable
    reason TEXT,  -- why the status is not `found`, and what to do
    state TEXT,  -- Slurm's word for the step: COMPLETED, FAILED, OUT_OF_MEMORY, …
    job_state TEXT,  -- of the whole allocation; NULL where its end says nothing of the step, which ended before
    job_start_time REAL,
    job_end_time REAL,  -- NULL as job_state is
    cancelled_by_uid INTEGER,  -- NULL: CANCELLED then only means that the step died of a signal
    exit_code INTEGER,  -- sacct prints codes of 128 and more less 128
    exit_signal INTEGER,
    start_time REAL,
    end_time REAL,
    elapsed_seconds REAL,
    max_rss_bytes INTEGER,
    max_rss_node TEXT,
    max_rss_task INTEGER,
    max_vm_size_bytes INTEGER,
    max_vm_size_node TEXT,
    max_vm_size_task INTEGER,
    max_disk_read_bytes INTEGER,
    max_disk_read_node TEXT,
    max_disk_read_task INTEGER,
    max_disk_write_bytes INTEGER,
    max_disk_write_node TEXT,
    max_disk_write_task INTEGER,
    ave_cpu_seconds REAL,
    total_cpu_seconds REAL,
    user_cpu_seconds REAL,
    system_cpu_seconds REAL,
    total_rss_bytes INTEGER,  -- TRESUsageInTot mem: the sum of the tasks' peaks, an upper bound
    total_disk_read_bytes INTEGER,
    total_disk_write_bytes INTEGER,
    node_list TEXT,
    task_count INTEGER,
    requested_memory TEXT,
    requested_tres TEXT,
    allocated_tres TEXT,
    time_limit_seconds REAL,  -- NULL: not known or unlimited
    consumed_energy_joules INTEGER,
    gpu_utilization_percent REAL,
    gpu_memory_bytes INTEGER,
    slurm_version TEXT,
    gather_type TEXT,
    gather_params TEXT,
    gather_frequency TEXT,
    backend TEXT,  -- sacct | pyslurm
    queried_at REAL
"""

# slurm_job_id, step_id and run_id identify a step's row
CREATE_NODE_SLURM_STATS = f"CREATE TABLE slurm_stats ({FIRST_COLUMNS}, UNIQUE (slurm_job_id, step_id, run_id))"
