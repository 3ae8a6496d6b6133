"""Tables of parameters in files: each row of a CSV file, or object of a JSON file, is one combination of values."""

from __future__ import annotations

import csv
import io
import json

from torc_slurm.common.errors import InputError
from torc_slurm.spec.document import Plain
from torc_slurm.spec.parameters import MOST_JOBS, Combination, Setting, check_name, read_table, setting_of


def rows_of(path: str) -> list[Combination]:
    """The rows of a table; ``.csv``, ``.json`` (a list of objects), ``.jsonl`` or ``.ndjson`` (one object per line).

    Raises:
        InputError: the file cannot be read, is not a table, or has no rows.
    """
    text = read_table(path, "parameters_file")
    name = path.lower()
    if name.endswith(".csv"):
        rows = _of_csv(text, path)
    elif name.endswith(".json"):
        rows = _of_objects(_json(text, path), path)
    elif name.endswith((".jsonl", ".ndjson")):
        lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
        rows = _of_objects([_json(line, f"{path}:{number}") for number, line in lines], path)
    else:
        raise InputError(f"parameters_file: {path} must be named .csv, .json, .jsonl or .ndjson, by what it holds")
    if not rows:
        raise InputError(f"parameters_file: {path} has no rows")
    if len(rows) > MOST_JOBS:
        raise InputError(f"parameters_file: {path} has {len(rows)} rows; at most {MOST_JOBS} are possible")
    return rows


def _of_csv(text: str, path: str) -> list[Combination]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_columns(header, path)
        found: list[Combination] = []
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise InputError(
                    f"parameters_file: {path}:{reader.line_num}: {len(row)} values for {len(header)} columns"
                )
            found.append({name: setting_of(value.strip()) for name, value in zip(header, row, strict=True)})
    except csv.Error as error:
        raise InputError(f"parameters_file: {path}:{reader.line_num}: {error}") from error
    return found


def _check_columns(names: list[str], path: str) -> None:
    for name in names:
        try:
            check_name(name, "column")
        except InputError as error:
            raise InputError(f"parameters_file: {path}: {error}") from None
    if len(set(names)) < len(names):
        raise InputError(f"parameters_file: {path} names a column twice")
    if not names:
        raise InputError(f"parameters_file: {path} has no header with the names of its columns")


def _json(text: str, where: str) -> object:
    try:
        return json.loads(text, parse_int=Plain, parse_float=Plain, parse_constant=Plain)
    except (ValueError, RecursionError) as error:
        raise InputError(f"parameters_file: {where} is not JSON: {error}") from None


def _of_objects(found: object, path: str) -> list[Combination]:
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise InputError(f"parameters_file: {path} must be a list of objects, one for each row")
    names = list(found[0]) if found else []
    rows: list[Combination] = []
    for number, row in enumerate(found, 1):
        if set(row) != set(names):
            raise InputError(f"parameters_file: {path}: row {number} has other columns than the first one")
        rows.append({name: _setting(value) for name, value in row.items()})
    if names:
        _check_columns(names, path)
    return rows


def _setting(value: object) -> Setting:
    """Numbers by their form; other values that are not text, as JSON writes them."""
    if isinstance(value, Plain):
        return setting_of(str(value))
    text = value if isinstance(value, str) else json.dumps(value)
    return Setting(text, text)
