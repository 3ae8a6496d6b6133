"""``python -m bench.scale``: makes node files and workflows of growing size and prints what commands cost for them.

Each row has the work, the CPU seconds and peak memory of the command, those of a plain reading for comparison, their
ratio, and for each series the exponent between its two largest sizes: 1.0 is linear, 2.0 quadratic.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.scale.accounting import JOB, make_accounting
from bench.scale.measure import Cost, cost_of, exponent
from bench.scale.node_files import make
from bench.scale.workflow import document, document_with_parameters, make_workflow

MAIN = ("-m", "torc_slurm.cli.main")
PLAIN = ("-m", "bench.scale.plain")


class Series(NamedTuple):
    """A collect of growing work; its exponent is that of ``size``."""

    name: str
    quick: Sequence[dict[str, int]]
    whole: Sequence[dict[str, int]]
    size: str
    spread: bool


COLLECTS = (
    Series(
        "collect, attempts",
        [{"nodes": 10, "attempts": 100, "samples": 100}, {"nodes": 100, "attempts": 100, "samples": 100}],
        [{"nodes": count, "attempts": 100, "samples": 100} for count in (10, 100, 1000)],
        "nodes",
        spread=False,
    ),
    Series(
        "collect, 20 steps over nodes",
        [{"nodes": count, "attempts": 20, "samples": 10} for count in (10, 100, 300)],
        [{"nodes": count, "attempts": 20, "samples": 10} for count in (10, 100, 300, 1000)],
        "nodes",
        spread=True,
    ),
)
# What is asked of a workflow that was collected; {place} is a directory for what a command writes.
REPORTS: dict[str, Sequence[str]] = {
    "check": ("reports", "check-resource-utilization", "1", "--no-accounting", "-f", "json"),
    "correct --dry-run": ("workflows", "correct-resources", "1", "--dry-run", "--no-accounting", "-f", "json"),
    "savings": ("reports", "savings", "1", "--no-accounting", "-f", "json"),
    "slurm stats, table": ("slurm", "stats", "1", "--no-accounting"),
    "slurm stats, JSON": ("slurm", "stats", "1", "--no-accounting", "-f", "json"),
    "results list, table": ("results", "list", "1"),
    "results list, JSON": ("results", "list", "1", "-f", "json"),
    "jobs list, table": ("jobs", "list", "1"),
    "jobs list, JSON": ("jobs", "list", "1", "-f", "json"),
    "workflows status": ("workflows", "status", "1"),
    "reports html": ("reports", "html", "1", "--no-accounting", "-o", "{place}/report.html"),
}
_PLOT = "plot-resources of one job"
_QUICK_SAMPLES, _WHOLE_SAMPLES = (10_000, 100_000), (100_000, 1_000_000)
# A workflow file's jobs, and its name.
CREATES: dict[str, tuple[Callable[[int], dict[str, object]], str]] = {
    "workflows create, JSON": (document, "workflow.json"),
    "workflows create, parameters": (document_with_parameters, "workflow.json"),
    "workflows create, YAML": (document, "workflow.yaml"),
}
JUDGED, STORED = "sacct's answer, parsed and judged", "sacct's answer, collected"
_QUICK_ATTEMPTS, _WHOLE_ATTEMPTS = (1_000, 4_000), (1_000, 10_000, 100_000)
_ATTEMPTS_A_NODE = 100
_REPOSITORY = str(Path(__file__).parents[2])
_HEADING = f"{'work':60} {'CPU s':>8} {'MiB':>7} {'plain s':>8} {'ratio':>6}"


def main() -> int:
    """Measure the requested series; prints as it goes."""
    parser = argparse.ArgumentParser(prog="bench/scale", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller work: under 3 minutes")
    parser.add_argument("--only", metavar="TEXT", default="", help="the series whose name holds this")
    given = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # the commands' modules are compiled, as in an installed torc
    print(_HEADING)
    for series in COLLECTS:
        if given.only in series.name:
            _measure_collect(series, series.quick if given.quick else series.whole)
    attempts = _QUICK_ATTEMPTS if given.quick else _WHOLE_ATTEMPTS
    if given.only in JUDGED or given.only in STORED:
        _measure_accounting(attempts)
    for name, (make_document, file_name) in CREATES.items():
        if given.only in name:
            _measure_create(name, make_document, file_name, attempts)
    reports = {name: words for name, words in REPORTS.items() if given.only in name}
    if reports:
        _measure_reports(reports, attempts)
    if given.only in _PLOT:
        _measure_plot(_QUICK_SAMPLES if given.quick else _WHOLE_SAMPLES)
    return 0


def _measure_collect(series: Series, sizes: Sequence[dict[str, int]]) -> None:
    costs = []
    for size in sizes:
        with _place() as output_dir:
            make(output_dir, **size, spread=series.spread)
            plain = cost_of([sys.executable, *PLAIN, "collect", str(output_dir)], _REPOSITORY)
            cost = _torc(("slurm", "collect", "--no-accounting"), output_dir)
        costs.append(cost)
        _print_row(f"{series.name}: {', '.join(f'{value} {name}' for name, value in size.items())}", cost, plain)
    _print_growth(series.name, series.size, [size[series.size] for size in sizes], costs)


def _measure_accounting(sizes: Sequence[int]) -> None:
    """What Slurm's answer for one allocation costs: alone, for steps without a record; and to complete the records."""
    judged, stored = [], []
    for steps in sizes:
        with _place() as output_dir:
            commands = output_dir.parent / "bin"
            make_accounting(commands, steps=steps)
            environ = os.environ | {"PATH": f"{commands}{os.pathsep}{os.environ['PATH']}"}
            plain = cost_of([sys.executable, *PLAIN, "split", str(commands)], _REPOSITORY)
            words = ("slurm", "stats", "--slurm-job-id", str(JOB))
            output_dir.mkdir()
            judged.append(_torc(words, output_dir, environ, refusal=f"Slurm has {steps + 2} steps of it"))
            _print_row(f"{JUDGED}: {steps} steps", judged[-1], plain)
            make(output_dir, nodes=1, attempts=steps, samples=0, spread=False)
            _torc(("slurm", "collect", "--no-accounting"), output_dir)
            stored.append(_torc(("slurm", "collect"), output_dir, environ))
            _print_row(f"{STORED}: {steps} steps", stored[-1], plain)
    for name, costs in ((JUDGED, judged), (STORED, stored)):
        _print_growth(name, "steps", sizes, costs)


def _measure_create(
    name: str, make_document: Callable[[int], dict[str, object]], file_name: str, sizes: Sequence[int]
) -> None:
    costs = []
    for jobs in sizes:
        with _place() as output_dir:
            spec = output_dir.parent / file_name
            spec.write_text(_written(make_document(jobs), spec.suffix))
            plain = cost_of([sys.executable, *PLAIN, "load", str(spec)], _REPOSITORY)
            costs.append(_torc(("workflows", "create", str(spec)), output_dir))
            _print_row(f"{name}: {jobs} jobs", costs[-1], plain)
    _print_growth(name, "jobs", sizes, costs)


def _written(document: dict[str, object], suffix: str) -> str:
    """The document as JSON; or as YAML, each object of its lists on a line of its own."""
    if suffix == ".json":
        return json.dumps(document)
    lists = {key: value for key, value in document.items() if isinstance(value, list)}
    lines = [f"{key}: {json.dumps(value)}" for key, value in document.items() if key not in lists]
    for key, items in lists.items():
        lines.append(f"{key}:")
        lines += ["  - {" + ", ".join(f"{name}: {value}" for name, value in item.items()) + "}" for item in items]
    return "\n".join([*lines, ""])


def _measure_reports(reports: Mapping[str, Sequence[str]], sizes: Sequence[int]) -> None:
    costs: dict[str, list[Cost]] = {name: [] for name in reports}
    for attempts in sizes:
        with _place() as output_dir:
            make_workflow(output_dir, attempts=attempts, nodes=attempts // _ATTEMPTS_A_NODE, samples=10)
            plain = cost_of([sys.executable, *PLAIN, "join", str(output_dir)], _REPOSITORY)
            for name, words in reports.items():
                named = [word.format(place=output_dir.parent) for word in words]
                costs[name].append(_torc(named, output_dir))
                _print_row(f"{name}: {attempts} attempts", costs[name][-1], plain)
    for name, found in costs.items():
        _print_growth(name, "attempts", sizes, found)


def _measure_plot(sizes: Sequence[int]) -> None:
    costs = []
    for samples in sizes:
        with _place() as output_dir:
            make(output_dir, nodes=1, attempts=1, samples=samples, spread=False)
            plain = cost_of([sys.executable, *PLAIN, "series", str(output_dir)], _REPOSITORY)
            (path,) = output_dir.rglob("*.db")
            costs.append(_torc(("plot-resources", str(path), "-o", str(output_dir.parent / "plots")), output_dir))
        _print_row(f"{_PLOT}: {samples} samples", costs[-1], plain)
    _print_growth(_PLOT, "samples", sizes, costs)


def _torc(words: Sequence[str], output_dir: Path, environ: Mapping[str, str] | None = None, refusal: str = "") -> Cost:
    argv = [sys.executable, *MAIN, *words, "--output-dir", str(output_dir)]
    return cost_of(argv, _REPOSITORY, environ, refusal)


def _print_row(work: str, cost: Cost, plain: Cost) -> None:
    ratio = cost.cpu_seconds / plain.cpu_seconds
    print(f"{work:60} {cost.cpu_seconds:8.2f} {cost.peak_mib:7.0f} {plain.cpu_seconds:8.2f} {ratio:6.1f}", flush=True)


def _print_growth(name: str, size: str, sizes: Sequence[int], costs: Sequence[Cost]) -> None:
    """Of the two largest sizes: the start of Python hides the growth of small ones."""
    fitted = exponent(sizes[-2:], [cost.cpu_seconds for cost in costs[-2:]])
    print(f"{name}: CPU grows with {size} to the power of {fitted:.2f}", flush=True)


@contextlib.contextmanager
def _place() -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(prefix="torc-scale-"))
    try:
        yield place / "torc_output"
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    sys.exit(main())
