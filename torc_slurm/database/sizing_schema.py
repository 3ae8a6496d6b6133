"""The table of changes to resource requirements: what was changed, when, and by which evidence."""

from __future__ import annotations

# Runs up to after_run_id used `original`, later ones `new` (until the next change). resource is memory, runtime or
# num_cpus, like the column of resource_requirements. evidence is JSON: the number of attempts, and the most demanding
# of
# them.
_RESOURCE_CHANGES = """
CREATE TABLE resource_changes (
    change_id INTEGER PRIMARY KEY AUTOINCREMENT,
    workflow_id INTEGER NOT NULL REFERENCES workflows (workflow_id) ON DELETE CASCADE,
    resource_requirements_id INTEGER NOT NULL
        REFERENCES resource_requirements (resource_requirements_id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    changed_at REAL NOT NULL,
    changed_by TEXT NOT NULL,
    after_run_id INTEGER NOT NULL,
    direction TEXT NOT NULL,
    resource TEXT NOT NULL,
    original TEXT NOT NULL,
    new TEXT NOT NULL,
    multiplier TEXT NOT NULL,
    reason TEXT NOT NULL,
    evidence TEXT NOT NULL
)"""

SIZING_TABLES: tuple[str, ...] = (
    _RESOURCE_CHANGES,
    "CREATE INDEX changes_of_workflows ON resource_changes (workflow_id, change_id)",
)
