"""The names under an output directory: each name is parsed into the parts it was made from."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from torc_slurm.files.output_names import (
    is_stage_file,
    parse_run_file_name,
    plan_path,
    run_of_stage_script,
    script_path,
    user_data_files,
    user_data_path,
)

NUMBERS = st.integers(1, 10**6)


@given(NUMBERS, NUMBERS, st.none() | NUMBERS)
def test_a_run_is_known_by_its_plans_and_scripts(workflow: int, run: int, stage: int | None) -> None:
    plan, script = plan_path("/o", workflow, run, stage), script_path("/o", workflow, run, stage)
    for path in (plan, script):
        found = parse_run_file_name(Path(path).name)
        assert found is not None
        assert found[:2] == (workflow, run)
    assert is_stage_file(plan) == (stage is not None)
    assert run_of_stage_script(script) == (None if stage is None else run)
    assert run_of_stage_script(plan) is None


def test_a_workflows_user_data_are_its_own(tmp_path: Path) -> None:
    assert user_data_files(str(tmp_path), 1) == []
    for workflow in (1, 11):
        path = Path(user_data_path(str(tmp_path), workflow, 5))
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert user_data_files(str(tmp_path), 1) == [user_data_path(str(tmp_path), 1, 5)]
