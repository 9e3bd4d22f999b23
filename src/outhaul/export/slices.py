"""How the rows of an export are cut into slices, in order, each with its exact count."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from outhaul.errors import Damaged
from outhaul.instants import LAST
from outhaul.sql import instant, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from duckdb import DuckDBPyConnection

    from outhaul.tables import StoredFile

log = logging.getLogger(__name__)

_TIME_STEPS = (60_000, 1_000, 1)
_PREFIXES = (2, 4, 8, 16, 32, 255)


class Slice(Struct, frozen=True):
    """Rows from `start` (None: from the first) up to `end`, which is not in it (None: to the last).

    Bounds are values of the leading column: ms since 1970, or a device id. `day` is the UTC day that all of the rows
    are of, where each day has files of its own.
    """

    start: int | str | None
    end: int | str | None
    rows: int
    day: str | None = None


class Sliced(ABC):
    """Rows in the order of a leading column, which is a time if `timed`; by the day if each day has files of its own."""

    def __init__(self, lead: str, *, timed: bool, by_day: bool) -> None:
        self._lead = lead
        self._timed = timed
        self._by_day = by_day

    @abstractmethod
    def look(self, db: DuckDBPyConnection) -> None:
        """Find out what the plan depends on."""

    @abstractmethod
    def rows(self, part: Slice | None = None) -> str:
        """The rows of a slice, or of the whole export, as a table expression over the files that can hold them."""

    @abstractmethod
    def in_order(self, part: Slice) -> str:
        """The rows of a slice in their order, as a table expression."""

    @abstractmethod
    def _countable(self, part: Slice | None) -> tuple[str, bool]:
        """What slices are cut by: rows with the leading column, as SQL from `FROM` on; whether these are the export's."""

    def slices(self, db: DuckDBPyConnection, slice_rows: int) -> list[Slice]:
        """The whole export, cut into slices of about `slice_rows` stored rows, in order, with their exact counts.

        The cut goes by what is stored and, where rows are exported as they are stored, meets the condition. Where what
        comes out of a slice is something else, folded or filtered, it is counted slice by slice: doing that for all at
        once would take memory that grows with the export.
        """
        cuts: list[tuple[int | str, int]] = []
        for start, rows in self._buckets(db, slice_rows, None, 0):
            if cuts and cuts[-1][1] + rows <= slice_rows and self._day(start) == self._day(cuts[-1][0]):
                cuts[-1] = (cuts[-1][0], cuts[-1][1] + rows)
            else:
                cuts.append((start, rows))
        ends = [start for start, _ in cuts[1:]]
        slices = [
            Slice(
                None if index == 0 else start,
                ends[index] if index < len(ends) else None,
                rows,
                self._day(start),
            )
            for index, (start, rows) in enumerate(cuts)
        ]
        if self._countable(None)[1]:
            return slices
        counted = [Slice(part.start, part.end, self._count(db, part), part.day) for part in slices]
        return [part for part in counted if part.rows]

    def _day(self, start: int | str) -> str | None:
        return utc_day(int(start)) if self._by_day else None

    def _count(self, db: DuckDBPyConnection, part: Slice) -> int:
        row: Any = db.execute(f"SELECT count(*) FROM {self.rows(part)}").fetchone()
        return int(row[0])

    def _buckets(
        self, db: DuckDBPyConnection, slice_rows: int, part: Slice | None, level: int
    ) -> Iterator[tuple[int | str, int]]:
        """Starts of ranges and the rows stored in them, in order; a range that holds too much is looked at closer."""
        steps = _TIME_STEPS if self._timed else _PREFIXES
        step = steps[level]
        bucket = (
            f'epoch_ms("{self._lead}") // {step} * {step}' if self._timed else f'left("{self._lead}", {step})'
        )
        last = part.end if part else None
        counted = db.execute(
            f"SELECT {bucket} AS bucket, count(*) {self._countable(part)[0]} GROUP BY bucket ORDER BY bucket"
        ).fetchall()
        for index, (start, count) in enumerate(counted):
            if count > 2 * slice_rows and level + 1 < len(steps):
                end = counted[index + 1][0] if index + 1 < len(counted) else last
                yield from self._buckets(db, slice_rows, Slice(start, end, count), level + 1)
            else:
                yield start, count


# What slices are cut from: files, and ranges of them


def check_files(files: list[StoredFile]) -> None:
    """Let files pass that are there, with the size they were written with.

    Raises:
        Damaged: one is not.
    """
    for file in files:
        size = file.path.stat().st_size if file.path.exists() else None
        if size != file.size:
            state = "is gone" if size is None else f"has {size} bytes where {file.size} were written"
            log.error("%s %s", file.path, state)
            raise Damaged(
                f"A file of the stored data {state}, so nothing was delivered.",
                hint="The server's log says which; restore the data folder from a backup.",
            )


def overlaps(file: StoredFile, start: int | str | None, end: int | str | None) -> bool:
    """Whether a file can hold rows of a range of its leading column."""
    # Bytes compare as the engine compares text; both bounds of a file are of the kind that the slices are.
    low, high = _comparable(file.low), _comparable(file.high)
    return (start is None or high >= _comparable(start)) and (end is None or low < _comparable(end))


def _comparable(bound: int | str) -> Any:
    return bound.encode() if isinstance(bound, str) else bound


def days(start: int, end: int) -> tuple[str, str]:
    """The first and the last UTC day that a half-open interval touches."""
    return utc_day(start), utc_day(max(start, end - 1))


def utc_day(milliseconds: int) -> str:
    """The UTC day of an instant."""
    return f"{datetime.fromtimestamp(min(milliseconds, LAST) // 1000, UTC):%Y-%m-%d}"


def literal(bound: int | str) -> str:
    """A bound of a slice as SQL."""
    return quoted(bound) if isinstance(bound, str) else instant(bound)


def between(column: str, start: int | str | None, end: int | str | None) -> str:
    """The condition that a column is in a range, as SQL; where there is no bound, it has no end."""
    conditions = []
    if start is not None:
        conditions.append(f'"{column}" >= {literal(start)}')
    if end is not None:
        conditions.append(f'"{column}" < {literal(end)}')
    return " AND ".join(conditions) or "true"
