"""What an export shows: every kind of export, once."""

from __future__ import annotations

from outhaul.records import FEEDBACK_STATUSES
from outhaul.schema.columns import (
    AREA,
    CRASH,
    DEVICE,
    DURATION,
    EXTRAS,
    INFO,
    META,
    PREVIOUS,
    RECEIVED,
    SESSION_CONTEXT,
    SHARED,
    Column,
    Export,
    instants,
    span,
)

EXPORT_TYPES: dict[str, str] = {
    "activity": "Activity",
    "event": "Event",
    "job": "Job",
    "error": "Error",
    "crash": "Crash",
    "session": "Session",
    "tag": "Tag",
    "device": "Device",
    "token": "Token",
    "feedback": "Push",
    "history": "History",
}
"""What the old API calls each kind of export; files are named after it."""

EXPORTS: dict[str, Export] = {
    export.kind: export
    for export in (
        Export(
            "activity",
            (*SHARED, *span("activityId", "activity"), DURATION, PREVIOUS, EXTRAS),
            ("startTime", "deviceId", "activityId"),
            dated=True,
            help="Screens users were on, one row each",
            more=META,
        ),
        Export(
            "event",
            (*SHARED, *instants("eventId")),
            ("timestamp", "deviceId", "eventId"),
            dated=True,
            help="Events, one row each",
            more=META,
        ),
        Export(
            "job",
            (*SHARED, *span("jobId", "job"), DURATION, EXTRAS),
            ("startTime", "deviceId", "jobId"),
            dated=True,
            help="Jobs, one row each",
            more=META,
        ),
        Export(
            "error",
            (*SHARED, *instants("errorId")),
            ("timestamp", "deviceId", "errorId"),
            dated=True,
            help="Errors, one row each",
            more=META,
        ),
        Export(
            "crash",
            (*SHARED, *CRASH),
            ("timestamp", "deviceId", "crashId"),
            dated=True,
            help="Crashes, one row each",
            more=META,
        ),
        Export(
            "session",
            (
                *SHARED,
                Column("startTime", "time", "When it started", required=True),
                Column(
                    "endTime",
                    "time",
                    "Last sign of life: the trailing timeout is not part of it",
                    required=True,
                ),
                Column("duration", "duration", "Milliseconds from start to end", required=True),
                Column("activityCount", "integer", "Activities in it", required=True),
                Column("eventCount", "integer", "Events in it", required=True),
                Column("errorCount", "integer", "Errors in it", required=True),
                Column(
                    "endReason",
                    "string",
                    "`ended`, `timeout`, `serverTimeout` or `crash`; empty while it is open",
                ),
                *SESSION_CONTEXT,
            ),
            ("startTime", "deviceId", "sessionId"),
            dated=True,
            help="Sessions, one row each",
            more=(RECEIVED,),
        ),
        Export(
            "tag",
            (
                DEVICE,
                Column("userId", "string", "The device's `userid` tag"),
                Column("key", "string", "Key of the tag", required=True),
                Column("value", "string", "Its value", required=True),
                Column("type", "string", "Declared type, where one was declared"),
                Column("lastModified", "time", "When it was set", required=True),
            ),
            ("deviceId", "key"),
            dated=False,
            help="Tags of every device, one row per device and key",
        ),
        Export(
            "device",
            (
                DEVICE,
                Column("userId", "string", "The device's `userid` tag"),
                Column("firstSeen", "time", "First sign of life", required=True),
                Column("lastSeen", "time", "Last sign of life", required=True),
                Column("lastInfo", "time", "When technical fields were last sent"),
                Column("lastLocation", "time", "When an area was last sent"),
                Column("nativePushEnabled", "boolean", "Whether the app can be pushed to", required=True),
                *INFO,
                *AREA,
                Column("appInfo", "json", "Its tags, an object of strings"),
            ),
            ("deviceId",),
            dated=False,
            help="Devices, one row each",
        ),
        Export(
            "token",
            (
                DEVICE,
                Column("userId", "string", "The device's `userid` tag"),
                Column("token", "string", "The push token", required=True),
                Column(
                    "service",
                    "string",
                    "gcm, adm, apns, apnsDev, wns, mpns, fcmFid, webpush or hms",
                    required=True,
                ),
                Column("registeredAt", "time", "When it was registered"),
                Column("lastSeen", "time", "Last sign of life of the device"),
            ),
            ("deviceId", "service"),
            dated=False,
            help="Valid push tokens, one row per device and service",
        ),
        Export(
            "feedback",
            (
                Column("campaignType", "string", "Announcement, DataPush, NativePush or Poll", required=True),
                Column(
                    "campaignId",
                    "identifier",
                    "The campaign: an integer, or the SDK's content id as a string",
                    required=True,
                ),
                Column("campaignName", "string", "Its name"),
                DEVICE,
                Column("userId", "string", "The device's `userid` tag"),
                Column("feedback", "string", "Strongest of `pushed`, `exited`, `actioned`"),
                *(
                    Column(status, "integer", f"How often it was `{status}`", required=True)
                    for status in FEEDBACK_STATUSES
                ),
                Column("firstPushed", "time", "When it was first pushed"),
                Column("lastFeedback", "time", "Last feedback of any kind"),
                Column("answers", "json", "Poll: question id to choice id"),
            ),
            ("deviceId", "campaignType", "campaignId"),
            dated=False,
            help="Push feedback, one row per campaign and device",
        ),
        Export(
            "history",
            (
                Column("deviceId", "string", "The device; empty where what was set aside names none"),
                Column("userId", "string", "The user, where one is known"),
                Column("kind", "string", "What it is: a kind of export, or `reject`", required=True),
                Column(
                    "timestamp", "time", "When it happened or began, was set, or last changed", required=True
                ),
                Column("record", "json", "All of it, an object", required=True),
            ),
            ("timestamp", "deviceId", "kind"),
            dated=True,
            help="Everything about one user or device, one row per record",
            personal=True,
        ),
    )
}
