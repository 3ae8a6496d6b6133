"""Variables for the job do not affect torc-step's own Python, and reach the job unchanged."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from measured import (
    PROGRAMS,
    TORC_STEP,
    WAIT_LIMIT_SECONDS,
    await_that,
    environment,
    job_of_a_workflow,
    monitor_of,
    name_of,
    start,
    the_record,
    under_torc_step,
)

import torc_slurm

SCRIPT = ["sh", "-c", "echo out; echo err >&2; exit 5"]
SHOW_ENVIRONMENT = [
    sys.executable,
    "-ISc",
    "import sys; sys.stdout.buffer.write(open('/proc/self/environ', 'rb').read())",
]


def ended(
    command: list[str] | list[str | bytes],
    env: dict[str, str] | dict[bytes, bytes],
    prepare: Callable[[], object] | None = None,
) -> tuple[int, bytes, list[bytes]]:
    """Exit status, stdout, and the lines of stderr except the one that names the record."""
    done = subprocess.run(
        command, env=env, capture_output=True, check=False, timeout=WAIT_LIMIT_SECONDS, preexec_fn=prepare
    )
    said = [line for line in done.stderr.splitlines() if not line.startswith(b"torc-step: recorded in ")]
    return done.returncode, done.stdout, said


def library(directory: Path, name: str, code: str) -> None:
    """Compile a shared library."""
    directory.mkdir(exist_ok=True)
    words = ["cc", "-shared", "-fPIC", "-pthread", f"-Wl,-soname,{name}", "-x", "c", "-", "-o", str(directory / name)]
    subprocess.run(words, input=code, text=True, check=True)


PYTHON_VARIABLES = {
    "PYTHONHOME": "/nowhere",
    "PYTHONHASHSEED": "abc",
    "PYTHONVERBOSE": "1",
    "PYTHONWARNINGS": "error",
    "PYTHONPROFILEIMPORTTIME": "1",
    "PYTHONDEVMODE": "1",
    "PYTHONINSPECT": "1",
    "PYTHONMALLOC": "nonsense",
    "PYTHONCOERCECLOCALE": "warn",
    "PYTHONPLATLIBDIR": "lib64",
    "PYTHONTRACEMALLOC": "nonsense",
    "PYTHONUTF8": "7",
    "PYTHONPATH": ":",
}


@pytest.mark.parametrize("name", PYTHON_VARIABLES)
def test_variables_of_the_jobs_python(name: str, tmp_path: Path) -> None:
    env = environment(**{name: PYTHON_VARIABLES[name]})
    assert ended(under_torc_step(tmp_path, SCRIPT), env) == ended(SCRIPT, env)
    assert the_record(tmp_path).exit["return_code"] == 5


@pytest.mark.parametrize("module", ["sitecustomize", "usercustomize", "os", "signal", "encodings", "torc_slurm"])
@pytest.mark.parametrize("code", ["print('hello from the site')", "raise SystemExit('no')"])
def test_modules_on_the_jobs_pythonpath(module: str, code: str, tmp_path: Path) -> None:
    (tmp_path / f"{module}.py").write_text(code)
    env = environment(PYTHONPATH=str(tmp_path))
    assert ended(under_torc_step(tmp_path / "out", SCRIPT), env) == ended(SCRIPT, env)
    assert the_record(tmp_path / "out").exit["return_code"] == 5


def test_another_sqlite_in_the_library_path(tmp_path: Path) -> None:
    """It has the right name but lacks functions, like one from a module or conda."""
    library(tmp_path / "lib", "libsqlite3.so.0", "int sqlite3_libversion_number(void) { return 3007017; }")
    env = environment(LD_LIBRARY_PATH=str(tmp_path / "lib"))
    assert ended([sys.executable, "-c", "import sqlite3"], env)[0] != 0
    assert ended(under_torc_step(tmp_path / "out", SCRIPT), env) == ended(SCRIPT, env)
    assert the_record(tmp_path / "out").exit["return_code"] == 5
    shown = subprocess.run(
        [str(Path(TORC_STEP).with_name("torc")), "--version"], env=env, capture_output=True, text=True, check=False
    )
    assert (shown.returncode, shown.stderr) == (0, "")


def test_a_preloaded_library_that_starts_a_thread(tmp_path: Path) -> None:
    """A thread before main blocks no signal: in the wrapper it would take signals for the job."""
    code = """
        #include <pthread.h>
        #include <unistd.h>
        static void *idle(void *x) { for (;;) pause(); return x; }
        __attribute__((constructor)) static void begin(void) { pthread_t t; pthread_create(&t, 0, idle, 0); }
    """
    library(tmp_path / "lib", "pre.so", code)
    env = environment(LD_PRELOAD=str(tmp_path / "lib" / "pre.so"))
    job = ["bash", "-c", "trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done"]
    wrapper = start(tmp_path / "out", job, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert wrapper.stdout is not None
    assert wrapper.stdout.readline() == b"up\n"
    wrapper.send_signal(signal.SIGTERM)
    wrapper.communicate(timeout=WAIT_LIMIT_SECONDS)
    assert wrapper.returncode == 5
    assert the_record(tmp_path / "out").exit["return_code"] == 5


set_aside = st.sampled_from(("LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME", "GLIBC_TUNABLES", "MALLOC_ARENA_MAX"))
names = set_aside | st.sampled_from(("LC_CTYPE", "BASH_FUNC_module%%", "PWD", "_", "SHLVL", "IFS", "A B", "a.b"))
values = st.binary(max_size=200).map(lambda value: value.replace(b"\0", b" "))


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(st.dictionaries(names.map(os.fsencode), values))
def test_the_job_gets_its_environment_as_it_was(tmp_path: Path, given_values: dict[bytes, bytes]) -> None:
    """Any content: functions of bash, bytes that are not text, characters that a shell would change."""
    env = {b"PATH": os.environb[b"PATH"]} | given_values
    alone = ended(SHOW_ENVIRONMENT, env)
    under = ended(under_torc_step(tmp_path, SHOW_ENVIRONMENT), env)
    added = [entry for entry in under[1].split(b"\0") if not entry.startswith(b"TORC_STEP_ACTIVE=")]
    assert (under[0], sorted(added)) == (alone[0], sorted(alone[1].split(b"\0")))


@pytest.mark.parametrize("letter", ["\N{CYRILLIC SMALL LETTER BE}", "\N{CJK UNIFIED IDEOGRAPH-6F22}", "\udce9", "%"])
def test_a_long_path_in_any_alphabet(letter: str, tmp_path: Path) -> None:
    """File systems count bytes, and other names contain a record's place; SQLite itself stops at 512 bytes."""
    half = letter * (160 // len(os.fsencode(letter)))
    place = tmp_path / half / half
    place.mkdir(parents=True)
    status, stdout, said = ended(under_torc_step(place, SCRIPT, *job_of_a_workflow(1)), environment())
    assert (status, stdout, said) == (5, b"out\n", [b"err"])
    assert the_record(place).exit["return_code"] == 5


# --- where there is little to run with ------------------------------------------------------------------------


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """The launcher in an installation whose Python is a test's script."""
    place = tmp_path / "moved" / "bin"
    place.mkdir(parents=True)
    shutil.copy(TORC_STEP, place)
    (place.parent / "pyvenv.cfg").touch()
    return place


def test_no_python(elsewhere: Path) -> None:
    status, stdout, said = ended([str(elsewhere / "torc-step"), "--no-sampling", "--", *SCRIPT], environment())
    assert (status, stdout) == (5, b"out\n")
    assert said[-1] == b"err"
    assert len(said) == 2
    assert b"the command runs unmeasured" in said[0]


@pytest.mark.parametrize(
    ("command", "status"), [(["sh", "-c", "exit 7"], 7), (["/nowhere/at/all"], 127), (["/etc/passwd"], 126)]
)
@pytest.mark.parametrize("python", ["missing", "without torc"])
def test_the_status_without_a_wrapper(elsewhere: Path, python: str, command: list[str], status: int) -> None:
    if python == "without torc":
        (elsewhere / "python").symlink_to(os.path.realpath(sys.executable))
    words = [str(elsewhere / "torc-step"), "--output-dir", "x", "--granularity=summary", *command]
    assert ended(words, environment())[0] == status


@pytest.fixture
def breakable(elsewhere: Path) -> Path:
    """A Python next to that launcher with its own library and torc-slurm, which a test may break."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    base = elsewhere.parent.parent / "base"
    stdlib = base / "lib" / version
    stdlib.mkdir(parents=True)
    (base / "bin").mkdir()
    shutil.copy(os.path.realpath(sys.executable), base / "bin" / version)
    real = Path(os.__file__).parent
    for entry in real.iterdir():
        (stdlib / entry.name).symlink_to(entry)
    (stdlib / "encodings").unlink()
    shutil.copytree(real / "encodings", stdlib / "encodings", ignore=shutil.ignore_patterns("__pycache__"))
    (elsewhere / "python").symlink_to(base / "bin" / version)
    (elsewhere.parent / "pyvenv.cfg").write_text(f"home = {base / 'bin'}\n")
    packages = elsewhere.parent / "lib" / version / "site-packages"
    shutil.copytree(
        Path(torc_slurm.__file__).parent, packages / "torc_slurm", ignore=shutil.ignore_patterns("__pycache__")
    )
    return elsewhere.parent.parent


BREAKABLE = (
    "base/lib/python*/encodings/__init__.py",
    "base/lib/python*/encodings/aliases.py",
    "base/lib/python*/encodings/utf_8.py",
    *(
        f"moved/lib/python*/site-packages/torc_slurm/common/{name}.py"
        for name in ("identity", "process_name", "errors")
    ),
    *(f"moved/lib/python*/site-packages/torc_slurm/step/{name}.py" for name in ("main", "job", "options", "kernel")),
    *(f"moved/lib/python*/site-packages/torc_slurm/step/{name}.py" for name in ("wrapper", "link", "sentinel")),
)


@pytest.mark.parametrize("broken", BREAKABLE)
@pytest.mark.parametrize("text", ["(", "raise MemoryError\n", None], ids=["no Python", "no memory", "missing"])
def test_a_broken_installation(breakable: Path, broken: str, text: str | None) -> None:
    """Whichever module is damaged, the command runs as it would alone, and one line says why."""
    (module,) = breakable.glob(broken)
    module.unlink()
    if text is not None:
        module.write_text(text)
    words = [str(breakable / "moved" / "bin" / "torc-step"), "--output-dir", str(breakable / "out"), "--", *SCRIPT]
    status, stdout, said = ended(words, environment())
    assert (status, stdout) == (5, b"out\n"), said
    assert b"err" in said
    assert len(said) == 2, said
    assert b"measured" in b"".join(said)


def test_the_breakable_installation_measures(breakable: Path) -> None:
    words = [str(breakable / "moved" / "bin" / "torc-step"), "--output-dir", str(breakable / "out"), "--", *SCRIPT]
    assert ended(words, environment()) == (5, b"out\n", [b"err"])
    assert the_record(breakable / "out").exit["return_code"] == 5


@pytest.mark.parametrize("python", ["sound", "missing", "without torc"])
def test_a_command_that_no_directory_of_path_is_known_to_have(elsewhere: Path, python: str, tmp_path: Path) -> None:
    """As in a shell: 127 if there is none, 126 if it cannot be executed."""
    launcher = TORC_STEP if python == "sound" else str(elsewhere / "torc-step")
    if python == "without torc":
        (elsewhere / "python").symlink_to(os.path.realpath(sys.executable))
    (tmp_path / "plain").write_text("")  # PATH names a file instead of a directory
    (tmp_path / "has" / "directory").mkdir(parents=True)
    (tmp_path / "has" / "unexecutable").write_text("")
    env = environment(PATH=f"{tmp_path / 'plain'}:{tmp_path / 'has'}:/usr/bin:/bin")
    for command, status in (("nosuchcommand", 127), ("directory", 127), ("unexecutable", 126)):
        assert ended(["bash", "-c", command], env)[0] == status
        found = ended([launcher, "--output-dir", str(tmp_path / "out"), "--", command], env)
        assert (found[0], len(found[2])) == (status, 1 if python == "sound" else 2), found


@pytest.mark.parametrize("megabytes", [5, 10, 12, 13, 13.25, 13.5, 13.75, 14, 16, 20, 22, 24, 30])
def test_an_address_space_that_is_small(megabytes: float, tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (int(megabytes * 2**20),) * 2)

    alone = ended(SCRIPT, environment(), limit)
    status, stdout, said = ended(under_torc_step(tmp_path, SCRIPT), environment(), limit)
    assert (status, stdout) == alone[:2]
    assert b"Traceback" not in b"".join(said)


@pytest.mark.parametrize("most", range(4, 16))
def test_few_file_descriptors(most: int, tmp_path: Path) -> None:
    """The job runs and exits as it does alone; only measuring may fail."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    alone = ended(SCRIPT, environment(), limit)
    status, stdout, said = ended(under_torc_step(tmp_path, SCRIPT), environment(), limit)
    assert (status, stdout) == alone[:2]
    assert b"Traceback" not in b"".join(said)


# --- what they are called ---------------------------------------------------------------------------------------


def test_torcs_processes_are_called_so(tmp_path: Path) -> None:
    """``pkill python`` and ``pkill -f train.py`` are meant for the job."""
    job = [sys.executable, "-IS", str(PROGRAMS / "wait.py")]
    wrapper = start(tmp_path, job, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    monitor = monitor_of(wrapper)
    try:
        assert (name_of(wrapper.pid), name_of(monitor)) == ("torc-step", "torc-sampler")
        lines = [Path(f"/proc/{pid}/cmdline") for pid in (wrapper.pid, monitor)]
        wanted = [b"torc-step --output-dir " + os.fsencode(tmp_path) + b" --\0", b"torc-sampler\0"]
        await_that(lambda: [line.read_bytes() for line in lines] == wanted, f"their command lines to be {wanted}")
    finally:
        wrapper.terminate()
        wrapper.communicate(timeout=WAIT_LIMIT_SECONDS)
