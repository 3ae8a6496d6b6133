"""srun's command line for one step, and what srun prints on stderr; pure.

`--exact` with explicit `--ntasks` and `--nodelist` gives each step its own CPUs on the chosen nodes. Settings inherited
from the batch script's allocation would change or break it (seen on 22.05).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from torc_slurm.common.units import slurm_time_limit

_STEP = re.compile(r"launching StepId=[0-9]+\.([0-9]+)")
_RAN = re.compile(r"_task_start|tasks? started|task [0-9,\-]+: ")
_WAITS = re.compile(r"step creation (?:temporarily|still) disabled")
# What --verbose adds to srun's own messages; none of it explains a failure.
_CHATTER = re.compile(
    r"srun: (?:(?:launch|route|mpi|switch|select|topology|auth|cred|hash|serializer|tls|gres)[/\w]*: |launching "
    r"|jobid [0-9]|Step created |Consumable|Implicitly|cli_filter|Using |_task_|topo|Received task exit"
    r"|CpuBindType=|Node [^ ]+, [0-9]+ tasks? started)"
)
_QUIET = frozenset(("-Q", "--quiet"))
_OPTIONS_BEGIN, _OPTIONS_END = "srun: defined options", "srun: end of defined options"


@dataclass(frozen=True)
class StepRequest:
    """A step: ``tasks_per_node`` tasks with ``cpus_per_task`` CPUs each, on each of these nodes.

    ``memory_mib`` and ``gpus`` are per node; memory None: not requested. ``overlap``: the step shares all CPUs and
    memory of its nodes with others. ``no_gres``: the allocation has GPUs, and this step must not hold any.
    """

    name: str
    nodes: tuple[str, ...]
    tasks_per_node: int
    cpus_per_task: int
    memory_mib: int | None = None
    gpus: int = 0
    no_gres: bool = False
    overlap: bool = False
    time_limit_seconds: int | None = None
    has_input: bool = False
    options: tuple[str, ...] = ()


def srun_command(srun: str, request: StepRequest, stderr_path: str | None) -> list[str]:
    """The words up to the command itself.

    The tasks write to ``stderr_path``, so that srun's stderr has only srun's messages (None: they write there too);
    ``--verbose`` makes srun print the step's number as soon as it knows it. The request's own options come last, and
    so override.
    """
    count = len(request.nodes)
    words = [
        srun,
        *(() if _QUIET & set(request.options) else ("--verbose",)),  # srun refuses both together
        f"--nodes={count}",
        f"--ntasks={count * request.tasks_per_node}",
        f"--ntasks-per-node={request.tasks_per_node}",
        f"--cpus-per-task={request.cpus_per_task}",
        f"--nodelist={','.join(request.nodes)}",
        "--input=0" if request.has_input else "--input=none",
        *(() if stderr_path is None else (f"--error={stderr_path}",)),
        f"--job-name={request.name}",
    ]
    if request.overlap:
        words += ["--overlap", "--mem=0"]
    else:
        words += ["--exact"] + ([] if request.memory_mib is None else [f"--mem={request.memory_mib}M"])
    if request.gpus:
        words.append(f"--gpus-per-node={request.gpus}")
    elif request.no_gres:
        words.append("--gres=none")
    if request.time_limit_seconds is not None:
        words.append(f"--time={slurm_time_limit(request.time_limit_seconds)}")
    return [*words, *request.options]


class SrunWords:
    """Reads one srun's stderr as it comes: the step's number, and the messages to keep."""

    MOST_CHARACTERS = 4000

    def __init__(self) -> None:
        self.step_id: str | None = None
        self.ran = False
        self.waited_for_room = False
        self._kept: list[str] = []
        self._partial = b""
        self._in_options = False

    def take(self, output: bytes) -> None:
        """Add a piece of its output; a line may come in several pieces."""
        *lines, self._partial = (self._partial + output).split(b"\n")
        for line in lines:
            self._line(line.decode("utf-8", "backslashreplace"))
        self._partial = self._partial[-self.MOST_CHARACTERS :]

    def text(self) -> str:
        """srun's messages without those of ``--verbose``; the end of them if they are long."""
        return "\n".join([*self._kept, *filter(None, [self._partial.decode("utf-8", "backslashreplace")])])

    def _line(self, line: str) -> None:
        if line in (_OPTIONS_BEGIN, _OPTIONS_END):
            self._in_options = line == _OPTIONS_BEGIN
        elif not self._in_options:
            self._note(line)

    def _note(self, line: str) -> None:
        found = _STEP.search(line)
        if found is not None:
            self.step_id = found[1]
        self.ran = self.ran or _RAN.search(line) is not None
        if _WAITS.search(line) is not None:
            self.waited_for_room = True
        elif not _CHATTER.match(line):
            self._kept.append(line)
            while len(self._kept) > 1 and sum(map(len, self._kept)) > self.MOST_CHARACTERS:
                del self._kept[0]
