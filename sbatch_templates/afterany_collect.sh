#!/bin/bash
# A small job that collects another job after its end, when its accounting is complete:
#
#   sbatch --dependency=afterany:JOBID afterany_collect.sh JOBID [OUTPUT_DIR [TORC...]]
#
# TORC is the command that runs torc, if torc is not on PATH. `torc submit` submits this script for a scheduler with
# `collect_afterwards: true`.
#
# Submit it from the directory where you submitted the job, or give OUTPUT_DIR; add your site's --account and
# --partition. Its output file contains the table of steps. Running it again changes nothing.
#SBATCH --job-name=torc-collect
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --mem=500M
#SBATCH --time=10
#SBATCH --output=torc-collect-%j.out

job=${1:?which job? sbatch --dependency=afterany:JOBID afterany_collect.sh JOBID [OUTPUT_DIR [TORC...]]}
output_dir=${2:-${TORC_OUTPUT_DIR:-torc_output}}
torc=("${@:3}")
[ ${#torc[@]} -gt 0 ] || torc=(torc)
# Slurm's database gets a job's own record up to 5 s after the job starts, and its end a moment after the job ends.
sleep 10
exec timeout -k 5 540 "${torc[@]}" slurm stats --all-steps --slurm-job-id "$job" --output-dir "$output_dir"
