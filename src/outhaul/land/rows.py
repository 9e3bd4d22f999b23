"""The rows that a batch adds to each table, as SQL over what the steps before made. Times become timestamps."""

from __future__ import annotations

from outhaul.land.batch import FRAME_BITS
from outhaul.schema import AREA, INFO

_META = 'epoch_ms(r.receivedAt)::TIMESTAMPTZ AS "receivedAt", r.protocol, r.sdkName AS "sdkName", r.sdkVersion AS "sdkVersion"'
_SHARED = (
    'r.app, r.deviceId AS "deviceId", coalesce(r.userId, d.userId) AS "userId", '
    'coalesce(r.applicationVersionName, t.version, d.applicationVersionName) AS "applicationVersionName"'
)
_DEVICE = "LEFT JOIN facts d ON d.app = r.app AND d.deviceId = r.deviceId"
_PLACE = """
LEFT JOIN (SELECT seq, sessionId FROM signals WHERE sessionId IS NOT NULL) g ON g.seq = r.seq
LEFT JOIN touched t ON t.app = r.app AND t.deviceId = r.deviceId AND t.sessionId = g.sessionId
"""
_NO_SESSION = "LEFT JOIN (SELECT NULL AS version) t ON true"
_INFO = [column.name for column in INFO]
_AREA = [column.name for column in AREA]


def _time(expression: str, name: str) -> str:
    return f'epoch_ms({expression})::TIMESTAMPTZ AS "{name}"'


def _latest(names: list[str]) -> str:
    latest = "last({0} ORDER BY timestamp, seq) FILTER (WHERE {0} IS NOT NULL) AS {0}"
    return ", ".join(latest.format(name) for name in names)


def _instant(kind: str) -> str:
    return f"""
    SELECT {_SHARED}, coalesce(r.sessionId, g.sessionId) AS "sessionId", r.id AS "{kind}Id", {_time("r.timestamp", "timestamp")},
        r.name, CASE WHEN r.jobId IS NOT NULL THEN 'job' WHEN coalesce(r.sessionId, g.sessionId) IS NOT NULL THEN 'session'
            ELSE 'standalone' END AS kind,
        r.jobId AS "jobId", coalesce(r.jobName, j.name) AS "jobName", coalesce(r.activityName, p.onScreen) AS "activityName",
        r.extras::VARCHAR AS extras, {_META}
    FROM in_{kind} r {_DEVICE} {_PLACE}
    LEFT JOIN path p ON p.seq = r.seq
    LEFT JOIN jobs j ON j.app = r.app AND j.deviceId = r.deviceId AND j.jobId = r.jobId"""


ROWS: dict[str, str] = {
    "activity": f"""
    SELECT {_SHARED}, coalesce(r.sessionId, g.sessionId) AS "sessionId", r.id AS "activityId", r.name,
        {_time("r.startTime", "startTime")}, {_time("coalesce(r.endTime, p.nextTime)", "endTime")},
        coalesce(r.previousName, p.previousName) AS "previousName", r.extras::VARCHAR AS extras, {_META}
    FROM in_activity r {_DEVICE} {_PLACE} LEFT JOIN path p ON p.seq = r.seq""",
    "activity_end": f"""
    SELECT p.app, p.deviceId AS "deviceId", p.id AS "activityId", {_time("p.ts", "startTime")},
        {_time("p.nextTime", "endTime")}, {_time("f.receivedAt", "receivedAt")}
    FROM path p
    JOIN touched t ON t.app = p.app AND t.deviceId = p.deviceId AND t.sessionId = p.sessionId
    JOIN frames f ON f.number = t.seq >> {FRAME_BITS}
    WHERE p.seq = -1 AND p.kind = 'activity' AND p.over IS NULL AND p.nextTime IS NOT NULL""",
    "event": _instant("event"),
    "error": _instant("error"),
    "job": f"""
    SELECT {_SHARED}, r.sessionId AS "sessionId", r.id AS "jobId", r.name, {_time("r.startTime", "startTime")},
        {_time("coalesce(r.endTime, e.endTime)", "endTime")}, r.extras::VARCHAR AS extras, {_META}
    FROM in_job r {_DEVICE} {_NO_SESSION}
    LEFT JOIN job_ends e ON e.app = r.app AND e.deviceId = r.deviceId AND e.jobId = r.id""",
    "job_end": f"""
    SELECT app, deviceId AS "deviceId", jobId AS "jobId", {_time("startTime", "startTime")}, {_time("endTime", "endTime")},
        {_time("receivedAt", "receivedAt")}
    FROM job_ends WHERE NOT fresh AND NOT ended""",
    "crash": f"""
    SELECT {_SHARED}, coalesce(r.sessionId, g.sessionId) AS "sessionId", r.id AS "crashId", {_time("r.timestamp", "timestamp")},
        r.type, r.stackTrace AS "stackTrace", coalesce(r.activityName, p.onScreen) AS "activityName",
        coalesce(r.phoneModel, d.phoneModel) AS "phoneModel", coalesce(r.firmwareName, d.firmwareName) AS "firmwareName",
        coalesce(r.firmwareVersion, d.firmwareVersion) AS "firmwareVersion",
        coalesce(r.serviceVersion, d.serviceVersion) AS "serviceVersion", {_META}
    FROM in_crash r {_DEVICE} {_PLACE} LEFT JOIN path p ON p.seq = r.seq""",
    "session": f"""
    SELECT r.app, r.deviceId AS "deviceId", coalesce(r.userId, d.userId) AS "userId",
        coalesce(r.version, d.applicationVersionName) AS "applicationVersionName", r.sessionId AS "sessionId",
        {_time("r.startTime", "startTime")}, {_time("r.lastTime", "lastTime")},
        r.activityCount AS "activityCount", r.eventCount AS "eventCount", r.errorCount AS "errorCount",
        whole.activityCount AS "givenActivityCount", whole.eventCount AS "givenEventCount",
        whole.errorCount AS "givenErrorCount", s.idleAt IS NOT NULL AS idle,
        coalesce(r.told, CASE WHEN r.crashed THEN 'crash' END) AS "endReason",
        coalesce(whole.networkType, start.networkType, d.networkType) AS "networkType",
        coalesce(whole.locale, start.locale, d.locale) AS locale,
        coalesce(whole.countrycode, start.countrycode, d.countrycode) AS countrycode,
        {_time("f.receivedAt", "receivedAt")}, f.protocol, f.sdkName AS "sdkName", f.sdkVersion AS "sdkVersion"
    FROM touched r {_DEVICE}
    JOIN standing s ON s.app = r.app AND s.deviceId = r.deviceId AND s.sessionId = r.sessionId
    JOIN frames f ON f.number = r.seq >> {FRAME_BITS}
    LEFT JOIN (SELECT app, deviceId, coalesce(sessionId, id) AS sessionId, max(activityCount) AS activityCount,
            max(eventCount) AS eventCount, max(errorCount) AS errorCount, first(networkType ORDER BY seq) AS networkType,
            first(locale ORDER BY seq) AS locale, first(countrycode ORDER BY seq) AS countrycode
            FROM in_session GROUP BY ALL) whole
        ON whole.app = r.app AND whole.deviceId = r.deviceId AND whole.sessionId = r.sessionId
    LEFT JOIN (SELECT app, deviceId, sessionId, first(networkType ORDER BY seq) AS networkType,
            first(locale ORDER BY seq) AS locale, first(countrycode ORDER BY seq) AS countrycode
            FROM in_sessionStart GROUP BY ALL) start
        ON start.app = r.app AND start.deviceId = r.deviceId AND start.sessionId = r.sessionId""",
    "tag": f"""
    SELECT r.app, r.deviceId AS "deviceId", r.key, r.value, {_time("r.timestamp", "lastModified")}, r.seq AS sequence, {_META}
    FROM in_tag r""",
    "user": f"""
    SELECT r.app, r.value AS "userId", r.deviceId AS "deviceId", {_time("r.timestamp", "lastModified")},
        {_time("r.receivedAt", "receivedAt")}
    FROM in_tag r WHERE r.key = 'userid' AND r.value IS NOT NULL""",
    "device": f"""
    SELECT r.app, r.deviceId AS "deviceId", {_time("r.firstSeen", "firstSeen")}, {_time("r.lastSeen", "lastSeen")},
        {_time("i.at", "lastInfo")}, {_time("l.at", "lastLocation")}, i.nativePushEnabled AS "nativePushEnabled",
        {", ".join(f'i.{name} AS "{name}"' for name in _INFO)}, {", ".join(f'l.{name} AS "{name}"' for name in _AREA)},
        {_time("f.receivedAt", "receivedAt")}, f.protocol, f.sdkName AS "sdkName", f.sdkVersion AS "sdkVersion"
    FROM present r
    JOIN frames f ON f.number = r.seq >> {FRAME_BITS}
    LEFT JOIN (SELECT app, deviceId, max(timestamp) AS at,
            {_latest([*_INFO, "nativePushEnabled"])}
            FROM in_device GROUP BY app, deviceId) i ON i.app = r.app AND i.deviceId = r.deviceId
    LEFT JOIN (SELECT app, deviceId, max(timestamp) AS at,
            {_latest(_AREA)}
            FROM in_location GROUP BY app, deviceId) l ON l.app = r.app AND l.deviceId = r.deviceId""",
    "token": f"""
    SELECT r.app, r.deviceId AS "deviceId", r.service, r.token, coalesce(r.valid, true) AS valid,
        {_time("r.timestamp", "registeredAt")}, r.seq AS sequence, {_META}
    FROM in_token r""",
    "feedback": f"""
    SELECT r.app, r.deviceId AS "deviceId", r.id AS "feedbackId", r.campaignType AS "campaignType", r.campaignId AS "campaignId",
        r.campaignName AS "campaignName", r.status, {_time("r.timestamp", "timestamp")}, r.answers::VARCHAR AS answers, {_META}
    FROM in_feedback r""",
    "reject": f"""
    SELECT r.app, r.reason, r.detail, r.raw, r.sender AS "deviceId", {_META}
    FROM in_reject r""",
}
"""For each table a query over the batch, with a column `app` and the table's own columns."""
