"""What a device can say: one class for each kind of record, with its limits.

These shapes are the native protocol on the wire, what every other dialect is translated into, and what
landing reads. Times are milliseconds since 1970 UTC. Limits are those of the old API's data model (names up
to 64 characters, extras up to 1,024 once encoded, keys of letters, digits and underscore).
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta, Struct

KEY_PATTERN = r"^[a-zA-Z][a-zA-Z0-9_]{0,63}$(?!\n)"
"""A letter, then letters, digits or `_`: 64 in all. The end of it: `$` alone would let a newline follow."""
UNNAMED = "~"
"""The session id of records whose SDK has none: the session of the device that is open, or starts or ends with them."""
KEY_LIMIT = 64
EXTRAS_LIMIT = 1024
TAG_VALUE_LIMIT = 1024
NUMERIC_OPS = frozenset({"inc", "mul", "max", "min"})
NUMBER = re.compile(r"[+-]?[0-9]{1,30}(?:\.[0-9]{1,30})?(?:[eE][+-]?[0-9]{1,2})?", re.ASCII)
"""Text that tags can be computed with: a decimal number, as JSON writes it."""
EARLIEST = 946_684_800_000
"""2000-01-01: an event time before it is a device without a clock."""
FUTURE = 24 * 3600 * 1000
"""An event may lie this far, in ms, after it was received: more is a wrong clock."""

Millis = Annotated[int, Meta(ge=0, le=253_402_300_799_999)]
Time = Millis | datetime
Id = Annotated[str, Meta(min_length=1, max_length=255)]
Name = Annotated[str, Meta(min_length=1, max_length=64)]
Short = Annotated[str, Meta(max_length=255)]
Key = Annotated[str, Meta(pattern=KEY_PATTERN)]
TagValue = Annotated[str, Meta(max_length=TAG_VALUE_LIMIT)]
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Number = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
VersionCode = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Answers = Annotated[dict[Short, Short], Meta(max_length=100)]
Extras = dict[str, Any]

CampaignType = Literal["Announcement", "DataPush", "NativePush", "Poll"]
TokenService = Literal["gcm", "adm", "apns", "apnsDev", "wns", "mpns", "fcmFid", "webpush", "hms"]
"""`gcm` holds registration tokens of Firebase Cloud Messaging, its successor; `fcmFid` its installation ids."""
EndReason = Literal["ended", "timeout", "serverTimeout", "crash"]
TagOp = Literal["set", "once", "inc", "mul", "max", "min", "push", "pull", "addToSet"]
FeedbackStatus = Literal[
    "queued",
    "pushed",
    "pushed-native",
    "delivered",
    "dropped",
    "system-notification-displayed",
    "in-app-notification-displayed",
    "content-displayed",
    "system-notification-actioned",
    "system-notification-exited",
    "in-app-notification-actioned",
    "in-app-notification-exited",
    "content-actioned",
    "content-exited",
]
FEEDBACK_STATUSES: tuple[str, ...] = get_args(FeedbackStatus)


class Record(
    Struct,
    kw_only=True,
    omit_defaults=True,
    rename="camel",
    tag_field="kind",
    forbid_unknown_fields=True,
    gc=False,
):
    """What every record has. `frame` is ours: `land` sets which journal frame brought it, a device cannot."""

    device_id: Id
    id: Id | None = None
    user_id: Id | None = None
    application_version_name: Short | None = None
    frame: Annotated[int, Meta(ge=0, le=0)] = 0


class InSession(Record, kw_only=True):
    """A record that may belong to a session; `info_id` refers to a `device` record sent before.

    Without a `session_id` the session is derived from the device's activities, unless `standalone`; `UNNAMED` is for SDKs
    that say when sessions start and end, but do not name them.
    """

    session_id: Id | None = None
    info_id: Id | None = None
    standalone: bool = False


class Activity(InSession, tag="activity", kw_only=True):
    """A screen the user is on, from `start_time`; it ends with the next one, or at `end_time`."""

    name: Name
    start_time: Time
    end_time: Time | None = None
    previous_name: Name | None = None
    extras: Extras | None = None


class ActivityEnd(InSession, tag="activityEnd", kw_only=True):
    """The user left the screen: the current activity of the session (or of the device) ends."""

    timestamp: Time


class Instant(InSession, kw_only=True):
    """Something that happens at an instant, in a session, in a job, or in neither."""

    name: Name
    timestamp: Time
    job_id: Id | None = None
    job_name: Name | None = None
    activity_name: Name | None = None
    extras: Extras | None = None


class Event(Instant, tag="event", kw_only=True):
    """Something that happened."""


class Error(Instant, tag="error", kw_only=True):
    """Something that went wrong."""


class Job(InSession, tag="job", kw_only=True):
    """Something that takes time, independent of sessions; its `id` is the job's."""

    name: Name
    start_time: Time
    end_time: Time | None = None
    extras: Extras | None = None


class JobEnd(Record, tag="jobEnd", kw_only=True):
    """The end of the job `job_id`."""

    job_id: Id
    timestamp: Time


class Crash(InSession, tag="crash", kw_only=True):
    """The app crashed. `type` is the SDK's crash id or class."""

    type: Short
    timestamp: Time
    stack_trace: Annotated[str, Meta(max_length=65_536)] | None = None
    activity_name: Name | None = None
    phone_model: Short | None = None
    firmware_name: Short | None = None
    firmware_version: Short | None = None
    service_version: Short | None = None


class SessionStart(InSession, tag="sessionStart", kw_only=True):
    """The SDK opened the session `session_id`."""

    timestamp: Time
    location_id: Id | None = None
    network_type: Short | None = None
    locale: Short | None = None
    countrycode: Short | None = None


class SessionEnd(InSession, tag="sessionEnd", kw_only=True):
    """The SDK closed the session `session_id`."""

    timestamp: Time
    end_reason: EndReason = "ended"


class Session(InSession, tag="session", kw_only=True):
    """A whole session, told at once; its `session_id` (or else its `id`) is what other records refer to.

    Counts that are given win over the records counted.
    """

    start_time: Time
    end_time: Time
    activity_count: Count | None = None
    event_count: Count | None = None
    error_count: Count | None = None
    end_reason: EndReason = "ended"
    network_type: Short | None = None
    locale: Short | None = None
    countrycode: Short | None = None


class Heartbeat(InSession, tag="heartbeat", kw_only=True):
    """The session is still alive."""

    timestamp: Time


class Device(Record, tag="device", kw_only=True):
    """Technical facts about the device, as of `timestamp`; `info_id` names them for later records."""

    timestamp: Time
    info_id: Id | None = None
    phone_model: Short | None = None
    phone_manufacturer: Short | None = None
    firmware_version: Short | None = None
    firmware_name: Short | None = None
    android_api_level: Number | None = msgspec.field(default=None, name="androidAPILevel")
    carrier_country: Short | None = None
    locale: Short | None = None
    carrier_name: Short | None = None
    network_type: Short | None = None
    network_subtype: Short | None = None
    application_version_code: VersionCode | None = None
    time_zone_offset: Number | None = None
    service_version: Short | None = None
    native_push_enabled: bool | None = None


class Location(Record, tag="location", kw_only=True):
    """Where the device is, as an area; `location_id` names it for later records."""

    timestamp: Time
    location_id: Id | None = None
    countrycode: Short | None = None
    region: Short | None = None
    locality: Short | None = None


class Tag(Record, tag="tag", kw_only=True):
    """One tag (app-info) of the device: the latest value wins, `null` removes the tag.

    `op` says what is done with `value`: `set` (replaces what is there), `once` (only if nothing is), arithmetic with a
    number (`inc`, `mul`, `max`, `min`), or a change to a list (`push`, `pull`, `addToSet`). All but `set` need a value, and
    are worked out when they land (`land.tags`).
    """

    timestamp: Time
    key: Key
    value: TagValue | None
    op: TagOp = "set"


class Token(Record, tag="token", kw_only=True):
    """A push token of the device, one per service; `valid: false` withdraws it."""

    timestamp: Time
    token: Annotated[str, Meta(min_length=1, max_length=4096)]
    service: TokenService
    valid: bool = True


class Feedback(Record, tag="feedback", kw_only=True):
    """What became of one push on the device. `answers` maps question ids to choice ids."""

    timestamp: Time
    campaign_type: CampaignType
    campaign_id: Id
    campaign_name: Name | None = None
    status: FeedbackStatus
    answers: Answers | None = None


AnyRecord = (
    Activity
    | ActivityEnd
    | Event
    | Error
    | Job
    | JobEnd
    | Crash
    | SessionStart
    | SessionEnd
    | Session
    | Heartbeat
    | Device
    | Location
    | Tag
    | Token
    | Feedback
)
RECORD_CLASSES: tuple[type[Record], ...] = get_args(AnyRecord)

Reason = Literal[
    "malformed",
    "unknown_kind",
    "field_missing",
    "field_unknown",
    "field_invalid",
    "name_invalid",
    "extras_invalid",
    "extras_too_long",
    "tag_invalid",
    "time_out_of_range",
    "end_without_start",
    "not_supported",
    "parser_failed",
]
"""Why a record was set aside: a closed set, so that everything set aside can be counted."""
REASONS: tuple[str, ...] = get_args(Reason)


RAW_LIMIT = 64 * 1024
"""Characters that are kept of what was sent, where it could not be taken."""


class Reject(Struct, kw_only=True, omit_defaults=True, rename="camel"):
    """A record that could not be taken: why, in words, and what was sent, as text (landing keeps `RAW_LIMIT` of it)."""

    reason: Reason
    detail: str
    raw: str
    frame: int = 0


class Invalid(Exception):  # noqa: N818  it is a record that is invalid, not an error of ours
    """A record breaks a rule; becomes a `Reject`."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason: Reason = reason
        self.detail = detail


class Frame(Struct, kw_only=True, frozen=True):
    """One request of a device as the journal holds it; `body` is inflated, times are ms UTC."""

    app_id: str
    protocol: str
    received_at: int
    body: bytes
    device_id: str | None = None
    user_agent: str = ""


class Parsed(Struct):
    """What one frame says: the records that can be taken, and those that cannot."""

    records: list[Record]
    rejects: list[Reject]
    sdk_name: str | None = None
    sdk_version: str | None = None


_TIMES = ("timestamp", "start_time", "end_time")
_decoders = {cls: msgspec.json.Decoder(cls) for cls in RECORD_CLASSES}
_encoder = msgspec.json.Encoder()
_known_keys: set[str] = set()
_KNOWN_KEYS_LIMIT = 100_000


def to_millis(time: Time) -> int:
    """A time as ms since 1970; a datetime without a zone is taken as UTC."""
    if isinstance(time, int):
        return time
    aware = time if time.tzinfo else time.replace(tzinfo=UTC)
    return round(aware.timestamp() * 1000)


def check(record: Record, received_at: int) -> None:
    """Bring a decoded record into its stored form, or say why it cannot be taken.

    Turns datetimes into ms, gives a record without an id one made from its content (so that the very same
    record sent again is recognised), and enforces what types alone cannot: extras, and times in range.

    Raises:
        Invalid: with the reason.
    """
    for field in _TIME_FIELDS[type(record)]:
        time = getattr(record, field)
        if time is None:
            continue
        if time.__class__ is not int:
            time = to_millis(time)
            setattr(record, field, time)
        if not EARLIEST <= time <= received_at + FUTURE:
            raise Invalid(
                "time_out_of_range",
                f"{field} {time} is before 2000 or over a day after it was received ({received_at})",
            )
    extras: Extras | None = getattr(record, "extras", None)
    if extras:
        _check_extras(extras)
    if record.__class__ is Tag:
        _check_tag(record)
    if record.id is None:
        record.id = hashlib.md5(_encoder.encode(record), usedforsecurity=False).hexdigest()


def validated(record: Record) -> Record:
    """A record built in code, checked against the limits of its class.

    Raises:
        Invalid: with the reason.
    """
    try:
        decoded: Record = _decoders[type(record)].decode(_encoder.encode(record))
    except msgspec.ValidationError as error:
        raise Invalid(reason_of(str(error)), str(error)) from error
    return decoded


def reason_of(message: str) -> Reason:
    """The reason that a msgspec validation message amounts to."""
    if "missing required field" in message:
        return "field_missing"
    if "unknown field" in message:
        return "field_unknown"
    if "$.kind" in message:
        return "unknown_kind"
    if message.endswith("name`"):
        return "name_invalid"
    if message.endswith(("`$.key`", "`$.value`")):
        return "tag_invalid"
    return "field_invalid"


_TIME_FIELDS = {cls: tuple(f for f in _TIMES if f in cls.__struct_fields__) for cls in RECORD_CLASSES}


def _check_tag(tag: Tag) -> None:
    if tag.op == "set":
        return
    if tag.value is None:
        raise Invalid("tag_invalid", f"{tag.op} needs a value")
    if tag.op in NUMERIC_OPS and not NUMBER.fullmatch(tag.value):
        raise Invalid("tag_invalid", f"{tag.op} needs a number, not {tag.value[:80]!r}")


def _check_extras(extras: Extras) -> None:
    if not _known_keys.issuperset(extras):
        for key in extras:
            if not (key.isascii() and key.isidentifier() and key[0] != "_" and len(key) <= KEY_LIMIT):
                raise Invalid(
                    "extras_invalid",
                    f"extras key {key[:80]!r} is not a letter followed by letters, digits or _, 64 at most",
                )
            if len(_known_keys) < _KNOWN_KEYS_LIMIT:
                _known_keys.add(key)
    try:
        encoded = _encoder.encode(extras)
    except RecursionError:
        raise Invalid("extras_invalid", "extras are nested too deeply") from None
    if len(encoded) > EXTRAS_LIMIT and len(encoded.decode()) > EXTRAS_LIMIT:
        raise Invalid(
            "extras_too_long",
            f"extras take {len(encoded.decode())} characters as JSON; the limit is {EXTRAS_LIMIT}",
        )
