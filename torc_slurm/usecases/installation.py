"""How other hosts call this installation: absolute words that need no PATH, no PYTHONPATH and no current directory."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import site
import sys

import torc_slurm


def interpreter() -> str:
    """The absolute path of the running interpreter; in a virtual environment, the environment's own.

    Its symbolic link is not resolved: Python finds the environment by the place of the link.
    """
    return os.path.abspath(sys.executable)


def module_command(module: str, python: str | None = None) -> tuple[str, ...]:
    """The words that run a module's ``main()`` in isolation (``-I``): no PYTHON* variable can break it.

    Directories that isolation would hide (of ``pip install --user``, or of PYTHONPATH) stand in the command itself.
    """
    chosen = interpreter() if python is None else python
    hidden = hidden_from_isolation()
    if not hidden:
        return (chosen, "-I", "-m", module)
    return (chosen, "-I", "-c", f"import sys; sys.path[:0] = {hidden!r}; from {module} import main; sys.exit(main())")


def step_command(python: str | None = None) -> tuple[str, ...]:
    """The words that run torc-step: its launcher next to the interpreter, which shields Python from the job's
    variables.

    If the launcher does not find this package by itself (PYTHONPATH, ``pip install --user``): the module.
    """
    launcher = _launcher(python)
    return module_command("torc_slurm.step.main", python) if launcher is None else (launcher,)


def torc_command(python: str | None = None) -> tuple[str, ...]:
    """The words that run ``torc`` in a batch script; through the launcher too, because ``setup`` is meant for jobs."""
    launcher = _launcher(python)
    return module_command("torc_slurm.cli.main", python) if launcher is None else (launcher, "--run-torc")


def _launcher(python: str | None) -> str | None:
    """The compiled launcher. If there was no compiler, torc-step is a Python script, which shields nothing."""
    path = os.path.join(os.path.dirname(interpreter() if python is None else python), "torc-step")
    try:
        with open(path, "rb") as file:
            is_compiled = file.read(4) == b"\x7fELF"
    except OSError:
        return None
    return path if is_compiled and os.access(path, os.X_OK) and not hidden_from_isolation() else None


def hidden_from_isolation() -> list[str]:
    """The directories that an isolated interpreter needs to be told; none if it finds the package by itself."""
    given = [os.path.abspath(part) for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    hidden = {*given, site.getusersitepackages()} if site.ENABLE_USER_SITE else set(given)
    needed = _directories_needed()
    return needed if hidden & set(needed) else []


def _directories_needed() -> list[str]:
    """The directories of this package, of its installation record and of psutil."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(torc_slurm.__file__)))
    psutil = importlib.util.find_spec("psutil")
    found = (
        [package, os.path.dirname(os.path.dirname(os.path.abspath(psutil.origin)))]
        if psutil and psutil.origin
        else [package]
    )
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        found.append(os.path.abspath(str(importlib.metadata.distribution("torc-slurm").locate_file(""))))
    return list(dict.fromkeys(found))
