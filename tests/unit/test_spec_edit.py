"""Editing a workflow file: the values change, and nothing else."""

from __future__ import annotations

import pytest

from torc_slurm.common.errors import InputError
from torc_slurm.spec.edit import Change, edit_requirements, unified_diff
from torc_slurm.spec.load import parse_workflow

YAML = """\
# größe: the comment at the top
name:   demo          # odd spacing stays
resource_monitor: { enabled: true, granularity: 'time_series' }

resource_requirements:
    - {name: small,  num_cpus: 1, memory: "500m", runtime: PT5M}   # in one line
    # a comment between
    - name: train
      memory: 8g      # why 8g
      runtime: 'PT4H'


    - name: defaults
      memory: 1g
jobs:
- name: a
  command: "echo 名前 > out; true"
  resource_requirements: small
- name: b
  command: |
    cat <<EOF
      memory: 8g
    EOF
  resource_requirements: train
"""


def change(key: str, new: str | int, *known: str | int, name: str = "train") -> Change:
    return Change(name, key, new, known)


def changed_lines(before: str, after: str) -> list[str]:
    diff = unified_diff(before, after, "x.yaml").splitlines()[2:]
    return [line for line in diff if line.startswith(("+", "-"))]


def test_values_change_and_nothing_else_does() -> None:
    after = edit_requirements(
        YAML,
        "x.yaml",
        [
            change("memory", "13g", "8g"),
            change("runtime", "PT12M", "PT4H"),
            change("memory", "100m", "500m", name="small"),
            change("num_cpus", 3, 1, name="small"),
        ],
    )
    assert changed_lines(YAML, after) == [
        '-    - {name: small,  num_cpus: 1, memory: "500m", runtime: PT5M}   # in one line',
        '+    - {name: small,  num_cpus: 3, memory: "100m", runtime: PT5M}   # in one line',
        "-      memory: 8g      # why 8g",
        "-      runtime: 'PT4H'",
        "+      memory: 13g      # why 8g",
        "+      runtime: 'PT12M'",
    ]


def test_a_key_that_was_not_written() -> None:
    after = edit_requirements(YAML, "x.yaml", [change("num_cpus", 7, 1), change("num_cpus", 2, 1, name="defaults")])
    assert changed_lines(YAML, after) == ["+      num_cpus: 7", "+      num_cpus: 2"]
    one = "name: x\nresource_requirements: [{name: r}]\njobs: [{name: a, command: b, resource_requirements: r}]\n"
    assert "{num_cpus: 4, name: r}" in edit_requirements(one, "x", [change("num_cpus", 4, 1, name="r")])


def test_nothing_to_change_changes_nothing() -> None:
    assert edit_requirements(YAML, "x.yaml", [change("memory", "8g", "4g")]) == YAML
    assert edit_requirements(YAML, "x.yaml", []) == YAML
    assert unified_diff(YAML, YAML, "x.yaml") == ""


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_line_ends_stay(ending: str) -> None:
    text = YAML.replace("\n", ending)
    after = edit_requirements(text, "x.yaml", [change("memory", "13g", "8g"), change("num_cpus", 2, 1)])
    assert after.count("\r\n") == text.count("\r\n")


def test_json() -> None:
    text = (
        '{\n\t"name": "d\\u00e9mo \\ud83d\\ude00", "resource_requirements": [\n'
        '    {"name": "train", "memory": "8g", "num_cpus": 4}],\n'
        '  "jobs": [{"name": "a", "command": "b", "resource_requirements": "train"}]\n}\n'
    )
    after = edit_requirements(text, "x.json", [change("memory", "13g", "8g"), change("num_cpus", 7, 4)], "json")
    assert after == text.replace('"8g"', '"13g"').replace(": 4}", ": 7}")
    after = edit_requirements(text, "x.json", [change("num_nodes", 2, 1)], "json")
    assert '{"name": "train", "num_nodes": 2, "memory"' in after


def test_a_file_that_was_edited_since_is_not_overwritten() -> None:
    with pytest.raises(InputError, match="memory 8g in 'train', but the workflow requested 4g"):
        edit_requirements(YAML, "x.yaml", [change("memory", "13g", "4g")])
    with pytest.raises(InputError, match="no resource requirement 'gone'"):
        edit_requirements(YAML, "x.yaml", [change("memory", "13g", "4g", name="gone")])


ALIASES = """\
name: x
resource_requirements:
  - &base {name: one, memory: 8g, num_cpus: 2}
  - {<<: *base, name: two}
  - name: three
    memory: &size 4g
  - name: four
    memory: *size
jobs: [{name: a, command: b, resource_requirements: one}]
"""


def test_aliases_and_merged_keys_get_values_of_their_own() -> None:
    after = edit_requirements(
        ALIASES, "x", [change("memory", "9g", "8g", name="two"), change("memory", "5g", "4g", name="four")]
    )
    found = {each.name: each.memory for each in parse_workflow(after, "x").requirements}
    assert found == {"one": "8g", "two": "9g", "three": "4g", "four": "5g"}


@pytest.mark.parametrize("name", ["one", "three"])
def test_a_value_that_others_share_is_not_changed_for_them(name: str) -> None:
    now = {"one": "8g", "three": "4g"}[name]
    with pytest.raises(InputError, match="shared by an anchor"):
        edit_requirements(ALIASES, "x", [change("memory", "9g", now, name=name)])
