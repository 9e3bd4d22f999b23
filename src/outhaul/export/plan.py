"""Plan: the rows of one export, counted in the pinned tables, and cut into slices.

A slice is a range of the export's leading column holding about `slice_rows` stored rows, so that sorting it stays in
memory; in order, the slices are the export. The cut depends only on the pinned tables and the settings, and the
bytes written do not depend on the cut.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from outhaul.export.relations import AS_STORED, FOLDED, SOURCES, relation, source
from outhaul.export.slices import Slice, Sliced, between, check_files, days, literal, overlaps
from outhaul.schema import EXPORTS
from outhaul.selection import condition
from outhaul.sql import instant, named
from outhaul.tables import Tables

if TYPE_CHECKING:
    from pathlib import Path

    from duckdb import DuckDBPyConnection

    from outhaul.wire import Campaigns, ExportRequest, Pin


class Source(Sliced):
    """The rows of one export: its request, against one pinned state of the tables."""

    def __init__(self, tables: Path, app_id: str, request: ExportRequest, pin: Pin) -> None:
        export = EXPORTS[request.kind]
        super().__init__(export.order[0], timed=export.dated, by_day=request.day_path)
        self._request = request
        self._pin = pin
        self._campaigns = ""
        store, period = Tables(tables), request.period
        self._by_arrival = period is not None and period.by == "receivedAt"
        # Of event time, in ms; for a period of arrival it is what the rows that arrived in it turn out to span.
        self._span = None if period is None or self._by_arrival else (period.start, period.end)
        self._condition = " AND ".join(filter(None, (self._arrival(), condition(request))))
        partitions = days(*self._span) if self._span and self._timed else None
        self._files = {
            table: store.files(app_id, table, pin.versions[table], partitions)
            if table in pin.versions
            else []
            for table in SOURCES[request.kind]
        }
        for files in self._files.values():
            check_files(files)

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

    def in_order(self, part: Slice) -> str:
        """The rows of a slice in their order, as a table expression."""
        export = EXPORTS[self._request.kind]
        # A record that was sent again after days is stored again, under the same id: then arrival makes the order total.
        last = [column.name for column in export.more if column.name == "receivedAt"]
        order = ", ".join(named(name) for name in (*export.order, *last))
        return f"(SELECT * FROM {self.rows(part)} ORDER BY {order})"

    def _countable(self, part: Slice | None) -> tuple[str, bool]:
        kind = self._request.kind
        where, scans = self._scans(part)
        if self._condition and kind in AS_STORED:
            where = f"{where} AND {self._condition}"
        exact = kind in AS_STORED or (kind not in FOLDED and not self._condition)
        return f"FROM {scans[kind]} WHERE {where}", exact

    def _scans(self, part: Slice | None) -> tuple[str, dict[str, str]]:
        """The condition that a slice puts on the leading column, and the tables to put it on."""
        start, end = (part.start, part.end) if part else (None, None)
        if self._span and self._timed:
            start = self._span[0] if start is None else start
            end = self._span[1] if end is None else end
        scans = {
            table: source(table, [file.path for file in files if overlaps(file, start, end)])
            for table, files in self._files.items()
        }
        if self._campaigns:
            scans["feedback"] = f"(SELECT * FROM {scans['feedback']} WHERE {self._campaigns})"
        return between(self._lead, start, end), scans


def _chosen(db: DuckDBPyConnection, feedback: str, campaigns: Campaigns) -> str:
    """The condition that keeps the chosen campaigns' feedback."""
    condition = f"campaignType = {literal(campaigns.type)}"
    ids = campaigns.ids
    if campaigns.window:
        start, end = literal(campaigns.window.start), literal(campaigns.window.end)
        rows: list[Any] = db.execute(
            f"SELECT campaignId FROM {feedback} WHERE {condition} GROUP BY campaignId "
            f"HAVING min(timestamp) < {end} AND max(timestamp) >= {start}"
        ).fetchall()
        ids = [row[0] for row in rows]
    chosen = ", ".join(literal(campaign) for campaign in ids or [])
    return f"{condition} AND campaignId IN ({chosen or 'NULL'})"
