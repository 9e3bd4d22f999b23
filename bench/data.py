"""Data for the benches: events as landing leaves them, made in bulk, the same for the same number of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb

from outhaul.ledger.landing import Checkpoint
from outhaul.ledger.ledger import Ledger
from outhaul.tables import NewFile, Tables

if TYPE_CHECKING:
    from pathlib import Path

START = 1_767_225_600_000
"""2026-01-01 00:00 UTC; the events are spread over a week from there."""
WEEK = 7 * 24 * 3600 * 1000
FILE_ROWS = 500_000
ISO = "%Y-%m-%dT%H:%M:%S.%gZ"


def events(path: Path, folder: Path, rows: int, devices: int = 500_000) -> tuple[Ledger, str]:
    """Make a data folder at `path` whose one app has `rows` events of so many devices; its ledger, and the app's id."""
    ledger = Ledger(path)
    app_id = ledger.create_app("bench", "android", START).app_id
    tables = Tables(path / "tables")
    db = duckdb.connect(config={"temp_directory": str(folder / "spill")})
    db.execute("SET TimeZone = 'UTC'")
    for number, first in enumerate(range(0, rows, FILE_ROWS)):
        last = min(rows, first + FILE_ROWS)
        db.execute(f"CREATE OR REPLACE TEMP TABLE fresh AS {_rows(first, last, rows, devices)}")
        files = []
        days = db.execute(
            f"SELECT strftime(timestamp, '%Y-%m-%d') d, count(*), strftime(min(timestamp), '{ISO}'), strftime(max(timestamp), '{ISO}') FROM fresh GROUP BY d"
        )
        for day, count, low, high in days.fetchall():
            relative = f"day={day}/{number:06d}.parquet"
            file = tables.folder(app_id, "event") / relative
            file.parent.mkdir(parents=True, exist_ok=True)
            db.execute(
                f"COPY (SELECT * FROM fresh WHERE strftime(timestamp, '%Y-%m-%d') = '{day}' ORDER BY timestamp, \"deviceId\", \"eventId\") "
                f"TO '{file}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 61440)"
            )
            files.append(NewFile(relative, file.stat().st_size, count, low, high, START, day))
        version = tables.append(app_id, "event", files, number + 1)
    ledger.save_checkpoint(Checkpoint(1, {app_id: {"event": version}}, START))
    return ledger, app_id


def _rows(first: int, last: int, rows: int, devices: int) -> str:
    # Hashes stand in for ids: as wide and as hard to compress as real ones, but the same in every run.
    return f"""
    SELECT md5('device' || (i * 7919 % {devices})) AS "deviceId",
        CASE WHEN i % 3 = 0 THEN 'user-' || (i * 7919 % {devices}) END AS "userId", '3.1.' || (i % 7) AS "applicationVersionName",
        CASE WHEN i % 2 = 0 THEN md5('session' || (i // 20)) END AS "sessionId", md5('event' || i) AS "eventId",
        epoch_ms({START} + (i * {WEEK} // {rows})::BIGINT)::TIMESTAMPTZ AS timestamp, 'event_' || (i % 50) AS name,
        CASE WHEN i % 2 = 0 THEN 'session' ELSE 'standalone' END AS kind, NULL::VARCHAR AS "jobId", NULL::VARCHAR AS "jobName",
        'Screen ' || (i % 9) AS "activityName", '{{"sku":"A' || (i % 1000) || '","price":' || (i % 100) || ',"from":"push"}}' AS extras,
        epoch_ms({START})::TIMESTAMPTZ AS "receivedAt", 'native' AS protocol, NULL::VARCHAR AS "sdkName", NULL::VARCHAR AS "sdkVersion"
    FROM range({first}, {last}) t(i)"""
