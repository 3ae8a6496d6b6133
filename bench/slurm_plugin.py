"""The Slurm plugin's cost per step: a real Slurm (ci/slurm-lab), one allocation, steps that do nothing. Wall time.

``srun true`` with the plugin in plugstack.conf and without it: the median difference of 200 pairs, and its random error
(two standard errors of that median). Then ``srun --torc true`` and ``srun torc-step -- true``. Needs root; without root
the case is left out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.context import Context, tell
from bench.figures import median
from bench.rows import Row
from bench.tools import TORC_STEP

_PAIRS, _QUICK_PAIRS = 200, 20
_ROUNDS, _QUICK_ROUNDS = 40, 7
_LAB = Path(__file__).resolve().parents[1] / "ci" / "slurm-lab"


def measure(context: Context) -> list[Row]:
    if os.geteuid() != 0:
        tell("slurm-plugin is left out: a Slurm of its own needs root")
        return []
    tell("steps with and without the Slurm plugin")
    with tempfile.TemporaryDirectory(prefix="torc-bench-plugin-", dir="/var/tmp") as place:
        return _rows(_time_steps(context, Path(place)))


def _time_steps(context: Context, place: Path) -> dict[str, list[float]]:
    torc = [f"{context.environments.ours}/bin/torc", "slurm", "plugin", "build", "--prefix", str(place), "-f", "json"]
    built = json.loads(subprocess.run(torc, check=True, capture_output=True, text=True).stdout)
    plugstack = place / "plugstack.conf"
    plugstack.touch()
    pairs, rounds = (_QUICK_PAIRS, _QUICK_ROUNDS) if context.quick else (_PAIRS, _ROUNDS)
    script = [sys.executable, str(Path(__file__).with_name("slurm_steps.py")), str(pairs), str(rounds)]
    lab = [str(_LAB), "run", "--slurm-conf-line", f"PlugStackConfig={plugstack}", "--"]
    inside = [*script, str(plugstack), built["plugstack_line"] + "\n", built["torc_step"]]
    command = [*lab, "salloc", "-n1", "--mem=100M", *inside]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, cwd=place)
    found: dict[str, list[float]] = json.loads(done.stdout)
    return found


def _rows(found: dict[str, list[float]]) -> list[Row]:
    differences = sorted(loaded - bare for loaded, bare in zip(found["loaded"], found["bare"], strict=True))
    count = len(differences)
    quartiles = differences[3 * count // 4] - differences[count // 4]
    chance = 2 * 1.2533 * quartiles / 1.349 / count**0.5  # two standard errors of a median
    cost, bare = median(differences) or 0.0, median(found["beside"]) or 0.0
    case = "slurm-plugin"
    goal = f"\N{LESS-THAN OR EQUAL TO} {chance * 1000:.2g} ms, what chance makes of it"
    return [
        Row(case, "srun true", "ms", {}, base=bare, base_name="Slurm alone"),
        Row(case, "srun true, the plugin loaded: more", "ms", {TORC_STEP: cost}, goal=goal, met=cost <= chance),
        Row(case, "srun --torc true: more", "ms", {TORC_STEP: (median(found["torc"]) or 0.0) - bare}),
        Row(case, "srun torc-step -- true: more", "ms", {TORC_STEP: (median(found["prefix"]) or 0.0) - bare}),
    ]
