"""The tasks of users and generated scripts: each module combines database, Slurm and sizing for one task."""
