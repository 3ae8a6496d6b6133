"""The options for sbatch: whole nodes or parts, priorities, and values that cannot stand in an #SBATCH line."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torc_slurm.common.errors import InputError
from torc_slurm.slurm.sbatch_options import (
    NO_SCHEDULER,
    Overrides,
    choose_scheduler,
    collector_options,
    directive,
    limit_seconds,
    output_pattern,
    overridden,
    sbatch_options,
    split_arguments,
    warning_seconds,
)
from torc_slurm.spec.workflow import Scheduler


def options(
    scheduler: Scheduler = NO_SCHEDULER, defaults: dict[str, str | bool] | None = None, limit: int | None = None
) -> list[str]:
    return sbatch_options(
        scheduler,
        defaults or {},
        job_name="demo",
        output="/out/%j.o",
        limit=limit,
    )


def test_without_a_scheduler_one_whole_node() -> None:
    assert options() == [
        "--job-name=demo",
        "--output=/out/%j.o",
        "--open-mode=append",
        "--signal=B:TERM@120",
        "--no-requeue",
        "--nodes=1",
        "--exclusive",
        "--mem=0",
    ]


def test_everything_a_scheduler_says() -> None:
    scheduler = Scheduler(
        "main",
        account="a",
        partition="p",
        qos="q",
        constraint="c",
        reservation="r",
        gres="gpu:2",
        nodes=3,
        ntasks_per_node=2,
        cpus_per_task=4,
        mem="4096M",
        walltime="PT1H30M",
        extra=("--comment=x y",),
    )
    assert options(scheduler)[5:] == [
        "--account=a",
        "--partition=p",
        "--qos=q",
        "--constraint=c",
        "--reservation=r",
        "--gres=gpu:2",
        "--nodes=3",
        "--ntasks-per-node=2",
        "--cpus-per-task=4",
        "--mem=4096M",
        "--time=01:30:00",
        "--comment=x y",
    ]


@pytest.mark.parametrize(
    ("scheduler", "defaults", "whole"),
    [
        (Scheduler("s"), {}, True),
        (Scheduler("s", exclusive=True), {}, True),
        (Scheduler("s", exclusive=False), {}, False),
        (Scheduler("s", mem="1024M"), {}, False),
        (Scheduler("s", cpus_per_task=2), {}, False),
        (Scheduler("s"), {"mem": "1G"}, False),
        (Scheduler("s"), {"ntasks": "4"}, False),
        (Scheduler("s"), {"mail-type": "END"}, True),
    ],
)
def test_whole_nodes_only_without_cpus_and_memory(
    scheduler: Scheduler, defaults: dict[str, str | bool], whole: bool
) -> None:
    found = options(scheduler, defaults)
    assert ("--exclusive" in found) == whole
    assert ("--mem=0" in found) == whole


def test_defaults_go_before_what_torc_adds_and_behind_the_scheduler() -> None:
    found = options(
        Scheduler("s", partition="mine"), {"requeue": True, "signal": "B:USR1@60", "partition": "other", "nice": False}
    )
    assert "--no-requeue" not in found
    assert {"--requeue", "--signal=B:USR1@60", "--partition=mine"} <= set(found)
    assert not [option for option in found if "other" in option or "nice" in option]


@pytest.mark.parametrize(("limit", "seconds"), [(None, 120), (86400, 120), (600, 60), (60, 6), (5, 1)])
def test_the_warning_is_a_tenth_of_a_short_limit(limit: int | None, seconds: int) -> None:
    assert warning_seconds(limit) == seconds
    assert f"--signal=B:TERM@{seconds}" in options(limit=limit)


@pytest.mark.parametrize(
    ("walltime", "seconds"),
    [(None, None), ("04:00:00", 14400), ("90", 5400), ("1-0", 86400), ("PT4H", 14400), ("UNLIMITED", None)],
)
def test_time_limits(walltime: str | None, seconds: int | None) -> None:
    assert limit_seconds(walltime) == seconds


def test_what_the_command_line_says_goes_first() -> None:
    found = overridden(Scheduler("s", account="a", nodes=2), Overrides(nodes=4, walltime="5"))
    assert (found.account, found.nodes, found.walltime) == ("a", 4, "5")


@pytest.mark.parametrize("overrides", [Overrides(nodes=0), Overrides(walltime="0"), Overrides(walltime="2 hours")])
def test_wrong_overrides(overrides: Overrides) -> None:
    with pytest.raises(InputError):
        overridden(NO_SCHEDULER, overrides)


def test_options_after_the_dashes() -> None:
    words = ["--comment", "a b", "-N2", "--time=5", "-p", "debug", "--exclusive", "-Aacc", "--mail-type=END"]
    said, rest = split_arguments(words)
    assert said == Overrides(account="acc", partition="debug", nodes=2, walltime="5")
    assert rest == ["--comment", "a b", "--exclusive", "--mail-type=END"]


@pytest.mark.parametrize("words", [["-N"], ["-N", "two"], ["--nodes=1-4"]])
def test_wrong_options_after_the_dashes(words: list[str]) -> None:
    with pytest.raises(InputError, match="after --"):
        split_arguments(words)


def test_choosing_a_scheduler() -> None:
    both = [Scheduler("a"), Scheduler("b")]
    assert choose_scheduler(both, None).name == "a"
    assert choose_scheduler(both, "b").name == "b"
    assert choose_scheduler([], None) is NO_SCHEDULER
    with pytest.raises(InputError, match="'c'; slurm_schedulers has: a, b"):
        choose_scheduler(both, "c")


def read_by_sbatch(line: str) -> str:
    """One option as sbatch parses it (src/sbatch/opt.c, _get_argument), implemented independently."""
    text = line.removeprefix("#SBATCH ")
    found, quote, escaped = "", "", False
    for character in text:
        if escaped:
            found, escaped = found + character, False
        elif character == "\\":
            escaped = True
        elif quote:
            found, quote = (found, "") if character == quote else (found + character, quote)
        elif character in "\"'":
            quote = character
        elif character.isspace() or character == "#":
            break
        else:
            found += character
    return found


@given(st.text(st.characters(exclude_characters="\n\r\0", exclude_categories=["Cs"]), max_size=30))
def test_a_directive_keeps_every_value(value: str) -> None:
    line = directive(f"--job-name={value}")
    assert "\n" not in line
    assert read_by_sbatch(line) == f"--job-name={value}"


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\0b", "x\n#SBATCH --wrap=rm"])
def test_what_no_directive_can_hold_is_refused(value: str) -> None:
    with pytest.raises(InputError, match="line break"):
        directive(f"--comment={value}")


def test_a_name_is_only_a_label_and_loses_its_line_breaks() -> None:
    found = sbatch_options(NO_SCHEDULER, {}, job_name="a\nb\t\x1b[31m c", output="/o", limit=None)
    assert found[0] == "--job-name=a b [31m c"
    assert all(re.fullmatch(r"#SBATCH [^\n]*", directive(option)) for option in found)


def test_the_output_file_of_a_directory_with_patterns_in_its_name() -> None:
    assert output_pattern("/a%j/50%", "x_%j.o") == "/a%%j/50%%/x_%j.o"
    with pytest.raises(InputError, match="backslash"):
        output_pattern("/a\\b", "x_%j.o")


def test_the_collector_may_run_where_the_allocation_may() -> None:
    scheduler = Scheduler("main", account="ours", partition="long", nodes=9, mem="400G", gres="gpu:4", extra=("-C x",))
    options = collector_options(scheduler, {"qos": "high", "partition": "other", "mail-type": "END"}, output="/o/%j.o")
    assert sorted(options) == ["--account=ours", "--output=/o/%j.o", "--partition=long", "--qos=high"]
