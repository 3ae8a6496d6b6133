"""torc-step: runs one task of a Slurm step, and measures the step's process tree in a separate process, the monitor.

main -> wrapper forks the job, then the monitor -> monitor samples (tree, cgroup) -> figures -> node file.
Modules that run before the job starts import only cheap parts of the standard library, and say so.
"""
