"""Who a step is and where its record goes: from the environment, the cgroup and the parent; and every file name.

Standard library only, and of that only ``os``: ``torc-step`` loads this before the job starts.
"""

from __future__ import annotations

import os

PLOTS_DIR = "resource_plots"
RESOURCE_DIR = "resource_utilization"
DEFAULT_OUTPUT_DIR = "torc_output"

# Set for the job by the wrapper: what is measured here, so that a wrapper inside it knows.
ACTIVE_VARIABLE = "TORC_STEP_ACTIVE"
_INHERITED_IDS = ("TORC_WORKFLOW_ID", "TORC_RUN_ID", "TORC_JOB_ID", "TORC_JOB_NAME", "TORC_ATTEMPT_ID")

# Slurm's step numbers that stand for a name (slurm.h: SLURM_BATCH_SCRIPT, SLURM_EXTERN_CONT, SLURM_INTERACTIVE_STEP).
SPECIAL_STEP_NUMBERS = {"batch": 0xFFFFFFFB, "extern": 0xFFFFFFFC, "interactive": 0xFFFFFFFA}


class StepIdentity:
    """What a wrapper knows of its step; None where there is no such thing (outside Slurm, no workflow).

    ``job_id`` and ``run_id`` are None only for a record outside Slurm before its run id was drawn; ``attempt_id`` is
    None where the node file numbers the attempts (ad hoc steps: a second wrapper in one step is the next attempt).
    """

    __slots__ = (
        "attempt_id",
        "job_id",
        "job_name",
        "local_task",
        "local_task_count",
        "node",
        "node_count",
        "node_index",
        "output_dir",
        "parent_is_slurmstepd",
        "run_id",
        "slurm_array",
        "slurm_job_id",
        "step_id",
        "task",
        "task_count",
        "workflow_id",
    )

    workflow_id: int | None
    run_id: int | None
    job_id: int | None
    job_name: str | None
    attempt_id: int | None
    output_dir: str
    node: str
    slurm_job_id: int | None
    slurm_array: str | None
    step_id: str | None
    task: int
    local_task: int
    local_task_count: int
    task_count: int
    node_index: int
    node_count: int
    parent_is_slurmstepd: bool

    @property
    def shares_a_monitor(self) -> bool:
        """Whether the step's tasks on this node have one sampler: only tasks that slurmstepd itself started do."""
        return self.parent_is_slurmstepd and self.local_task_count > 1

    @property
    def starts_the_monitor(self) -> bool:
        return not self.shares_a_monitor or self.local_task == 0

    @property
    def owns_its_cgroup(self) -> bool:
        """Whether all that the step's cgroup counts is this step's: a srun step that slurmstepd itself started."""
        return self.parent_is_slurmstepd and self.step_id is not None and self.step_id.isdigit()

    @property
    def active_mark(self) -> str:
        """Names what is measured here; each wrapper outside Slurm and workflows is a record of its own."""
        if self.slurm_job_id is not None:
            return f"slurm {self.slurm_job_id}.{self.step_id}"
        if self.workflow_id is not None:
            return f"workflow {self.workflow_id}.{self.run_id}.{self.job_id}.{self.attempt_id}"
        return f"local {os.getpid()}"

    @property
    def step_key(self) -> str:
        """Names the step on this node in file and socket names: ``<job>.<step>.<restart>.<node>``."""
        return f"{self.slurm_job_id}.{self.step_id}.{self.run_id}.{self.node}"


def node_file_path(output_dir: str, node: str, run_part: str, run_id: int) -> str:
    """The node file of ``node``; ``run_part`` is the workflow id, ``slurm<job id>`` or ``local``."""
    return os.path.join(output_dir, RESOURCE_DIR, f"resource_metrics_{node}_{run_part}_{run_id}.db")


def adhoc_node_file_name(hostname: str, slurm_job_id: int, run_id: int) -> str:
    """The name of an ad hoc node file: ``resource_metrics_<hostname>_slurm<slurm_job_id>_<run_id>.db``."""
    return os.path.basename(node_file_path("", hostname, f"slurm{slurm_job_id}", run_id))


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


def absolute_output_dir(given: str | None, environ: dict[str, str]) -> str:
    """``--output-dir``, else ``$TORC_OUTPUT_DIR``, else ``torc_output``; absolute."""
    path = given or environ.get("TORC_OUTPUT_DIR") or DEFAULT_OUTPUT_DIR
    try:
        return os.path.abspath(path)
    except OSError:  # the working directory was deleted: where it was
        return os.path.normpath(os.path.join(os.readlink("/proc/self/cwd").removesuffix(" (deleted)"), path))


def identify(environ: dict[str, str], given: dict[str, str | int]) -> StepIdentity:
    """Put together who this step is.

    ``given`` holds what options said: ``workflow_id run_id job_id job_name attempt_id output_dir``; each goes before
    its ``TORC_*`` variable. The step's number comes from the cgroup first, then from slurmstepd's title, and only then
    from the environment, which a batch script submitted from inside another step inherits.
    """
    me = _identify(environ, given)
    active = environ.get(ACTIVE_VARIABLE)
    if active and active != me.active_mark:  # started from inside another measured step: its ids are not ours
        me = _identify({name: value for name, value in environ.items() if name not in _INHERITED_IDS}, given)
    return me


def _identify(environ: dict[str, str], given: dict[str, str | int]) -> StepIdentity:
    me = StepIdentity()
    _place_in_slurm(me, environ)
    _place_of_task(me, environ)
    me.output_dir = absolute_output_dir(_text(given.get("output_dir")), environ)
    me.node = _node_name(me, environ)
    me.workflow_id = _number("workflow_id", given, environ)
    me.attempt_id = _number("attempt_id", given, environ)
    me.job_id = _number("job_id", given, environ)
    me.run_id = _number("run_id", given, environ)
    me.job_name = _text(given.get("job_name")) or environ.get("TORC_JOB_NAME")
    if me.workflow_id is None:
        _fill_ad_hoc(me, environ)
    return me


def _fill_ad_hoc(me: StepIdentity, environ: dict[str, str]) -> None:
    me.attempt_id = None
    if me.slurm_job_id is None or me.step_id is None:
        me.job_id = 1
        return
    me.job_id = int(me.step_id) if me.step_id.isdigit() else SPECIAL_STEP_NUMBERS.get(me.step_id, -1)
    me.job_name = environ.get("SLURM_JOB_NAME") if me.job_name is None else me.job_name
    me.run_id = int(environ.get("SLURM_RESTART_COUNT") or 0) + 1


def _text(value: str | int | None) -> str | None:
    return None if value is None else str(value)


def _number(name: str, given: dict[str, str | int], environ: dict[str, str]) -> int | None:
    value = given.get(name)
    if value is None:
        value = environ.get(f"TORC_{name.upper()}") or None
    return None if value is None else int(value)


def _place_in_slurm(me: StepIdentity, environ: dict[str, str]) -> None:
    me.slurm_job_id = me.step_id = me.slurm_array = None
    me.parent_is_slurmstepd = _is_slurmstepd(os.getppid())
    job_text = environ.get("SLURM_JOB_ID", "")
    if not job_text.isdigit():
        return
    step = step_from_cgroup(_read("/proc/self/cgroup"), job_text) or _step_from_ancestors(job_text)
    step = step or environ.get("SLURM_STEP_ID")
    if step is None:
        return  # salloc's shell on a login node: inside an allocation, but in none of its steps
    me.slurm_job_id = int(job_text)
    me.step_id = {str(number): name for name, number in SPECIAL_STEP_NUMBERS.items()}.get(step, step)
    if environ.get("SLURM_ARRAY_JOB_ID") and environ.get("SLURM_ARRAY_TASK_ID"):
        me.slurm_array = f"{environ['SLURM_ARRAY_JOB_ID']}_{environ['SLURM_ARRAY_TASK_ID']}"


def step_from_cgroup(text: str, slurm_job_id: str) -> str | None:
    """The step that ``/proc/self/cgroup`` names, as ``0`` or ``batch``; None where no line names one.

    From Slurm 26.05 the job's directory is named by its SLUID, so only the step's part of the path is read.
    """
    for line in text.splitlines():
        parts = line.partition(":")[2].partition(":")[2].split("/")
        for place, part in enumerate(parts):
            above = parts[place - 1]
            if part.startswith("step_") and (above == f"job_{slurm_job_id}" or not above.startswith("job_")):
                return part[len("step_") :]
    return None


def _step_from_ancestors(slurm_job_id: str) -> str | None:
    """The step that the nearest slurmstepd's title names: ``slurmstepd: [12.0]`` (seen on 22.05 to 26.05)."""
    pid = os.getppid()
    for _ in range(64):
        if pid <= 1:
            return None
        if _is_slurmstepd(pid):
            return step_from_title(_read(f"/proc/{pid}/cmdline"), slurm_job_id)
        pid = _parent_of(pid)
    return None


def step_from_title(title: str, slurm_job_id: str) -> str | None:
    """The step in ``slurmstepd: [<job>.<step>]``, if it is of this job."""
    inside = title.partition("[")[2].partition("]")[0]
    job, _, step = inside.partition(".")
    return step if job.partition("+")[0] == slurm_job_id and step else None


def _is_slurmstepd(pid: int) -> bool:
    return _read(f"/proc/{pid}/comm").startswith("slurmstepd")


def _parent_of(pid: int) -> int:
    stat = _read(f"/proc/{pid}/stat")
    fields = stat[stat.rfind(")") + 2 :].split()
    return int(fields[1]) if len(fields) > 1 else 0


def _place_of_task(me: StepIdentity, environ: dict[str, str]) -> None:
    in_srun_step = me.step_id is not None and me.step_id.isdigit()
    values = environ if in_srun_step else {}
    me.task = int(values.get("SLURM_PROCID") or 0)
    me.local_task = int(values.get("SLURM_LOCALID") or 0)
    me.node_index = int(values.get("SLURM_NODEID") or 0)
    me.node_count = int(values.get("SLURM_STEP_NUM_NODES") or 1)
    me.task_count = int(values.get("SLURM_STEP_NUM_TASKS") or 1)
    counts = tasks_per_node(values.get("SLURM_STEP_TASKS_PER_NODE") or "1")
    me.local_task_count = counts[me.node_index] if me.node_index < len(counts) else 1


def tasks_per_node(text: str) -> list[int]:
    """Slurm's ``2(x3),1`` as ``[2, 2, 2, 1]``."""
    counts: list[int] = []
    for part in text.split(","):
        count, _, times = part.partition("(x")
        counts += [int(count)] * int(times.rstrip(")") or 1)
    return counts


def _node_name(me: StepIdentity, environ: dict[str, str]) -> str:
    slurm_name = environ.get("SLURMD_NODENAME") if me.slurm_job_id is not None else None
    return slurm_name or os.uname().nodename.partition(".")[0]


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read().decode("utf-8", "replace").replace("\0", " ")
    except OSError:
        return ""
