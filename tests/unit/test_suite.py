"""`ci/test` itself: its parts, how they share the cores, how a run is ended and reported."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from suite import report, schedule
from suite.parts import BY_HAND, CHECKOUT, PARTS, Part

PYTHON = ("python3", "-S", "-c")


def test_each_test_file_belongs_to_exactly_one_part() -> None:
    tests = [*(test for part in PARTS for test in part.tests), *BY_HAND]
    covered = [path for test in tests for path in files_of(CHECKOUT / test)]
    assert sorted(covered) == sorted(files_of(CHECKOUT / "tests"))


def files_of(place: Path) -> list[Path]:
    return sorted(place.rglob("test_*.py")) if place.is_dir() else [place]


def run(tmp_path: Path, *parts: Part) -> tuple[list[schedule.Run], str]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        runs = schedule.run_all(parts, tmp_path, os.environ, report.tell)
        status = report.conclude(runs, 1.0)
    assert status == int(any(not each.ok and not each.part.may_fail for each in runs))
    return runs, out.getvalue()


def python(name: str, code: str, cores: int = 1, limit_seconds: int = 60, *, may_fail: bool = False) -> Part:
    return Part(name, name, (*PYTHON, code), cores=cores, limit_seconds=limit_seconds, may_fail=may_fail)


def meet(place: Path, name: str, others: int) -> str:
    """Code that ends once this many parts run at the same time, and fails if they never do."""
    return (
        f"import os, time; place = {str(place)!r}; open(place + '/{name}', 'w').close(); end = time.time() + 30\n"
        f"while len(os.listdir(place)) < {others}: assert time.time() < end; time.sleep(0.01)"
    )


def test_two_parts_of_one_core_and_two_that_wait_run_at_once(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    parts = [
        python(name, meet(tmp_path / "here", name, 4), cores) for name, cores in zip("abcd", (1, 0, 0, 1), strict=True)
    ]
    runs, _ = run(tmp_path, *parts)
    assert [each.ok for each in runs] == [True] * 4


def test_a_part_of_two_cores_waits_for_both(tmp_path: Path) -> None:
    runs, _ = run(tmp_path, python("one", "pass"), python("two", "pass", cores=2), python("three", "pass"))
    began = {each.part.name: each.began for each in runs}
    ended = {each.part.name: each.began + each.seconds for each in runs}
    assert began["two"] >= ended["one"] or began["one"] >= ended["two"]
    assert began["two"] >= ended["three"] or began["three"] >= ended["two"]


def test_a_failure_is_shown_with_its_log_and_one_that_may_fail_does_not_count(tmp_path: Path) -> None:
    _, said = run(tmp_path, python("bad", "print('why'); raise SystemExit(3)"), python("good", "print('all is well')"))
    assert "== bad: FAILED (exit status 3)" in said
    assert "why" in said
    assert "== FAILED: bad in" in said
    _, said = run(tmp_path, python("may", "print('it breaks'); raise SystemExit(1)", may_fail=True))
    assert "it breaks" in said
    assert "== passed in" in said


def test_a_part_over_its_limit_is_ended(tmp_path: Path) -> None:
    deaf = "import signal, time; [signal.signal(n, signal.SIG_IGN) for n in (2, 15)]; time.sleep(300)"
    endings = schedule.ENDING
    try:
        schedule.ENDING = tuple((number, 0.5) for number, _ in endings)
        _, said = run(tmp_path, python("hangs", deaf, limit_seconds=1))
    finally:
        schedule.ENDING = endings
    assert "== hangs: ENDED after its limit of 1 s" in said


def test_counts_and_slowest_tests_come_from_pytests_own_record(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(
        "import pytest, time\n"
        "def test_slow(): time.sleep(0.3)\n"
        "def test_quick(): pass\n"
        "def test_broken(): assert 1 == 2\n"
        "def test_skipped(): pytest.skip('for this test')\n"
    )
    own = Part("own", "own", tests=("-c", os.devnull, "--rootdir", str(tmp_path), str(tmp_path / "test_some.py")))
    _, said = run(tmp_path, own)
    slowest = said.split("== the slowest 10 tests\n")[1].splitlines()
    assert slowest[0].endswith("::test_slow")
    assert said.rstrip().splitlines()[-1] == "2 passed, 1 failed, 1 skipped"


@pytest.fixture
def suite(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The scheduler in a separate process, with one part that would run for minutes."""
    code = (
        "import os, sys; from pathlib import Path; from suite import report, schedule; from suite.parts import Part\n"
        "schedule.set_signals()\n"
        f"script = 'cd {tmp_path}; echo $$ > new; mv new pid; exec sleep 300'\n"
        "part = Part('long', 'long', ('sh', '-c', script))\n"
        f"try: schedule.run_all([part], Path({str(tmp_path)!r}), os.environ, report.tell)\n"
        "except schedule.Interrupted as error: sys.exit(128 + error.number)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(CHECKOUT / "ci")}
    process = subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True)
    with process:
        try:
            await_that((tmp_path / "pid").exists)
            yield process
        finally:
            process.kill()


def await_that(condition: object) -> None:
    assert callable(condition)
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_parts_too(suite: subprocess.Popen[str], number: signal.Signals, tmp_path: Path) -> None:
    pid = int((tmp_path / "pid").read_text())
    suite.send_signal(number)
    assert suite.wait(30) == 128 + number
    await_that(lambda: not Path(f"/proc/{pid}").exists())


@pytest.mark.parametrize(
    ("arguments", "said"), [(["--part", "unit"], "no such part"), (["--part", "units", "-x"], "--part")]
)
def test_bad_input_is_one_line(arguments: list[str], said: str) -> None:
    done = subprocess.run([CHECKOUT / "ci" / "test", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
