"""Every table and every column, once: what is stored, and what an export shows.

Stored tables are append-only. The first column of a table's `order` is what its files are sorted by and what
an export is sliced by; tables with a `day` are partitioned by the UTC day of that column. Three tables hold
contributions rather than rows, which reading folds: `session` (sum of counts, latest end), `device` (latest
value of each field) and `tag`, `token` (latest value wins). `activity_end` and `job_end` close rows that were
stored before their end was known.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from outhaul.records import FEEDBACK_STATUSES

Type = Literal["string", "time", "duration", "integer", "boolean", "json", "identifier"]
Kind = Literal[
    "activity", "event", "job", "error", "crash", "session", "tag", "device", "token", "feedback", "history"
]
RecordKind = Literal[
    "activity", "event", "job", "error", "crash", "session", "tag", "device", "token", "feedback", "reject"
]
"""What a record of somebody's history can be."""


class Column(NamedTuple):
    name: str
    type: Type
    help: str
    required: bool = False


class Table(NamedTuple):
    name: str
    columns: tuple[Column, ...]
    order: tuple[str, ...]
    partitioned: bool
    help: str


class Export(NamedTuple):
    """A kind of export. `columns` are in every file unless others are chosen; `more` can be chosen as well.

    One that is `dated` takes a period and needs one, unless it is `personal`: then it is of one user or device.
    """

    kind: Kind
    columns: tuple[Column, ...]
    order: tuple[str, ...]
    dated: bool
    help: str
    more: tuple[Column, ...] = ()
    personal: bool = False


DAY = Column("day", "string", "UTC day of the row's time, `YYYY-MM-DD`; the partition", required=True)

_DEVICE = Column("deviceId", "string", "The device, as its SDK names it", required=True)
_USER = Column(
    "userId",
    "string",
    "The user, where one is known: sent with the record, or the device's `userid` tag when it arrived",
)
_VERSION = Column("applicationVersionName", "string", "Version of the app, as users see it")
_SESSION = Column("sessionId", "string", "The session it belongs to")
_EXTRAS = Column("extras", "json", "What the app attached, an object")
_RECEIVED = Column("receivedAt", "time", "When the server took it", required=True)
_META = (
    _RECEIVED,
    Column("protocol", "string", "Wire dialect it came by", required=True),
    Column("sdkName", "string", "SDK that sent it"),
    Column("sdkVersion", "string", "Version of that SDK"),
)
_SHARED = (_DEVICE, _USER, _VERSION, _SESSION)

INFO = (
    Column("phoneModel", "string", "Model of the phone"),
    Column("phoneManufacturer", "string", "Its manufacturer"),
    Column("firmwareVersion", "string", "Version of the operating system"),
    Column("firmwareName", "string", "Name of the operating system"),
    Column("androidAPILevel", "integer", "Android API level"),
    Column("carrierCountry", "string", "Country of the carrier"),
    Column("locale", "string", "Language and country set on the device"),
    Column("carrierName", "string", "Mobile network operator"),
    Column("networkType", "string", "Network in use, such as `wifi`"),
    Column("networkSubtype", "string", "Its subtype, such as `LTE`"),
    Column("applicationVersionName", "string", "Version of the app, as users see it"),
    Column("applicationVersionCode", "integer", "Version of the app, as a number"),
    Column("timeZoneOffset", "integer", "Minutes from UTC, daylight saving included"),
    Column("serviceVersion", "string", "Version of the SDK"),
)
"""The fourteen technical fields of a device, under the old API's names."""

AREA = (
    Column("countrycode", "string", "Country of the last known location"),
    Column("region", "string", "Region of the last known location"),
    Column("locality", "string", "Locality of the last known location"),
)


def _instants(id_name: str) -> tuple[Column, ...]:
    return (
        Column(id_name, "string", "Id of the record", required=True),
        Column("timestamp", "time", "When it happened", required=True),
        Column("name", "string", "Its name, up to 64 characters", required=True),
        Column("kind", "string", "`session`, `job` or `standalone`", required=True),
        Column("jobId", "string", "The job it belongs to"),
        Column("jobName", "string", "Name of that job"),
        Column("activityName", "string", "Activity in progress"),
        _EXTRAS,
    )


def _span(id_name: str, what: str) -> tuple[Column, ...]:
    return (
        Column(id_name, "string", f"Id of the {what}", required=True),
        Column("name", "string", "Its name, up to 64 characters", required=True),
        Column("startTime", "time", "When it started", required=True),
        Column("endTime", "time", "When it ended; empty while it is open"),
    )


_DURATION = Column("duration", "duration", "Milliseconds from start to end")
_PREVIOUS = Column("previousName", "string", "Name of the activity before it in the session")
_CRASH = (
    Column("crashId", "string", "Id of the record", required=True),
    Column("timestamp", "time", "When it happened", required=True),
    Column("type", "string", "The SDK's crash id or class", required=True),
    Column("stackTrace", "string", "The stack"),
    Column("activityName", "string", "Activity in progress"),
    Column("phoneModel", "string", "Model of the phone at that time"),
    Column("firmwareName", "string", "Operating system at that time"),
    Column("firmwareVersion", "string", "Its version at that time"),
    Column("serviceVersion", "string", "Version of the SDK at that time"),
)
_SESSION_CONTEXT = (
    Column("networkType", "string", "Network at its start"),
    Column("locale", "string", "Locale at its start"),
    Column("countrycode", "string", "Country at its start"),
)


def _ends(name: str, id_name: str, what: str) -> Table:
    return Table(
        name,
        (
            _DEVICE,
            Column(id_name, "string", f"Id of the {what} that ended", required=True),
            Column("startTime", "time", "When it started", required=True),
            Column("endTime", "time", "When it ended", required=True),
            _RECEIVED,
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
            (*_SHARED, *_span("activityId", "activity"), _PREVIOUS, _EXTRAS, *_META),
            ("startTime", "deviceId", "activityId"),
            partitioned=True,
            help="One row per activity",
        ),
        _ends("activity_end", "activityId", "activity"),
        Table(
            "event",
            (*_SHARED, *_instants("eventId"), *_META),
            ("timestamp", "deviceId", "eventId"),
            partitioned=True,
            help="One row per event",
        ),
        Table(
            "job",
            (*_SHARED, *_span("jobId", "job"), _EXTRAS, *_META),
            ("startTime", "deviceId", "jobId"),
            partitioned=True,
            help="One row per job",
        ),
        _ends("job_end", "jobId", "job"),
        Table(
            "error",
            (*_SHARED, *_instants("errorId"), *_META),
            ("timestamp", "deviceId", "errorId"),
            partitioned=True,
            help="One row per error",
        ),
        Table(
            "crash",
            (*_SHARED, *_CRASH, *_META),
            ("timestamp", "deviceId", "crashId"),
            partitioned=True,
            help="One row per crash",
        ),
        Table(
            "session",
            (
                *_SHARED,
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
                *_SESSION_CONTEXT,
                *_META,
            ),
            ("startTime", "deviceId", "sessionId"),
            partitioned=True,
            help="What one landing learned about a session; folded on reading",
        ),
        Table(
            "tag",
            (
                _DEVICE,
                Column("key", "string", "Key of the tag", required=True),
                Column("value", "string", "Its value; null removes the tag"),
                Column("lastModified", "time", "When it was set", required=True),
                Column(
                    "sequence",
                    "integer",
                    "Order of arrival in its landing, for values set at the same time",
                    required=True,
                ),
                *_META,
            ),
            ("deviceId", "key", "lastModified"),
            partitioned=False,
            help="One row per tag set; the latest wins",
        ),
        Table(
            "user",
            (
                Column("userId", "string", "Value of a device's `userid` tag", required=True),
                _DEVICE,
                Column("lastModified", "time", "When it was set", required=True),
                _RECEIVED,
            ),
            ("userId", "deviceId", "lastModified"),
            partitioned=False,
            help="Which devices a user was ever on, to find them by; whose they are now is in their tags",
        ),
        Table(
            "device",
            (
                _DEVICE,
                Column("firstSeen", "time", "First sign of life in this landing", required=True),
                Column("lastSeen", "time", "Last sign of life in this landing", required=True),
                Column("lastInfo", "time", "When the technical fields were sent"),
                Column("lastLocation", "time", "When the area was sent"),
                Column("nativePushEnabled", "boolean", "Whether the app registered with its push service"),
                *INFO,
                *AREA,
                *_META,
            ),
            ("deviceId", "lastSeen"),
            partitioned=False,
            help="What one landing learned about a device; folded on reading",
        ),
        Table(
            "token",
            (
                _DEVICE,
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
                *_META,
            ),
            ("deviceId", "service", "registeredAt"),
            partitioned=False,
            help="One row per token registered or withdrawn; the latest wins",
        ),
        Table(
            "feedback",
            (
                _DEVICE,
                Column("feedbackId", "string", "Id of the record", required=True),
                Column("campaignType", "string", "Announcement, DataPush, NativePush or Poll", required=True),
                Column("campaignId", "string", "The campaign, or the SDK's content id", required=True),
                Column("campaignName", "string", "Its name"),
                Column("status", "string", "What became of the push", required=True),
                Column("timestamp", "time", "When", required=True),
                Column("answers", "json", "Answers to a poll"),
                *_META,
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
                *_META,
            ),
            ("receivedAt", "reason"),
            partitioned=True,
            help="Records that could not be taken",
        ),
    )
}

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
            (*_SHARED, *_span("activityId", "activity"), _DURATION, _PREVIOUS, _EXTRAS),
            ("startTime", "deviceId", "activityId"),
            dated=True,
            help="Screens users were on, one row each",
            more=_META,
        ),
        Export(
            "event",
            (*_SHARED, *_instants("eventId")),
            ("timestamp", "deviceId", "eventId"),
            dated=True,
            help="Events, one row each",
            more=_META,
        ),
        Export(
            "job",
            (*_SHARED, *_span("jobId", "job"), _DURATION, _EXTRAS),
            ("startTime", "deviceId", "jobId"),
            dated=True,
            help="Jobs, one row each",
            more=_META,
        ),
        Export(
            "error",
            (*_SHARED, *_instants("errorId")),
            ("timestamp", "deviceId", "errorId"),
            dated=True,
            help="Errors, one row each",
            more=_META,
        ),
        Export(
            "crash",
            (*_SHARED, *_CRASH),
            ("timestamp", "deviceId", "crashId"),
            dated=True,
            help="Crashes, one row each",
            more=_META,
        ),
        Export(
            "session",
            (
                *_SHARED,
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
                *_SESSION_CONTEXT,
            ),
            ("startTime", "deviceId", "sessionId"),
            dated=True,
            help="Sessions, one row each",
            more=(_RECEIVED,),
        ),
        Export(
            "tag",
            (
                _DEVICE,
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
                _DEVICE,
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
                _DEVICE,
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
                _DEVICE,
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
