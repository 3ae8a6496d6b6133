"""Makes and parses every name under an output directory.

Loads only ``os``, for the monitor. The part of a node file's name after the host says
whose run it is: a workflow's id, ``slurm<job id>`` for an ad hoc allocation, or ``local``.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from torc_slurm.common.identity import StepIdentity

MAIN_DATABASE_NAME = "torc.db"
RESOURCE_DIR = "resource_utilization"
PLANS_DIR = "plans"
PLOTS_DIR = "resource_plots"
STDIO_DIR = "job_stdio"
_USER_DATA_DIR = "user_data"
PLOT_PREFIX = "resource_plot"
REPORT_NAME = "resource_report.html"

_NODE_PREFIX, _NODE_SUFFIX = "resource_metrics_", ".db"
_MOST_DIGITS = 15


class NodeFileName:
    """The parts of a node file's name; ``workflow_id`` is None for an ad hoc allocation and for a local record."""

    __slots__ = ("node", "run_id", "run_part")

    def __init__(self, node: str, run_part: str, run_id: int) -> None:
        self.node = node
        self.run_part = run_part
        self.run_id = run_id

    @property
    def workflow_id(self) -> int | None:
        """The workflow that the file belongs to."""
        return _number(self.run_part)


def node_file_path(output_dir: str, node: str, run_part: str, run_id: int) -> str:
    """The node file of ``node``; ``run_part`` is the workflow id, ``slurm<job id>`` or ``local``."""
    return os.path.join(output_dir, RESOURCE_DIR, f"{_NODE_PREFIX}{node}_{run_part}_{run_id}{_NODE_SUFFIX}")


def node_file_of(identity: StepIdentity) -> str:
    """The absolute path of the node file that this step writes; ``run_id`` must be known."""
    if identity.workflow_id is not None:
        run_part = str(identity.workflow_id)
    elif identity.slurm_job_id is not None:
        run_part = f"slurm{identity.slurm_job_id}"
    else:
        run_part = "local"
    assert identity.run_id is not None
    return node_file_path(identity.output_dir, identity.node, run_part, identity.run_id)


def is_node_file_name(name: str) -> bool:
    """Whether a file of that name is collected. Only its beginning and end count, so a renamed one is too."""
    return name.startswith(_NODE_PREFIX) and name.endswith(_NODE_SUFFIX)


def parse_node_file_name(name: str) -> NodeFileName | None:
    """The parts of ``resource_metrics_<hostname>_<run part>_<run id>.db``; None: another name."""
    if not is_node_file_name(name):
        return None
    parts = name[len(_NODE_PREFIX) : -len(_NODE_SUFFIX)].rsplit("_", 2)
    run_id = _number(parts[-1])
    return None if len(parts) != 3 or run_id is None else NodeFileName(parts[0], parts[1], run_id)


def node_file_names(output_dir: str) -> list[str]:
    """The names of the node files of an output directory, sorted; none if nothing has been measured yet.

    Raises:
        OSError: the directory cannot be read.
    """
    return sorted(filter(is_node_file_name, _names_in(os.path.join(output_dir, RESOURCE_DIR))))


def node_files_of_run(output_dir: str, run_part: str | int, run_id: int) -> list[str]:
    """The paths of a run's node files so far, of all nodes; ``run_part`` as in `node_file_path`.

    Raises:
        OSError: the directory cannot be read.
    """
    found = []
    for name in node_file_names(output_dir):
        parts = parse_node_file_name(name)
        if parts is not None and (parts.run_part, parts.run_id) == (str(run_part), run_id):
            found.append(os.path.join(output_dir, RESOURCE_DIR, name))
    return found


def output_dir_of_node_file(path: str) -> str | None:
    """The output directory of a node file; None if it lies elsewhere."""
    directory = os.path.dirname(os.path.abspath(path))
    return os.path.dirname(directory) if os.path.basename(directory) == RESOURCE_DIR else None


def plan_path(output_dir: str, workflow_id: int, run_id: int, stage: int | None = None) -> str:
    """The plan of a run: ``<output_dir>/plans/wf<W>_r<R>.json``; of one stage of it: ``wf<W>_r<R>_s<S>.json``."""
    return _run_path(output_dir, workflow_id, run_id, "json", stage)


def claim_path(output_dir: str, workflow_id: int, run_id: int) -> str:
    """The claim, next to the plan: ``<output_dir>/plans/wf<W>_r<R>.claim``."""
    return _run_path(output_dir, workflow_id, run_id, "claim")


def script_path(output_dir: str, workflow_id: int, run_id: int, stage: int | None = None) -> str:
    """The script for sbatch: ``<output_dir>/plans/wf<W>_r<R>.sbatch``."""
    return _run_path(output_dir, workflow_id, run_id, "sbatch", stage)


def _run_path(output_dir: str, workflow_id: int, run_id: int, ending: str, stage: int | None = None) -> str:
    of_stage = "" if stage is None else f"_s{stage}"
    return os.path.join(output_dir, PLANS_DIR, f"wf{workflow_id}_r{run_id}{of_stage}.{ending}")


def is_stage_file(path: str) -> bool:
    """Whether a path has the name of a stage's plan."""
    stem, _, stage = os.path.basename(path).removesuffix(".json").rpartition("_s")
    return path.endswith(".json") and bool(stem) and _number(stage) is not None


def run_of_stage_script(path: str) -> int | None:
    """The run of which this script runs a stage; None: another name."""
    found = parse_run_file_name(os.path.basename(path))
    return None if found is None or not found[2].endswith(".sbatch") else found[1]


def parse_run_file_name(name: str) -> tuple[int, int, str] | None:
    """The workflow, the run and the suffix of ``wf<W>_r<R>.<suffix>``; None: another name.

    For ``wf<W>_r<R>_s<S>.<suffix>``, which belongs to a stage of that run, the suffix is ``s<S>.<suffix>``.
    """
    stem, dot, ending = name.partition(".")
    beginning, _, run = stem.partition("_r")
    run, _, stage = run.partition("_s")
    ending = f"s{stage}.{ending}" if stage else ending
    workflow_id = _number(beginning[2:]) if beginning.startswith("wf") else None
    run_id = _number(run)
    return None if workflow_id is None or run_id is None or not dot else (workflow_id, run_id, ending)


def run_plots_name(workflow_id: int, run_id: int) -> str:
    """The directory below `PLOTS_DIR` for the plots that torc makes of a run by itself."""
    return f"wf{workflow_id}_r{run_id}"


def workflow_of_run_plots(name: str) -> int | None:
    """The workflow whose plots a directory of that name has; None: another name."""
    found = parse_run_file_name(name + ".")
    return None if found is None or found[2] else found[0]


def run_file_names(output_dir: str) -> list[str]:
    """The names of the files in the directory of the plans; none if it does not exist."""
    try:
        return sorted(os.listdir(os.path.join(output_dir, PLANS_DIR)))
    except (FileNotFoundError, NotADirectoryError):
        return []


def attempt_name(workflow_id: int, job_id: int, run_id: int, attempt_id: int) -> str:
    """``wf<W>_j<J>_r<R>_a<A>``: the step's name, and the prefix of a job's output files."""
    return f"wf{workflow_id}_j{job_id}_r{run_id}_a{attempt_id}"


def group_name(workflow_id: int, run_id: int, number: int) -> str:
    """``wf<W>_g<N>_r<R>_a1``: the name of the step that a group of jobs shares."""
    return f"wf{workflow_id}_g{number}_r{run_id}_a1"


def is_step_of_run(name: str, workflow_id: int, run_id: int) -> bool:
    """Whether a step of that name is an attempt of a job of that run, or a group of them."""
    parts = name.split("_")
    ours = len(parts) == 4 and (parts[0], parts[2]) == (f"wf{workflow_id}", f"r{run_id}")
    return ours and parts[1].startswith(("j", "g")) and parts[3].startswith("a")


def stdio_stem(output_dir: str, attempt: str) -> str:
    """The path of a job's output without ``.o`` and ``.e``; ``attempt`` is an `attempt_name`."""
    return os.path.join(output_dir, STDIO_DIR, f"job_{attempt}")


def recovery_log_name(attempt: str) -> str:
    """In `STDIO_DIR`: the output of a recovery script; ``attempt`` is an `attempt_name`."""
    return f"recovery_{attempt}.log"


def action_log_name(workflow_id: int, run_id: int, number: int) -> str:
    """In `STDIO_DIR`: the output of an action's commands."""
    return f"action_wf{workflow_id}_r{run_id}_{number}.log"


def user_data_path(output_dir: str, workflow_id: int, user_data_id: int) -> str:
    """A value that jobs share: ``<output_dir>/user_data/wf<W>_d<ID>.json``."""
    return os.path.join(output_dir, _USER_DATA_DIR, f"wf{workflow_id}_d{user_data_id}.json")


def user_data_files(output_dir: str, workflow_id: int) -> list[str]:
    """The paths of the values that a workflow's jobs have written.

    Raises:
        OSError: the directory cannot be read.
    """
    directory = os.path.join(output_dir, _USER_DATA_DIR)
    return [os.path.join(directory, name) for name in _names_in(directory) if name.startswith(f"wf{workflow_id}_d")]


def allocation_output_name(workflow_id: int) -> str:
    """The name of an allocation's output for sbatch: Slurm replaces ``%j`` by its job id."""
    return f"slurm_output_wf{workflow_id}_sl%j.o"


def _names_in(directory: str) -> list[str]:
    """The names in it; none if there is no such directory, also after another look (see `is_directory`)."""
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        from torc_slurm.files.shared_directory import is_directory  # torc-step, which starts quickly, does not need it

        return os.listdir(directory) if is_directory(directory) else []


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS else None
