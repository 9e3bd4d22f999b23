"""What landing remembers between batches, in its own DuckDB file: one transaction per batch, position included.

`progress` holds the journal position to read next, the end of the batch that was begun (so that a batch cut
short is repeated with the same bounds) and the version of every table at that position.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from outhaul.sql import named, quoted

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from duckdb import DuckDBPyConnection

# Counted from when the server was last told, since the clocks of devices differ.
_DAY = 24 * 3600 * 1000
_KEEP_SESSIONS = 7 * _DAY
_KEEP_REFERENCES = 30 * _DAY

SCHEMA = """
CREATE TABLE IF NOT EXISTS progress (position BIGINT, batch_end BIGINT, versions VARCHAR);
CREATE TABLE IF NOT EXISTS known_info (
    app VARCHAR, deviceId VARCHAR, infoId VARCHAR, receivedAt BIGINT, applicationVersionName VARCHAR, phoneModel VARCHAR,
    firmwareName VARCHAR, firmwareVersion VARCHAR, serviceVersion VARCHAR, locale VARCHAR, networkType VARCHAR);
CREATE TABLE IF NOT EXISTS known_place (
    app VARCHAR, deviceId VARCHAR, locationId VARCHAR, receivedAt BIGINT, countrycode VARCHAR);
CREATE TABLE IF NOT EXISTS known_device (
    app VARCHAR, deviceId VARCHAR, userId VARCHAR, applicationVersionName VARCHAR, phoneModel VARCHAR,
    firmwareName VARCHAR, firmwareVersion VARCHAR, serviceVersion VARCHAR, locale VARCHAR, networkType VARCHAR,
    countrycode VARCHAR);
CREATE TABLE IF NOT EXISTS known_session (
    app VARCHAR, deviceId VARCHAR, sessionId VARCHAR, derived BOOLEAN, startTime BIGINT, lastTime BIGINT,
    idleAt BIGINT, version VARCHAR, told VARCHAR, activityId VARCHAR, activityStart BIGINT, activityName VARCHAR,
    receivedAt BIGINT);
CREATE TABLE IF NOT EXISTS known_job (
    app VARCHAR, deviceId VARCHAR, jobId VARCHAR, name VARCHAR, startTime BIGINT, ended BOOLEAN, receivedAt BIGINT);
"""


_KNOWN = (
    "known_info",
    "known_place",
    "known_device",
    "known_session",
    "known_job",
    "known_tag",
    "unnamed_session",
)


_USER = {"known_device": "userId", "known_tag": "CASE key WHEN 'userid' THEN value END"}
"""Where it is known whose a device is."""


class Progress(Struct, frozen=True):
    """`position` is the journal segment to read next; `batch_end` is set while a batch up to it is under way."""

    position: int
    batch_end: int | None
    versions: dict[str, dict[str, int]]


def prepare(db: DuckDBPyConnection, position: int) -> Progress:
    """Make the tables where there are none, starting at `position`; return how far landing got."""
    db.execute(SCHEMA)
    row = db.execute("SELECT position, batch_end, versions FROM progress").fetchone()
    if row is None:
        db.execute("INSERT INTO progress VALUES (?, NULL, '{}')", [position])
        row = (position, None, "{}")
    return Progress(row[0], row[1], json.loads(row[2]))


def begin(db: DuckDBPyConnection, batch_end: int) -> None:
    """Note the bounds of the batch, durably, then open its transaction."""
    db.execute("UPDATE progress SET batch_end = ?", [batch_end])
    db.execute("BEGIN TRANSACTION")


def finish(db: DuckDBPyConnection, position: int, versions: dict[str, dict[str, int]], now: int) -> None:
    """Close the batch's transaction: all it taught us, and the new position, at once."""
    db.execute("DELETE FROM known_session WHERE receivedAt < ?", [now - _KEEP_SESSIONS])
    db.execute("DELETE FROM known_job WHERE receivedAt < ?", [now - _KEEP_REFERENCES])
    db.execute("DELETE FROM known_info WHERE receivedAt < ?", [now - _KEEP_REFERENCES])
    db.execute("DELETE FROM known_place WHERE receivedAt < ?", [now - _KEEP_REFERENCES])
    db.execute(
        "UPDATE progress SET position = ?, batch_end = NULL, versions = ?",
        [position, json.dumps(versions, sort_keys=True)],
    )
    db.execute("COMMIT")


def note_versions(db: DuckDBPyConnection, versions: dict[str, dict[str, int]]) -> None:
    """Note versions that somebody else made, between batches."""
    db.execute("UPDATE progress SET versions = ?", [json.dumps(versions, sort_keys=True)])


def remembered(db: DuckDBPyConnection, app_id: str, device_ids: Iterable[str], user_id: str | None) -> int:
    """How many things are known of these devices, and of others as this user's."""
    devices = list(device_ids)
    mine = " UNION ALL ".join(
        f"SELECT app, deviceId, {_USER.get(name, 'NULL')} AS userId FROM {name}" for name in _KNOWN
    )
    row: Any = db.execute(
        f"SELECT count(*) FROM ({mine}) WHERE app = ? AND (deviceId IN (SELECT unnest(?::VARCHAR[])) OR userId = ?)",
        [app_id, devices, user_id],
    ).fetchone()
    return int(row[0])


def forget(db: DuckDBPyConnection, app_id: str, device_ids: Iterable[str], user_id: str | None) -> None:
    """Forget these devices, and whose other devices are if they are this user's; pages that held it are only free."""
    devices = list(device_ids)
    for name in _KNOWN:
        db.execute(
            f"DELETE FROM {name} WHERE app = ? AND deviceId IN (SELECT unnest(?::VARCHAR[]))",
            [app_id, devices],
        )
    db.execute("UPDATE known_device SET userId = NULL WHERE app = ? AND userId = ?", [app_id, user_id])
    db.execute(
        "UPDATE known_tag SET value = NULL WHERE app = ? AND key = 'userid' AND value = ?", [app_id, user_id]
    )


def copy(db: DuckDBPyConnection, path: Path) -> None:
    """Write all that is known, and nothing that was, into a new file."""
    row: Any = db.execute("SELECT current_database()").fetchone()
    db.execute(f"ATTACH {quoted(path)} AS fresh")
    try:
        db.execute(f"COPY FROM DATABASE {named(row[0])} TO fresh")
    finally:
        # Also when the disk is full: it could not be attached a second time.
        db.execute("DETACH fresh")
    # What is not in the file yet would be in a log beside it, which must not outlive it.
    db.execute("CHECKPOINT")
