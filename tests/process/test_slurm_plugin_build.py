"""``torc slurm plugin build`` with a real compiler: the files it installs, and one clear line for each error."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from torc_slurm.usecases.slurm_plugin import source_directory, version_text

TORC = [sys.executable, "-P", "-m", "torc_slurm.cli.main"] if sys.version_info >= (3, 11) else ["torc"]
HEADERS = Path("/usr/include")
CALLED = frozenset(
    [
        "slurm_error",
        "spank_get_item",
        "spank_getenv",
        "spank_setenv",
        "spank_option_getopt",
        "spank_option_register",
        "spank_prepend_task_argv",
        "faccessat",
        "snprintf",
        "strtod",
        "strtoul",
        "isoc23_strtoul",
        "stack_chk_fail",
        "strchr",
        "strcmp",
        "strcspn",
        "strlen",
        "strncmp",
        "strrchr",
        "strspn",
        "strstr",
        "memcpy",
        "memset",
    ]
)
HOOKS = ("slurm_spank_init", "slurm_spank_user_init", "slurm_spank_task_init")


def build(prefix: Path, *options: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [*TORC, "slurm", "plugin", "build", "--prefix", str(prefix), *options]
    return subprocess.run(command, env=os.environ | environ, capture_output=True, text=True, check=False)


def refusal(prefix: Path, *options: str, **environ: str) -> tuple[int, str]:
    """The exit status and the one line; nothing was installed."""
    done = build(prefix, *options, **environ)
    assert done.stdout == ""
    assert not list(prefix.glob("lib/torc-slurm/*"))
    (line,) = done.stderr.splitlines()
    return done.returncode, line


def test_it_installs_the_plugin_and_what_it_puts_in_front(tmp_path: Path) -> None:
    done = build(tmp_path, "-f", "json")
    assert done.returncode == 0, done.stderr
    built = json.loads(done.stdout)
    assert built["plugstack_line"] == f"optional {built['plugin']} default=off"
    assert {path.name for path in Path(built["plugin"]).parent.iterdir()} == {"spank_torc.so", "torc-step-exec"}
    assert stat.S_IMODE(os.stat(built["torc_step_exec"]).st_mode) == 0o755
    names = subprocess.run(["nm", "-D", built["plugin"]], capture_output=True, text=True, check=True).stdout
    assert all(f" T {hook}\n" in names for hook in HOOKS)
    assert os.access(built["torc_step"], os.X_OK)


def test_the_sources_pass_the_static_analyzer() -> None:
    """Warnings are errors here; a site's build does not fail on warnings of a newer compiler."""
    done = subprocess.run(
        ["sh", os.path.join(source_directory(), "build.sh"), "--check"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_plugin_allocates_opens_and_starts_nothing(tmp_path: Path) -> None:
    """It runs in slurmstepd: this list has all its calls, and none of them can fail a job, wait, or change the user."""
    built = json.loads(build(tmp_path, "-f", "json").stdout)
    command = ["nm", "-D", "--undefined-only", built["plugin"]]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    called = {line.split()[1].partition("@")[0] for line in lines if line.split()[0] == "U"}
    assert {name.removeprefix("__").removesuffix("_chk") for name in called} <= CALLED


def test_each_thing_that_is_missing_is_named(tmp_path: Path) -> None:
    status, line = refusal(tmp_path, CC="no-such-compiler")
    assert status == 1
    assert "no-such-compiler was not found on PATH; install a C compiler (apt install gcc" in line
    status, line = refusal(tmp_path, CC="cc -nostdinc")
    assert status == 1
    assert "slurm/spank.h cannot be used" in line
    assert "apt install libslurm-dev" in line
    status, line = refusal(tmp_path, "--torc-step", "/no/such/torc-step")
    assert (status, "--torc-step '/no/such/torc-step' cannot be executed" in line) == (2, True)


def test_a_header_of_another_slurm_is_refused(tmp_path: Path) -> None:
    shutil.copytree(HEADERS / "slurm", tmp_path / "include" / "slurm")
    header = tmp_path / "include" / "slurm" / "slurm_version.h"
    number = "#undef SLURM_VERSION_NUMBER\n#define SLURM_VERSION_NUMBER 0x130b03\n"
    header.write_text(header.read_text() + number)
    status, line = refusal(tmp_path, "--slurm-include", str(tmp_path / "include"))
    assert status == 1
    assert "slurm/spank.h is of Slurm 19.11.3, and this machine has Slurm " in line


def test_a_prefix_that_plugstack_cannot_hold_is_refused(tmp_path: Path) -> None:
    status, line = refusal(tmp_path / "with blank")
    assert status == 2
    assert "is not a path of letters, digits" in line


def test_a_place_that_users_cannot_reach_is_warned_of(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0o700)
    done = build(closed)
    assert done.returncode == 0
    assert "so their steps are not measured: chmod o+x" in done.stderr


@pytest.mark.parametrize(("number", "text"), [(0x160508, "22.05.8"), (0x180B05, "24.11.5"), (0x1A0500, "26.05.0")])
def test_versions_read_as_slurm_prints_them(number: int, text: str) -> None:
    assert version_text(number) == text


def test_it_is_loadable_and_of_the_headers_version(tmp_path: Path) -> None:
    """Slurm reads these names before it loads a plugin."""
    built = json.loads(build(tmp_path, "-f", "json").stdout)
    library = ctypes.CDLL(built["plugin"], mode=os.RTLD_LAZY)
    version = ctypes.c_uint32.in_dll(library, "plugin_version").value
    assert version_text(version) == built["slurm_version"]
    assert ctypes.string_at(ctypes.addressof(ctypes.c_char.in_dll(library, "plugin_type"))) == b"spank"
