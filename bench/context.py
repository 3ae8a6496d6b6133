"""What every case gets: the tools, a directory to write to, the durations; and how a tool runs a workload."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

from bench import processes
from bench.environments import Environments, for_jobs
from bench.figures import Reported
from bench.tools import Tool

_WORKLOADS = os.path.join(os.path.dirname(__file__), "workloads.py")
_END_SECONDS = 120.0


class Context(NamedTuple):
    """One run of the bench."""

    environments: Environments
    tools: list[Tool]
    place: str
    quick: bool

    def fresh(self) -> str:
        """A new directory."""
        return tempfile.mkdtemp(dir=self.place)

    def workload(self, *words: object) -> list[str]:
        """The command that runs a workload; ``words`` are its name, its numbers and its directory."""
        return [self.environments.python, "-I", "-S", _WORKLOADS, *(str(word) for word in words)]

    def at_once(self) -> int:
        """How many tools run side by side when CPU time is measured: in a quick run all, else one per core."""
        return len(self.tools) if self.quick else max(1, min(len(self.tools), os.cpu_count() or 1))


class Run(NamedTuple):
    """A tool that was started around a command."""

    tool: Tool
    directory: str
    process: subprocess.Popen[bytes]


class Outcome(NamedTuple):
    """A tool's report on a workload, and the truth that the workload wrote."""

    reported: Reported
    truth: dict[str, float | str]


def tell(text: str) -> None:
    """Print progress, with the time."""
    sys.stderr.write(f"bench: {time.strftime('%H:%M:%S')} {text}\n")


def start(tool: Tool, command: list[str], directory: str) -> Run:
    argv = tool.around(command, directory)
    return Run(tool, directory, processes.start(argv, directory, for_jobs()))


def finish(run: Run) -> Outcome:
    """Wait for the end. A tool that left no report, or a broken one, reported nothing."""
    run.process.wait(_END_SECONDS)
    with open(f"{run.directory}/truth.json", encoding="ascii") as file:
        truth = json.load(file)
    try:
        reported = run.tool.report(run.directory)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reported = Reported(None, None, f"no report ({error})")
    return Outcome(reported, truth)
