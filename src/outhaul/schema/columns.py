"""Columns that tables and exports share, and what tables and exports are made of."""

from __future__ import annotations

from typing import Literal, NamedTuple

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

DEVICE = Column("deviceId", "string", "The device, as its SDK names it", required=True)
USER = Column(
    "userId",
    "string",
    "The user, where one is known: sent with the record, or the device's `userid` tag when it arrived",
)
VERSION = Column("applicationVersionName", "string", "Version of the app, as users see it")
SESSION = Column("sessionId", "string", "The session it belongs to")
EXTRAS = Column("extras", "json", "What the app attached, an object")
RECEIVED = Column("receivedAt", "time", "When the server took it", required=True)
META = (
    RECEIVED,
    Column("protocol", "string", "Wire dialect it came by", required=True),
    Column("sdkName", "string", "SDK that sent it"),
    Column("sdkVersion", "string", "Version of that SDK"),
)
SHARED = (DEVICE, USER, VERSION, SESSION)

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


def instants(id_name: str) -> tuple[Column, ...]:
    """The columns of what happened at an instant."""
    return (
        Column(id_name, "string", "Id of the record", required=True),
        Column("timestamp", "time", "When it happened", required=True),
        Column("name", "string", "Its name, up to 64 characters", required=True),
        Column("kind", "string", "`session`, `job` or `standalone`", required=True),
        Column("jobId", "string", "The job it belongs to"),
        Column("jobName", "string", "Name of that job"),
        Column("activityName", "string", "Activity in progress"),
        EXTRAS,
    )


def span(id_name: str, what: str) -> tuple[Column, ...]:
    """The columns of what began and ended."""
    return (
        Column(id_name, "string", f"Id of the {what}", required=True),
        Column("name", "string", "Its name, up to 64 characters", required=True),
        Column("startTime", "time", "When it started", required=True),
        Column("endTime", "time", "When it ended; empty while it is open"),
    )


DURATION = Column("duration", "duration", "Milliseconds from start to end")
PREVIOUS = Column("previousName", "string", "Name of the activity before it in the session")
CRASH = (
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
SESSION_CONTEXT = (
    Column("networkType", "string", "Network at its start"),
    Column("locale", "string", "Locale at its start"),
    Column("countrycode", "string", "Country at its start"),
)
