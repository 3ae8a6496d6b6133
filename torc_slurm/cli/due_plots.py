"""Makes the plots of ended runs whose workflow has ``generate_plots: true``, at the next collect on a login node."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from torc_slurm.cli.options import say
from torc_slurm.common.errors import TorcError
from torc_slurm.files.output_names import PLOTS_DIR, run_plots_name

if TYPE_CHECKING:
    from torc_slurm.database.series import DueRun

_ON_COMPUTE_NODE = "SLURMD_NODENAME"  # only slurmd sets it, so it is absent in salloc's shell on a login node
_MOST_AT_ONCE = 3


def make_due_plots(output_dir: str, workflow_id: int | None = None) -> None:
    """Plot each ended run that is due and has a time series; never on a compute node.

    Args:
        workflow_id: only runs of this workflow; None: of any.

    A failure is a line on stderr: the command that collected has done its own work.
    """
    if os.environ.get(_ON_COMPUTE_NODE):
        return
    try:
        due = [run for run in _due(output_dir) if workflow_id in (None, run.workflow_id)]
    except TorcError as error:
        say(f"plots: {error}")
        return
    for run in due[:_MOST_AT_ONCE]:
        _plot(output_dir, run)


def _due(output_dir: str) -> list[DueRun]:
    """Runs without a directory of plots, latest first."""
    from torc_slurm.database.main import main_database_path, open_main
    from torc_slurm.database.series import runs_to_plot

    if not os.path.exists(main_database_path(output_dir)):
        return []
    with open_main(output_dir, on_wait=say) as database:
        runs = runs_to_plot(database.connection)
    return [run for run in runs if not os.path.exists(_directory(output_dir, run))]


def _directory(output_dir: str, run: DueRun) -> str:
    return os.path.join(output_dir, PLOTS_DIR, run_plots_name(run.workflow_id, run.run_id))


def _plot(output_dir: str, run: DueRun) -> None:
    from torc_slurm.cli.plot import opened_run, progress_bar
    from torc_slurm.plots.write import Wanted, write_pages

    directory = _directory(output_dir, run)
    try:
        paths = [os.path.join(output_dir, name) for name in run.node_files]
        with opened_run(paths) as opened, progress_bar(f"Plotting run {run.run_id}") as progress:
            pages = write_pages(opened, Wanted(directory), progress)
    except (TorcError, OSError) as error:
        say(f"the plots of workflow {run.workflow_id}, run {run.run_id} could not be made: {error}")
        return
    say(f"plots of workflow {run.workflow_id}, run {run.run_id}: {len(pages)} pages in {directory}")
