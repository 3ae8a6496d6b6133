"""Sizes, times and percentages: the values that the Rust torc prints, round trips, and never less than requested."""

from __future__ import annotations

import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torc_slurm.common import units
from torc_slurm.common.errors import InputError

MIB = 1024**2
GIB = 1024**3

# --- memory: what a user writes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8g", 8 * 10**9),
        ("8G", 8 * 10**9),
        ("8gb", 8 * 10**9),
        ("8 GB", 8 * 10**9),
        ("500m", 500 * 10**6),
        ("1k", 1000),
        ("2t", 2 * 10**12),
        ("1p", 10**15),
        ("1.5g", 1_500_000_000),
        ("8Gi", 8 * GIB),
        ("8gib", 8 * GIB),
        ("1Ki", 1024),
        ("1Mi", MIB),
        ("1Ti", 1024**4),
        ("1Pi", 1024**5),
        ("1024b", 1024),
        ("0.0001k", 1),
        ("0.1g", 100_000_000),
        (" 8g ", 8 * 10**9),
    ],
)
def test_parse_memory(text: str, expected: int) -> None:
    assert units.parse_memory(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "g",
        "8",
        "8000000000",
        "-1g",
        "+1g",
        "1e3g",
        "8gg",
        "8x",
        "8gi8",
        "1,5g",
        "1..5g",
        ".5g",
        "5.g",
        "0g",
        "0.0m",
        "8G\n8",
        "nan",
        "infg",
        "٣g",
        "8KB/s",
        "99999999999p",
        "8  g",
    ],
)
def test_invalid_memory_is_refused_with_value_and_remedy(text: str) -> None:
    with pytest.raises(InputError) as refused:
        units.parse_memory(text)
    assert repr(text) in str(refused.value)
    assert "8g" in str(refused.value)


memory_texts = st.builds(
    lambda number, unit: f"{number}{unit}",
    st.integers(1, 10**6).map(str) | st.decimals("0.001", 9999, places=3).map(lambda number: f"{number:f}"),
    st.sampled_from(["k", "m", "g", "t", "Ki", "Mi", "Gi", "Ti", "KB", "MB", "GB", "TB"]),
)


@given(memory_texts)
def test_slurm_gets_never_less_than_was_asked_and_less_than_one_mib_more_than_binary(text: str) -> None:
    mib = units.slurm_memory_mib(text)
    assert mib * MIB >= units.parse_memory(text)
    binary = text if "i" in text else text.rstrip("Bb") + "i"
    assert (mib - 1) * MIB < units.parse_memory(binary) <= mib * MIB


@given(memory_texts)
def test_the_monitor_has_16_mib_besides_the_request(text: str) -> None:
    asked = units.parse_memory(text)
    assert units.step_memory_mib(text) * MIB - asked >= 16 * MIB
    assert units.monitor_allowance_mib(text) in (0, 16)


@pytest.mark.parametrize(
    ("text", "mib"), [("8g", 8192), ("1.5g", 1536), ("500m", 500), ("8Gi", 8192), ("1k", 1), ("1000001k", 977)]
)
def test_slurm_memory_mib(text: str, mib: int) -> None:
    assert units.slurm_memory_mib(text) == mib


@pytest.mark.parametrize(("text", "mib"), [("8g", 8192), ("8Gi", 8208), ("100m", 116), ("500m", 500)])
def test_step_memory_mib(text: str, mib: int) -> None:
    assert units.step_memory_mib(text) == mib


# --- memory: what is shown and requested


@pytest.mark.parametrize(
    ("memory_bytes", "text"),
    [
        (8 * 10**9, "8.00 GB"),
        (10_500_000_000, "10.50 GB"),
        (5_000_000, "0.01 GB"),
        (4_999_999, "0.00 GB"),
        (0, "0.00 GB"),
        (1_234_567_890_123, "1234.57 GB"),
    ],
)
def test_format_gb(memory_bytes: int, text: str) -> None:
    assert units.format_gb(memory_bytes) == text


@pytest.mark.parametrize(
    ("memory_bytes", "text"),
    [
        (8 * 10**9, "8.00 GB"),
        (999_996_000, "1.00 GB"),
        (999_994_000, "999.99 MB"),
        (512_000_000, "512.00 MB"),
        (-999_996, "-1.00 MB"),
        (1_700, "1.70 kB"),
        (999, "999 B"),
        (999.7, "1.00 kB"),
        (0, "0 B"),
    ],
)
def test_format_memory(memory_bytes: float, text: str) -> None:
    assert units.format_memory(memory_bytes) == text


@pytest.mark.parametrize(
    ("memory_bytes", "request_text"),
    [
        (Decimal(12_600_000_000), "13g"),
        (units.scaled(10_500_000_000, 1.2), "13g"),
        (units.scaled(2_147_483_648, 1.2), "3g"),
        (10**9, "1g"),
        (10**9 + 1, "2g"),
        (720 * 10**6, "720m"),
        (999_500_000, "1g"),
        (10, "1k"),
        (999_999, "1m"),
        (0.5, "1k"),
    ],
)
def test_round_up_memory(memory_bytes: units.Number, request_text: str) -> None:
    assert units.round_up_memory(memory_bytes) == request_text


@given(st.integers(1, 10**16))
def test_a_rounded_request_holds_what_it_was_made_for(memory_bytes: int) -> None:
    request_text = units.round_up_memory(memory_bytes)
    again = units.parse_memory(request_text)
    assert again >= memory_bytes
    assert units.round_up_memory(again) == request_text
    assert again - memory_bytes < max(1000, memory_bytes)


def test_scaled_is_exact() -> None:
    """8.1 * 1.2 in binary floats is 9.719999…, 1.1 * 1.2 is 1.32000000000000006: one would round down, one up."""
    assert units.scaled(8_100_000_000, 1.2) == 9_720_000_000
    assert units.scaled(1_100_000_000, 1.2) == 1_320_000_000
    assert units.round_up_memory(units.scaled(2_500_000_000, 1.2)) == "3g"


@given(st.integers(0, 10**18), st.integers(1, 100), st.integers(0, 99))
def test_scaled_by_any_multiplier_of_two_places_is_exact(value: int, whole: int, hundredths: int) -> None:
    multiplier = float(f"{whole}.{hundredths:02d}")
    assert units.scaled(value, multiplier) * 100 == value * (whole * 100 + hundredths)


# --- sizes as Slurm prints them


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("218402816", 218402816),
        ("213284K", 213284 * 1024),
        ("1.00M", MIB),
        ("0.04M", 41943),
        ("4096M", 4096 * MIB),
        ("1P", 1024**5),
        ("1E", 1024**6),
        ("0", 0),
    ],
)
def test_parse_slurm_size(text: str, expected: int) -> None:
    assert units.parse_slurm_size(text) == expected


@pytest.mark.parametrize("text", ["", "K", "1k", "1 K", "1KB", "-1K", "1.2.3K", "0x10", "12n", "1e3", "٣K"])
def test_a_size_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        units.parse_slurm_size(text)


@given(st.integers(0, 2**60), st.sampled_from("KMGTP"))
def test_a_size_with_a_unit_is_that_many_times_as_large(number: int, unit: str) -> None:
    assert units.parse_slurm_size(f"{number}{unit}") == number * 1024 ** (1 + "KMGTP".index(unit))


# --- percentages and CPUs


@pytest.mark.parametrize(
    ("used", "specified", "text"),
    [
        (10_500_000_000, 8_000_000_000, "+31.3%"),  # 31.25 rounds half up
        (80, 100, "-20.0%"),
        (523.4, 400, "+30.9%"),
        (100, 100, "+0.0%"),
        (99.99, 100, "+0.0%"),  # never "-0.0%"
        (2, 1, "+100.0%"),
        (0, 5, "-100.0%"),
        (1.1, 1.0, "+10.0%"),
    ],
)
def test_format_change(used: units.Number, specified: units.Number, text: str) -> None:
    assert units.format_change(used, specified) == text


def test_nothing_is_compared_with_a_request_of_zero() -> None:
    with pytest.raises(InputError):
        units.format_change(1, 0)


@pytest.mark.parametrize(("percent", "text"), [(523.4, "523.4%"), (0.05, "0.1%"), (99.94999, "99.9%"), (400, "400.0%")])
def test_format_cpu_percent(percent: units.Number, text: str) -> None:
    assert units.format_cpu_percent(percent) == text


def test_format_cpu_count() -> None:
    assert units.format_cpu_count(4) == "400% (4 cores)"
    assert units.format_cpu_count(1) == "100% (1 core)"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(InputError):
        units.format_gb(value)


# --- times


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("PT4H", 14400),
        ("P1DT2H", 93600),
        ("PT12M", 720),
        ("PT1H30M", 5400),
        ("PT90M", 5400),
        ("P2W", 1209600),
        ("P1D", 86400),
        ("PT0.5S", 1),
        ("PT1,5H", 5400),
        ("P1DT2H3M4S", 93784),
    ],
)
def test_parse_iso_duration(text: str, seconds: int) -> None:
    assert units.parse_iso_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "P", "PT", "4H", "PT4", "P1Y", "P1M", "PT1S1H", "P1DT", "PT-1H", "pt4h", "PT0S", "04:00:00", "P1W2D"]
)
def test_a_run_time_of_another_form_is_refused_with_value_and_remedy(text: str) -> None:
    with pytest.raises(InputError) as refused:
        units.parse_iso_duration(text)
    assert repr(text) in str(refused.value)
    assert "PT4H" in str(refused.value)


@given(st.integers(1, 10**9))
def test_iso_durations_go_there_and_back(seconds: int) -> None:
    assert units.parse_iso_duration(units.format_iso_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"), [(720, "PT12M"), (93600, "P1DT2H"), (0, "PT0S"), (0.1, "PT1S"), (86400, "P1D"), (5, "PT5S")]
)
def test_format_iso_duration(seconds: units.Number, text: str) -> None:
    assert units.format_iso_duration(seconds) == text


@given(st.integers(0, 10**8))
def test_slurm_times_go_there_and_back(seconds: int) -> None:
    assert units.parse_slurm_time(units.format_slurm_time(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1-02:03:04", "93784"),
        ("02:03:04", "7384"),
        ("00:09.372", "9.372"),
        ("59:59.999", "3599.999"),
        ("00:00:00", "0"),
        ("30", "1800"),  # sbatch --time: minutes
        ("05:30", "330"),
        ("2-12", "216000"),
        ("2-12:30", "217800"),
    ],
)
def test_parse_slurm_time(text: str, seconds: str) -> None:
    assert units.parse_slurm_time(text) == Decimal(seconds)


@pytest.mark.parametrize("text", ["UNLIMITED", "unlimited", "INFINITE", "Partition_Limit"])
def test_no_limit_is_none(text: str) -> None:
    assert units.parse_slurm_time(text) is None


@pytest.mark.parametrize(
    "text",
    ["", "1-", "-1", "1:2:3:4", "1:234", "9.372", "1-2-3", "a:b", "00:00:", "1-02:03:04:05", "1-2:3.5", "1-2.5", "٣٠"],
)
def test_a_time_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        units.parse_slurm_time(text)


@given(st.text(alphabet="0123456789-:.", max_size=12))
def test_any_text_is_a_time_of_the_documented_value_or_refused(text: str) -> None:
    """Compared with an independent implementation of sbatch(1)."""
    try:
        seconds = units.parse_slurm_time(text)
    except InputError:
        return
    days, dash, clock = text.rpartition("-")
    parts = [Decimal(part) for part in clock.split(":")]
    if dash:
        parts += [Decimal(0)] * (3 - len(parts))
    elif len(parts) == 1:
        parts = [Decimal(0), parts[0], Decimal(0)]
    else:
        parts = [Decimal(0)] * (3 - len(parts)) + parts
    assert seconds == int(days or 0) * 86400 + parts[0] * 3600 + parts[1] * 60 + parts[2]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(7200, "02:00:00"), (7201, "02:01:00"), (93600, "1-02:00:00"), (1, "00:01:00"), (59.5, "00:01:00")],
)
def test_slurm_time_limit_is_rounded_up_to_the_minute(seconds: units.Number, text: str) -> None:
    assert units.slurm_time_limit(seconds) == text


@given(st.integers(0, 10**7) | st.floats(0, 10**7))
def test_round_up_to_minute(seconds: float) -> None:
    rounded = units.round_up_to_minute(seconds)
    assert rounded % 60 == 0
    assert rounded - 60 < Decimal(str(seconds)) <= rounded


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (9900, "2h 45m 0s"),
        (725, "12m 5s"),
        (7, "7s"),
        (0, "0s"),
        (0.005, "0.005s"),
        (59.6, "1m 0s"),
        (360000, "100h 0m 0s"),
    ],
)
def test_format_run_time(seconds: units.Number, text: str) -> None:
    assert units.format_run_time(seconds) == text


def test_a_negative_time_is_refused() -> None:
    with pytest.raises(InputError):
        units.format_slurm_time(-1)
