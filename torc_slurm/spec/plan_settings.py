"""Settings that few workflows and jobs have, as JSON text without defaults: in the database, and in a plan.

Standard library only.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from torc_slurm.spec.workflow import Action, JobSettings, Pool, Rule, Workflow

ORDINARY = JobSettings()


def job_settings_text(settings: JobSettings) -> str:
    """A job's settings as JSON: only those that differ from the defaults."""
    return "{}" if settings is ORDINARY or settings == ORDINARY else json.dumps(non_defaults(settings))


def job_settings_of(text: str) -> JobSettings:
    """The settings that `job_settings_text` wrote."""
    return ORDINARY if text == "{}" else job_settings(json.loads(text))


def job_settings(found: dict[str, Any]) -> JobSettings:
    """The settings in a JSON object."""
    rules = tuple(rule(each) for each in found.get("rules", ()))
    return JobSettings(**found | {"rules": rules, "output_paths": tuple(found.get("output_paths", ()))})


def rule(found: dict[str, Any]) -> Rule:
    """A failure handler's rule in a JSON object."""
    codes = found.get("exit_codes")
    return Rule(**found | {"exit_codes": None if codes is None else tuple(codes)})


def action(found: dict[str, Any]) -> Action:
    """An action in a JSON object."""
    return Action(found["trigger"], tuple(found["commands"]), tuple(found.get("jobs", ())))


def workflow_settings(workflow: Workflow) -> str:
    """The workflow's settings that have no column, as JSON; actions number jobs from 0 in the workflow's order."""
    found = {
        "actions": [dataclasses.asdict(each) for each in workflow.actions],
        "pools": [dataclasses.asdict(each) for each in workflow.pools],
        "required_paths": workflow.required_paths,
        "timeout_exit_code": workflow.timeout_exit_code,
        "oom_exit_code": workflow.oom_exit_code,
    }
    return json.dumps({name: value for name, value in found.items() if value})


def pools_of(found: dict[str, Any]) -> dict[str, Pool]:
    """By scheduler, the settings that actions give its allocation."""
    return {each["scheduler"]: Pool(**each) for each in found.get("pools", ())}


def non_defaults(value: Any) -> dict[str, Any]:  # noqa: ANN401 - any dataclass
    """A dataclass as an object with the fields that differ from their defaults."""
    return {
        item.name: dataclasses.asdict(found) if dataclasses.is_dataclass(found) else _plain(found)  # type: ignore[arg-type]
        for item in dataclasses.fields(value)
        if (found := getattr(value, item.name)) != _default(item)
    }


def _default(item: dataclasses.Field[Any]) -> object:
    return item.default_factory() if item.default_factory is not dataclasses.MISSING else item.default


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [dataclasses.asdict(each) if dataclasses.is_dataclass(each) else each for each in value]  # type: ignore[arg-type]
    return value
