#!/bin/bash
# A small job that collects another one after its end, when all its accounting has come:
#
#   sbatch --dependency=afterany:JOBID afterany_collect.sh JOBID [OUTPUT_DIR]
#
# Submit it from the directory where the job was submitted, or give its output directory; add your site's --account and
# --partition. It tries three times, a minute apart, while accounting does not answer.
#SBATCH --job-name=torc-collect
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --mem=500M
#SBATCH --time=10
#SBATCH --output=torc-collect-%j.out

job=${1:?which job? sbatch --dependency=afterany:JOBID afterany_collect.sh JOBID [OUTPUT_DIR]}
output_dir=${2:-${TORC_OUTPUT_DIR:-torc_output}}

for attempt in 1 2 3; do
    timeout -k 5 150 torc slurm collect --slurm-job-id "$job" --output-dir "$output_dir" && break
    status=$?
    [ "$attempt" = 3 ] && exit "$status"
    sleep 60
done
exec timeout -k 5 60 torc slurm stats --slurm-job-id "$job" --output-dir "$output_dir" --no-accounting
