"""A Slurm cluster of several machines on this one, each with its own Linux kernel, for development and tests.

Words: the *cluster* is private to one directory; a *machine* is a user-mode Linux, an ordinary process: `head` runs
slurmctld, slurmdbd, MariaDB and the NFS server of /home, the *nodes* c1, c2, … run slurmd. All machines run in one set
of namespaces (mount, network, PID) and end with it; the *keeper* outlives the command that started the cluster and
removes the cluster.

Imports go one way: cli -> bringup, faults -> inside, keeper -> state -> config -> slurm_lab.
"""
