"""``python -m bench.scale``: makes node files of growing size and prints what commands cost for them.

Each row has the work, the CPU seconds and peak memory of the command, those of a plain reading for comparison, their
ratio, and for each series the fitted exponent: 1.0 is linear, 2.0 quadratic.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench.scale.measure import Cost, cost_of, exponent
from bench.scale.node_files import make

COLLECT = ("-m", "torc_slurm.cli.main", "slurm", "collect", "--no-accounting")


class Series(NamedTuple):
    """A command with growing work; the exponent is fitted over ``size`` of the sizes."""

    name: str
    words: Sequence[str]
    plain: Sequence[str]
    quick: Sequence[dict[str, int]]
    whole: Sequence[dict[str, int]]
    size: str
    spread: bool


SERIES = (
    Series(
        "collect, attempts",
        COLLECT,
        ("-m", "bench.scale.plain"),
        [{"nodes": 10, "attempts": 100, "samples": 100}, {"nodes": 100, "attempts": 100, "samples": 100}],
        [{"nodes": count, "attempts": 100, "samples": 100} for count in (10, 100, 1000)],
        "nodes",
        spread=False,
    ),
    Series(
        "collect, 20 steps over nodes",
        COLLECT,
        ("-m", "bench.scale.plain"),
        [{"nodes": count, "attempts": 20, "samples": 10} for count in (10, 100, 300)],
        [{"nodes": count, "attempts": 20, "samples": 10} for count in (10, 100, 300, 1000)],
        "nodes",
        spread=True,
    ),
)
_HEADING = f"{'work':70} {'CPU s':>8} {'MiB':>7} {'plain s':>8} {'ratio':>6}"


def main() -> int:
    """Measure the requested series; prints as it goes."""
    parser = argparse.ArgumentParser(prog="bench/scale", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller work: under 3 minutes")
    parser.add_argument("--only", metavar="TEXT", default="", help="the series whose name holds this")
    given = parser.parse_args()
    print(_HEADING)
    for series in SERIES:
        if given.only in series.name:
            _measure(series, series.quick if given.quick else series.whole)
    return 0


def _measure(series: Series, sizes: Sequence[dict[str, int]]) -> None:
    costs = []
    for size in sizes:
        cost, plain = _costs(series, size)
        costs.append(cost.cpu_seconds)
        work = f"{series.name}: {', '.join(f'{value} {name}' for name, value in size.items())}"
        ratio = cost.cpu_seconds / plain.cpu_seconds
        print(
            f"{work:50} {cost.cpu_seconds:8.2f} {cost.peak_mib:7.0f} {plain.cpu_seconds:8.2f} {ratio:6.1f}", flush=True
        )
    if len(sizes) > 1:
        fitted = exponent([size[series.size] for size in sizes], costs)
        print(f"{series.name}: CPU grows with {series.size} to the power of {fitted:.2f}", flush=True)


def _costs(series: Series, size: dict[str, int]) -> tuple[Cost, Cost]:
    place = Path(tempfile.mkdtemp(prefix="torc-scale-"))
    try:
        output_dir = place / "torc_output"
        make(output_dir, **size, spread=series.spread)
        repository = str(Path(__file__).parents[2])
        plain = cost_of([sys.executable, *series.plain, str(output_dir)], repository)
        return cost_of([sys.executable, *series.words, "--output-dir", str(output_dir)], repository), plain
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    sys.exit(main())
