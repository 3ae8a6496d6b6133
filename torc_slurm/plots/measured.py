"""Reads the series of attempts for drawing, one attempt on one node at a time, with its gaps and its own extremes."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from torc_slurm.common.units import largest
from torc_slurm.plots.model import Column, Job, Number, Part, Series
from torc_slurm.plots.reduce import reduced, series_of

_NO_IO = Series([], ([], []))


@dataclass(frozen=True)
class Measured:
    """The measurements of one attempt on one node; ``charged`` has one column: the charged memory."""

    part: Part
    series: Series
    charged: Series
    io: Series = _NO_IO

    @property
    def memory(self) -> Series:
        """Memory over time: the step's charged memory if it was read, else the sum of RSS."""
        if len(self.charged):
            return self.charged
        return Series(self.series.times, self.series.columns[1:2], self.series.breaks)

    @cached_property
    def peak_cpu_percent(self) -> Number | None:
        return largest((self.part.figures.peak_cpu_percent, _largest(self.series.columns[0])))

    @property
    def peak_memory_bytes(self) -> Number | None:
        """The peak from the node's summary; without a summary, the largest sample."""
        known = self.part.figures.peak_memory_bytes
        return self.sampled_peak_bytes if known is None else known

    @cached_property
    def sampled_peak_bytes(self) -> Number | None:
        """The highest point of the drawn memory lines."""
        return largest((_largest(self.series.columns[1]), _largest(self.charged.columns[0])))

    @cached_property
    def avg_cpu_percent(self) -> Number | None:
        known = self.part.figures.avg_cpu_percent
        return _mean(self.series, 0) if known is None else known

    @cached_property
    def avg_memory_bytes(self) -> Number | None:
        known = self.part.figures.avg_memory_bytes
        return _mean(self.series, 1) if known is None else known

    def shortened(self, most: int) -> Measured:
        """The same with at most about this many samples."""
        return replace(
            self,
            series=reduced(self.series, most),
            charged=reduced(self.charged, most // 2),
            io=reduced(self.io, most // 2),
        )


def read_part(part: Part, *, with_io: bool = True) -> Measured:
    """Read one attempt's series on one node, with its rates of I/O if requested."""
    samples = part.file.samples(part.job_id, part.begin_time, part.end_time)
    columns = (samples.cpu_percent, samples.memory_bytes, samples.num_processes)
    series = series_of(samples.times, columns, part.sample_interval_seconds)
    charged = part.file.charged(part.job_id, part.begin_time, part.end_time)
    memory = series_of(charged.times, (charged.memory_bytes,), part.sample_interval_seconds)
    return Measured(part, series, memory, _io_rates(part) if with_io else _NO_IO)


def _io_rates(part: Part) -> Series:
    """Bytes per second read and written, from the counters since the step began."""
    counted = part.file.io(part.job_id, part.begin_time, part.end_time)
    columns = tuple(
        _rates(counted.times, values, part.begin_time) for values in (counted.read_chars, counted.written_chars)
    )
    return series_of(counted.times, columns, part.sample_interval_seconds)


def _rates(times: Sequence[float], totals: Column, begin: float) -> list[Number | None]:
    found: list[Number | None] = []
    before, last = begin, 0.0
    for time, total in zip(times, totals, strict=True):
        span = time - before
        if total is None or span <= 0:
            found.append(None)
            continue
        found.append(max(0.0, total - last) / span)
        before, last = time, float(total)
    return found


def unread(job: Job) -> list[Measured]:
    """Its parts from their summaries alone."""
    return [Measured(part, Series([], ([], [], [])), Series([], ([],))) for part in job.parts]


def read_job(job: Job, *, with_io: bool = True) -> list[Measured]:
    """Read all attempts of a job on all their nodes, in the order of its parts."""
    return [read_part(part, with_io=with_io) for part in job.parts]


def _mean(series: Series, column: int) -> float | None:
    """Time-weighted over the intervals that are not gaps; with one value, that value."""
    values, times, gaps = series.columns[column], series.times, frozenset(series.breaks)
    total = weight = 0.0
    for place, value in enumerate(values[1:], start=1):
        if value is not None and place - 1 not in gaps:
            span = times[place] - times[place - 1]
            total, weight = total + value * span, weight + span
    return total / weight if weight else next((value for value in values if value is not None), None)


def _largest(values: Column) -> Number | None:
    """The largest known value; an array has no unknown ones."""
    return max(values, default=None) if isinstance(values, array) else largest(values)
