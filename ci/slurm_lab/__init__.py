"""A real two-node Slurm on this machine, private to one directory, for development and tests.

Words: a *lab* is one such cluster with its directory; its *keepers* are two small processes that outlive the
command that started it and that tear it down (see `keeper`); a *sweep* is that tearing down (see `sweep`).

Who imports whom, one way only:
cli -> run, bringup -> daemons, keeper -> sweep -> users, cgroups -> lab -> config, errors.
"""
