"""`ci/release` refuses what is not ready, and builds and tags what is; in a clone with stand-in tests."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
VERSION = "9.8.7"
STAND_INS = ("test", "test-versions", "fresh")


def git(place: Path, *words: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "safe.directory=*"]
    done = subprocess.run(["git", *identity, *words], cwd=place, capture_output=True, text=True, check=True)
    return done.stdout


def release(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([place / "ci" / "release", *words], cwd="/", capture_output=True, text=True, check=False)


@pytest.fixture
def ready(tmp_path: Path) -> Path:
    """A repository of this checkout's files, ready for release except that its tests only note that they ran."""
    place = tmp_path / "repository"
    for name in ("torc_slurm", "sbatch_templates", "plugin", "launcher", "ci"):
        shutil.copytree(CHECKOUT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(CHECKOUT / name, place)
    package = place / "torc_slurm" / "__init__.py"
    package.write_text(package.read_text().rpartition("__version__")[0] + f'__version__ = "{VERSION}"\n')
    (place / "CHANGELOG.md").write_text(
        f"# Changelog\n\n## [{VERSION}] - 2026-11-29\n\n### Added\n\n- Much.\n\n## [1.0.0] - x\n\n- Old.\n"
    )
    for name in STAND_INS:
        (place / "ci" / name).write_text(f'#!/bin/sh\necho ran ci/{name} "$@"\n')
    (place / "ci" / "environment").write_text(f"#!/bin/sh\necho {sys.prefix}\n")
    git(place, "init", "--quiet")
    git(place, "config", "user.name", "t")
    git(place, "config", "user.email", "t@example.org")
    commit(place)
    return place


def commit(place: Path) -> None:
    git(place, "add", "--all")
    git(place, "commit", "--quiet", "--message", "all")


def test_what_is_ready_is_tested_built_and_tagged(ready: Path) -> None:
    done = release(ready, VERSION)
    assert done.returncode == 0, done.stderr
    ran = [line for line in done.stdout.splitlines() if line.startswith("ran ")]
    assert ran == [
        "ran ci/test",
        "ran ci/test-versions oldest",
        "ran ci/test-versions newest",
        "ran ci/fresh ci/demo",
        "ran ci/fresh --user ci/demo --local",
        "ran ci/fresh pip install .",
    ]
    assert git(ready, "tag", "--list", "--format=%(refname:short) %(contents:body)").split() == [
        f"v{VERSION}",
        "-",
        "Much.",
    ]
    assert sorted(path.suffix for path in (ready / "dist").iterdir()) == [".gz", ".whl"]
    with tarfile.open(next((ready / "dist").glob("*.tar.gz"))) as archive:
        assert f"torc_slurm-{VERSION}/torc_slurm/__init__.py" in archive.getnames()
    again = release(ready, VERSION)
    assert again.returncode == 1
    assert f"there is a tag v{VERSION} already" in again.stderr


def test_an_uncommitted_file_stops_it(ready: Path) -> None:
    (ready / "new.py").touch()
    assert_refused(ready, "uncommitted")


def test_another_version_in_the_package_stops_it(ready: Path) -> None:
    package = ready / "torc_slurm" / "__init__.py"
    package.write_text(package.read_text().replace(VERSION, "0.0.1"))
    commit(ready)
    assert_refused(ready, "says 0.0.1")


@pytest.mark.parametrize(
    "heading", ["## [Unreleased]", f"## [{VERSION}]", f"## [{VERSION}] - soon", "## [9.8] - 2026-11-29"]
)
def test_a_changelog_without_its_entry_stops_it(ready: Path, heading: str) -> None:
    (ready / "CHANGELOG.md").write_text(f"# Changelog\n\n{heading}\n\n- Much.\n")
    commit(ready)
    assert_refused(ready, "CHANGELOG.md")


def test_an_empty_changelog_entry_stops_it(ready: Path) -> None:
    (ready / "CHANGELOG.md").write_text(
        f"# Changelog\n\n## [{VERSION}] - 2026-11-29\n\n## [1.0.0] - 2026-01-01\n\n- Old.\n"
    )
    commit(ready)
    assert_refused(ready, "CHANGELOG.md")


@pytest.mark.parametrize("name", STAND_INS)
def test_a_test_that_fails_stops_it(ready: Path, name: str) -> None:
    (ready / "ci" / name).write_text("#!/bin/sh\nexit 3\n")
    commit(ready)
    done = release(ready, VERSION)
    assert done.returncode == 1
    assert f"`ci/{name}" in done.stderr
    assert git(ready, "tag") == ""
    assert not (ready / "dist").exists()


def assert_refused(place: Path, said: str) -> None:
    """It refuses in one line, before any test has run."""
    done = release(place, VERSION)
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "ran " not in done.stdout
    assert git(place, "tag") == ""


@pytest.mark.parametrize("words", [[], ["1.2"], ["v1.2.3"], ["1.2.3", "x"], ["--now", "1.2.3"]])
def test_bad_input_is_one_line(words: list[str]) -> None:
    done = release(CHECKOUT, *words)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
