"""The messages between wrapper and monitor arrive unchanged, or not at all."""

from __future__ import annotations

import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torc_slurm.step import link

NUMBERS = st.integers(-1, 1 << 60) | st.floats(0, 1e12, allow_nan=False)


@given(st.lists(NUMBERS, min_size=len(link.Exit.FIELDS), max_size=len(link.Exit.FIELDS)))
def test_every_number_comes_back_as_it_was(values: list[float]) -> None:
    sent = link.Exit()
    for name, value in zip(link.Exit.FIELDS, values, strict=True):
        setattr(sent, name, value)
    received = link.decode(link.encode(sent))
    assert isinstance(received, link.Exit)
    assert [getattr(received, name) for name in link.Exit.FIELDS] == values


@pytest.mark.parametrize(
    "text",
    [b"", b"Begin", b"Exit 1 2", b"nonsense", b"\xff\x00", b"Exit " + b"x " * len(link.Exit.FIELDS), b"Exit nan"],
)
def test_an_invalid_message_is_none(text: bytes) -> None:
    assert link.decode(text) is None


@given(st.binary(max_size=300))
def test_no_bytes_do_harm(text: bytes) -> None:
    link.decode(text)
    link.decode(b"Begin " + text)


def test_a_message_fits() -> None:
    """With every field at its longest, a message is far below the limit."""
    begin = link.Begin()
    for name in link.Begin.FIELDS:
        setattr(begin, name, 1e-300 if name == "begin_time" else -(1 << 63))
    assert len(link.encode(begin)) < 1000


def test_a_dead_monitors_messages_can_still_be_read() -> None:
    """Even if it had not read everything that was sent to it, which resets the connection."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    assert link.send(ours, b"never read")
    assert link.send(theirs, b"run 7")
    assert link.send(theirs, b"failed because")
    theirs.close()
    assert not link.send(ours, b"Exit")
    assert [link.receive(ours), link.receive(ours), link.receive(ours)] == [b"run 7", b"failed because", b""]
    ours.close()


def test_long_names_have_short_ones() -> None:
    for node in ("n" * 300, "\N{CYRILLIC SMALL LETTER BE}" * 80, "\udcff" * 200):
        path = link.meeting_place("7.0.1." + node)
        assert path is not None
        assert len(os.fsencode(path)) < 108  # sun_path
