"""Builds torc-step's launcher for the wheel; where there is no C compiler torc-step is a Python script."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# pip writes the interpreter's path into the first line.
_SCRIPT = """\
#!python
import sys
from torc_slurm.step.main import main
sys.exit(main())
"""


class CustomBuildHook(BuildHookInterface[Any]):
    """Adds the script ``torc-step`` to a wheel, also to an editable one."""

    _place: Path | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling's signature
        if self.target_name != "wheel":
            return
        self._place = Path(tempfile.mkdtemp(prefix="torc-launcher-"))
        script = self._place / "torc-step"
        if _compile(Path(self.root, "launcher", "torc_step.c"), script):
            build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
        else:
            script.write_text(_SCRIPT, encoding="utf-8")
        script.chmod(0o755)
        build_data["shared_scripts"][str(script)] = "torc-step"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002 - as above
        if self._place is not None:
            shutil.rmtree(self._place, ignore_errors=True)


def _compile(source: Path, target: Path) -> bool:
    """Whether a compiler made it: linked statically, else dynamically where there is no static C library."""
    compiler = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc")
    if compiler is None:
        return False
    for options in (["-static"], []):
        words = [compiler, "-O2", "-s", *options, str(source), "-o", str(target)]
        if subprocess.run(words, capture_output=True, check=False).returncode == 0:
            return True
    return False
