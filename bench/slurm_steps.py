"""Run in an allocation by bench/slurm_plugin.py: times steps that do nothing, and prints the seconds of each as JSON.

    python slurm_steps.py PAIRS ROUNDS PLUGSTACK LINE TORC_STEP

PAIRS of ``srun true`` with and without the plugin in plugstack.conf, which Slurm reads for every step, alternating
which comes first; then ROUNDS of each way to measure a step.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path


def seconds_of(*words: str) -> float:
    begin = time.monotonic()
    # without --overlap it would wait a second for the node of the step before
    subprocess.run(["srun", "--overlap", *words], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return time.monotonic() - begin


def main() -> None:
    pairs, rounds = int(sys.argv[1]), int(sys.argv[2])
    plugstack, line, torc_step = Path(sys.argv[3]), sys.argv[4], sys.argv[5]
    found: dict[str, list[float]] = {name: [] for name in ("bare", "loaded", "torc", "prefix", "beside")}
    for number in range(pairs):
        for loaded in (False, True) if number % 2 else (True, False):
            plugstack.write_text(line if loaded else "")
            found["loaded" if loaded else "bare"].append(seconds_of("true"))
    plugstack.write_text(line)
    for _ in range(rounds):
        found["beside"].append(seconds_of("true"))
        found["torc"].append(seconds_of("--torc", "true"))
        found["prefix"].append(seconds_of(torc_step, "--", "true"))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
