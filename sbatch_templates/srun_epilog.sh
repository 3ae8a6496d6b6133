#!/bin/sh
# For one step without a batch script: srun --epilog=/path/to/srun_epilog.sh torc-step -- ./a.out
#
# srun runs this after the step, as you, on the host where srun runs. It collects the node files, and the accounting that
# Slurm has so far, into torc.db. Inside a batch script it does nothing, because it would query accounting once per
# step; use the trap (epilog_trap.sh), which queries once per allocation. It always exits 0: otherwise srun prints an error.
[ -z "${SLURMD_NODENAME:-}" ] && [ "${SLURM_STEP_ID:-}" = 0 ] || exit 0
command -v torc >/dev/null 2>&1 || exit 0
timeout -k 5 90 torc slurm collect --slurm-job-id "$SLURM_JOB_ID" >/dev/null </dev/null
exit 0
