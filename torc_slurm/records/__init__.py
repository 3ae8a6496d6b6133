"""What rows are made of: typed records that the modules which talk to Slurm and those which keep rows share."""
