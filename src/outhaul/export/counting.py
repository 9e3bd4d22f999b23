"""How many rows an export has, of whatever tables it is of: for telling which exports held somebody's records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from outhaul.export.relations import SOURCES, relation
from outhaul.schema import EXPORTS
from outhaul.selection import condition
from outhaul.sql import instant, named, quoted

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from outhaul.wire import Campaigns, ExportRequest, Pin


def count(db: DuckDBPyConnection, request: ExportRequest, pin: Pin, tables: dict[str, str]) -> int:
    """How many rows an export has of tables that are each given as an expression over it.

    Of campaigns that are chosen by when they were active it counts all of their type: that takes the others' feedback to know.
    """
    export, period = EXPORTS[request.kind], request.period
    sources = {name: tables[name] for name in SOURCES[request.kind]}
    if request.campaigns and "feedback" in sources:
        sources["feedback"] = f"(SELECT * FROM {sources['feedback']} WHERE {_chosen(request.campaigns)})"
    within = "true"
    if period is not None and export.dated and period.by == "timestamp":
        within = _between(export.order[0], period.start, period.end)
    conditions = [condition(request) or "true"]
    if period is not None and period.by == "receivedAt":
        conditions.append(_between("receivedAt", period.start, period.end))
    rows = relation(request.kind, sources, within, pin)
    row: Any = db.execute(f"SELECT count(*) FROM {rows} WHERE {' AND '.join(conditions)}").fetchone()
    return int(row[0])


def _between(column: str, start: int, end: int) -> str:
    return f"{named(column)} >= {instant(start)} AND {named(column)} < {instant(end)}"


def _chosen(campaigns: Campaigns) -> str:
    chosen = f"campaignType = {quoted(campaigns.type)}"
    if campaigns.ids is None:
        return chosen
    return f"{chosen} AND campaignId IN ({', '.join(map(quoted, campaigns.ids)) or 'NULL'})"
