"""Plan: how many rows an export has, and how it is cut into slices, counted in the pinned tables.

A slice is a range of the export's leading column holding about `slice_rows` stored rows, so that sorting it stays in
memory; in order, the slices are the export. The cut depends only on the pinned tables and the settings, and the
bytes written do not depend on the cut.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from outhaul.errors import Damaged
from outhaul.export.relations import AS_STORED, FOLDED, SOURCES, relation, source
from outhaul.instants import LAST
from outhaul.schema import EXPORTS
from outhaul.selection import condition
from outhaul.sql import instant, quoted
from outhaul.tables import StoredFile, Tables

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from duckdb import DuckDBPyConnection

    from outhaul.wire import Campaigns, ExportRequest, Pin

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


class Source:
    """The rows of one export: its request, against one pinned state of the tables."""

    def __init__(self, tables: Path, app_id: str, request: ExportRequest, pin: Pin) -> None:
        self._request = request
        self._pin = pin
        export = EXPORTS[request.kind]
        self._lead = export.order[0]
        self._timed = export.dated
        self._campaigns = ""
        store, period = Tables(tables), request.period
        self._by_arrival = period is not None and period.by == "receivedAt"
        # Of event time, in ms; for a period of arrival it is what the rows that arrived in it turn out to span.
        self._span = None if period is None or self._by_arrival else (period.start, period.end)
        self._condition = " AND ".join(filter(None, (self._arrival(), condition(request))))
        days = _days(*self._span) if self._span and self._timed else None
        self._files = {
            table: store.files(app_id, table, pin.versions[table], days) if table in pin.versions else []
            for table in SOURCES[request.kind]
        }
        for files in self._files.values():
            _check(files)

    def look(self, db: DuckDBPyConnection) -> None:
        """Find out what the plan depends on: which campaigns were active, which event times arrived in a period."""
        campaigns, period = self._request.campaigns, self._request.period
        if campaigns:
            feedback = source("feedback", [file.path for file in self._files["feedback"]])
            self._campaigns = _chosen(db, feedback, campaigns)
        if period and self._by_arrival:
            arrived = " UNION ALL ".join(
                f'SELECT "{self._lead}" AS lead FROM {source(table, [file.path for file in files])} WHERE {self._arrival()}'
                for table, files in self._files.items()
            )
            row: Any = db.execute(
                f"SELECT epoch_ms(min(lead)), epoch_ms(max(lead)) FROM ({arrived})"
            ).fetchone()
            self._span = (0, 0) if row[0] is None else (row[0], row[1] + 1)

    def _arrival(self) -> str:
        period = self._request.period
        if period is None or not self._by_arrival:
            return ""
        return f'"receivedAt" >= {instant(period.start)} AND "receivedAt" < {instant(period.end)}'

    def rows(self, part: Slice | None = None) -> str:
        """The rows of a slice, or of the whole export, as a table expression over the files that can hold them."""
        where, scans = self._scans(part)
        found = relation(self._request.kind, scans, where, self._pin)
        return f"(SELECT * FROM {found} WHERE {self._condition})" if self._condition else found

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
        kind = self._request.kind
        if kind in AS_STORED or (kind not in FOLDED and not self._condition):
            return slices
        counted = [Slice(part.start, part.end, self._count(db, part), part.day) for part in slices]
        return [part for part in counted if part.rows]

    def _day(self, start: int | str) -> str | None:
        return _utc_day(int(start)) if self._request.day_path else None

    def _count(self, db: DuckDBPyConnection, part: Slice) -> int:
        row: Any = db.execute(f"SELECT count(*) FROM {self.rows(part)}").fetchone()
        return int(row[0])

    def _scans(self, part: Slice | None) -> tuple[str, dict[str, str]]:
        """The condition that a slice puts on the leading column, and the tables to put it on."""
        start, end = (part.start, part.end) if part else (None, None)
        if self._span and self._timed:
            start = self._span[0] if start is None else start
            end = self._span[1] if end is None else end
        conditions = []
        if start is not None:
            conditions.append(f'"{self._lead}" >= {_literal(start)}')
        if end is not None:
            conditions.append(f'"{self._lead}" < {_literal(end)}')
        scans = {
            table: source(table, [file.path for file in files if _overlaps(file, start, end)])
            for table, files in self._files.items()
        }
        if self._campaigns:
            scans["feedback"] = f"(SELECT * FROM {scans['feedback']} WHERE {self._campaigns})"
        return " AND ".join(conditions) or "true", scans

    def _buckets(
        self, db: DuckDBPyConnection, slice_rows: int, part: Slice | None, level: int
    ) -> Iterator[tuple[int | str, int]]:
        """Starts of ranges and the rows stored in them, in order; a range that holds too much is looked at closer."""
        steps = _TIME_STEPS if self._timed else _PREFIXES
        step = steps[level]
        bucket = (
            f'epoch_ms("{self._lead}") // {step} * {step}' if self._timed else f'left("{self._lead}", {step})'
        )
        where, scans = self._scans(part)
        if self._condition and self._request.kind in AS_STORED:
            where = f"{where} AND {self._condition}"
        last = part.end if part else None
        counted = db.execute(
            f"SELECT {bucket} AS bucket, count(*) FROM {scans[self._request.kind]} WHERE {where} "
            "GROUP BY bucket ORDER BY bucket"
        ).fetchall()
        for index, (start, count) in enumerate(counted):
            if count > 2 * slice_rows and level + 1 < len(steps):
                end = counted[index + 1][0] if index + 1 < len(counted) else last
                yield from self._buckets(db, slice_rows, Slice(start, end, count), level + 1)
            else:
                yield start, count


def _check(files: list[StoredFile]) -> None:
    """Raise Damaged unless every file is there, with the size it was written with."""
    for file in files:
        size = file.path.stat().st_size if file.path.exists() else None
        if size != file.size:
            state = "is gone" if size is None else f"has {size} bytes where {file.size} were written"
            log.error("%s %s", file.path, state)
            raise Damaged(
                f"A file of the stored data {state}, so nothing was delivered.",
                hint="The server's log says which; restore the data folder from a backup.",
            )


def _days(start: int, end: int) -> tuple[str, str]:
    return _utc_day(start), _utc_day(max(start, end - 1))


def _utc_day(milliseconds: int) -> str:
    return f"{datetime.fromtimestamp(min(milliseconds, LAST) // 1000, UTC):%Y-%m-%d}"


def _overlaps(file: StoredFile, start: int | str | None, end: int | str | None) -> bool:
    # Bytes compare as the engine compares text; both bounds of a file are of the kind that the slices are.
    low, high = _comparable(file.low), _comparable(file.high)
    return (start is None or high >= _comparable(start)) and (end is None or low < _comparable(end))


def _comparable(bound: int | str) -> Any:
    return bound.encode() if isinstance(bound, str) else bound


def _literal(bound: int | str) -> str:
    return quoted(bound) if isinstance(bound, str) else instant(bound)


def _chosen(db: DuckDBPyConnection, feedback: str, campaigns: Campaigns) -> str:
    """The condition that keeps the chosen campaigns' feedback."""
    condition = f"campaignType = {_literal(campaigns.type)}"
    ids = campaigns.ids
    if campaigns.window:
        start, end = _literal(campaigns.window.start), _literal(campaigns.window.end)
        rows: list[Any] = db.execute(
            f"SELECT campaignId FROM {feedback} WHERE {condition} GROUP BY campaignId "
            f"HAVING min(timestamp) < {end} AND max(timestamp) >= {start}"
        ).fetchall()
        ids = [row[0] for row in rows]
    chosen = ", ".join(_literal(campaign) for campaign in ids or [])
    return f"{condition} AND campaignId IN ({chosen or 'NULL'})"
