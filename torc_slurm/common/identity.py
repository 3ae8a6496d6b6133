"""Identifies a step: from the environment, the cgroup and the parent.

Standard library only, and of that only ``os``: ``torc-step`` loads this before the job starts.
"""

from __future__ import annotations

import os

# The wrapper sets this for the job: a wrapper inside the job sees what is already measured.
ACTIVE_VARIABLE = "TORC_STEP_ACTIVE"
IDENTITY_NUMBERS = ("workflow_id", "run_id", "job_id", "attempt_id")
_INHERITED_IDS = ("TORC_WORKFLOW_ID", "TORC_RUN_ID", "TORC_JOB_ID", "TORC_JOB_NAME", "TORC_ATTEMPT_ID")

_MOST_NODES = 1_000_000
# Slurm's step numbers that have a name (slurm.h: SLURM_BATCH_SCRIPT, SLURM_EXTERN_CONT, SLURM_INTERACTIVE_STEP).
SPECIAL_STEP_NUMBERS = {"batch": 0xFFFFFFFB, "extern": 0xFFFFFFFC, "interactive": 0xFFFFFFFA}
_SPECIAL_STEP_NAMES = {number: name for name, number in SPECIAL_STEP_NUMBERS.items()}


class StepIdentity:
    """What a wrapper knows about its step; None if it does not exist (outside Slurm, no workflow).

    ``job_id`` and ``run_id`` are None only for a record outside Slurm before its run id is chosen; ``attempt_id`` is
    None if the node file numbers the attempts (ad hoc steps: a second wrapper in one step is the next attempt).
    """

    __slots__ = (
        "attempt_id",
        "is_grouped",
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
    is_grouped: bool  # other jobs run in the same step, before it and after

    @property
    def is_in_srun_step(self) -> bool:
        return self.step_id is not None and whole_number(self.step_id) is not None

    @property
    def shares_a_monitor(self) -> bool:
        """Whether the step's tasks on this node have one monitor: also if a script runs before torc-step."""
        return self.is_in_srun_step and self.local_task_count > 1

    def make_independent(self) -> None:
        """Make this a further torc-step in a task that has one already: its own record, with one task."""
        self.task_count = self.local_task_count = self.node_count = 1
        self.node_index = 0
        self.parent_is_slurmstepd = False

    @property
    def owns_its_cgroup(self) -> bool:
        """Whether the step's cgroup counts only this step: an srun step that slurmstepd itself started."""
        return self.parent_is_slurmstepd and self.is_in_srun_step

    @property
    def active_mark(self) -> str:
        """Identifies what is measured here; outside Slurm and workflows each wrapper has its own record."""
        if self.slurm_job_id is not None:
            return f"slurm {self.slurm_job_id}.{self.step_id}"
        if self.workflow_id is not None:
            return f"workflow {self.workflow_id}.{self.run_id}.{self.job_id}.{self.attempt_id}"
        return f"local {os.getpid()}"

    @property
    def step_key(self) -> str:
        """Identifies the step on this node in file and socket names: ``<job>.<step>.<restart>.<node>``."""
        return f"{self.slurm_job_id}.{self.step_id}.{self.run_id}.{self.node}"


def named_step(number: int) -> int | str:
    """The shown number of a job or step, or ``batch`` for Slurm's number of the batch step."""
    return _SPECIAL_STEP_NAMES.get(number, number)


def step_number(text: str) -> int | None:
    """The reverse of `named_step`; None if the text is neither a number nor ``batch``."""
    return SPECIAL_STEP_NUMBERS.get(text) or whole_number(text)


def absolute_output_dir(given: str | None, environ: dict[str, str]) -> str:
    """``--output-dir``, else ``$TORC_OUTPUT_DIR``, else ``torc_output``; absolute."""
    path = given or environ.get("TORC_OUTPUT_DIR") or "torc_output"
    try:
        return os.path.abspath(path)
    except OSError:  # the working directory was deleted: its last path
        return os.path.normpath(os.path.join(os.readlink("/proc/self/cwd").removesuffix(" (deleted)"), path))


def identify(environ: dict[str, str], given: dict[str, str | int]) -> StepIdentity:
    """Find out which step this is.

    ``given`` has the ids from options: ``workflow_id run_id job_id job_name attempt_id output_dir``; each overrides its
    ``TORC_*`` variable. The step's number comes from the cgroup, else from slurmstepd's title, and only then from the
    environment, which a batch script submitted from inside another step inherits.
    """
    me = _identify(environ, given)
    active = environ.get(ACTIVE_VARIABLE)
    if active and active != me.active_mark:  # inside another measured step: the ids are that step's
        me = _identify({name: value for name, value in environ.items() if name not in _INHERITED_IDS}, given)
    return me


def whole_number(text: str) -> int | None:
    """The number that a text of at most 18 ASCII digits denotes; None for any other text."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def ids_in_environment(environ: dict[str, str]) -> dict[str, int]:
    """The ids in ``TORC_*``. A workflow's only if all four are set: other programs use some of these names."""
    ids = {name: whole_number(environ.get(f"TORC_{name.upper()}", "")) for name in IDENTITY_NUMBERS}
    found = {name: number for name, number in ids.items() if number is not None}
    return found if "workflow_id" not in found or len(found) == len(IDENTITY_NUMBERS) else {}


def _identify(environ: dict[str, str], given: dict[str, str | int]) -> StepIdentity:
    me = StepIdentity()
    me.is_grouped = False
    _place_in_slurm(me, environ)
    _place_of_task(me, environ)
    me.output_dir = absolute_output_dir(_text(given.get("output_dir")), environ)
    slurm_name = environ.get("SLURMD_NODENAME") if me.slurm_job_id is not None else None
    me.node = slurm_name or os.uname().nodename.partition(".")[0]
    inherited = ids_in_environment(environ)
    ids = {name: given.get(name, inherited.get(name)) for name in IDENTITY_NUMBERS}
    me.workflow_id, me.run_id, me.job_id, me.attempt_id = (
        None if number is None else int(number) for number in ids.values()
    )
    me.job_name = _text(given.get("job_name")) or (environ.get("TORC_JOB_NAME") if inherited else None)
    if me.workflow_id is None:
        _fill_ad_hoc(me, environ)
    return me


def _fill_ad_hoc(me: StepIdentity, environ: dict[str, str]) -> None:
    me.attempt_id = None
    if me.slurm_job_id is None or me.step_id is None:
        me.job_id = 1
        return
    number = whole_number(me.step_id)
    me.job_id = SPECIAL_STEP_NUMBERS.get(me.step_id, -1) if number is None else number
    me.job_name = environ.get("SLURM_JOB_NAME") if me.job_name is None else me.job_name
    me.run_id = _count(environ, "SLURM_RESTART_COUNT") + 1


def _text(value: str | int | None) -> str | None:
    return None if value is None else str(value)


def _place_in_slurm(me: StepIdentity, environ: dict[str, str]) -> None:
    me.slurm_job_id = me.step_id = me.slurm_array = None
    me.parent_is_slurmstepd = False
    job_text = environ.get("SLURM_JOB_ID", "")
    if not whole_number(job_text):
        return
    step = step_from_cgroup(_read("/proc/self/cgroup"), job_text) or _step_from_ancestors(job_text)
    step = step or environ.get("SLURM_STEP_ID") or ("batch" if environ.get("ENVIRONMENT") == "BATCH" else None)
    if step is None:
        return  # salloc's shell on a login node: in an allocation, but in none of its steps
    me.parent_is_slurmstepd = _may_be_slurmstepd(os.getppid())
    me.slurm_job_id = int(job_text)
    me.step_id = _SPECIAL_STEP_NAMES.get(whole_number(step) or 0, step)
    if environ.get("SLURM_ARRAY_JOB_ID") and environ.get("SLURM_ARRAY_TASK_ID"):
        me.slurm_array = f"{environ['SLURM_ARRAY_JOB_ID']}_{environ['SLURM_ARRAY_TASK_ID']}"


def step_from_cgroup(text: str, slurm_job_id: str) -> str | None:
    """The step in ``/proc/self/cgroup``, as ``0`` or ``batch``; None if no line names one.

    From Slurm 26.05 the job's directory has the job's SLUID as its name, so only the step's part of the path is read.
    """
    for line in text.splitlines():
        parts = line.partition(":")[2].partition(":")[2].split("/")
        for place, part in enumerate(parts):
            above = parts[place - 1]
            if part.startswith("step_") and (above == f"job_{slurm_job_id}" or not above.startswith("job_")):
                return part[len("step_") :]
    return None


def _step_from_ancestors(slurm_job_id: str) -> str | None:
    """The step in the title of the nearest slurmstepd: ``slurmstepd: [12.0]`` (seen on 22.05 to 26.05).

    None if /proc is not readable or not ours: then the environment is used.
    """
    if not proc_is_ours():
        return None
    pid = os.getppid()
    for _ in range(64):
        if pid <= 1:
            return None
        if _read(f"/proc/{pid}/comm").startswith("slurmstepd"):
            return step_from_title(_read(f"/proc/{pid}/cmdline"), slurm_job_id)
        pid = _parent_of(pid)
    return None


def step_from_title(title: str, slurm_job_id: str) -> str | None:
    """The step in ``slurmstepd: [<job>.<step>]``, if it is of this job."""
    inside = title.partition("[")[2].partition("]")[0]
    job, _, step = inside.partition(".")
    return step if job.partition("+")[0] == slurm_job_id and step else None


def proc_is_ours() -> bool:
    """Whether /proc has the process numbers of our PID namespace: in a container it may be another's."""
    try:
        return os.readlink("/proc/self") == str(os.getpid())
    except OSError:
        return False


def _may_be_slurmstepd(parent: int) -> bool:
    """Whether an invisible parent can be slurmstepd: with hidepid on /proc it belongs to another user."""
    if not proc_is_ours() or parent <= 1:
        return False
    try:
        with open(f"/proc/{parent}/comm", "rb") as file:
            return file.read().startswith(b"slurmstepd")
    except OSError:
        return True


def _parent_of(pid: int) -> int:
    stat = _read(f"/proc/{pid}/stat")
    fields = stat[stat.rfind(")") + 2 :].split()
    return int(fields[1]) if len(fields) > 1 else 0


def _place_of_task(me: StepIdentity, environ: dict[str, str]) -> None:
    values = environ if me.is_in_srun_step else {}
    me.task = _count(values, "SLURM_PROCID")
    me.local_task = _count(values, "SLURM_LOCALID")
    me.node_index = _count(values, "SLURM_NODEID")
    me.node_count = _count(values, "SLURM_STEP_NUM_NODES") or 1
    me.task_count = _count(values, "SLURM_STEP_NUM_TASKS") or 1
    counts = tasks_per_node(values.get("SLURM_STEP_TASKS_PER_NODE", ""))
    me.local_task_count = counts[me.node_index] if me.node_index < len(counts) else 1


def _count(environ: dict[str, str], name: str) -> int:
    """A variable that Slurm sets to a number; 0 if it is unset or not a number: a bad value never stops a job."""
    return whole_number(environ.get(name, "")) or 0


def tasks_per_node(text: str) -> list[int]:
    """Slurm's ``2(x3),1`` as ``[2, 2, 2, 1]``; empty for any other text."""
    counts: list[int] = []
    for part in text.split(","):
        count, _, times = part.partition("(x")
        number, repeated = whole_number(count), whole_number(times.rstrip(")") or "1")
        if not number or not repeated or repeated > _MOST_NODES:
            return []
        counts += [number] * repeated
    return counts


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read().decode("utf-8", "replace").replace("\0", " ")
    except OSError:
        return ""
