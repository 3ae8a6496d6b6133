"""Names in the node's own directory: short enough in bytes for a file system, and one for each text."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from torc_slurm.files.node_local import digest, file_name_of

anything = st.text(max_size=400)


def path_like(text: str) -> str:
    """Only characters that a path can contain: surrogates that stand for bytes."""
    return text.encode("utf-8", "replace").decode("utf-8", "surrogateescape")


@given(anything)
def test_a_name_fits_into_a_directory(text: str) -> None:
    name = file_name_of(path_like(text))
    assert len(os.fsencode(name)) <= 200
    assert "/" not in name
    assert name not in (".", "..")


@given(anything, anything)
def test_two_texts_have_two_names(one: str, other: str) -> None:
    one, other = path_like(one), path_like(other)
    assert (file_name_of(one) == file_name_of(other)) == (one == other)
    assert digest(one) == digest(one)


def test_bytes_that_are_no_text() -> None:
    assert len(digest("caf\udce9")) == 16
