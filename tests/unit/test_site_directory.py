"""A user's own directory in a shared place: never a link, never another user's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from torc_slurm.files.node_local import make_own_directory


def mode(path: Path) -> int:
    return path.lstat().st_mode & 0o7777


def test_it_is_made_for_this_user_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    make_own_directory(str(tmp_path / "ada"))
    make_own_directory(str(tmp_path / "ada"))
    assert mode(tmp_path / "ada") == 0o700


def test_below_a_setgid_directory_its_group_may_read(tmp_path: Path) -> None:
    tmp_path.chmod(0o3777)
    make_own_directory(str(tmp_path / "ada"))
    assert mode(tmp_path / "ada") == 0o2750


@pytest.mark.parametrize("wrong", ["a link", "a file", "open to its group", "open to all"])
def test_what_is_not_surely_ours_is_refused(tmp_path: Path, wrong: str) -> None:
    place, elsewhere = tmp_path / "ada", tmp_path / "elsewhere"
    elsewhere.mkdir()
    if wrong == "a link":
        place.symlink_to(elsewhere)
    elif wrong == "a file":
        place.touch()
    else:
        place.mkdir()
        place.chmod(0o770 if "group" in wrong else 0o707)
    with pytest.raises(PermissionError, match="not a directory of this user"):
        make_own_directory(str(place))
    assert not list(elsewhere.iterdir())


@pytest.mark.root
def test_another_users_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ada").mkdir(mode=0o700)
    os.chown(tmp_path / "ada", 12345, 12345)
    with pytest.raises(PermissionError, match="not a directory of this user"):
        make_own_directory(str(tmp_path / "ada"))


def test_a_parent_that_is_missing_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        make_own_directory(str(tmp_path / "site" / "ada"))
