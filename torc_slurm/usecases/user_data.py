"""Values that jobs share through the workflow: read and written where a job runs, without the main database.

Values from the workflow file are in ``torc.db`` and in each plan. A value that a job writes is a file of its own,
``user_data/wf<W>_d<ID>.json``, which is replaced as a whole.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torc_slurm.common.errors import InputError, TorcError
from torc_slurm.database.main import open_main
from torc_slurm.database.workflows import user_data_rows, user_datum_row, workflow_row
from torc_slurm.files.output_names import plan_path, user_data_path
from torc_slurm.files.whole_files import private_mode, replace_file
from torc_slurm.spec.plan import Plan, read_plan

LARGEST_BYTES = 16 * 1024**2


@dataclass(frozen=True)
class UserData:
    """A value with its number and name; ``data`` is the decoded JSON."""

    user_data_id: int
    workflow_id: int
    name: str
    data: Any

    def as_item(self) -> dict[str, Any]:
        """The item to show, with the keys of the Rust torc."""
        return {"id": self.user_data_id, "workflow_id": self.workflow_id, "name": self.name, "data": self.data}


def get_user_data(output_dir: str, user_data_id: int, environ: Mapping[str, str]) -> UserData:
    """The current value.

    Raises:
        InputError: there is no value of that number.
    """
    known = _known(output_dir, user_data_id, environ)
    path = user_data_path(output_dir, known.workflow_id, user_data_id)
    if not os.path.exists(path):
        return known
    return UserData(user_data_id, known.workflow_id, known.name, _read(path))


def update_user_data(output_dir: str, user_data_id: int, text: str, environ: Mapping[str, str]) -> UserData:
    """Replace a value; ``text`` is JSON.

    Raises:
        InputError: the text is not JSON or too large, or there is no value of that number.
        TorcError: the file cannot be written.
    """
    if len(text.encode("utf-8", "surrogatepass")) > LARGEST_BYTES:
        raise InputError(f"user data has more than {LARGEST_BYTES} bytes; write a file instead, and pass its name")
    try:
        data = json.loads(text)
        written = json.dumps(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"--data is not JSON: {error}; write a text in double quotes") from None
    known = _known(output_dir, user_data_id, environ)
    path = user_data_path(output_dir, known.workflow_id, user_data_id)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        replace_file(path, f"{written}\n".encode("ascii"), private_mode())
    except OSError as error:
        raise TorcError(f"{path} cannot be written: {error.strerror}") from error
    return UserData(user_data_id, known.workflow_id, known.name, data)


def list_user_data(output_dir: str, workflow_id: int | None) -> list[UserData]:
    """The current values of a workflow (None: the latest).

    Raises:
        InputError: there is no such workflow.
    """
    with open_main(output_dir) as database:
        row = workflow_row(database.connection, workflow_id)
        rows = user_data_rows(database.connection, row["workflow_id"])
    found = [_of_row(each) for each in rows]
    return [
        UserData(each.user_data_id, each.workflow_id, each.name, _read(path)) if os.path.exists(path) else each
        for each in found
        for path in (user_data_path(output_dir, each.workflow_id, each.user_data_id),)
    ]


def _known(output_dir: str, user_data_id: int, environ: Mapping[str, str]) -> UserData:
    """The value from the workflow file: inside a job from its plan, elsewhere from the main database."""
    for plan in _plans(output_dir, environ):
        for each in plan.user_data:
            if each.user_data_id == user_data_id:
                return UserData(user_data_id, plan.workflow_id, each.name, json.loads(each.data))
    with open_main(output_dir) as database:
        row = user_datum_row(database.connection, user_data_id)
    if row is None:
        raise InputError(f"there is no user data {user_data_id} in {output_dir} (torc user-data list shows it)")
    return _of_row(row)


def _plans(output_dir: str, environ: Mapping[str, str]) -> list[Plan]:
    """The plan of the calling job, if a job calls."""
    workflow, run = environ.get("TORC_WORKFLOW_ID", ""), environ.get("TORC_RUN_ID", "")
    if not (workflow.isdecimal() and run.isdecimal()):
        return []
    with contextlib.suppress(OSError, TorcError):
        return [read_plan(plan_path(output_dir, int(workflow), int(run)))]
    return []


def _of_row(row: Mapping[str, Any]) -> UserData:
    return UserData(int(row["user_data_id"]), int(row["workflow_id"]), str(row["name"]), json.loads(str(row["data"])))


def _read(path: str) -> Any:  # noqa: ANN401 - any JSON value
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError) as error:
        raise TorcError(f"{path} cannot be read: {error}") from error
