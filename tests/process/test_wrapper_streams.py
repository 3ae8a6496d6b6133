"""Standard streams pass through untouched: nothing beside the job reads, writes or keeps them open."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from pathlib import Path

from measured import (
    WAIT_LIMIT_SECONDS,
    await_that,
    environment,
    is_alive,
    job_of_a_workflow,
    monitor_of,
    run,
    start,
    under_torc_step,
)


def read_to_the_end(descriptor: int) -> bytes:
    """Everything until all writers have closed their end; fails if one does not."""
    text = b""
    while True:
        readable, _, _ = select.select([descriptor], [], [], WAIT_LIMIT_SECONDS)
        assert readable, f"no end of file after {text!r}"
        part = os.read(descriptor, 65536)
        if not part:
            return text
        text += part


def test_a_megabyte_through_cat(tmp_path: Path) -> None:
    sent = os.urandom(1 << 20)
    process = start(tmp_path, ["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    received, _ = process.communicate(sent, timeout=WAIT_LIMIT_SECONDS)
    assert received == sent
    assert process.returncode == 0


def test_input_that_the_job_leaves_is_left(tmp_path: Path) -> None:
    """``(torc-step -- head -c 3; cat) < file``: the command after the job gets the rest of the input."""
    source = tmp_path / "source"
    source.write_text("abcdef")
    with source.open("rb") as file:
        taken = subprocess.run(
            under_torc_step(tmp_path / "out", ["dd", "bs=3", "count=1"]),
            stdin=file,
            capture_output=True,
            env=environment(),
            check=True,
        )
        rest = subprocess.run(["cat"], stdin=file, capture_output=True, check=True)
    assert (taken.stdout, rest.stdout) == (b"abc", b"def")


def test_both_outputs_and_nothing_else_in_a_workflow(tmp_path: Path) -> None:
    done = run(tmp_path, ["sh", "-c", "echo out; echo err >&2"], *job_of_a_workflow(1))
    assert (done.stdout, done.stderr) == (b"out\n", b"err\n")


def test_outside_of_slurm_only_the_records_name_on_stderr(tmp_path: Path) -> None:
    done = run(tmp_path, ["sh", "-c", "echo out; echo err >&2"])
    assert done.stdout == b"out\n"
    err, line = done.stderr.splitlines()
    assert err == b"err"
    path = tmp_path / "resource_utilization" / f"resource_metrics_{os.uname().nodename.partition('.')[0]}_local_1.db"
    assert line == f"torc-step: recorded in {path}; to see it: torc stats --local --output-dir {tmp_path}".encode()


def test_the_reader_sees_the_end_when_the_job_closes_its_output(tmp_path: Path) -> None:
    script = "echo text; exec >&-; read line"
    process = start(tmp_path, ["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert read_to_the_end(process.stdout.fileno()) == b"text\n"
    assert process.poll() is None
    process.communicate(b"\n", timeout=WAIT_LIMIT_SECONDS)
    assert process.returncode == 0


def test_the_reader_sees_end_of_file_when_the_job_exits_while_the_monitor_lives(tmp_path: Path) -> None:
    process = start(tmp_path, ["sh", "-c", "echo text; read line"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    monitor = monitor_of(process)
    os.kill(monitor, signal.SIGSTOP)
    assert process.stdout is not None
    assert process.stdin is not None
    process.stdin.close()
    assert read_to_the_end(process.stdout.fileno()) == b"text\n"
    assert is_alive(monitor)
    assert process.poll() is None  # the wrapper still waits for its monitor
    os.kill(monitor, signal.SIGCONT)
    assert process.wait(WAIT_LIMIT_SECONDS) == 1
    process.stdout.close()


def test_the_reader_of_stderr_sees_the_end_with_the_wrapper(tmp_path: Path) -> None:
    """``torc-step … 2>&1 | tee``: neither the monitor nor its writers keep the pipe open."""
    reader, writer = os.pipe()
    process = start(tmp_path, ["sh", "-c", "echo text >&2; sleep 1"], stdout=writer, stderr=writer)
    monitor = monitor_of(process)
    os.close(writer)
    assert os.read(reader, 5) == b"text\n"
    os.kill(monitor, signal.SIGSTOP)
    os.kill(process.pid, signal.SIGKILL)
    read_to_the_end(reader)
    os.close(reader)
    os.kill(monitor, signal.SIGCONT)
    process.wait()


def test_the_writer_of_the_input_gets_sigpipe_when_the_job_closes_it(tmp_path: Path) -> None:
    script = "exec <&-; echo closed; while [ ! -e stop ]; do sleep 0.01; done"
    reader, writer = os.pipe()
    process = start(tmp_path / "out", ["sh", "-c", script], stdin=reader, stdout=subprocess.PIPE, cwd=tmp_path)
    os.close(reader)
    assert process.stdout is not None
    assert process.stdout.readline() == b"closed\n"

    def broken() -> bool:
        try:
            os.write(writer, b"x")
        except BrokenPipeError:
            return True
        return False

    await_that(broken, "the end of all readers")  # the wrapper too closes it, which has just started its job
    os.close(writer)
    (tmp_path / "stop").touch()
    process.communicate(timeout=WAIT_LIMIT_SECONDS)


def test_output_into_a_pipe_without_a_reader(tmp_path: Path) -> None:
    """A closed pipe concerns only the job; the wrapper's own line may be lost."""
    reader, writer = os.pipe()
    os.close(reader)
    process = start(tmp_path, ["sh", "-c", "trap '' PIPE; echo x 2>/dev/null; exit 6"], stdout=writer, stderr=writer)
    os.close(writer)
    assert process.wait(WAIT_LIMIT_SECONDS) == 6


def test_a_full_pipe_on_stderr_does_not_hold_a_job_that_ended(tmp_path: Path) -> None:
    """As without torc-step: a job whose stderr nobody reads exits when it exits."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writer, True)
    process = start(tmp_path, ["sh", "-c", "exit 8"], stderr=writer)
    assert process.wait(WAIT_LIMIT_SECONDS) == 8
    os.close(reader)
    os.close(writer)
