"""How pyslurm's row of a step may differ from sacct's: fewer figures, and CPU times in whole seconds."""

from __future__ import annotations

from collections.abc import Mapping

# pyslurm has only whole seconds of these.
CUT_TO_SECONDS = {"ave_cpu_seconds", "total_cpu_seconds", "user_cpu_seconds", "system_cpu_seconds"}
NOT_READ = {
    "total_rss_bytes", "total_disk_read_bytes", "total_disk_write_bytes", "allocated_tres", "requested_tres",
    "consumed_energy_joules", "suspended_seconds",
}  # fmt: skip
OF_THE_QUERY = {"backend", "queried_at"}


def assert_same_row(pyslurm_has: Mapping[str, object], sacct_has: Mapping[str, object]) -> None:
    """Compare every column of ``slurm_stats`` that pyslurm can have."""
    for name in sacct_has.keys() - NOT_READ - OF_THE_QUERY:
        value, expected = pyslurm_has[name], sacct_has[name]
        if name in CUT_TO_SECONDS:
            assert value is None or 0 <= float(str(expected)) - float(str(value)) < 2, name
        elif name == "exit_code" and isinstance(expected, int) and expected >= 128:
            assert value == expected - 128
        else:
            assert value == expected, (sacct_has["step_id"], name)
