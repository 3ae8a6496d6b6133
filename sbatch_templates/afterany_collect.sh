#!/bin/bash
# A small job that collects another one after its end, when its last accounting has come too:
#
#   sbatch --dependency=afterany:JOBID afterany_collect.sh JOBID [OUTPUT_DIR [TORC...]]
#
# TORC are the words that call torc, where that is not on PATH. `torc submit` submits this for a scheduler that says
# collect_afterwards: true.
#
# Submit it from the directory where the job was submitted, or give its output directory; add your site's --account and
# --partition. Its output file has the steps' table. Running it again changes nothing.
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
# A job's own record reaches Slurm's database up to 5 s after the job began, its end a moment after the job ended.
sleep 10
exec timeout -k 5 540 "${torc[@]}" slurm stats --all-steps --slurm-job-id "$job" --output-dir "$output_dir"
