# Paste the last line near the top of your own sbatch script, or source this file there. When the script ends, also by
# scancel or at its time limit, Slurm's accounting of its steps is asked for once and kept beside what torc-step measured.
#
# The script ends as it would have without it: the exit status stays, and a script that a signal ends dies of that
# signal (bash; sh runs the trap only where the script ends by itself). Where the file system does not answer it is given
# up after 90 s. Run it in the directory where the steps were started, or set TORC_OUTPUT_DIR. A script that has an EXIT
# trap of its own calls `torc slurm epilog || :` from that one instead.
trap 'torc slurm epilog || :' EXIT
