"""ci/requirements.lock has a version and hashes for everything in pyproject.toml."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CHECKOUT = Path(__file__).resolve().parents[2]
LOCK = (CHECKOUT / "ci" / "requirements.lock").read_text()
ENTRY = re.compile(
    r"^# for (?P<groups>.+)\n(?P<requirement>.+?) \\\n(?P<hashes>(?:    --hash=sha256:[0-9a-f]{64}.*\n)+)", re.M
)


class Entry(NamedTuple):
    groups: set[str]
    requirement: Requirement


def entries() -> list[Entry]:
    return [Entry(set(found["groups"].split()), Requirement(found["requirement"])) for found in ENTRY.finditer(LOCK)]


def project() -> dict[str, Any]:
    toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    document: dict[str, Any] = toml.loads((CHECKOUT / "pyproject.toml").read_text())
    return document


def wanted() -> Iterator[tuple[str, Requirement]]:
    document = project()
    lists = {
        "package": document["project"]["dependencies"],
        "test": document["project"]["optional-dependencies"]["test"],
        **document["dependency-groups"],
    }
    for group, requirements in lists.items():
        for requirement in requirements:
            yield group, Requirement(requirement)


@pytest.mark.parametrize(("group", "requirement"), list(wanted()), ids=str)
def test_each_requirement_is_in_the_lock_and_has_a_lower_bound(group: str, requirement: Requirement) -> None:
    name = canonicalize_name(requirement.name)
    found = [entry for entry in entries() if canonicalize_name(entry.requirement.name) == name]
    here = [entry for entry in found if entry.requirement.marker is None or entry.requirement.marker.evaluate()]
    assert len(here) == 1, f"{name}: run ci/lock --keep"
    (pin,) = here[0].requirement.specifier
    assert pin.operator == "=="
    assert requirement.specifier.contains(pin.version), f"{requirement}, locked {pin}: run ci/lock --keep"
    assert group in here[0].groups
    assert any(each.operator == ">=" for each in requirement.specifier), f"{requirement} has no lower bound"


def test_nothing_in_the_lock_goes_without_a_hash() -> None:
    left = ENTRY.sub("", LOCK).splitlines()
    assert [line for line in left if not line.startswith("# Made by ci/lock")] == []
