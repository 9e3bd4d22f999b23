"""What is stored: every table, once."""

from __future__ import annotations

from outhaul.schema.columns import (
    AREA,
    CRASH,
    DEVICE,
    EXTRAS,
    INFO,
    META,
    PREVIOUS,
    RECEIVED,
    SESSION_CONTEXT,
    SHARED,
    Column,
    Table,
    instants,
    span,
)


def _ends(name: str, id_name: str, what: str) -> Table:
    return Table(
        name,
        (
            DEVICE,
            Column(id_name, "string", f"Id of the {what} that ended", required=True),
            Column("startTime", "time", "When it started", required=True),
            Column("endTime", "time", "When it ended", required=True),
            RECEIVED,
        ),
        ("startTime", "deviceId", id_name),
        partitioned=True,
        help=f"Ends of {what}s that were stored while open",
    )


TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        Table(
            "activity",
            (*SHARED, *span("activityId", "activity"), PREVIOUS, EXTRAS, *META),
            ("startTime", "deviceId", "activityId"),
            partitioned=True,
            help="One row per activity",
        ),
        _ends("activity_end", "activityId", "activity"),
        Table(
            "event",
            (*SHARED, *instants("eventId"), *META),
            ("timestamp", "deviceId", "eventId"),
            partitioned=True,
            help="One row per event",
        ),
        Table(
            "job",
            (*SHARED, *span("jobId", "job"), EXTRAS, *META),
            ("startTime", "deviceId", "jobId"),
            partitioned=True,
            help="One row per job",
        ),
        _ends("job_end", "jobId", "job"),
        Table(
            "error",
            (*SHARED, *instants("errorId"), *META),
            ("timestamp", "deviceId", "errorId"),
            partitioned=True,
            help="One row per error",
        ),
        Table(
            "crash",
            (*SHARED, *CRASH, *META),
            ("timestamp", "deviceId", "crashId"),
            partitioned=True,
            help="One row per crash",
        ),
        Table(
            "session",
            (
                *SHARED,
                Column("startTime", "time", "When the session started, as first known", required=True),
                Column("lastTime", "time", "Last sign of life in this landing", required=True),
                Column("activityCount", "integer", "Activities in this landing", required=True),
                Column("eventCount", "integer", "Events in this landing", required=True),
                Column("errorCount", "integer", "Errors in this landing", required=True),
                Column("givenActivityCount", "integer", "Activities as told by the SDK"),
                Column("givenEventCount", "integer", "Events as told by the SDK"),
                Column("givenErrorCount", "integer", "Errors as told by the SDK"),
                Column(
                    "idle",
                    "boolean",
                    "Whether the last sign of life was the end of an activity",
                    required=True,
                ),
                Column("endReason", "string", "How it ended, once told"),
                *SESSION_CONTEXT,
                *META,
            ),
            ("startTime", "deviceId", "sessionId"),
            partitioned=True,
            help="What one landing learned about a session; folded on reading",
        ),
        Table(
            "tag",
            (
                DEVICE,
                Column("key", "string", "Key of the tag", required=True),
                Column("value", "string", "Its value; null removes the tag"),
                Column("lastModified", "time", "When it was set", required=True),
                Column(
                    "sequence",
                    "integer",
                    "Order of arrival in its landing, for values set at the same time",
                    required=True,
                ),
                *META,
            ),
            ("deviceId", "key", "lastModified"),
            partitioned=False,
            help="One row per tag set; the latest wins",
        ),
        Table(
            "user",
            (
                Column("userId", "string", "Value of a device's `userid` tag", required=True),
                DEVICE,
                Column("lastModified", "time", "When it was set", required=True),
                RECEIVED,
            ),
            ("userId", "deviceId", "lastModified"),
            partitioned=False,
            help="Which devices a user was ever on, to find them by; whose they are now is in their tags",
        ),
        Table(
            "device",
            (
                DEVICE,
                Column("firstSeen", "time", "First sign of life in this landing", required=True),
                Column("lastSeen", "time", "Last sign of life in this landing", required=True),
                Column("lastInfo", "time", "When the technical fields were sent"),
                Column("lastLocation", "time", "When the area was sent"),
                Column("nativePushEnabled", "boolean", "Whether the app registered with its push service"),
                *INFO,
                *AREA,
                *META,
            ),
            ("deviceId", "lastSeen"),
            partitioned=False,
            help="What one landing learned about a device; folded on reading",
        ),
        Table(
            "token",
            (
                DEVICE,
                Column("service", "string", "Push service", required=True),
                Column("token", "string", "The push token", required=True),
                Column("valid", "boolean", "False when it was withdrawn", required=True),
                Column("registeredAt", "time", "When it was registered", required=True),
                Column(
                    "sequence",
                    "integer",
                    "Order of arrival in its landing, for tokens registered at the same time",
                    required=True,
                ),
                *META,
            ),
            ("deviceId", "service", "registeredAt"),
            partitioned=False,
            help="One row per token registered or withdrawn; the latest wins",
        ),
        Table(
            "feedback",
            (
                DEVICE,
                Column("feedbackId", "string", "Id of the record", required=True),
                Column("campaignType", "string", "Announcement, DataPush, NativePush or Poll", required=True),
                Column("campaignId", "string", "The campaign, or the SDK's content id", required=True),
                Column("campaignName", "string", "Its name"),
                Column("status", "string", "What became of the push", required=True),
                Column("timestamp", "time", "When", required=True),
                Column("answers", "json", "Answers to a poll"),
                *META,
            ),
            ("deviceId", "campaignType", "campaignId", "timestamp"),
            partitioned=False,
            help="One row per push feedback",
        ),
        Table(
            "reject",
            (
                Column("reason", "string", "Why it was set aside: one of a closed set", required=True),
                Column("detail", "string", "The same in words", required=True),
                Column("raw", "string", "What was sent, as text", required=True),
                Column("deviceId", "string", "The device, where the request named one"),
                *META,
            ),
            ("receivedAt", "reason"),
            partitioned=True,
            help="Records that could not be taken",
        ),
    )
}
