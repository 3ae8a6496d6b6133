"""The lock of the main database between real processes, living, dead and on other hosts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from torc_slurm.common.errors import DatabaseError
from torc_slurm.database.write_lock import (
    LockTimeoutError,
    Owner,
    current_owner,
    owner_is_dead,
    read_owner,
    write_lock,
)

HOLDER = """
import sys
from torc_slurm.database.write_lock import write_lock
with write_lock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.readline()
"""


def holder(path: Path) -> subprocess.Popen[str]:
    """A process that holds the lock until it reads a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def leave_lock(path: Path, owner: Owner) -> Path:
    lock = Path(f"{path}.lock")
    lock.write_text(json.dumps(asdict(owner)))
    return lock


def refused(path: Path, message: str, seconds: float = 0, on_wait: Callable[[str], None] = print) -> None:
    """The lock is not free within ``seconds``, and the error says ``message``."""
    lock = write_lock(str(path), timeout_seconds=seconds, on_wait=on_wait)
    with pytest.raises(LockTimeoutError, match=message), lock:
        pass


def test_it_names_its_owner_and_goes_away(tmp_path: Path) -> None:
    with write_lock(str(tmp_path / "torc.db")):
        owner = read_owner(str(tmp_path / "torc.db.lock"))
        assert owner is not None
        assert owner.pid == os.getpid()
    assert os.listdir(tmp_path) == []


def test_a_living_owner_is_waited_for_and_named(tmp_path: Path) -> None:
    path = tmp_path / "torc.db"
    said: list[str] = []
    with holder(path) as process:
        refused(path, f"process {process.pid} .* remove {path}.lock", 2.5, said.append)
        process.communicate("go\n")
    assert len(said) == 1
    assert str(process.pid) in said[0]
    with write_lock(str(path), timeout_seconds=0):
        pass


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "torc.db"
    with holder(path) as process:
        process.send_signal(signal.SIGKILL)
    assert Path(f"{path}.lock").exists()
    with write_lock(str(path), timeout_seconds=0):
        pass
    assert os.listdir(tmp_path) == []


CHANGES: dict[str, tuple[Callable[[Owner], Owner], bool]] = {
    "this process": (lambda owner: owner, False),
    "no such process": (lambda owner: replace(owner, pid=dead_pid()), True),
    "its number was given to another": (lambda owner: replace(owner, process_start="1"), True),
    "another host": (lambda owner: replace(owner, host="login9", pid=dead_pid()), False),
    "same name, another boot": (lambda owner: replace(owner, boot_id="x", pid=dead_pid()), False),
    "another container": (lambda owner: replace(owner, pid_namespace="pid:[1]", pid=dead_pid()), False),
    "a number that is none": (lambda owner: replace(owner, pid=2**40), False),
}


@pytest.mark.parametrize("case", CHANGES)
def test_who_counts_as_dead(case: str) -> None:
    change, dead = CHANGES[case]
    assert owner_is_dead(change(current_owner())) is dead


def test_a_lock_of_another_host_is_never_removed(tmp_path: Path) -> None:
    path = tmp_path / "torc.db"
    lock = leave_lock(path, replace(current_owner(), host="login9", user="ann", since=0.0))
    refused(path, f"ann on login9.*since 19(69|70).*remove {lock}")
    assert lock.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', "\x00\xff"])
def test_a_lock_without_an_owner_is_waited_for_and_named(text: str, tmp_path: Path) -> None:
    lock = tmp_path / "torc.db.lock"
    lock.write_text(text)
    refused(tmp_path / "torc.db", str(lock))


KINDS: dict[str, Callable[[Path], object]] = {
    "a symbolic link": lambda path: path.symlink_to("nowhere"),
    "a directory": Path.mkdir,
    "a special file": os.mkfifo,
}


@pytest.mark.parametrize("name", ["torc.db.lock", "torc.db.lock.takeover"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_file_is_refused_at_once(kind: str, name: str, tmp_path: Path) -> None:
    """Somebody put it there: nobody will remove it, so nothing is waited for."""
    path = tmp_path / "torc.db"
    if name.endswith(".takeover"):
        leave_lock(path, replace(current_owner(), pid=dead_pid()))
    KINDS[kind](tmp_path / name)
    lock = write_lock(str(path), timeout_seconds=3600)
    with pytest.raises(DatabaseError, match=f"{name} is {kind} instead.*; remove it"), lock:
        pass
    assert os.path.lexists(tmp_path / name)


def test_an_interrupted_takeover_is_named(tmp_path: Path) -> None:
    path = tmp_path / "torc.db"
    leave_lock(path, replace(current_owner(), pid=dead_pid()))
    (tmp_path / "torc.db.lock.takeover").touch()
    refused(path, r"torc\.db\.lock and .*torc\.db\.lock\.takeover")


def test_a_lock_that_is_no_longer_ours_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "torc.db"
    with write_lock(str(path)):
        lock = leave_lock(path, replace(current_owner(), host="login9"))
    assert lock.exists()


COUNTER = """
import sys
from pathlib import Path
from torc_slurm.database.write_lock import write_lock
counter = Path(sys.argv[1])
for _ in range(20):
    with write_lock(sys.argv[1], timeout_seconds=120):
        counter.write_text(str(int(counter.read_text()) + 1))
"""


def test_many_processes_take_turns_also_over_a_dead_ones_lock(tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    leave_lock(counter, replace(current_owner(), pid=dead_pid()))
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    processes = [subprocess.Popen([sys.executable, "-c", COUNTER, str(counter)], env=environment) for _ in range(6)]
    assert [process.wait() for process in processes] == [0] * 6
    assert counter.read_text() == "120"
    assert os.listdir(tmp_path) == ["counter"]
