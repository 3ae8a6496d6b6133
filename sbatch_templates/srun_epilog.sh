#!/bin/sh
# For one step without a batch script: srun --epilog=/path/to/srun_epilog.sh torc-step -- ./a.out
#
# srun runs this where it runs itself, as you, after the step. It brings what the nodes wrote, and Slurm's accounting as
# far as it has come, into torc.db. Inside a batch script it does nothing: there it would ask accounting once per
# step; use the trap (epilog_trap.sh), which asks once per allocation. It always exits 0, or srun prints an error.
[ -z "${SLURMD_NODENAME:-}" ] && [ "${SLURM_STEP_ID:-}" = 0 ] || exit 0
command -v torc >/dev/null 2>&1 || exit 0
timeout -k 5 90 torc slurm collect --slurm-job-id "$SLURM_JOB_ID" >/dev/null </dev/null
exit 0
