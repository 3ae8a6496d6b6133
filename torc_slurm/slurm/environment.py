"""Which inherited variables reach Slurm's commands; pure.

Slurm's commands read options from the environment. For ``sbatch`` such a variable even overrides the ``#SBATCH`` lines
of the script. The rule: what the user set in the workflow file or as an option wins, torc sets what it needs, and every
other variable passes. Sources: "INPUT ENVIRONMENT VARIABLES" of sbatch(1), srun(1), squeue(1), sinfo(1), sacct(1),
scontrol(1) and scancel(1), Slurm 22.05 to 26.05.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

# --- sbatch -------------------------------------------------------------------------------------------------------

# torc decides these whatever a script says: a waiting submission, an array of runners, other places for output.
_SBATCH_NEVER = frozenset(
    {
        "SBATCH_ARRAY_INX",
        "SBATCH_DEBUG",
        "SBATCH_ERROR",
        "SBATCH_INPUT",
        "SBATCH_NO_REQUEUE",
        "SBATCH_REQUEUE",
        "SBATCH_TEST_ONLY",
        "SBATCH_WAIT",
    }
)
# Variables whose name differs from their option's.
_SBATCH_OPTIONS = {
    "SBATCH_CORE_SPEC": ("core-spec", "thread-spec"),
    "SBATCH_JOB_NAME": ("job-name",),
    "SBATCH_REQ_SWITCH": ("switches",),
    "SBATCH_THREAD_SPEC": ("core-spec", "thread-spec"),
    "SBATCH_TIMELIMIT": ("time",),
    "SBATCH_WAIT4SWITCH": ("switches",),
}
# Options of one group exclude or replace one another: if one is set, the variables of all are removed.
_GROUPS: tuple[frozenset[str], ...] = (
    frozenset({"mem-per-node", "mem", "mem-per-cpu", "mem-per-gpu"}),
    frozenset({"exclusive", "oversubscribe"}),
    frozenset({"gres", "gpus", "gpus-per-node", "gpus-per-task", "gpus-per-socket"}),
    frozenset({"cpus-per-task", "cpus-per-gpu"}),
)
_SHORT_OPTIONS = {
    "A": "account", "B": "extra-node-info", "C": "constraint", "D": "chdir", "F": "nodefile", "G": "gpus", "H": "hold",
    "J": "job-name", "L": "licenses", "M": "clusters", "N": "nodes", "O": "overcommit", "S": "core-spec", "W": "wait",
    "a": "array", "b": "begin", "c": "cpus-per-task", "d": "dependency", "e": "error", "i": "input", "k": "no-kill",
    "m": "distribution", "n": "ntasks", "o": "output", "p": "partition", "q": "qos", "s": "oversubscribe", "t": "time",
    "w": "nodelist", "x": "exclude",
}  # fmt: skip

# Variables that Slurm sets in a job and that are settings of a user or a site: a job that is submitted from there
# inherits them. The others describe the outer job, and would be wrong for the new one.
_SETTINGS = frozenset(
    {
        "SLURM_BITSTR_LEN",
        "SLURM_CLUSTERS",
        "SLURM_CONF",
        "SLURM_DEBUG_FLAGS",
        "SLURM_JWT",
        "SLURM_MPI_TYPE",
        "SLURM_TIME_FORMAT",
    }
)


def given_options(script: str, arguments: Iterable[str]) -> set[str]:
    """The long names of the options in a script's ``#SBATCH`` lines and in sbatch's arguments."""
    words = [line[len("#SBATCH ") :].strip() for line in script.splitlines() if line.startswith("#SBATCH ")]
    names = set()
    for word in (*words, *arguments):
        if word.startswith("--"):
            names.add(word[2:].partition("=")[0].partition(" ")[0])
        elif word.startswith("-") and word[1:2] in _SHORT_OPTIONS:
            names.add(_SHORT_OPTIONS[word[1]])
    return names


def value_of(option: str, arguments: Sequence[str]) -> str | None:
    """The last value of an option (by its long name) in sbatch's arguments; None: not given."""
    value = None
    for number, word in enumerate(arguments):
        following = arguments[number + 1] if number + 1 < len(arguments) else ""
        if word.startswith("--") and word[2:].partition("=")[0] == option:
            value = word.partition("=")[2] or following
        elif word[:1] == "-" and word[1:2] != "-" and _SHORT_OPTIONS.get(word[1:2]) == option:
            value = word[2:] or following
    return value or None


def sbatch_environment(inherited: Mapping[str, str], given: Iterable[str]) -> dict[str, str]:
    """The environment for sbatch, without variables that would replace what the user set.

    Args:
        given: long names of options, from `given_options`.
    """
    replaced = set(given)
    for group in _GROUPS:
        if replaced & group:
            replaced |= group
    in_a_job = "SLURM_JOB_ID" in inherited
    return {
        name: value
        for name, value in inherited.items()
        if not (name in _SBATCH_NEVER or _replaces(name, replaced) or (in_a_job and _describes_a_job(name)))
    }


def _replaces(name: str, given: set[str]) -> bool:
    if not name.startswith("SBATCH_"):
        return name == "SLURM_CLUSTERS" and "clusters" in given
    options = _SBATCH_OPTIONS.get(name) or (name.removeprefix("SBATCH_").lower().replace("_", "-"),)
    return not given.isdisjoint(options)


def _describes_a_job(name: str) -> bool:
    return name.startswith(("SLURM_", "SLURMD_", "SRUN_")) and name not in _SETTINGS


# --- srun ---------------------------------------------------------------------------------------------------------

# torc sets the nodes, tasks, CPUs, memory, GPUs, streams, directory and time of each step itself.
_SRUN_NEVER = frozenset(
    {
        "SLURM_BCAST",  # would run a copy of torc-step without its package
        "SLURM_BCAST_EXCLUDE",
        "SLURM_CLUSTERS",
        "SLURM_CPUS_PER_GPU",
        "SLURM_CPUS_PER_TASK",
        "SLURM_DEBUG",
        "SLURM_DISTRIBUTION",
        "SLURM_DIST_PLANESIZE",
        "SLURM_EXACT",
        "SLURM_EXCLUSIVE",
        "SLURM_EXIT_IMMEDIATE",
        "SLURM_EXPORT_ENV",
        "SLURM_GRES",
        "SLURM_HINT",
        "SLURM_HOSTFILE",
        "SLURM_IMMEDIATE",  # a step that must wait for room would fail
        "SLURM_NPROCS",
        "SLURM_OVERLAP",
        "SLURM_REMOTE_CWD",
        "SLURM_SEND_LIBS",
        "SLURM_STDERRMODE",
        "SLURM_STDINMODE",
        "SLURM_STDOUTMODE",
        "SLURM_STEP_GRES",
        "SLURM_THREADS_PER_CORE",
        "SLURM_TIMELIMIT",
        "SLURM_TRES_PER_TASK",
        "SLURM_WHOLE",
        "SLURM_WORKING_DIR",
        "SRUN_CPUS_PER_TASK",
        "SRUN_DEBUG",
        "SRUN_ERROR",
        "SRUN_EXPORT_ENV",
        "SRUN_INPUT",
        "SRUN_OUTPUT",
    }
)
_SRUN_NEVER_PREFIXES = ("SLURM_MEM_PER_", "SLURM_NTASKS", "SLURM_GPUS")
# Slurm sets both in a step (srun --pty bash), for that step. If the second is absent, a user set the first.
_BINDINGS = (("SLURM_CPU_BIND", "SLURM_CPU_BIND_TYPE"), ("SLURM_MEM_BIND", "SLURM_MEM_BIND_TYPE"))


def step_environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """The environment for the srun of one step, without what would replace the step's size, streams or time."""
    prefixes = (*_SRUN_NEVER_PREFIXES, *(name for name, mark in _BINDINGS if mark in inherited))
    return {
        name: value for name, value in inherited.items() if name not in _SRUN_NEVER and not name.startswith(prefixes)
    }


# --- queries ------------------------------------------------------------------------------------------------------

# The form of an answer must not depend on the user's language, time zone, time format, columns or filters.
_QUERY_SETTINGS = {"LC_ALL": "C", "TZ": "UTC0", "SLURM_TIME_FORMAT": "standard", "SLURM_BITSTR_LEN": "0"}
_QUERY_NEVER_PREFIXES = ("SACCT_", "SCANCEL_", "SCONTROL_", "SINFO_", "SQUEUE_")
# With SLURM_CLUSTERS squeue and sinfo print an extra line; torc names a cluster explicitly.
_QUERY_NEVER = frozenset({"SLURM_CLUSTERS", "SLURM_DEBUG_FLAGS", "SLURM_TOPO_LEN"})


def query_environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """The environment for squeue, sinfo, sacct, scontrol and scancel: the same answer for every user; times in UTC."""
    kept = {
        name: value
        for name, value in inherited.items()
        if name not in _QUERY_NEVER and not name.startswith(_QUERY_NEVER_PREFIXES)
    }
    return kept | _QUERY_SETTINGS
