"""Compiles and installs the Slurm plugin from the sources in this installation."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import stat
import subprocess
from typing import NamedTuple

import torc_slurm
from torc_slurm.common.errors import CommandError, CommandNotFound, InputError, TorcError
from torc_slurm.slurm import commands
from torc_slurm.usecases.installation import interpreter

_DIRECTORY = "plugin"
_COMPILE_SECONDS = 300
_GET_COMPILER = "install a C compiler (apt install gcc libc6-dev, dnf install gcc), or name one with CC=..."
_GET_HEADERS = (
    "install Slurm's headers (apt install libslurm-dev, dnf install slurm-devel), or name their directory with "
    "--slurm-include DIR; DIR/slurm/spank.h must be that of the Slurm that will load the plugin"
)


class BuiltPlugin(NamedTuple):
    """The installed files. ``warnings``: lines for the administrator."""

    plugin: str
    torc_step_exec: str
    torc_step: str
    slurm_version: str
    plugstack_line: str
    warnings: list[str]


def source_directory() -> str:
    """The directory of the C sources: inside the installed package, or next to it in a checkout.

    Raises:
        TorcError: this installation has no sources.
    """
    package = os.path.dirname(os.path.abspath(torc_slurm.__file__))
    for above in (package, os.path.dirname(package)):
        directory = os.path.join(above, _DIRECTORY)
        if os.path.isfile(os.path.join(directory, "spank_torc.c")):
            return directory
    raise TorcError(f"this installation has no {_DIRECTORY}/spank_torc.c in or next to {package}; install it again")


def build_plugin(prefix: str, torc_step: str | None, slurm_include: str | None) -> BuiltPlugin:
    """Compile into ``<prefix>/lib/torc-slurm``.

    Args:
        torc_step: the command that the plugin calls; None: this installation's own.
        slurm_include: the directory of ``slurm/spank.h``, if the compiler does not find it by itself.

    Raises:
        InputError: a path cannot be compiled in, or torc-step does not exist.
        CommandNotFound: there is no compiler.
        TorcError: there is no header, or one of another version than the Slurm on PATH; or writing failed.
    """
    directory = os.path.join(os.path.abspath(prefix), "lib", "torc-slurm")
    step = _checked_torc_step(torc_step)
    for given in (directory, step):
        if not re.fullmatch(r"/[A-Za-z0-9/._+-]*", given):  # neither a C string nor plugstack.conf could hold it
            raise InputError(f"{given!r} is not a path of letters, digits and / . _ + -: plugstack.conf cannot hold it")
    version = _header_version(slurm_include)
    _check_version(version)
    environment = os.environ | {"LIBDIR": directory, "TORC_STEP": step, "SLURM_INCLUDE": slurm_include or ""}
    environment.pop("DESTDIR", None)
    try:
        _run(["sh", os.path.join(source_directory(), "build.sh")], environment)
    except CommandError as error:
        raise TorcError(f"the plugin cannot be built into {directory}: {error.stderr.strip()}") from error
    plugin, step_exec = (os.path.join(directory, name) for name in ("spank_torc.so", "torc-step-exec"))
    warnings = [_closed(path) for path in (plugin, step) if _closed(path)]
    return BuiltPlugin(plugin, step_exec, step, version, f"optional {plugin} default=off", warnings)


def _checked_torc_step(given: str | None) -> str:
    beside = os.path.join(os.path.dirname(interpreter()), "torc-step")
    found = given or (beside if os.path.exists(beside) else shutil.which("torc-step"))
    if found is None:
        raise InputError("torc-step is not on PATH; give its path with --torc-step")
    if not os.access(found, os.X_OK) or os.path.isdir(found):
        raise InputError(f"--torc-step {found!r} cannot be executed; give the path of an installed torc-step")
    return os.path.abspath(found)


def _header_version(slurm_include: str | None) -> str:
    """The Slurm version of ``slurm/spank.h``, such as ``22.05.8``.

    Raises:
        CommandNotFound, TorcError: as `build_plugin`.
    """
    include = ["-isystem", slurm_include] if slurm_include else []
    compiler = shlex.split(os.environ.get("CC", "")) or ["cc"]
    text = "#include <stdint.h>\n#include <slurm/spank.h>\ntorc_version SLURM_VERSION_NUMBER\n"
    try:
        printed = _run([*compiler, "-E", "-P", *include, "-"], dict(os.environ), text)
    except CommandNotFound:
        raise
    except CommandError as error:
        why = next((line for line in error.stderr.splitlines() if "error" in line), "the compiler failed")
        raise TorcError(f"slurm/spank.h cannot be used ({why.strip()}); {_GET_HEADERS}") from error
    number = re.search(r"torc_version (0x[0-9a-fA-F]+)", printed)
    if number is None:
        raise TorcError(f"slurm/spank.h names no SLURM_VERSION_NUMBER; {_GET_HEADERS}")
    return version_text(int(number.group(1), 16))


def version_text(number: int) -> str:
    """``SLURM_VERSION_NUMBER`` as Slurm prints it: ``0x160508`` is ``22.05.8``."""
    return f"{number >> 16}.{number >> 8 & 0xFF:02d}.{number & 0xFF}"


def _check_version(of_header: str) -> None:
    """Refuse to build for another version: Slurm ignores plugins of other major versions.

    Raises:
        TorcError: this machine has another Slurm. Without any Slurm, nothing is checked.
    """
    installed = _installed_version()
    if installed and installed.split(".")[:2] != of_header.split(".")[:2]:
        raise TorcError(
            f"slurm/spank.h is of Slurm {of_header}, and this machine has Slurm {installed}; {_GET_HEADERS}"
        )


def _installed_version() -> str:
    """Asks slurmd first: it needs no slurm.conf, and the plugin runs on the nodes."""
    environment = commands.query_environment()
    environment["PATH"] = f"{environment.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin"
    for command in ("slurmd", "srun"):
        with contextlib.suppress(CommandError):
            printed = commands.run(
                [command, "-V"], timeout_seconds=commands.SCONTROL_TIMEOUT_SECONDS, environment=environment
            )
            return printed.split()[-1] if printed.split() else ""
    return ""


def _closed(path: str) -> str:
    """A warning if ordinary users cannot read the file: their jobs could not use it."""
    part = path
    while part != "/":
        part = os.path.dirname(part)
        if not os.stat(part).st_mode & stat.S_IXOTH:
            return f"ordinary users cannot pass {part}, so their steps are not measured: chmod o+x {part}"
    return ""


def _run(argv: list[str], environment: dict[str, str], text: str = "") -> str:
    """Run a command and return its stdout.

    Raises:
        CommandNotFound: the command does not exist.
        CommandError: it failed.
    """
    try:
        done = subprocess.run(
            argv, env=environment, input=text, capture_output=True, text=True, timeout=_COMPILE_SECONDS, check=False
        )
    except FileNotFoundError:
        raise CommandNotFound(argv, _GET_COMPILER) from None
    if done.returncode != 0:
        raise CommandError(argv, done.returncode, done.stderr)
    return done.stdout
