"""torc-step's command line: what it takes, and one clear line for what it does not."""

from __future__ import annotations

import pytest

from torc_slurm.errors import InputError
from torc_slurm.step.options import parse


def test_the_command_is_what_follows_the_dashes() -> None:
    options = parse(["--granularity", "time_series", "--", "prog", "--help", "--", "-x"], {})
    assert options.command == ["prog", "--help", "--", "-x"]
    assert options.granularity == "time_series"


def test_the_first_word_that_is_no_option_begins_the_command() -> None:
    options = parse(["--sample-interval-seconds=0.1", "prog", "--job-id", "x"], {})
    assert options.command == ["prog", "--job-id", "x"]
    assert options.sample_interval_seconds == 0.1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "no command"),
        (["--"], "no command"),
        (["--sample-interval-seconds", "0", "--", "x"], "'0'"),
        (["--sample-interval-seconds", "x", "--", "x"], "'x'"),
        (["--sample-interval-seconds", "nan", "--", "x"], "'nan'"),
        (["--sample-interval-seconds", "0.09", "--", "x"], "at least 0.1"),
        (["--flush-interval-seconds", "0.5", "--", "x"], "at least 1"),
        (["--granularity", "all", "--", "x"], "summary, time_series"),
        (["--job-id", "-1", "--", "x"], "'-1'"),
        (["--job-id", "٣", "--", "x"], "whole number"),
        (["--output-dir", "", "--", "x"], "empty"),
        (["--output-dir"], "needs a value"),
        (["--sample-interval", "1", "--", "x"], "--sample-interval-seconds"),
        (["--workflow-id", "1", "--", "x"], "--run-id"),
    ],
)
def test_bad_input_is_named_with_its_remedy(arguments: list[str], named: str) -> None:
    with pytest.raises(InputError, match=named) as raised:
        parse(arguments, {})
    assert "\n" not in str(raised.value)


def test_the_environment_stands_in_for_options_that_were_not_given() -> None:
    environ = {"TORC_SAMPLE_INTERVAL_SECONDS": "2", "TORC_GRANULARITY": "time_series", "TORC_JOB_ID": "7"}
    options = parse(["--granularity", "summary", "--", "x"], environ)
    assert (options.sample_interval_seconds, options.granularity) == (2.0, "summary")
    assert options.identity["job_id"] == 7


@pytest.mark.parametrize("variable", ["TORC_SAMPLE_INTERVAL_SECONDS", "TORC_GRANULARITY", "TORC_RUN_ID"])
def test_a_bad_value_in_the_environment_names_its_variable(variable: str) -> None:
    with pytest.raises(InputError, match=variable):
        parse(["--", "x"], {variable: "?"})
