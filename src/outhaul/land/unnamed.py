"""Landing step for SDKs that say when sessions start and end, but have no ids for them (`records.UNNAMED`).

Each start opens a session, named after the start's own id. What the device says from then on belongs to it, until it
ends, another starts, or the device was silent for long. What then belongs to none is left without a session id, and is
treated like any record without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from outhaul.records import UNNAMED
from outhaul.sql import quoted

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_MINUTE = 60 * 1000
_SILENCE = 30 * _MINUTE
"""Long enough for an app that is put aside and taken up again; browsers' SDKs start anew after as much."""
_KEEP = 7 * 24 * 60 * _MINUTE
_KINDS = (
    "activity",
    "activityEnd",
    "event",
    "error",
    "job",
    "crash",
    "sessionStart",
    "sessionEnd",
    "heartbeat",
)
# A job is told when it is over, and how long it took may be rounded.
_TIMES = {"activity": "startTime", "job": "coalesce(endTime, startTime)"}
_THEIRS = f"sessionId = {quoted(UNNAMED)}"

SCHEMA = """
CREATE TABLE IF NOT EXISTS unnamed_session (
    app VARCHAR, deviceId VARCHAR, sessionId VARCHAR, startTime BIGINT, lastTime BIGINT, ended BOOLEAN, receivedAt BIGINT);
"""

_SAID = "CREATE OR REPLACE TEMP TABLE unnamed AS " + " UNION ALL ".join(
    f"SELECT '{kind}' AS kind, app, deviceId, seq, {_TIMES.get(kind, 'timestamp')} AS ts, id, receivedAt "
    f"FROM in_{kind} WHERE {_THEIRS}"
    for kind in _KINDS
)
# Islands on a device's time line. A session known from before takes part as its start and its last sign of life.
_NAME = f"""
CREATE OR REPLACE TEMP TABLE named AS
WITH points AS (
    SELECT kind, app, deviceId, seq, ts, ts AS until, id, receivedAt FROM unnamed
    UNION ALL
    SELECT 'sessionStart', app, deviceId, -2, startTime, lastTime, sessionId, receivedAt
    FROM unnamed_session SEMI JOIN unnamed USING (app, deviceId)
    UNION ALL
    SELECT CASE WHEN ended THEN 'sessionEnd' ELSE 'heartbeat' END, app, deviceId, -1, lastTime, lastTime, NULL, receivedAt
    FROM unnamed_session SEMI JOIN unnamed USING (app, deviceId)
), cut AS (
    SELECT *, kind = 'sessionStart' OR coalesce(
        last_value(kind) OVER earlier = 'sessionEnd' OR ts - max(until) OVER earlier > {_SILENCE}, true) AS far
    FROM points
    WINDOW earlier AS (PARTITION BY app, deviceId ORDER BY ts, seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
), islands AS (
    SELECT *, count(*) FILTER (WHERE far) OVER (PARTITION BY app, deviceId ORDER BY ts, seq ROWS UNBOUNDED PRECEDING) AS island
    FROM cut
)
SELECT *, first_value(CASE WHEN kind = 'sessionStart' THEN id END)
        OVER (PARTITION BY app, deviceId, island ORDER BY ts, seq) AS sessionId
FROM islands;
"""
_REMEMBER = f"""
CREATE OR REPLACE TEMP TABLE standing_unnamed AS
SELECT app, deviceId, sessionId, min(ts) AS startTime, max(ts) AS lastTime,
    last(kind ORDER BY ts, seq) = 'sessionEnd' AS ended, max(receivedAt) AS receivedAt
FROM named WHERE sessionId IS NOT NULL
GROUP BY app, deviceId, sessionId;
DELETE FROM unnamed_session USING standing_unnamed s
WHERE unnamed_session.app = s.app AND unnamed_session.deviceId = s.deviceId AND unnamed_session.sessionId = s.sessionId;
INSERT INTO unnamed_session BY NAME SELECT * FROM standing_unnamed;
DELETE FROM unnamed_session WHERE receivedAt < (SELECT max(receivedAt) - {_KEEP} FROM frames);
"""


def prepare(db: DuckDBPyConnection) -> None:
    """Make the table of such sessions, if there is none."""
    db.execute(SCHEMA)


def name_sessions(db: DuckDBPyConnection) -> None:
    """Give records of sessions without ids the id of the session they belong to, or none."""
    # A session told whole needs no other name than its own id.
    db.execute(f"UPDATE in_session SET sessionId = NULL WHERE {_THEIRS}")
    db.execute(_SAID)
    if not db.execute("SELECT 1 FROM unnamed LIMIT 1").fetchone():
        return
    db.execute(_NAME)
    for kind in _KINDS:
        db.execute(
            f"UPDATE in_{kind} SET sessionId = n.sessionId FROM named n WHERE n.seq = in_{kind}.seq AND in_{kind}.{_THEIRS}"
        )
    db.execute(_REMEMBER)
