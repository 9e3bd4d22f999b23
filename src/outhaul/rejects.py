"""What was set aside, as people read it: how much for which reason, and the newest records themselves."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from msgspec import Struct

from outhaul.tables import Tables

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

_SHOWN = ["receivedAt", "reason", "detail", "raw", "deviceId", "protocol"]


class RejectCount(Struct, frozen=True, rename="camel"):
    app_id: str
    reason: str
    count: int


class RejectRow(Struct, frozen=True, rename="camel"):
    """One record set aside; `raw` is what was sent, as text."""

    app_id: str
    received_at: datetime
    reason: str
    detail: str
    raw: str
    device_id: str | None
    protocol: str


class Rejects(Struct, frozen=True, rename="camel"):
    """Counts by app and reason, largest first, and the newest records, newest first."""

    counts: list[RejectCount]
    newest: list[RejectRow]


def read(data: Path, app_id: str | None, reason: str | None, limit: int) -> Rejects:
    """What was set aside in a data folder, of one app or of all, for one reason or for any.

    Counting reads one column; records are read from the newest days only, as many as `limit` takes.
    """
    tables = Tables(data / "tables")
    counts: Counter[tuple[str, str]] = Counter()
    newest: list[RejectRow] = []
    for app in [app_id] if app_id is not None else tables.apps():
        files = sorted((file.path for file in tables.files(app, "reject")), key=_day, reverse=True)
        for file in files:
            counts.update({(app, name): count for name, count in _count(file, reason)})
        newest.extend(_newest(app, files, reason, limit))
    newest.sort(key=lambda row: row.received_at, reverse=True)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return Rejects([RejectCount(app, name, count) for (app, name), count in ranked], newest[:limit])


def _day(file: Path) -> str:
    found = re.search(r"day=(\d{4}-\d\d-\d\d)", file.as_posix())
    return found[1] if found else ""


def _count(file: Path, reason: str | None) -> list[tuple[str, int]]:
    column = pq.ParquetFile(file).read(columns=["reason"]).column("reason")
    pairs = [(entry["values"], entry["counts"]) for entry in pc.value_counts(column).to_pylist()]
    return [(name, count) for name, count in pairs if reason in (None, name)]


def _newest(app: str, files: list[Path], reason: str | None, limit: int) -> list[RejectRow]:
    """The newest rows of one app; `files` come newest day first."""
    rows: list[dict[str, Any]] = []
    day = ""
    for file in files:
        if len(rows) >= limit and _day(file) != day:
            break
        day = _day(file)
        found = pq.ParquetFile(file).read(columns=_SHOWN)
        if reason is not None:
            found = found.filter(pc.equal(found.column("reason"), pa.scalar(reason)))
        rows.extend(
            found.take(pc.select_k_unstable(found, limit, [("receivedAt", "descending")])).to_pylist()
        )
    return [
        RejectRow(
            app_id=app,
            received_at=row["receivedAt"],
            reason=row["reason"],
            detail=row["detail"],
            raw=row["raw"],
            device_id=row["deviceId"],
            protocol=row["protocol"],
        )
        for row in rows
    ]
