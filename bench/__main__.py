"""The command line: which cases to run, and where to print the table."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":  # after the installed packages: torc_slurm is the environment's, as for the tools
    sys.path[0:1] = []
    sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from bench.context import Context, tell
from bench.rows import Row
from bench.table import as_json, as_markdown, as_text, sentence

_CASES = (
    "steady",
    "start",
    "memory",
    "children",
    "spike",
    "daemon",
    "shared",
    "short",
    "together",
    "sample",
    "collect",
    "slurm-plugin",
)


def _measures() -> dict[str, Callable[[Context], list[Row]]]:
    """Imported late: ``--help`` must work before torc_slurm is installed."""
    from bench import inside, memory, slurm_plugin, startup, steady, together, truth

    return {
        **{case: lambda context, case=case: truth.measure(context, case) for case in _CASES},  # type: ignore[misc]
        "steady": steady.measure,
        "start": startup.measure,
        "memory": memory.measure,
        "together": together.measure,
        "sample": inside.measure_looks,
        "collect": inside.measure_collect,
        "slurm-plugin": slurm_plugin.measure,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bench/run",
        description="What torc-step costs and how right its figures are, side by side with con-duct, psrecord and "
        "psutil's recipe. Full: about 11 minutes on a quiet machine; --quick: a minute, to see that it works.",
        epilog="Each case's module says in its docstring what is measured. Example: bench/run --quick --case spike",
    )
    parser.add_argument("--quick", action="store_true", help="short windows, few rounds, tools side by side")
    parser.add_argument(
        "--case", action="extend", nargs="+", choices=_CASES, metavar="NAME", help=f"of: {', '.join(_CASES)}"
    )
    parser.add_argument("--json", metavar="FILE", help="also write everything, unrounded")
    parser.add_argument("--markdown", metavar="FILE", help="also write the table for the README")
    return parser


def main() -> int:
    arguments = _parser().parse_args()
    from bench.environments import find_or_make
    from bench.machine import facts
    from bench.processes import adopt_orphans, end_all
    from bench.tools import all_tools

    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores SIGINT in background processes
    adopt_orphans()
    environments = find_or_make()
    place = tempfile.mkdtemp(prefix="torc-bench-")
    found = facts(environments, place, arguments.quick)
    begin = time.monotonic()
    try:
        rows = _run(Context(environments, all_tools(environments), place, arguments.quick), arguments.case or _CASES)
    except KeyboardInterrupt:
        return 130
    finally:
        end_all()
        shutil.rmtree(place, ignore_errors=True)
    found["took"] = f"{time.monotonic() - begin:.0f} s"
    _write(rows, found, arguments.json, arguments.markdown)
    return 0


def _end(number: int, _frame: object) -> None:
    sys.exit(128 + number)


def _run(context: Context, cases: list[str] | tuple[str, ...]) -> list[Row]:
    measures = _measures()
    return [row for case in cases for row in measures[case](context)]


def _write(rows: list[Row], found: dict[str, str], json_path: str | None, markdown_path: str | None) -> None:
    sys.stdout.write(f"{as_text(rows)}\n\n{sentence(found)}\n")
    for path, text in ((json_path, as_json(rows, found)), (markdown_path, as_markdown(rows, found))):
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
            tell(f"written: {path}")


if __name__ == "__main__":
    sys.exit(main())
