"""What keeps torc-step small: SQLite without its imports, and released code pages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from measured import start
from runs import wait_until

LOADS_SQLITE = """
import sys
from torc_slurm.database.bare_sqlite import sqlite3
print(sorted({"functools", "collections", "datetime"} & sys.modules.keys()))
import functools, sqlite3 as whole
assert functools.lru_cache(maxsize=3)(int)("7") == 7
assert whole.Error is sqlite3.Error
with whole.connect(":memory:") as connection:
    for _ in range(3):
        connection.executemany("CREATE TABLE IF NOT EXISTS t (x)", [()])
        connection.executemany("INSERT INTO t VALUES (?)", [(1,), (2,)])
    print(connection.execute("SELECT sum(x) FROM t").fetchone())
"""

LOADS_SQLITE_AFTER_FUNCTOOLS = """
import functools
from torc_slurm.database.bare_sqlite import sqlite3
import sys
print(sys.modules["functools"] is functools, sqlite3.connect(":memory:").execute("SELECT 1").fetchone())
"""

GIVES_CODE_BACK = """
import sqlite3
from torc_slurm.step import kernel
def mapped():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("RssFile"))
before = mapped()
given_back = kernel.give_back_code()
print(given_back > 1 << 20, before - mapped() > 1 << 18)
print(sqlite3.connect(":memory:").execute("SELECT upper('still there')").fetchone())
"""


def output_of(program: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_sqlite_comes_alone_and_the_rest_of_the_process_notices_nothing() -> None:
    assert output_of(LOADS_SQLITE) == ["[]", "(9,)"]


def test_functools_that_is_there_stays() -> None:
    assert output_of(LOADS_SQLITE_AFTER_FUNCTOOLS) == ["True (1,)"]


def test_code_that_was_given_back_still_runs() -> None:
    assert output_of(GIVES_CODE_BACK) == ["True True", "('STILL THERE',)"]


def mapped_files_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssFile"))


def test_a_wrapper_that_waits_has_given_its_code_back(tmp_path: Path) -> None:
    wrapper = start(tmp_path, ["cat"], stdin=subprocess.PIPE)
    assert wrapper.stdin is not None
    most = 0

    def is_smaller() -> bool:
        nonlocal most
        now = mapped_files_bytes(wrapper.pid)
        most = max(most, now)
        return now < most - (256 << 10)

    wait_until(is_smaller, "the wrapper released code")
    wrapper.stdin.close()  # it wakes up and ends as its job ends
    assert wrapper.wait(60) == 0
