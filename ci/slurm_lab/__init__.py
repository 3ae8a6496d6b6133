"""A real two-node Slurm on this machine, private to one directory, for development and tests.

Words: a *lab* is one such cluster with its directory; its *keepers* are two small processes that outlive the command
that started the lab, and remove it (see `keeper`); a *sweep* is that removal (see `sweep`).

Imports go one way: cli -> run, bringup -> daemons, keeper -> sweep -> users, cgroups -> lab -> config, errors.
"""
