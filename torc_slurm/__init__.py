"""torc-slurm: what Slurm jobs used, and what they should request.

Glossary (Slurm's own words where Slurm has one):

workflow     a spec file that was created; has an integer ``workflow_id`` in its output directory
run          one execution of a workflow; ``run_id`` counts from 1; for an ad hoc step Slurm's restart count + 1
job          one command of a workflow; integer ``job_id``; for an ad hoc step Slurm's step number
attempt      one try at a job in a run, counted from 1
allocation   what sbatch gets from Slurm; has a ``slurm_job_id``
step         one srun in an allocation; its tasks run on one or several nodes
task         one process that srun starts in a step; here each runs under one wrapper, ``torc-step``
ad hoc step  a measured step that belongs to no workflow: ``srun torc-step -- ./a.out`` in a user's own script
node file    the SQLite file into which one node's processes write what was measured there
main database  ``torc.db``; only ``torc`` writes it, where the user runs it
collect      bringing node files and late accounting into the main database
monitor      the process next to the job that measures its process tree (code: step/monitor.py, step/sampler.py)
flush        one batch of figures written to the node file

How data flows: torc-step -> node file -> collect -> main database -> reports -> screen.
NULL means not measured and is never 0. Inside the program all sizes are bytes and all times seconds.
"""

__version__ = "0.1.0"
