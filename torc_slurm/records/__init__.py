"""Typed records that the modules that talk to Slurm share with those that store rows."""
