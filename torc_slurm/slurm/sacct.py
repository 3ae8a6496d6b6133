"""Asks sacct for the records of one allocation and reads what it prints.

`query` runs sacct once; `parse` is pure. The text says for itself how it is to be read: its first line names the
columns, and the delimiter is a random string that no job name can hold, so a name with ``|``, newlines or a forged
record in it stays a name. A text of any other form is refused with a ParseError: no column is ever taken for another.
"""

from __future__ import annotations

import functools
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal

from torc_slurm.errors import CommandError, InputError, ParseError
from torc_slurm.slurm import commands
from torc_slurm.units import parse_slurm_size, parse_slurm_time

# Every one of them exists from Slurm 20.11 to 26.05 (`sacct -e`).
FIELDS = (
    "JobIDRaw",
    "JobID",
    "User",
    "State",
    "ExitCode",
    "Submit",
    "Start",
    "End",
    "ElapsedRaw",
    "MaxRSS",
    "MaxRSSNode",
    "MaxRSSTask",
    "MaxVMSize",
    "MaxVMSizeNode",
    "MaxVMSizeTask",
    "MaxDiskReadNode",
    "MaxDiskReadTask",
    "MaxDiskWriteNode",
    "MaxDiskWriteTask",
    "AveCPU",
    "TotalCPU",
    "UserCPU",
    "SystemCPU",
    "TRESUsageInMax",
    "TRESUsageOutMax",
    "TRESUsageInTot",
    "TRESUsageOutTot",
    "NodeList",
    "NTasks",
    "ReqMem",
    "ReqTRES",
    "AllocTRES",
    "TimelimitRaw",
    "ConsumedEnergyRaw",
    "JobName",
)
# Asked for where this sacct knows them: an unknown field makes it refuse the whole query.
OPTIONAL_FIELDS = ("Restarts",)

_JOB_ID_RAW = re.compile(
    r"(?P<job>[0-9]{1,18})(?:\+[0-9]{1,9})?"
    r"(?:\.(?P<step>[0-9]{1,18}|batch|extern|interactive|TBD)(?:\+(?P<component>[0-9]{1,9}))?)?",
    re.ASCII,
)
_TIME = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})", re.ASCII)
_STATE = re.compile(r"(?P<state>[A-Z][A-Z_]*\+?)(?: by (?P<uid>[0-9]{1,18}))?", re.ASCII)
_EXIT_CODE = re.compile(r"([0-9]{1,9}):([0-9]{1,9})", re.ASCII)
_REQUESTED_MEMORY = re.compile(r"([0-9]{1,20})(?:\.[0-9]{1,9})?[KMGTPE]?[nc]?", re.ASCII)
_TRES_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.:/-]*", re.ASCII)
_NO_TIME = frozenset({"", "Unknown", "None", "N/A"})
_NO_TEXT = frozenset({"", "None assigned", "(null)", "N/A"})
_NO_COUNT = frozenset({"4294967294", "4294967295"})  # Slurm's NO_VAL and INFINITE, where a version prints them
_MINUTES_WITHOUT_LIMIT = frozenset({"UNLIMITED", "Partition_Limit"})


@dataclass(frozen=True)
class SacctRow:
    """One record as Slurm keeps it: of a job (``step_id`` None) or of one of its steps. None: the cell was blank.

    Sizes in bytes, times in seconds (Unix time for moments). What a figure is worth is judged elsewhere: a 0 is
    here what Slurm printed.
    """

    slurm_job_id: int
    step_id: str | None
    het_component: int | None = None
    shown_job_id: str = ""
    name: str | None = None
    user_name: str | None = None
    state: str | None = None
    cancelled_by_uid: int | None = None
    exit_code: int | None = None
    exit_signal: int | None = None
    submit_time: float | None = None
    start_time: float | None = None
    end_time: float | None = None
    elapsed_seconds: float | None = None
    restart_count: int | None = None
    max_rss_bytes: int | None = None
    max_rss_node: str | None = None
    max_rss_task: int | None = None
    max_vm_size_bytes: int | None = None
    max_vm_size_node: str | None = None
    max_vm_size_task: int | None = None
    max_disk_read_bytes: int | None = None
    max_disk_read_node: str | None = None
    max_disk_read_task: int | None = None
    max_disk_write_bytes: int | None = None
    max_disk_write_node: str | None = None
    max_disk_write_task: int | None = None
    ave_cpu_seconds: float | None = None
    total_cpu_seconds: float | None = None
    user_cpu_seconds: float | None = None
    system_cpu_seconds: float | None = None
    total_rss_bytes: int | None = None
    total_disk_read_bytes: int | None = None
    total_disk_write_bytes: int | None = None
    gpu_utilization_percent: float | None = None
    gpu_memory_bytes: int | None = None
    node_list: str | None = None
    task_count: int | None = None
    requested_memory: str | None = None
    requested_tres: str | None = None
    allocated_tres: str | None = None
    time_limit_seconds: float | None = None
    consumed_energy_joules: int | None = None


# --- asking ---------------------------------------------------------------------------------------------------


def query(job: str, *, timeout_seconds: float) -> str:
    """What sacct prints for one job (``12``, ``<array job>_<task>``): all its records, requeued ones too.

    Exactly one query to Slurm's database. ``-j`` looks from the epoch on, so midnight is no trouble.

    Raises:
        CommandError: sacct is not there, did not answer in time, or refused.
    """
    fields = FIELDS[:-1] + available_optional_fields() + FIELDS[-1:]
    delimiter = f"\x1f{secrets.token_hex(8)}\x1f"
    arguments = ["-j", job, "-D", "-p", "--noconvert", f"--delimiter={delimiter}", "-o", ",".join(fields)]
    return commands.sacct(arguments, timeout_seconds=timeout_seconds)


@functools.lru_cache(maxsize=1)
def available_optional_fields() -> tuple[str, ...]:
    """Which of OPTIONAL_FIELDS this sacct knows; asked once per process, of sacct itself and not of the database."""
    try:
        listed = commands.sacct(["-e"], timeout_seconds=commands.SCONTROL_TIMEOUT_SECONDS)
    except CommandError:
        return ()  # the query itself will fail in the same way, and say so
    known = set(listed.split())
    return tuple(name for name in OPTIONAL_FIELDS if name in known)


# --- reading --------------------------------------------------------------------------------------------------


def parse(text: str) -> list[SacctRow]:
    """The rows of a text that `query` returned, in sacct's order: each job's record before its steps'.

    Raises:
        ParseError: the text is not of that form, or a cell is not what its column promises.
    """
    return [_row(cells) for cells in _records(text)]


def _records(text: str) -> list[dict[str, str]]:
    """One dict of column to cell per record.

    Every cell is followed by the delimiter and every record by a newline; so cells are counted and not lines, and a
    name may begin or end with a newline.
    """
    names, *records = _lines(text)
    if set(FIELDS) - set(names) or set(names) - set(FIELDS + OPTIONAL_FIELDS) or len(set(names)) != len(names):
        raise ParseError(f"sacct's columns are not those that were asked for: {' '.join(names)[:400]!r}")
    return [dict(zip(names, record, strict=True)) for record in records]


def _lines(text: str) -> list[list[str]]:
    """The header's cells, then each record's, all of the same number."""
    pieces = text.split(_delimiter(text))
    width = next((number for number, piece in enumerate(pieces) if piece.startswith("\n")), 0)
    if pieces.pop() != "\n" or not width or len(pieces) % width:
        raise ParseError(f"sacct's output is cut off or has records of different length: …{text[-60:]!r}")
    lines = [pieces[start : start + width] for start in range(0, len(pieces), width)]
    for line in lines[1:]:
        if not line[0].startswith("\n"):
            raise ParseError(f"a record of sacct has not the header's {width} columns: {line[0][:40]!r}")
        line[0] = line[0][1:]
    return lines


def _delimiter(text: str) -> str:
    first, second = FIELDS[:2]
    end = text.find(second, len(first))
    if not text.startswith(first) or end <= len(first) or "\n" in text[:end]:
        raise ParseError(f"sacct's output does not begin with the names of its columns: {text[:80]!r}")
    return text[len(first) : end]


def _row(cells: dict[str, str]) -> SacctRow:
    cell = _CellReader(cells)
    job_id, step_id, component = _job_and_step(cells["JobIDRaw"])
    state, cancelled_by_uid = cell.state()
    exit_code, exit_signal = cell.exit_code()
    in_max, in_total = cell.tres("TRESUsageInMax"), cell.tres("TRESUsageInTot")
    return SacctRow(
        slurm_job_id=job_id,
        step_id=step_id,
        het_component=component,
        shown_job_id=cells["JobID"],
        name=cells["JobName"] or None,
        user_name=cell.text("User"),
        state=state,
        cancelled_by_uid=cancelled_by_uid,
        exit_code=exit_code,
        exit_signal=exit_signal,
        submit_time=cell.moment("Submit"),
        start_time=cell.moment("Start"),
        end_time=cell.moment("End"),
        elapsed_seconds=cell.count("ElapsedRaw"),
        restart_count=cell.count("Restarts") if "Restarts" in cells else None,
        max_rss_bytes=cell.size("MaxRSS"),
        max_rss_node=cell.text("MaxRSSNode"),
        max_rss_task=cell.count("MaxRSSTask"),
        max_vm_size_bytes=cell.size("MaxVMSize"),
        max_vm_size_node=cell.text("MaxVMSizeNode"),
        max_vm_size_task=cell.count("MaxVMSizeTask"),
        max_disk_read_bytes=in_max.get("fs/disk"),  # MaxDiskRead itself is rounded to 0.01 MiB below 1 MiB
        max_disk_read_node=cell.text("MaxDiskReadNode"),
        max_disk_read_task=cell.count("MaxDiskReadTask"),
        max_disk_write_bytes=cell.tres("TRESUsageOutMax").get("fs/disk"),
        max_disk_write_node=cell.text("MaxDiskWriteNode"),
        max_disk_write_task=cell.count("MaxDiskWriteTask"),
        ave_cpu_seconds=cell.duration("AveCPU"),
        total_cpu_seconds=cell.duration("TotalCPU"),
        user_cpu_seconds=cell.duration("UserCPU"),
        system_cpu_seconds=cell.duration("SystemCPU"),
        total_rss_bytes=in_total.get("mem"),
        total_disk_read_bytes=in_total.get("fs/disk"),
        total_disk_write_bytes=cell.tres("TRESUsageOutTot").get("fs/disk"),
        gpu_utilization_percent=in_max.get("gres/gpuutil"),
        gpu_memory_bytes=in_max.get("gres/gpumem"),
        node_list=cell.text("NodeList"),
        task_count=cell.count("NTasks"),
        requested_memory=cell.requested_memory(),
        requested_tres=cell.text("ReqTRES"),
        allocated_tres=cell.text("AllocTRES"),
        time_limit_seconds=cell.minutes("TimelimitRaw"),
        consumed_energy_joules=cell.count("ConsumedEnergyRaw"),
    )


def _job_and_step(text: str) -> tuple[int, str | None, int | None]:
    match = _JOB_ID_RAW.fullmatch(text)
    if match is None:
        raise ParseError(f"sacct's JobIDRaw {text[:60]!r} is not <job> or <job>.<step>")
    component = match["component"]
    return int(match["job"]), match["step"], None if component is None else int(component)


class _CellReader:
    """Reads the cells of one record; a cell that is not of its column's form raises a ParseError that names it."""

    def __init__(self, cells: Mapping[str, str]) -> None:
        self._cells = cells

    def _wrong(self, column: str) -> ParseError:
        return ParseError(
            f"sacct's {column} {self._cells[column][:60]!r} (of {self._cells['JobIDRaw'][:40]}) is not one"
        )

    def text(self, column: str) -> str | None:
        value = self._cells[column]
        return None if value in _NO_TEXT else value

    def count(self, column: str) -> int | None:
        value = self._cells[column]
        if value == "" or value in _NO_COUNT:
            return None
        if not (value.isascii() and value.isdecimal()) or len(value) > 19:
            raise self._wrong(column)
        return int(value)

    def size(self, column: str) -> int | None:
        value = self._cells[column]
        try:
            return parse_slurm_size(value) if value else None
        except InputError:
            raise self._wrong(column) from None

    def duration(self, column: str) -> float | None:
        value = self._cells[column]
        if value and ":" not in value:
            raise self._wrong(column)
        return self._seconds(column, value)

    def _seconds(self, column: str, value: str) -> float | None:
        try:
            seconds = parse_slurm_time(value) if value else None
        except InputError:
            raise self._wrong(column) from None
        return None if seconds is None else float(seconds)

    def minutes(self, column: str) -> float | None:
        if self._cells[column] in _MINUTES_WITHOUT_LIMIT:
            return None
        value = self.count(column)
        return None if value is None else value * 60.0

    def moment(self, column: str) -> float | None:
        value = self._cells[column]
        if value in _NO_TIME:
            return None
        match = _TIME.fullmatch(value)
        if match is None:
            raise self._wrong(column)
        try:
            return datetime(*map(int, match.groups()), tzinfo=timezone.utc).timestamp()  # type: ignore[arg-type, misc] # six numbers
        except ValueError:
            raise self._wrong(column) from None

    def requested_memory(self) -> str | None:
        """ReqMem as Slurm prints it; None for the 2**64 MiB that 22.05 prints where nothing was requested."""
        value = self.text("ReqMem")
        match = _REQUESTED_MEMORY.fullmatch(value or "")
        if value is not None and match is None:
            raise self._wrong("ReqMem")
        return None if match is None or len(match[1]) > 18 else value

    def state(self) -> tuple[str | None, int | None]:
        value = self._cells["State"]
        match = _STATE.fullmatch(value)
        if value and match is None:
            raise self._wrong("State")
        if match is None:
            return None, None
        return match["state"].rstrip("+"), None if match["uid"] is None else int(match["uid"])

    def exit_code(self) -> tuple[int | None, int | None]:
        value = self._cells["ExitCode"]
        match = _EXIT_CODE.fullmatch(value)
        if value and match is None:
            raise self._wrong("ExitCode")
        return (int(match[1]), int(match[2])) if match else (None, None)

    def tres(self, column: str) -> dict[str, int]:
        """``cpu=00:00:04,fs/disk=36414,mem=213284K`` as name to number: bytes, seconds, counts."""
        usage: dict[str, int] = {}
        for item in self._cells[column].split(","):
            name, equals, value = item.partition("=")
            if not item:
                continue
            if not equals or name in usage or _TRES_NAME.fullmatch(name) is None:
                raise self._wrong(column)
            usage[name] = self._tres_value(column, value)
        return usage

    def _tres_value(self, column: str, value: str) -> int:
        if ":" in value:
            return int(Decimal(self._seconds(column, value) or 0))
        try:
            return parse_slurm_size(value)
        except InputError:
            raise self._wrong(column) from None
