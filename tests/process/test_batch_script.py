"""The rendered script in a real bash: values survive quoting, signals reach the runner, the exit status stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torc_slurm.common.errors import InputError
from torc_slurm.usecases.batch_script import ScriptValues, find_template, render_script, shell

HOSTILE = ["a b", "it's", 'say "x"', "$(touch hacked)", "`touch hacked`", "; touch hacked", "a\nb", "größe", "\\", "*"]
RUNNER = """
import os, signal, sys, time
if sys.argv[1] == "slurm":
    print("epilog", os.environ["TORC_WORKFLOW_ID"], *sys.argv[1:])
    sys.exit(9)
print("runner", *sys.argv[1:], flush=True)
def told(number, frame):  # perhaps inside itself, for a second signal: print and sys.exit would fail there
    os.write(1, b"told\\n")
    time.sleep(0.2)
    os._exit(5)
signal.signal(signal.SIGTERM, told)
if sys.argv[3].endswith("waits"):
    print("ready", flush=True)
    while True:
        signal.pause()
sys.exit(3)
"""


def values(tmp_path: Path, **changed: object) -> ScriptValues:
    runner = tmp_path / "runner.py"
    runner.write_text(RUNNER)
    given: dict[str, object] = {
        "version": "1.0",
        "workflow_id": 7,
        "workflow_name": "demo",
        "run_id": 1,
        "job_count": 2,
        "directives": ["#SBATCH --nodes=1"],
        "setup": "",
        "torc": (sys.executable, str(runner)),
        "plan": "/plan",
        "output_dir": "/out",
    }
    return ScriptValues(**given | changed)  # type: ignore[arg-type]  # a test's own mapping


def run(script: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", script], cwd=cwd, capture_output=True, text=True, check=False, timeout=60)


@settings(max_examples=40)
@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20), max_size=4))
def test_words_are_read_back_by_bash_unchanged(words: list[str]) -> None:
    script = f"words=({shell(words)}); printf '%s\\0' \"${{words[@]}}\""
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=True, timeout=60)
    assert done.stdout.decode() == "".join(f"{word}\0" for word in words) or (not words and done.stdout == b"\0")


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_and_paths(tmp_path: Path, name: str) -> None:
    script = render_script(
        None, values(tmp_path, workflow_name=name, plan=f"/p/{name}", output_dir=f"/o/{name}"), environ={}
    )
    done = run(script, tmp_path)
    assert done.returncode == 3
    assert done.stdout == f"runner run --plan /p/{name}\nepilog 7 slurm epilog --output-dir /o/{name}\n"
    assert not (tmp_path / "hacked").exists()


def test_the_setup_lines_come_first_and_as_they_are(tmp_path: Path) -> None:
    script = render_script(None, values(tmp_path, setup="echo 'set {{ up }}'\nset -euo pipefail"), environ={})
    done = run(script, tmp_path)
    assert done.stdout.startswith("set {{ up }}\nrunner")
    assert done.returncode == 3
    assert "epilog" in done.stdout


def await_line(stream: IO[str], wanted: str) -> None:
    while line := stream.readline():
        if wanted in line:
            return
    raise AssertionError(f"no line with {wanted!r}")


def test_a_signal_reaches_the_runner_and_its_own_status_counts(tmp_path: Path) -> None:
    script = render_script(None, values(tmp_path, plan="/it/waits"), environ={})
    for further in (0, 2):
        with subprocess.Popen(
            ["bash", "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True
        ) as bash:
            assert bash.stdout is not None
            await_line(bash.stdout, "ready")
            os.kill(bash.pid, signal.SIGTERM)
            await_line(bash.stdout, "told")
            for _ in range(further):  # Slurm's second signal, at the time limit
                os.kill(bash.pid, signal.SIGTERM)
            assert "epilog" in bash.stdout.read()
        assert bash.returncode == 5


def test_the_users_own_template_goes_before_the_shipped_one(tmp_path: Path) -> None:
    environ = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    shipped = find_template(None, environ)
    own = tmp_path / "config" / "torc-slurm" / "templates" / "workflow.sbatch.j2"
    own.parent.mkdir(parents=True)
    own.write_text(
        "#!/bin/sh\n# {{ workflow_name | comment }}\nexec {{ torc | shell }} run --plan {{ plan | shell }}\n"
    )
    assert find_template(None, environ) == str(own)
    assert find_template("workflow", environ) == str(own)
    assert find_template(shipped, environ) == shipped
    assert "# a\\nb\n" in render_script(None, values(tmp_path, workflow_name="a\nb"), environ)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{ nothing }}", "'nothing' is undefined"),
        ("\n{{ oops", "own.j2:2: "),
        ("{{ plan | nofilter }}", "nofilter"),
        ("{{ 1 / 0 }}", "own.j2"),
    ],
)
def test_a_wrong_template_is_one_clear_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "own.j2"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        render_script(str(path), values(tmp_path), environ={})
    assert said in str(caught.value)


def test_a_template_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="shipped are workflow"):
        find_template("mine", {"XDG_CONFIG_HOME": str(tmp_path)})
    with pytest.raises(InputError, match="no template file"):
        find_template("./mine.j2", {})
