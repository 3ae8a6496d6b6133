"""Makes a directory with a ``sacct`` and a ``scontrol`` that answer for one allocation with very many steps.

The allocation is the first component of a heterogeneous job. Its second component runs some of the same steps, and the
answer begins with a task of a job array, which torc must leave out.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from bench.scale.node_files import BEGIN, STEP_SECONDS
from bench.scale.plain import ANSWER, DELIMITER
from torc_slurm.slurm.sacct import COLUMNS, NEW_COLUMNS

JOB, COMPONENT, ARRAY_TASK = 7, 8, 3
_SHARED_STEPS = 100
_NAMES = (*COLUMNS[:-1], *NEW_COLUMNS, COLUMNS[-1])
_SACCT = """#!/bin/sh
if [ "$1" = -e ]; then echo '{columns}'; else exec cat '{answer}'; fi
"""
_SCONTROL = """#!/bin/sh
echo 'SLURM_VERSION = 24.11.5'
echo 'JobAcctGatherType = jobacct_gather/cgroup'
echo 'JobAcctGatherFrequency = task=30'
"""


def make_accounting(directory: Path, *, steps: int) -> None:
    """The two commands, for a directory to be put first on PATH, and the answer of job 7 with its steps 1, 2, …"""
    directory.mkdir(parents=True)
    with open(directory / ANSWER, "w", encoding="utf-8") as file:
        for cells in _answer(steps):
            file.write("".join(f"{cell}{DELIMITER}" for cell in cells) + "\n")
    for name, text in (
        ("sacct", _SACCT.format(columns=" ".join(_NAMES), answer=directory / ANSWER)),
        ("scontrol", _SCONTROL),
    ):
        (directory / name).write_text(text)
        (directory / name).chmod(0o755)


def _answer(steps: int) -> Iterator[list[str]]:
    yield list(_NAMES)
    end = BEGIN + steps + STEP_SECONDS
    yield _record(ARRAY_TASK, "2_1", "", BEGIN, end, _OF_JOB)
    yield _record(ARRAY_TASK, "2_1", "0", BEGIN, end, _figures(0))
    yield _record(JOB, f"{JOB}+0", "", BEGIN, end, _OF_JOB)
    yield _record(JOB, f"{JOB}+0", "batch", BEGIN, end, _figures(0))
    yield _record(JOB, f"{JOB}+0", "extern", BEGIN, end, _figures(0))
    for step in range(1, steps + 1):
        yield _step(JOB, f"{JOB}+0", step)
    yield _record(COMPONENT, f"{JOB}+1", "", BEGIN, end, _OF_JOB)
    yield _record(COMPONENT, f"{JOB}+1", "extern", BEGIN, end, _figures(0))
    for step in range(1, min(steps, _SHARED_STEPS) + 1):
        yield _step(COMPONENT, f"{JOB}+1", step)


def _step(job: int, shown: str, step: int) -> list[str]:
    figures = _figures(step) | {"JobName": f"wf1_j{step}_r1_a1"}
    if step % 20 == 0:  # as the node files have it
        figures |= {"State": "FAILED", "ExitCode": "1:0"}
    return _record(job, shown, str(step), BEGIN + step, BEGIN + step + STEP_SECONDS, figures)


_OF_JOB = {
    "ReqMem": "300G",
    "ReqTRES": "billing=64,cpu=64,mem=300G,node=1",
    "AllocTRES": "billing=64,cpu=64,mem=300G,node=1",
    "TimelimitRaw": "2880",
    "Restarts": "0",
    "JobName": "scale",
    "TotalCPU": "10-01:02:03",
}


def _figures(step: int) -> dict[str, str]:
    rss, read, written = 10**9 + step * 4096, 10**6 + step, 10**5 + step
    usage = f"cpu=00:01:30,energy=0,fs/disk={read},mem={rss},pages=0,vmem={rss * 2}"
    place = dict.fromkeys(("MaxRSSNode", "MaxVMSizeNode", "MaxDiskReadNode", "MaxDiskWriteNode", "NodeList"), "n00000")
    task = dict.fromkeys(("MaxRSSTask", "MaxVMSizeTask", "MaxDiskReadTask", "MaxDiskWriteTask"), "0")
    return (
        place
        | task
        | {
            "MaxRSS": str(rss),
            "MaxVMSize": str(rss * 2),
            "AveCPU": "00:01:30",
            "TotalCPU": _cpu_time(step * 13),
            "UserCPU": _cpu_time(step * 11),
            "SystemCPU": _cpu_time(step * 2),
            "TRESUsageInMax": usage,
            "TRESUsageInTot": usage,
            "TRESUsageOutMax": f"energy=0,fs/disk={written}",
            "TRESUsageOutTot": f"energy=0,fs/disk={written}",
            "NTasks": "1",
            "AllocTRES": "cpu=1,mem=1500M,node=1",
        }
    )


def _record(job: int, shown: str, step: str, begin: float, end: float, given: Mapping[str, str]) -> list[str]:
    dot = f".{step}" if step else ""
    always = {
        "JobIDRaw": f"{job}{dot}",
        "JobID": f"{shown}{dot}",
        "State": "COMPLETED",
        "ExitCode": "0:0",
        "Submit": _moment(begin if step else BEGIN),
        "Start": _moment(begin),
        "End": _moment(end),
        "ElapsedRaw": f"{end - begin:.0f}",
        "ConsumedEnergyRaw": "0",
        "Suspended": "00:00:00",
        "JobName": step,
    }
    cells = {**always, **given}
    return [cells.get(name, "") for name in _NAMES]


def _cpu_time(milliseconds: int) -> str:
    """A time as sacct prints short ones; nearly every step has another."""
    seconds, rest = divmod(milliseconds % 3_000_000, 1000)
    return f"{seconds // 60:02d}:{seconds % 60:02d}.{rest:03d}"


def _moment(unix_time: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(unix_time))
