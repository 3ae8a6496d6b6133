"""The tests themselves pass if their caller ignores or blocks signals, as nohup, cron and CI systems do."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
# Tests that rely on the default disposition of a signal in a program they start.
RELYING = [
    "tests/process/test_wrapper_terminal.py::test_a_hangup_reaches_a_job_whose_wrapper_leads_the_session",
    "tests/process/test_wrapper_terminal.py::test_ctrl_c_ends_an_ordinary_job",
]


def ignore_and_block() -> None:
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGCHLD):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP, signal.SIGTERM})


def test_the_tests_set_the_dispositions_that_they_rely_on() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", *RELYING],
        cwd=CHECKOUT,
        preexec_fn=ignore_and_block,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    assert f"{len(RELYING)} passed" in done.stdout
