"""How many rows an export has, of whatever tables it is of: for telling which exports held somebody's records."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import structs

from outhaul.export.person import Records
from outhaul.export.relations import SOURCES, relation
from outhaul.export.slices import between
from outhaul.schema import EXPORTS
from outhaul.selection import condition
from outhaul.sql import quoted
from outhaul.subjects import rows_of

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from outhaul.export.slices import Slice
    from outhaul.wire import Campaigns, ExportRequest, Pin


def count(db: DuckDBPyConnection, request: ExportRequest, pin: Pin, tables: dict[str, str]) -> int:
    """How many rows an export has of tables that are each given as an expression over it.

    Of campaigns that are chosen by when they were active it counts all of their type: that takes the others' feedback to know.
    """
    if request.of is not None:
        return _counted(db, _History(request, pin, tables).rows(), "true")
    export, period = EXPORTS[request.kind], request.period
    sources = {name: tables[name] for name in SOURCES[request.kind]}
    if request.campaigns and "feedback" in sources:
        sources["feedback"] = f"(SELECT * FROM {sources['feedback']} WHERE {_chosen(request.campaigns)})"
    within = "true"
    if period is not None and export.dated and period.by == "timestamp":
        within = between(export.order[0], period.start, period.end)
    conditions = [condition(request) or "true"]
    if period is not None and period.by == "receivedAt":
        conditions.append(between("receivedAt", period.start, period.end))
    rows = relation(request.kind, sources, within, pin)
    return _counted(db, rows, " AND ".join(conditions))


def _counted(db: DuckDBPyConnection, rows: str, where: str) -> int:
    row: Any = db.execute(f"SELECT count(*) FROM {rows} WHERE {where}").fetchone()
    return int(row[0])


class _History(Records):
    """A history, of tables that are given instead of being looked up."""

    def __init__(self, request: ExportRequest, pin: Pin, tables: dict[str, str]) -> None:
        super().__init__(Path(), "", request, structs.replace(pin, versions={}), b"")
        self._given = tables

    def rows(self, _part: Slice | None = None) -> str:
        start, end = self._span or (None, None)
        found = " UNION ALL ".join(self._of_kind(kind, start, end) for kind in self._shapes)
        return f"(SELECT * FROM ({found}) WHERE {self._condition or 'true'})"

    def _scan(self, table: str, _start: int | str | None = None, _end: int | str | None = None) -> str:
        return f"(SELECT * FROM {self._given[table]} WHERE {rows_of(self._person, table)})"


def _chosen(campaigns: Campaigns) -> str:
    chosen = f"campaignType = {quoted(campaigns.type)}"
    if campaigns.ids is None:
        return chosen
    return f"{chosen} AND campaignId IN ({', '.join(map(quoted, campaigns.ids)) or 'NULL'})"
