"""An output directory of another user: what may be read is shown, nothing is changed, the rest is one line of text."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from namespaces import USER, Namespace, own_namespace

pytestmark = pytest.mark.root

OTHER = USER + 1
TORC = [sys.executable, "-m", "torc_slurm.cli.main"]


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    with own_namespace() as made:
        yield made


def of_a_user(namespace: Namespace, mode: str) -> Path:
    """An output directory in which a user has run a workflow."""
    home = namespace.place / "home"
    home.mkdir()
    (home / "w.yaml").write_text("name: w\njobs: [{name: a, command: 'true', env: {TOKEN: secret}}]\n")
    os.chown(home, USER, USER)
    out = home / "out"
    words = [*TORC, "run", str(home / "w.yaml"), "--output-dir", str(out)]
    namespace.do("env", f"TORC_FILE_MODE={mode}", *words, user=USER)
    return out


def tree(out: Path) -> dict[Path, tuple[int, bytes]]:
    files = [path for path in out.rglob("*") if path.is_file()]
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


COMMANDS = [
    ["slurm", "stats", "1"], ["workflows", "list"], ["jobs", "list", "1"], ["slurm", "collect"], ["run", "1"],
    ["workflows", "delete", "1"], ["submit", "1"],
]  # fmt: skip
READING = 4  # the first of them


def test_a_private_one_is_named_with_its_owner(namespace: Namespace) -> None:
    out = of_a_user(namespace, "600")
    before = tree(out)
    for words in COMMANDS:
        status, stdout, stderr = namespace.run([*TORC, *words, "--output-dir", str(out)], OTHER)
        assert (status, stdout) == (1, ""), words
        (line,) = stderr.splitlines()
        assert f"belongs to the user with the id {USER}" in line
        assert "--output-dir" in line
        assert "secret" not in line
    assert tree(out) == before


def test_a_shared_one_can_be_read(namespace: Namespace) -> None:
    out = of_a_user(namespace, "644")
    before = tree(out)
    for place, words in enumerate(COMMANDS):
        status, stdout, stderr = namespace.run([*TORC, *words, "--output-dir", str(out)], OTHER)
        assert status == int(place >= READING), (words, stderr)
        assert "Traceback" not in stderr
        assert bool(stdout) == (place < READING), words
    assert tree(out) == before


def test_root_follows_no_link_of_the_users(namespace: Namespace) -> None:
    out = of_a_user(namespace, "600")
    victim = namespace.place / "victim"
    (out / "torc.db").unlink()
    os.symlink(victim, out / "torc.db")
    os.lchown(out / "torc.db", USER, USER)
    namespace.run([*TORC, "slurm", "collect", "--output-dir", str(out)])
    assert not victim.exists()


def test_what_root_makes_there_is_the_users(namespace: Namespace) -> None:
    out = of_a_user(namespace, "600")
    (out / "torc.db").unlink()
    namespace.do(*TORC, "slurm", "collect", "--output-dir", str(out))
    assert (out / "torc.db").stat().st_uid == USER
