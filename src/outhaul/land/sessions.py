"""Landing steps about time: which session a record belongs to, which activity was in progress, what ended what.

Sessions that an SDK reports are taken as told. Where none is told, one is derived as the old service did: the
first activity opens it, it ends some seconds after the end of its last activity, or after a longer silence.
A record before the first activity, or after the end, belongs to no session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# Devices for which sessions matter at all; for the many that only send events the rest is skipped.
_LIVELY = """
CREATE OR REPLACE TEMP TABLE lively AS
SELECT DISTINCT app, deviceId FROM (
    SELECT app, deviceId FROM in_activity
    UNION ALL SELECT app, deviceId FROM in_activityEnd
    UNION ALL SELECT app, deviceId FROM in_sessionStart
    UNION ALL SELECT app, deviceId FROM in_sessionEnd
    UNION ALL SELECT app, deviceId FROM in_session
    UNION ALL SELECT app, deviceId FROM in_event WHERE sessionId IS NOT NULL
    UNION ALL SELECT app, deviceId FROM in_error WHERE sessionId IS NOT NULL
    UNION ALL SELECT app, deviceId FROM in_crash WHERE sessionId IS NOT NULL
    UNION ALL SELECT app, deviceId FROM in_heartbeat WHERE sessionId IS NOT NULL
    UNION ALL SELECT app, deviceId FROM known_session SEMI JOIN present USING (app, deviceId)
);
"""

_LOOSE = "sessionId IS NULL AND NOT coalesce(standalone, false)"


def _signal(kind: str, *, start: str = "timestamp", end: str = "timestamp") -> str:
    session = "coalesce(sessionId, id)" if kind == "session" else "sessionId"
    derive = {
        "session": "false",
        "event": f"{_LOOSE} AND jobId IS NULL",
        "error": f"{_LOOSE} AND jobId IS NULL",
    }
    name = "name" if kind in {"activity", "event", "error"} else "NULL"
    over = "endTime" if kind == "activity" else "NULL"
    reason = "coalesce(endReason, 'ended')" if kind in {"sessionEnd", "session"} else "NULL"
    return f"""
    SELECT '{kind}' AS kind, app, deviceId, seq, {start} AS ts, {end} AS until, {over} AS over, {session} AS sessionId,
        {derive.get(kind, _LOOSE)} AS derive, id, {name} AS name, userId, applicationVersionName AS version, {reason} AS told
    FROM in_{kind} SEMI JOIN lively USING (app, deviceId)"""


_SIGNALS = "CREATE OR REPLACE TEMP TABLE signals AS" + " UNION ALL ".join(
    (
        _signal("activity", start="startTime", end="greatest(startTime, endTime)"),
        _signal("activityEnd"),
        _signal("event"),
        _signal("error"),
        _signal("crash"),
        _signal("sessionStart"),
        _signal("sessionEnd"),
        _signal("session", start="startTime", end="endTime"),
        _signal("heartbeat"),
    )
)

# Points on a device's time line, cut into islands wherever the silence is too long. A session known from before
# takes part as one long point, which always begins an island and lends it its id; what lies within it is its own.
# At its very end the order of arrival counts, as it does in a batch. -1: an activity is in progress.
_DERIVE = """
CREATE OR REPLACE TEMP TABLE inside AS
SELECT s.seq, max(k.sessionId) AS sessionId
FROM signals s JOIN known_session k
    ON k.app = s.app AND k.deviceId = s.deviceId AND k.derived AND s.ts >= k.startTime AND s.ts < k.lastTime
WHERE s.derive
GROUP BY s.seq;
CREATE OR REPLACE TEMP TABLE islands AS
WITH points AS (
    SELECT app, deviceId, ts, until, seq, id, NULL::VARCHAR AS known, kind = 'activity' AS opens,
        CASE kind WHEN 'activity' THEN coalesce(over, -1) WHEN 'activityEnd' THEN ts END AS idleAt
    FROM signals ANTI JOIN inside USING (seq)
    WHERE derive
    UNION ALL
    SELECT app, deviceId, startTime, lastTime, -1, NULL, sessionId, false, coalesce(idleAt, -1)
    FROM known_session SEMI JOIN (SELECT app, deviceId FROM signals WHERE derive) USING (app, deviceId)
    WHERE derived
), waits AS (
    -- Only another activity takes back the end of one: an event in between does not.
    SELECT *, ts - max(until) OVER earlier AS silence,
        ts - nullif(last_value(idleAt IGNORE NULLS) OVER earlier, -1) AS unused
    FROM points
    WINDOW earlier AS (PARTITION BY app, deviceId ORDER BY ts, seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
), gaps AS (
    SELECT *, known IS NOT NULL OR coalesce(silence > {timeout}, false) OR coalesce(unused > {idle}, false) AS far FROM waits
)
SELECT *, count(*) FILTER (WHERE far) OVER (PARTITION BY app, deviceId ORDER BY ts, seq ROWS UNBOUNDED PRECEDING) AS island
FROM gaps;
CREATE OR REPLACE TEMP TABLE placed AS
WITH named AS (
    SELECT app, deviceId, island, max(known) AS known, first(id ORDER BY ts, seq) FILTER (WHERE opens) AS opener,
        min(ts) FILTER (WHERE opens) AS opened, first(seq ORDER BY ts, seq) FILTER (WHERE opens) AS openedSeq
    FROM islands GROUP BY app, deviceId, island
)
SELECT i.seq, coalesce(n.known, md5(concat_ws('|', app, length(deviceId), deviceId, n.opener))) AS sessionId
FROM islands i JOIN named n USING (app, deviceId, island)
WHERE i.seq >= 0 AND (n.known IS NOT NULL OR i.ts > n.opened OR (i.ts = n.opened AND i.seq >= n.openedSeq))
UNION ALL SELECT seq, sessionId FROM inside;
UPDATE signals SET sessionId = placed.sessionId FROM placed WHERE signals.seq = placed.seq;
"""

_TOUCHED = """
CREATE OR REPLACE TEMP TABLE touched AS
SELECT s.app, s.deviceId, s.sessionId, bool_or(s.derive) AS derived,
    coalesce(min(k.startTime), min(s.ts) FILTER (WHERE s.kind IN ('sessionStart', 'session')), min(s.ts)) AS startTime,
    max(s.until) AS lastTime,
    count(*) FILTER (WHERE s.kind = 'activity') AS activityCount,
    count(*) FILTER (WHERE s.kind = 'event') AS eventCount,
    count(*) FILTER (WHERE s.kind = 'error') AS errorCount,
    coalesce(last(s.told ORDER BY s.seq) FILTER (WHERE s.told IS NOT NULL), max(k.told)) AS told,
    last(s.kind ORDER BY s.until, s.seq) = 'crash' AS crashed,
    last(s.userId ORDER BY s.seq) FILTER (WHERE s.userId IS NOT NULL) AS userId,
    coalesce(last(s.version ORDER BY s.seq) FILTER (WHERE s.version IS NOT NULL), max(k.version)) AS version,
    max(s.seq) AS seq
FROM signals s LEFT JOIN known_session k USING (app, deviceId, sessionId)
WHERE s.sessionId IS NOT NULL
GROUP BY s.app, s.deviceId, s.sessionId;
"""

# What happened on screen, session by session, continuing from the last activity before this batch.
_PATH = """
CREATE OR REPLACE TEMP TABLE path AS
WITH steps AS (
    SELECT app, deviceId, sessionId, CASE kind WHEN 'session' THEN until ELSE ts END AS ts, over, seq, kind, id, name,
        CASE WHEN kind = 'activity' THEN name WHEN kind IN ('activityEnd', 'sessionEnd', 'session') THEN '' END AS screen
    FROM signals
    WHERE sessionId IS NOT NULL AND kind NOT IN ('sessionStart', 'heartbeat')
    UNION ALL
    SELECT app, deviceId, sessionId, activityStart, idleAt, -1, 'activity', activityId, activityName, activityName
    FROM known_session SEMI JOIN touched USING (app, deviceId, sessionId)
    WHERE activityId IS NOT NULL
    UNION ALL
    SELECT app, deviceId, sessionId, idleAt, NULL, -1, 'activityEnd', NULL, NULL, ''
    FROM known_session SEMI JOIN touched USING (app, deviceId, sessionId)
    WHERE idleAt IS NOT NULL
), shown AS (
    SELECT *, last_value(screen IGNORE NULLS) OVER line AS screenNow,
        nullif(last_value(CASE WHEN screen IS NOT NULL THEN coalesce(over, -1) END IGNORE NULLS) OVER line, -1) AS screenOver,
        last_value(CASE WHEN kind = 'activity' THEN name END IGNORE NULLS)
            OVER (line ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS previousName,
        first_value(CASE WHEN screen IS NOT NULL THEN ts END IGNORE NULLS)
            OVER (line ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING) AS nextTime
    FROM steps
    WINDOW line AS (PARTITION BY app, deviceId, sessionId ORDER BY ts, seq, kind)
)
SELECT *, CASE WHEN ts < coalesce(screenOver, ts + 1) THEN nullif(screenNow, '') END AS onScreen FROM shown;
"""

_REMEMBER = """
CREATE OR REPLACE TEMP TABLE standing AS
WITH screens AS (
    SELECT app, deviceId, sessionId,
        nullif(last(CASE kind WHEN 'activity' THEN coalesce(over, -1) ELSE ts END ORDER BY ts, seq, kind), -1) AS idleAt,
        last(id ORDER BY ts, seq, kind) FILTER (WHERE kind = 'activity') AS activityId,
        last(ts ORDER BY ts, seq, kind) FILTER (WHERE kind = 'activity') AS activityStart,
        last(name ORDER BY ts, seq, kind) FILTER (WHERE kind = 'activity') AS activityName
    FROM path WHERE screen IS NOT NULL
    GROUP BY app, deviceId, sessionId
)
SELECT t.app, t.deviceId, t.sessionId, coalesce(k.derived, t.derived) AS derived, t.startTime,
    greatest(t.lastTime, k.lastTime) AS lastTime, s.idleAt, t.version, t.told,
    s.activityId, s.activityStart, s.activityName, greatest(f.receivedAt, k.receivedAt) AS receivedAt
FROM touched t
JOIN (SELECT number, receivedAt FROM frames) f ON f.number = t.seq >> 20
LEFT JOIN known_session k USING (app, deviceId, sessionId)
LEFT JOIN screens s USING (app, deviceId, sessionId);
DELETE FROM known_session USING standing s
WHERE known_session.app = s.app AND known_session.deviceId = s.deviceId AND known_session.sessionId = s.sessionId;
INSERT INTO known_session BY NAME SELECT * FROM standing;
"""

_JOBS = """
CREATE OR REPLACE TEMP TABLE jobs AS
SELECT app, deviceId, id AS jobId, name, startTime, endTime IS NOT NULL AS ended, true AS fresh, receivedAt
FROM in_job
UNION ALL
SELECT k.app, k.deviceId, k.jobId, k.name, k.startTime, k.ended, false, k.receivedAt
FROM known_job k SEMI JOIN present USING (app, deviceId)
WHERE NOT EXISTS (SELECT 1 FROM in_job j WHERE j.app = k.app AND j.deviceId = k.deviceId AND j.id = k.jobId);
CREATE OR REPLACE TEMP TABLE job_ends AS
SELECT e.app, e.deviceId, e.jobId, min(e.timestamp) AS endTime, any_value(j.startTime) AS startTime,
    any_value(j.fresh) AS fresh, any_value(j.ended) AS ended, max(e.receivedAt) AS receivedAt
FROM in_jobEnd e JOIN jobs j USING (app, deviceId, jobId)
GROUP BY e.app, e.deviceId, e.jobId;
INSERT INTO in_reject BY NAME
SELECT 'end_without_start' AS reason, 'job ' || jobId || ' was never started, or over 30 days ago' AS detail,
    to_json({'kind': 'jobEnd', 'deviceId': deviceId, 'jobId': jobId, 'timestamp': timestamp, 'id': id})::VARCHAR AS raw,
    seq, app, receivedAt, protocol, deviceId AS sender, sdkName, sdkVersion
FROM in_jobEnd ANTI JOIN jobs USING (app, deviceId, jobId);
CREATE OR REPLACE TEMP TABLE changed_jobs AS
SELECT j.app, j.deviceId, j.jobId, j.name, j.startTime, j.ended OR e.jobId IS NOT NULL AS ended, j.receivedAt
FROM jobs j LEFT JOIN job_ends e USING (app, deviceId, jobId)
WHERE j.fresh OR e.jobId IS NOT NULL;
DELETE FROM known_job USING changed_jobs c
WHERE known_job.app = c.app AND known_job.deviceId = c.deviceId AND known_job.jobId = c.jobId;
INSERT INTO known_job BY NAME SELECT * FROM changed_jobs;
"""


def derive_sessions(db: DuckDBPyConnection, *, idle_ms: int, timeout_ms: int) -> None:
    """Make `signals`, each with its session, and `touched`, the sessions that this batch says something about."""
    db.execute(_LIVELY)
    db.execute(_SIGNALS)
    db.execute(_DERIVE.format(idle=idle_ms, timeout=timeout_ms))
    db.execute(_TOUCHED)


def follow_activities(db: DuckDBPyConnection) -> None:
    """Make `path`: for each record of a session the activity it happened in, and when activities ended."""
    db.execute(_PATH)
    db.execute(_REMEMBER)


def follow_jobs(db: DuckDBPyConnection) -> None:
    """Make `jobs` and `job_ends`; an end without a start is set aside."""
    db.execute(_JOBS)
