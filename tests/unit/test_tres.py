"""Slurm's trackable resources, as sacct prints them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torc_slurm.records.tres import Resources, parse_resources


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cpu=4,mem=800M,node=1", Resources(4, 800 * 1024**2, 1)),
        ("billing=8,cpu=8,mem=4096M,node=2", Resources(8, 4 * 1024**3, 2)),
        ("billing=2,cpu=2,gres/gpu=1,mem=1.50G,node=1", Resources(2, 1536 * 1024**2, 1, 1)),
        ("cpu=2,gres/gpu:a100=2,gres/gpu=2", Resources(2, gpus=2)),
        ("cpu=2,gres/gpu:a100=2,gres/gpu:v100=1", Resources(2, gpus=3)),
        ("cpu=2,gres/gpu:a100=many,gres/gpu:v100=1", Resources(2)),
        ("cpu=1", Resources(1)),
        ("", Resources()),
        (None, Resources()),
        ("cpu=many,mem=lots", Resources()),
    ],
)
def test_what_was_given(text: str | None, expected: Resources) -> None:
    assert parse_resources(text) == expected


@given(
    st.text() | st.from_regex(r"(cpu|mem|node|gres/gpu)=[0-9]{0,6000}[KMGTP]?(,(cpu|mem|node)=.{0,9})*", fullmatch=True)
)
def test_any_text_gives_what_stands_in_it_or_nothing(text: str) -> None:
    found = parse_resources(text)
    for name, count in (("cpu", found.cpus), ("node", found.nodes)):
        assert count is None or re.search(rf"(^|,){name}=0*{count}(,|$)", text)
    assert found.memory_bytes is None or "mem=" in text
