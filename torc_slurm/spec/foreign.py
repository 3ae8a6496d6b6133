"""Keys of the Rust torc that mean something else here, or nothing, and the message for each.

There are two kinds. `UNUSED` keys are accepted: jobs run as they would without them. `REFUSED` keys are not, because a
workflow that relies on them would not work as written; each message says what to do instead. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from torc_slurm.spec.model import WorkflowModel

# By place. A text says what happens instead, if that is not simply nothing.
UNUSED: dict[str, dict[str, str]] = {
    "": {
        "user": "",
        "project": "",
        "metadata": "",
        "access_groups": "files' permissions decide who reads an output directory",
        "use_pending_failed": "a failed job is failed",
        "enable_ro_crate": "no RO-Crate is written",
        "jobs_sort_method": "jobs start by priority, then in the file's order",
        "compute_node_expiration_buffer_seconds": "",
        "compute_node_wait_for_new_jobs_seconds": "",
        "compute_node_ignore_workflow_completion": "an allocation ends with its last job",
        "compute_node_wait_for_healthy_database_minutes": "",
    },
    "jobs": {"supports_termination": "torc ends every job with SIGTERM"},
    "files": {"identifier": "", "st_mtime": ""},
    "datasets": {"hash_mode": "contents are not hashed", "description": ""},
    "user_data": {"is_ephemeral": ""},
    "slurm_schedulers": {"serialize_allocations": "allocations of a workflow always run one after another"},
    "actions": {"start_one_worker_per_node": "one runner serves all nodes of an allocation", "persistent": ""},
    "resource_monitor": {"compute_node": "jobs are measured, not whole nodes"},
    "execution_config": {
        "mode": "jobs are srun steps inside an allocation, plain processes elsewhere",
        "sigterm_lead_seconds": "",
        "sigkill_headroom_seconds": "",
        "staggered_start": "",
        "enable_cpu_bind": "srun binds as the site sets it; srun_options: --cpu-bind=... changes that",
        "srun_mpi": "",
        "slurm_worker_mpi_mode": "",
        "downstream_buffer_multiplier": "",
    },
}
REFUSED: dict[str, dict[str, str]] = {
    "": {
        "dynamic_jobs": "jobs cannot be added during a run, because there is no server; write the iterations as "
        "jobs with parameters, or let one job call torc run with a further file",
        "slurm_config": "write execution_config instead (use_srun: true is what always happens in an allocation)",
        "use_srun": "leave it out: jobs are always srun steps inside an allocation",
        "limit_resources": "write it in execution_config",
        "srun_termination_signal": "write it in execution_config",
        "enable_cpu_bind": "leave it out, or write execution_config: {srun_options: --cpu-bind=...}",
        "local_schedulers": "leave it out: torc run starts jobs on this machine by itself",
    },
    "jobs": {
        "label": "there are no runners with labels; give the job its own scheduler with a constraint or partition",
        "schedule_compute_nodes": "write an action: {trigger_type: on_jobs_complete, action_type: schedule_nodes, ...}",
    },
    "slurm_schedulers": {
        "time": "write walltime",
        "memory": "write mem",
    },
}


def refused(place: str, key: str) -> str | None:
    """What to do instead of a key at this place (``jobs``, ``""`` for the top); None: the key is unknown."""
    return REFUSED.get(place, {}).get(key)


def unused_lines(model: WorkflowModel) -> Iterator[str]:
    """One line that names every key of the file without effect, if there is one: then the file is the Rust torc's, and
    one more line says what a requirement without runtime means."""
    found = dict.fromkeys(_unused(model))
    if not found:
        return
    unused = [f"{name} ({why})" if why else name for name, why in found]
    yield f"without effect: {', '.join(unused)}"
    if any(each.runtime is None for each in model.resource_requirements):
        yield "a requirement without runtime has no limit (in the Rust torc: PT1H)"


def _unused(model: WorkflowModel) -> Iterator[tuple[str, str]]:
    for place, keys in UNUSED.items():
        for each in _at(model, place):
            for key in keys:
                if key in each.model_fields_set and _means_something(key, getattr(each, key)):
                    yield f"{place}.{key}" if place else key, keys[key]


def _at(model: WorkflowModel, place: str) -> list[Any]:
    value = getattr(model, place) if place else model
    return value if isinstance(value, list) else [value] if isinstance(value, BaseModel) else []


def _means_something(key: str, value: object) -> bool:
    """Whether the value requests anything: false, or what happens anyway, does not."""
    said = str(value).lower()
    if key == "compute_node":
        return isinstance(value, dict) and str(value.get("enabled", "false")).lower() == "true"
    if key == "mode":
        return said not in ("slurm", "auto")
    return said not in ("false", "none", "null", "")
