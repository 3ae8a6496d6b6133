"""torc-step's command line: accepted options, and one clear line for each error."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from measured import TORC_STEP, environment

from torc_slurm.common.errors import InputError
from torc_slurm.step.options import USAGE, Options, parse, unmeasured_command

WORKFLOW = ["--workflow-id=1", "--run-id=2", "--job-id=3", "--attempt-id=4"]


def parsed(*arguments: str, **environ: str) -> Options:
    return parse(list(arguments), environ)


def test_defaults() -> None:
    options = parsed("--", "a.out")
    assert options.command == ["a.out"]
    assert (options.granularity, options.reader, options.sampling) == ("summary", "auto", True)
    assert (options.sample_interval_seconds, options.flush_interval_seconds) == (10.0, 60.0)
    assert options.identity == {}


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["--", "a", "--help"], ["a", "--help"]),
        (["a", "-x", "--", "b"], ["a", "-x", "--", "b"]),
        (["--", "--", "a"], ["--", "a"]),
        (["--", ""], [""]),
        (["-", "a"], ["-", "a"]),
        (["--reader", "psutil", "a"], ["a"]),
    ],
)
def test_where_the_command_begins(arguments: list[str], command: list[str]) -> None:
    assert parsed(*arguments).command == command


@pytest.mark.parametrize("form", [["--job-name", "a=b"], ["--job-name=a=b"]])
def test_both_forms_of_a_value(form: list[str]) -> None:
    assert parsed(*form, "--", "x").identity == {"job_name": "a=b"}


@pytest.mark.parametrize(("text", "seconds"), [("0.1", 0.1), ("1", 1.0), ("1e2", 100.0), ("60.5", 60.5)])
def test_intervals(text: str, seconds: float) -> None:
    assert parsed(f"--sample-interval-seconds={text}", "--", "x").sample_interval_seconds == seconds


def test_notes_are_numbers_where_they_can_be() -> None:
    words = ("--note", "size=123", "--note=rate=1.5e3", "--note", "mesh-file=a=b", "--note=low=-2", "--note=big=1e999")
    assert parsed(*words, "--", "x").notes == {
        "size": 123,
        "rate": 1500.0,
        "mesh-file": "a=b",
        "low": -2,
        "big": "1e999",
    }


@given(st.text(min_size=1, max_size=200))
def test_any_text_is_a_note_that_json_can_hold(text: str) -> None:
    value = parsed(f"--note=key={text}", "--", "x").notes["key"]
    assert json.loads(json.dumps({"key": value}, allow_nan=False)) == {"key": value}


WRONG: dict[str, list[str]] = {
    "--note 'size' is not KEY=VALUE": ["--note", "size", "--", "x"],
    "--note '1=2' is not KEY=VALUE": ["--note=1=2", "--", "x"],
    "--note size: its value has 0 characters": ["--note=size=", "--", "x"],
    "--note size is given twice": ["--note=size=1", "--note=size=2", "--", "x"],
    "--note n20: more than 20 notes": [*(f"--note=n{number}=1" for number in range(21)), "--", "x"],
    "no command was given": [],
    "no command was given; write it after --": ["--"],
    "--sample-interval-seconds '0' is not": ["--sample-interval-seconds", "0", "--", "x"],
    "--sample-interval-seconds 'x' is not": ["--sample-interval-seconds", "x", "--", "x"],
    "'' is not a number": ["--sample-interval-seconds=", "--", "x"],
    "'-1' is not": ["--sample-interval-seconds=-1", "--", "x"],
    "'0.09' is not": ["--sample-interval-seconds=0.09", "--", "x"],
    "'nan' is not": ["--sample-interval-seconds=nan", "--", "x"],
    "'inf' is not": ["--sample-interval-seconds=inf", "--", "x"],
    "--flush-interval-seconds '0.5' is not a number of seconds of at least 1": ["--flush-interval-seconds=0.5", "x"],
    "--granularity 'all' is not one of summary, time_series": ["--granularity=all", "--", "x"],
    "--reader 'ps' is not one of auto, procfs, psutil": ["--reader=ps", "--", "x"],
    "unknown option '--granlarity'; did you mean --granularity?": ["--granlarity=summary", "--", "x"],
    "did you mean --sample-interval-seconds?": ["--sample-interval", "1", "--", "x"],
    "unknown option '-x'": ["-x", "--", "y"],
    "unknown option '--'": ["--=x", "y"],
    "--output-dir needs a value": ["--output-dir", "--", "x"],
    "--output-dir needs a value; see torc-step --help": ["--output-dir"],
    "--output-dir is empty": ["--output-dir=", "--", "x"],
    "--job-id '-1' is not a whole number": ["--job-id=-1", "--", "x"],
    "--job-id '1.5' is not": ["--job-id=1.5", "--", "x"],
    "--job-id '٣' is not": ["--job-id=٣", "--", "x"],
    "is not a whole number": [f"--job-id={10**19}", "--", "x"],
    "without --attempt-id": ["--workflow-id=1", "--run-id=1", "--job-id=1", "--", "x"],
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_input_is_named(message: str) -> None:
    with pytest.raises(InputError) as caught:
        parsed(*WRONG[message])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_options_go_before_the_environment() -> None:
    environ = {"TORC_JOB_ID": "9", "TORC_SAMPLE_INTERVAL_SECONDS": "5", "TORC_GRANULARITY": "time_series"}
    options = parse(["--job-id=3", "--sample-interval-seconds=2", "--granularity=summary", "--", "x"], environ)
    assert (options.identity["job_id"], options.sample_interval_seconds, options.granularity) == (3, 2.0, "summary")
    options = parse(["--", "x"], environ)
    assert (options.identity, options.sample_interval_seconds, options.granularity) == ({}, 5.0, "time_series")


def test_a_wrong_environment_is_named_and_ignored() -> None:
    options = parsed("--", "x", TORC_SAMPLE_INTERVAL_SECONDS="0", TORC_GRANULARITY="fine")
    assert (options.sample_interval_seconds, options.granularity) == (10.0, "summary")
    assert len(options.ignored) == 2
    assert all("environment variable TORC_" in text for text in options.ignored)


@given(
    st.dictionaries(
        st.sampled_from(("WORKFLOW_ID", "RUN_ID", "JOB_ID", "ATTEMPT_ID", "JOB_NAME", "GRANULARITY", "READER")),
        st.text(max_size=30),
    )
)
def test_no_inherited_variable_stops_a_job(values: dict[str, str]) -> None:
    assert parse(["--", "x"], {f"TORC_{name}": value for name, value in values.items()}).command == ["x"]


def test_empty_variables_are_none() -> None:
    options = parsed("--", "x", TORC_JOB_ID="", TORC_WORKFLOW_ID="", TORC_GRANULARITY="")
    assert (options.identity, options.granularity) == ({}, "summary")


def test_every_option_is_in_the_help() -> None:
    for name in ("output-dir", "granularity", "sample-interval-seconds", "flush-interval-seconds", "reader"):
        assert f"--{name}" in USAGE
    for name in ("no-sampling", "workflow-id", "run-id", "job-id", "job-name", "attempt-id", "help", "version"):
        assert f"--{name}" in USAGE


# --- as a user meets them -------------------------------------------------------------------------------------


def said(*arguments: str, **environ: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [TORC_STEP, *arguments], env=environment(**environ), capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("arguments", [[], ["--"], ["--sample-interval-seconds", "x", "--", "echo"], ["--nonsense"]])
def test_wrong_input_is_one_line_and_exit_status_2(arguments: list[str]) -> None:
    status, stdout, stderr = said(*arguments)
    assert (status, stdout) == (2, "")
    assert stderr.startswith("torc-step: ")
    assert stderr.count("\n") == 1


def test_help_and_version() -> None:
    assert said("--help") == said("-h") == (0, USAGE, "")
    status, stdout, stderr = said("--version")
    assert (status, stderr) == (0, "")
    assert stdout.startswith("torc-step ")


def test_a_wrong_variable_is_reported_and_the_job_runs(tmp_path: Path) -> None:
    status, stdout, stderr = said(f"--output-dir={tmp_path}", "--", "echo", "ran", TORC_GRANULARITY="fine")
    assert (status, stdout) == (0, "ran\n")
    assert "TORC_GRANULARITY 'fine' is not one of summary, time_series; it is ignored" in stderr


def test_a_job_of_another_torc(tmp_path: Path) -> None:
    """It sets some of our names and no run id: recorded as a separate step, without a message."""
    other = {"TORC_WORKFLOW_ID": "42", "TORC_JOB_ID": "123", "TORC_JOB_NAME": "train", "TORC_ATTEMPT_ID": "1"}
    status, stdout, stderr = said("--", "sh", "-c", "echo ran; exit 7", TORC_OUTPUT_DIR=str(tmp_path), **other)
    assert (status, stdout) == (7, "ran\n")
    assert stderr.startswith("torc-step: recorded in ")


def site(pattern: str, *more: str, **environ: str) -> Options:
    return parsed(f"--site-output-dir={pattern}", *more, "--", "x", **environ)


def test_a_site_directory_is_the_users_own() -> None:
    options = site("/srv/torc/%u.%U", SLURM_JOB_USER="ada", USER="mallory")
    assert options.site_output_dir == options.identity["output_dir"] == f"/srv/torc/ada.{os.getuid()}"


def test_what_the_user_says_goes_before_the_sites_directory() -> None:
    by_option = site("/srv/%U", "--output-dir=mine")
    by_variable = site("/srv/%U", TORC_OUTPUT_DIR="mine")
    assert (by_option.site_output_dir, by_option.identity) == ("", {"output_dir": "mine"})
    assert (by_variable.site_output_dir, by_variable.identity) == ("", {})


@pytest.mark.parametrize("user", ["", "../ada", "/etc", ".."])
def test_a_site_directory_is_never_somewhere_else(user: str) -> None:
    with pytest.raises(InputError, match="is not a user's name"):
        site("/srv/torc/%u", SLURM_JOB_USER=user)


@pytest.mark.parametrize("pattern", ["torc/%U", "/srv/%x", "/srv/%"])
def test_a_wrong_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(InputError, match=r"is not an absolute path with %u or %U"):
        site(pattern)


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["--best-effort", "--granularity=x", "--", "a", "--b"], ["a", "--b"]),
        (["--granularity=x", "--", "a"], []),
        (["--granularity=x", "--", "a", "--best-effort"], []),
        (["--best-effort", "a"], []),
    ],
)
def test_what_runs_although_the_options_are_wrong(arguments: list[str], command: list[str]) -> None:
    assert unmeasured_command(arguments) == command


def test_best_effort_runs_the_command_alone_and_says_why() -> None:
    command = [
        TORC_STEP,
        "--best-effort",
        "--granularity=everything",
        "--",
        "sh",
        "-c",
        "echo ran $TORC_STEP_ACTIVE; exit 3",
    ]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "ran\n")
    assert done.stderr == (
        "torc-step: --granularity 'everything' is not one of summary, time_series: the command runs unmeasured\n"
    )
