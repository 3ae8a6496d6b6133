"""A claim is read as it was written, and a damaged one is named."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from torc_slurm.common.errors import ParseError
from torc_slurm.files.output_names import claim_path
from torc_slurm.usecases.claims import Claim, claim_run, read_claim

CLAIM = Claim(1.0, "node1", 5, slurm_job_id=12)


def test_a_claim_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_claim(str(tmp_path), 1, 1) is None
    assert claim_run(str(tmp_path), 1, 1, CLAIM)
    assert read_claim(str(tmp_path), 1, 1) == CLAIM


@pytest.mark.parametrize("name", list(asdict(CLAIM)))
def test_a_field_of_another_type_is_an_error_that_names_the_file(tmp_path: Path, name: str) -> None:
    path = Path(claim_path(str(tmp_path), 1, 1))
    path.parent.mkdir()
    path.write_text(json.dumps(asdict(CLAIM) | {name: []}))
    with pytest.raises(ParseError, match=r"is damaged: .*; if this run is not active, remove the file"):
        read_claim(str(tmp_path), 1, 1)


@pytest.mark.parametrize(
    ("content", "damage"),
    [
        ("", "it is not JSON"),
        ("{", "it is not JSON"),
        ("[]", "it is no JSON object"),
        ("null", "it is no JSON object"),
        ("{}", "it has no claimed_at"),
        ('{"claimed_at": 1.0, "host": "n1"}', "it has no pid"),
        ('{"claimed_at": 1.0, "host": "n1", "pid": "five"}', 'pid is "five"'),
        ("[" * 100_000, "it is not JSON"),
    ],
)
def test_what_is_wrong_with_a_claim_is_said_in_one_line(tmp_path: Path, content: str, damage: str) -> None:
    path = Path(claim_path(str(tmp_path), 1, 1))
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(ParseError) as found:
        read_claim(str(tmp_path), 1, 1)
    assert str(found.value).startswith(f"{path} is damaged: {damage}")
    assert str(found.value).endswith("; if this run is not active, remove the file")
