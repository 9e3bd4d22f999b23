"""What the rows of each kind of export are, as SQL over the pinned files of the stored tables.

Every relation takes a condition on the first column of the export's order (`startTime`, `timestamp` or
`deviceId`), which all the tables it reads carry: so an export can be computed slice by slice, and a slice reads
only the parts of the files that it needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from outhaul.records import FEEDBACK_STATUSES
from outhaul.schema import AREA, INFO, TABLES, Kind
from outhaul.sql import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from outhaul.wire import Pin

SOURCES: dict[Kind, tuple[str, ...]] = {
    "activity": ("activity", "activity_end"),
    "event": ("event",),
    "job": ("job", "job_end"),
    "error": ("error",),
    "crash": ("crash",),
    "session": ("session",),
    "tag": ("tag",),
    "device": ("device", "tag", "token"),
    "token": ("token", "tag", "device"),
    "feedback": ("feedback", "tag"),
}
"""The stored tables that an export of each kind reads; the first has the rows, or what they are folded from."""

FOLDED: frozenset[Kind] = frozenset({"session", "tag", "device", "token", "feedback"})
"""Kinds whose rows are each made of several that are stored."""

AS_STORED: frozenset[Kind] = frozenset({"event", "error", "crash"})
"""Kinds whose rows are exported as they are stored."""

_SQL_TYPES = {
    "string": "VARCHAR",
    "json": "VARCHAR",
    "time": "TIMESTAMPTZ",
    "duration": "BIGINT",
    "integer": "BIGINT",
    "boolean": "BOOLEAN",
}


def source(table: str, files: list[Path]) -> str:
    """A table expression over a table's files; no rows when there are none."""
    if files:
        names = ", ".join(quoted(path) for path in files)
        return f"read_parquet([{names}], hive_partitioning = false)"
    columns = ", ".join(
        f'NULL::{_SQL_TYPES[column.type]} AS "{column.name}"' for column in TABLES[table].columns
    )
    return f"(SELECT {columns} WHERE false)"


def relation(kind: Kind, sources: dict[str, str], where: str, pin: Pin) -> str:
    """The rows of an export, with the columns that `schema.EXPORTS` lists.

    Args:
        kind: what is exported.
        sources: a table expression for each of `SOURCES[kind]`.
        where: the condition on the leading column, as SQL.
        pin: for when the tables were pinned, the timeouts (sessions silent by then are over) and the types of tags.
    """
    scans = {name: f"(SELECT * FROM {expression} WHERE {where})" for name, expression in sources.items()}
    folds: dict[str, Callable[[], str]] = {
        "activity": lambda: _spans(kind, scans),
        "job": lambda: _spans(kind, scans),
        "session": lambda: _sessions(scans, pin),
        "tag": lambda: _tags(scans, pin.tag_types),
        "device": lambda: _devices(scans),
        "token": lambda: _tokens(scans),
        "feedback": lambda: _feedback(scans),
    }
    return folds[kind]() if kind in folds else scans[kind]


def every_tag(scans: dict[str, str], pin: Pin) -> str:
    """Every value that tags were set to, in the columns of an export of tags; none where one was removed."""
    return _with_user_and_type(scans["tag"], scans, pin.tag_types)


def every_token(scans: dict[str, str]) -> str:
    """Every push token that was registered or withdrawn, in the columns of an export of tokens, with `valid`."""
    return f"""(
    SELECT k.deviceId, u.userId AS "userId", k.token, k.service, k.registeredAt, d.lastSeen AS "lastSeen", k.valid
    FROM {scans["token"]} k
    LEFT JOIN {_users(scans)} u ON u.deviceId = k.deviceId
    LEFT JOIN {_last_seen(scans)} d ON d.deviceId = k.deviceId)"""


def _spans(kind: str, scans: dict[str, str]) -> str:
    return f"""(
    SELECT s.* REPLACE (coalesce(s.endTime, e.endTime) AS "endTime", greatest(s.receivedAt, e.receivedAt) AS "receivedAt"),
        epoch_ms(coalesce(s.endTime, e.endTime)) - epoch_ms(s.startTime) AS duration
    FROM {scans[kind]} s
    LEFT JOIN (SELECT deviceId, {kind}Id, min(endTime) AS endTime,
            arg_min(receivedAt, ROW(endTime, receivedAt)) AS receivedAt
        FROM {scans[f"{kind}_end"]} GROUP BY ALL) e
        ON e.deviceId = s.deviceId AND e.{kind}Id = s.{kind}Id)"""


def _sessions(scans: dict[str, str], pin: Pin) -> str:
    silent = f"{pin.at} - epoch_ms(max(lastTime))"
    latest = "lastTime, receivedAt"
    return f"""(
    SELECT deviceId, arg_max(userId, ROW({latest})) AS "userId",
        arg_max(applicationVersionName, ROW({latest})) AS "applicationVersionName", sessionId,
        startTime, greatest(max(lastTime), startTime) AS "endTime",
        epoch_ms(greatest(max(lastTime), startTime)) - epoch_ms(startTime) AS duration,
        coalesce(max(givenActivityCount), sum(activityCount))::BIGINT AS "activityCount",
        coalesce(max(givenEventCount), sum(eventCount))::BIGINT AS "eventCount",
        coalesce(max(givenErrorCount), sum(errorCount))::BIGINT AS "errorCount",
        CASE
            WHEN max(ROW({latest}, endReason))[3] IS NOT NULL THEN max(ROW({latest}, endReason))[3]
            WHEN max(ROW({latest}, idle))[3] AND {silent} > {pin.session_idle_s * 1000} THEN 'timeout'
            WHEN {silent} > {pin.session_timeout_s * 1000} THEN 'serverTimeout'
        END AS "endReason",
        arg_min(networkType, ROW({latest})) AS "networkType", arg_min(locale, ROW({latest})) AS locale,
        arg_min(countrycode, ROW({latest})) AS countrycode, max(receivedAt) AS "receivedAt"
    FROM {scans["session"]}
    GROUP BY deviceId, sessionId, startTime)"""


def _current_tags(scans: dict[str, str]) -> str:
    return f"""(
    SELECT deviceId, key, latest.value AS value, latest.lastModified AS "lastModified"
    FROM (SELECT deviceId, key, max({{'lastModified': lastModified, 'receivedAt': receivedAt, 'sequence': sequence,
            'value': value}}) AS latest FROM {scans["tag"]} GROUP BY deviceId, key)
    WHERE latest.value IS NOT NULL)"""


def _users(scans: dict[str, str]) -> str:
    return f"(SELECT deviceId, value AS userId FROM {_current_tags(scans)} WHERE key = 'userid')"


def _current_tokens(scans: dict[str, str]) -> str:
    return f"""(
    SELECT deviceId, service, latest.token AS token, latest.registeredAt AS "registeredAt"
    FROM (SELECT deviceId, service, max({{'registeredAt': registeredAt, 'receivedAt': receivedAt, 'sequence': sequence,
            'token': token, 'valid': valid}}) AS latest FROM {scans["token"]} GROUP BY deviceId, service)
    WHERE latest.valid)"""


def _tags(scans: dict[str, str], types: Mapping[str, str]) -> str:
    return _with_user_and_type(_current_tags(scans), scans, types)


def _with_user_and_type(tags: str, scans: dict[str, str], types: Mapping[str, str]) -> str:
    declared = ", ".join(f"({quoted(key)}, {quoted(of_type)})" for key, of_type in types.items())
    return f"""(
    SELECT t.deviceId, u.userId AS "userId", t.key, t.value, y.type, t.lastModified
    FROM {tags} t LEFT JOIN {_users(scans)} u ON u.deviceId = t.deviceId
    LEFT JOIN (VALUES {declared or "(NULL::VARCHAR, NULL::VARCHAR)"}) y(key, type) ON y.key = t.key)"""


def _devices(scans: dict[str, str]) -> str:
    # Windows rather than aggregates: a device has two dozen latest values, and only windows spill.
    info = ", ".join(f'last_value({c.name} IGNORE NULLS) OVER by_info AS "{c.name}"' for c in INFO)
    area = ", ".join(f'last_value({c.name} IGNORE NULLS) OVER by_place AS "{c.name}"' for c in AREA)
    frame = "ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING"
    return f"""(
    SELECT d.* REPLACE (coalesce(d.nativePushEnabled, p.deviceId IS NOT NULL) AS "nativePushEnabled"),
        t.userId AS "userId", t.appInfo AS "appInfo"
    FROM (SELECT deviceId, min(firstSeen) OVER by_info AS "firstSeen", max(lastSeen) OVER by_info AS "lastSeen",
            max(lastInfo) OVER by_info AS "lastInfo", max(lastLocation) OVER by_info AS "lastLocation",
            last_value(nativePushEnabled IGNORE NULLS) OVER by_info AS "nativePushEnabled", {info}, {area}
        FROM {scans["device"]}
        WINDOW by_info AS (PARTITION BY deviceId ORDER BY lastInfo NULLS FIRST, receivedAt, lastSeen {frame}),
            by_place AS (PARTITION BY deviceId ORDER BY lastLocation NULLS FIRST, receivedAt, lastSeen {frame})
        QUALIFY row_number() OVER (PARTITION BY deviceId ORDER BY lastInfo NULLS FIRST, receivedAt, lastSeen) = 1) d
    LEFT JOIN (SELECT deviceId, max(value) FILTER (WHERE key = 'userid') AS userId,
            '{{' || string_agg(concat(to_json(key), ':', to_json(value)), ',' ORDER BY key) || '}}' AS appInfo
        FROM {_current_tags(scans)} GROUP BY deviceId) t ON t.deviceId = d.deviceId
    LEFT JOIN (SELECT DISTINCT deviceId FROM {_current_tokens(scans)}) p ON p.deviceId = d.deviceId)"""


def _tokens(scans: dict[str, str]) -> str:
    return f"""(
    SELECT k.deviceId, u.userId AS "userId", k.token, k.service, k.registeredAt, d.lastSeen AS "lastSeen"
    FROM {_current_tokens(scans)} k
    LEFT JOIN {_users(scans)} u ON u.deviceId = k.deviceId
    LEFT JOIN {_last_seen(scans)} d ON d.deviceId = k.deviceId)"""


def _last_seen(scans: dict[str, str]) -> str:
    return f"(SELECT deviceId, max(lastSeen) AS lastSeen FROM {scans['device']} GROUP BY deviceId)"


def _feedback(scans: dict[str, str]) -> str:
    # An SDK may send several at the same time: which one is the last must not be left to chance.
    latest = "timestamp, receivedAt, feedbackId"
    counts = ", ".join(f"count(*) FILTER (WHERE status = '{s}') AS \"{s}\"" for s in FEEDBACK_STATUSES)
    return f"""(
    SELECT f.*, u.userId AS "userId"
    FROM (SELECT campaignType AS "campaignType", campaignId AS "campaignId", deviceId,
            last(campaignName ORDER BY {latest}) FILTER (WHERE campaignName IS NOT NULL) AS "campaignName",
            CASE WHEN bool_or(status LIKE '%actioned') THEN 'actioned' WHEN bool_or(status LIKE '%exited') THEN 'exited'
                WHEN bool_or(status NOT IN ('queued', 'dropped')) THEN 'pushed' END AS feedback,
            {counts},
            min(timestamp) FILTER (WHERE status LIKE 'pushed%') AS "firstPushed", max(timestamp) AS "lastFeedback",
            last(answers ORDER BY {latest}) FILTER (WHERE answers IS NOT NULL) AS answers
        FROM {scans["feedback"]} GROUP BY campaignType, campaignId, deviceId) f
    LEFT JOIN {_users(scans)} u ON u.deviceId = f.deviceId)"""
