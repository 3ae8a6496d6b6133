"""torc-step: runs one task of a Slurm step and measures the step's process tree beside it.

main -> wrapper forks the job, then the monitor -> monitor samples (tree, cgroup) -> figures -> node file.
What is imported before the job starts is the standard library's cheapest part: a module here says so when it matters.
"""
