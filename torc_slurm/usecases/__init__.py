"""What a user or a generated script asks for: each module brings database, Slurm and sizing together for one task."""
