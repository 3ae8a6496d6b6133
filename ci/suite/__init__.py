"""What `ci/test` runs: a list of parts, side by side on two cores.

Words: a *part* is one command with a log, an exit status and, for pytest, its counts (`parts`: add yours there);
a *lane* is what parts take turns at: the cores, or waiting for a Slurm (`schedule`).

Who imports whom, one way only: cli -> schedule, report -> parts; cli -> machine.
"""
