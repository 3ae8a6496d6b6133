"""What `ci/test` runs: a list of parts, side by side on two cores.

Words: a *part* is one command with a log, an exit status and, for pytest, its counts (`parts`: add yours there); a
*lane* is a resource that parts share: the cores, or waiting for a Slurm (`schedule`).

Imports go one way: cli -> schedule, report -> parts; cli -> machine.
"""
