"""Parameters: ranges, lists, combinations, and texts in which only declared braces are replaced."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torc_slurm.common.errors import InputError
from torc_slurm.database.main import open_main, transaction
from torc_slurm.database.workflows import create_workflow
from torc_slurm.spec.document import Plain
from torc_slurm.spec.parameters import Combination, Setting, Template, braces_of, combinations_of
from torc_slurm.spec.workflow import Job, Workflow


def settings_of(name: str, given: object) -> list[Setting]:
    return [each[name] for each in combinations_of({name: given}, "product")]


def substituted(text: str, values: Combination) -> str:
    return Template(text, braces_of(list(values))).fill(values)


def texts(given: object) -> list[str]:
    return [setting.text for setting in settings_of("i", given)]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("1:3", ["1", "2", "3"]),
        ("0:100:50", ["0", "50", "100"]),
        ("0:99:50", ["0", "50"]),
        ("3:1:-1", ["3", "2", "1"]),
        ("-2:0", ["-2", "-1", "0"]),
        ("0:1:0.25", ["0.00", "0.25", "0.50", "0.75", "1.00"]),
        ("5:5", ["5"]),
        ("7", ["7"]),
        ("adam", ["adam"]),
        ("[0.1,0.01]", ["0.1", "0.01"]),
        ("['a b', \"c,d\", 7]", ["a b", "c,d", "7"]),
        ("{ 1:3 }", ["1", "2", "3"]),
        ([Plain("1"), Plain("2.50"), Plain("x"), "7"], ["1", "2.50", "x", "7"]),
    ],
)
def test_values(written: object, meant: list[str]) -> None:
    assert texts(written) == meant


@pytest.mark.parametrize(
    "written",
    [
        "",
        "[]",
        "[a,,b]",
        "['a' b]",
        "@/nowhere",
        "a:b",
        "1:2:0",
        "3:1",
        "1:3:-1",
        "1:2:3:4",
        "0:9999999",
        [],
        None,
        {"a": 1},
    ],
)
def test_what_is_no_range_is_refused(written: object) -> None:
    with pytest.raises(InputError, match="'i'"):
        settings_of("i", written)


@pytest.mark.parametrize("name", ["", "1a", "a b", "a-b", "ä"])
def test_a_name_that_cannot_stand_in_braces_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="letters"):
        settings_of(name, "1:2")


@given(st.integers(-500, 500), st.integers(0, 40), st.integers(1, 9))
def test_a_range_is_that_of_python_with_its_end(first: int, count: int, step: int) -> None:
    last = first + count * step
    assert [setting.value for setting in settings_of("i", f"{first}:{last}:{step}")] == list(
        range(first, last + 1, step)
    )


@given(st.decimals(-9, 9, places=2), st.integers(0, 30), st.decimals("0.01", 3, places=2))
def test_a_range_of_fractions_is_exact(first: Decimal, count: int, step: Decimal) -> None:
    found = texts(f"{first}:{first + count * step}:{step}")
    assert [Decimal(text) for text in found] == [first + index * step for index in range(count + 1)]


def settings(**values: str) -> dict[str, Setting]:
    return {name: settings_of(name, [Plain(value)])[0] for name, value in values.items()}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("job_{i}", "job_7"),
        ("job_{i:03d}", "job_007"),
        ("{i}{x:.2f}{word:>5}", "70.50    a"),
        ("awk '{print $1}' {i}", "awk '{print $1}' 7"),
        ("${HOME}/${i}/{i}", "${HOME}/${i}/7"),
        ("a{2}{j}{ i }{}", "a{2}{j}{ i }{}"),
        ("{{i}}", "{7}"),
        ("100% of {i}: %s %d %%", "100% of 7: %s %d %%"),
    ],
)
def test_only_declared_braces_are_replaced(text: str, filled: str) -> None:
    values = settings(i="7", x="0.5", word="a")
    assert substituted(text, values) == filled


@pytest.mark.parametrize("text", ["{word:03d}", "{i:zz}", "{i:0999999999d}"])
def test_a_format_that_does_not_fit_is_refused(text: str) -> None:
    values = settings(i="7", word="a")
    with pytest.raises(InputError, match=re.escape(text)):
        substituted(text, values)


@given(st.text(st.sampled_from("ab{}$i:0d%s '\"\\\n"), max_size=30), st.text(max_size=5))
def test_filling_in_replaces_exactly_the_declared_braces(text: str, value: str) -> None:
    filled = substituted(text, {"i": Setting(value, value)}) if "{i:" not in text else text
    expected = (
        text
        if "{i:" in text
        else "".join(value if part == "{i}" else part for part in re.split(r"((?<!\$)\{i\})", text))
    )
    assert filled == expected


def test_product_and_zip() -> None:
    both = {"a": "1:2", "b": [Plain("x"), Plain("y")]}

    def pairs(mode: str) -> list[str]:
        return [each["a"].text + each["b"].text for each in combinations_of(both, mode)]

    assert pairs("product") == ["1x", "1y", "2x", "2y"]
    assert pairs("zip") == ["1x", "2y"]


def test_zip_of_different_lengths_names_them() -> None:
    with pytest.raises(InputError, match="a has 2, b has 3"):
        combinations_of({"a": "1:2", "b": "1:3"}, "zip")


def test_too_many_combinations_are_refused_before_they_are_made() -> None:
    with pytest.raises(InputError, match="4000000"):
        combinations_of({"a": "1:2000", "b": "1:2000"}, "product")


@pytest.mark.parametrize("parameters", [{"i": 7}, {"i": -3, "_x": 10**17}, {"i": 1, "x": 0.5}, {"x": 1e300}])
def test_the_stored_parameters_are_json(parameters: dict[str, int | float], tmp_path: Path) -> None:
    workflow = Workflow("w", (Job("a", "true", parameters=parameters),))
    with open_main(str(tmp_path), create_directory=True) as database, transaction(database.connection):
        create_workflow(
            database.connection,
            workflow,
            output_dir=str(tmp_path),
            working_dir="/",
            spec_file=None,
            user_name=None,
            now=1.0,
        )
        (stored,) = database.connection.execute("SELECT parameters FROM jobs").fetchone()
    assert stored == json.dumps(parameters)
