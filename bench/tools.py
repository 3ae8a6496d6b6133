"""torc-step and its peers: how each is started around a command, and where it reports.

Each runs in its own directory, which gets its files.
"""

from __future__ import annotations

import os
import shlex
import sqlite3
from collections.abc import Callable
from glob import glob
from pathlib import Path
from typing import NamedTuple

from bench import figures
from bench.environments import Environments

TORC_STEP, RECIPE, PSRECORD, CON_DUCT = "torc-step", "psutil recipe", "psrecord", "con-duct"
NAMES = (TORC_STEP, RECIPE, PSRECORD, CON_DUCT)

_USAGE = "SELECT cpu_seconds, cpu_source, peak_memory_bytes, peak_memory_source FROM step_usage"
_INTERVAL = "SELECT final_interval_seconds FROM monitor_usage"


class Tool(NamedTuple):
    """``around(command, directory)`` is its argv; ``report(directory)`` parses what it wrote there.

    ``report`` raises OSError if the tool left no file.
    """

    name: str
    around: Callable[[list[str], str], list[str]]
    report: Callable[[str], figures.Reported]


def all_tools(environments: Environments) -> list[Tool]:
    """In the table's order; torc-step first."""
    here, peers = f"{environments.ours}/bin", f"{environments.peers}/bin"
    recipe = os.path.join(os.path.dirname(__file__), "psutil_recipe.py")

    def torc_step(command: list[str], directory: str) -> list[str]:
        options = ["--sample-interval-seconds", "1", "--output-dir", directory]
        return [f"{here}/torc-step", *options, "--", *command]

    def psutil_recipe(command: list[str], directory: str) -> list[str]:
        return [f"{peers}/python", recipe, f"{directory}/recipe.csv", *command]

    def psrecord(command: list[str], directory: str) -> list[str]:
        log = ["--log", f"{directory}/psrecord.csv", "--log-format", "csv"]
        # it runs its command through sh -c: with exec no shell stays next to the job
        return [f"{peers}/psrecord", "--include-children", "--interval", "1", *log, f"exec {shlex.join(command)}"]

    def con_duct(command: list[str], directory: str) -> list[str]:
        lean = ["--capture-outputs", "none", "--outputs", "all", "--log-level", "NONE"]
        keep = ["--fail-time", "0", "--output-prefix", f"{directory}/duct_"]
        return [f"{peers}/con-duct", "run", "--sample-interval", "1", *lean, *keep, *command]

    return [
        Tool(TORC_STEP, torc_step, _read_node_file),
        Tool(RECIPE, psutil_recipe, _reader("recipe.csv", figures.recipe_report)),
        Tool(PSRECORD, psrecord, _reader("psrecord.csv", figures.psrecord_report)),
        Tool(CON_DUCT, con_duct, _reader("duct_info.json", figures.con_duct_report)),
    ]


def node_files(directory: str) -> list[str]:
    return sorted(glob(f"{directory}/resource_utilization/resource_metrics_*.db"))


def final_interval_seconds(directory: str) -> float:
    """torc-step's final interval: longer than requested if samples were too expensive."""
    (path,) = node_files(directory)
    with sqlite3.connect(path) as connection:
        return float(connection.execute(_INTERVAL).fetchone()[0])


def _read_node_file(directory: str) -> figures.Reported:
    for path in node_files(directory):
        with sqlite3.connect(path) as connection:
            connection.row_factory = sqlite3.Row
            return figures.torc_step_report(dict(connection.execute(_USAGE).fetchone()))
    raise FileNotFoundError(f"torc-step wrote no node file in {directory}")


def _reader(name: str, parse: Callable[[str], figures.Reported]) -> Callable[[str], figures.Reported]:
    return lambda directory: parse(Path(directory, name).read_text(encoding="utf-8"))
