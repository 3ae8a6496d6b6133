# Paste the last line near the top of your own sbatch script, or source this file there. When the script ends, also by
# scancel or at its time limit, torc queries Slurm's accounting once, and adds it to what torc-step measured.
#
# The trap does not change how the script ends: the exit status stays, and a signal that ends the script still does so
# (in bash; sh runs the trap only if the script exits by itself). If the file system does not answer, torc gives up after
# 90 s. Run the script in the directory where you start the steps, or set TORC_OUTPUT_DIR. If your script has its own
# EXIT trap, call `torc slurm epilog || :` from that trap instead.
trap 'torc slurm epilog || :' EXIT
