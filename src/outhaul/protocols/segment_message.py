"""One message of the Segment spec: who says it, when, and under which id, whatever its type."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import TYPE_CHECKING, Any

from msgspec import Raw, Struct

from outhaul.protocols import rudder
from outhaul.protocols.json_text import JSON_ERRORS, read, text_of, write
from outhaul.records import EARLIEST, UNNAMED, Invalid, to_millis

if TYPE_CHECKING:
    from outhaul.protocols.conventions import Names

SKEW_IGNORED = 60_000
"""A device clock this near to ours, in ms, is left alone: the difference may be the network's."""
MESSAGE_LIMIT = 64 * 1024
"""Bytes of one message. Segment documents 32 KB, but its SDKs send somewhat more."""
TYPES = ("track", "screen", "page", "identify", "group", "alias")
STAMPED_ONCE = frozenset({"analytics-kotlin", "analytics-swift", "analytics-csharp"})
"""Libraries that write `sentAt` when they close a batch, and never again, however late it is sent."""

_ID_LIMIT = 255


class Batch(Struct):
    """What the messages of one request have in common; `skew` is how far, in ms, their clocks are behind."""

    received_at: int
    sent_at: Any
    names: Names
    skew: int = 0

    def __post_init__(self) -> None:
        self.skew = skew_of(self.sent_at, self.received_at)


class Message(Struct):
    """A message with everything in it that does not depend on its type; `time` is ms UTC, corrected."""

    raw: Raw
    type: str
    item: dict[str, Any]
    context: dict[str, Any]
    id: str
    time: int
    device_id: str
    user_id: str | None
    application_version_name: str | None
    session_id: str | None
    names: Names

    def here(self, *, part: str = "") -> dict[str, Any]:
        """The fields of a record that may be in a session: the one told, else the one that the app was opened for."""
        return self.shared(part=part) | {"session_id": self.session_id or UNNAMED}

    def shared(self, *, part: str = "") -> dict[str, Any]:
        """The fields every record has. `part` names a record that the message implies besides its own."""
        own = f"{self.id}:{part}" if part else self.id
        return {
            "device_id": self.device_id,
            "id": own if len(own) <= _ID_LIMIT else _digest(own.encode()),
            "user_id": self.user_id,
            "application_version_name": self.application_version_name,
        }

    def text(self) -> str:
        """The message as it was sent."""
        return text_of(self.raw)


def read_message(raw: Raw, batch: Batch) -> Message:
    """Read what every message has.

    Raises:
        Invalid: it lacks it, with the reason; the message is then set aside whole.
    """
    size = len(bytes(raw))
    if size > MESSAGE_LIMIT:
        raise Invalid("malformed", f"the message takes {size} bytes; the limit is {MESSAGE_LIMIT}")
    try:
        item = read(raw)
    except JSON_ERRORS as error:
        raise Invalid("malformed", f"not JSON: {error}") from error
    if not isinstance(item, dict):
        raise Invalid("malformed", "a message is a JSON object")
    kind = item.get("type")
    if not isinstance(kind, str) or kind not in TYPES:
        raise Invalid("unknown_kind", f"type {write(kind)[:80]} is none of {', '.join(TYPES)}")
    context = member(item, "context")
    user_id = identifier(item, "userId")
    message_id = identifier(item, "messageId")
    return Message(
        raw=raw,
        type=kind,
        item=item,
        context=context,
        id=message_id if message_id is not None else _content_id(raw, item, batch.received_at),
        time=_time(item, context, batch),
        device_id=_device_id(item, context, user_id),
        user_id=user_id,
        application_version_name=_version_name(context),
        session_id=identifier(context, "sessionId"),
        names=batch.names,
    )


def member(tree: dict[str, Any], key: str) -> dict[str, Any]:
    """The object under `key`; an empty one where there is none, or something else."""
    value = tree.get(key)
    return value if isinstance(value, dict) else {}


def identifier(tree: dict[str, Any], key: str) -> str | None:
    """The id under `key` as text; none where it is absent, null or empty.

    Raises:
        Invalid: it is neither text nor a whole number, or longer than 255.
    """
    value = tree.get(key)
    if value is None or value == "":
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or len(value) > _ID_LIMIT:
        raise Invalid("field_invalid", f"{key} is not a text of up to {_ID_LIMIT} characters")
    return value


def particular(value: Any) -> str | None:
    """What the context tells, as text; none unless it is a number, or text that is not empty."""
    if isinstance(value, str):
        return value or None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return write(value)
    return None


def skew_of(sent_at: Any, received_at: int) -> int:
    """How far, in ms, the sender's clock is behind ours; 0 when it is near enough, or does not say."""
    try:
        skew = received_at - _millis(sent_at, "sentAt")
    except Invalid:
        return 0
    return skew if abs(skew) > SKEW_IGNORED else 0


def _library(context: dict[str, Any]) -> str:
    name = member(context, "library").get("name")
    return name.lower() if isinstance(name, str) else ""


def _device_id(item: dict[str, Any], context: dict[str, Any], user_id: str | None) -> str:
    device_id = identifier(member(context, "device"), "id") or identifier(item, "anonymousId")
    if device_id is None and item["type"] == "alias":
        # What the user did before being known came from this very device, under that id.
        device_id = identifier(item, "previousId")
    device_id = device_id or user_id
    if device_id is None:
        raise Invalid("field_missing", "one of context.device.id, anonymousId and userId is required")
    return device_id


def _version_name(context: dict[str, Any]) -> str | None:
    version = particular(rudder.app_of(member(context, "app")).get("version"))
    if version is not None and len(version) > _ID_LIMIT:
        raise Invalid("field_invalid", f"the app's version is longer than {_ID_LIMIT} characters")
    return version


def _content_id(raw: Raw, item: dict[str, Any], received_at: int) -> str:
    # Equal messages that do not say when they happened are told apart by when they came.
    salt = "" if _told_time(item)[1] is not None else str(received_at)
    return _digest(bytes(raw) + salt.encode())


def _digest(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _told_time(item: dict[str, Any]) -> tuple[str, Any]:
    """Field and value of the device's own time; a forwarded message keeps it as `originalTimestamp`."""
    if item.get("originalTimestamp") is not None:
        return "originalTimestamp", item["originalTimestamp"]
    return "timestamp", item.get("timestamp")


def _time(item: dict[str, Any], context: dict[str, Any], batch: Batch) -> int:
    field, value = _told_time(item)
    if value is None:
        return batch.received_at
    skew = batch.skew
    if batch.sent_at is None and item.get("sentAt") is not None:
        skew = skew_of(item["sentAt"], batch.received_at)
    if skew > 0 and _library(context) in STAMPED_ONCE:
        # It may be how long the batch waited for a network. That would move every event of it.
        skew = 0
    time = min(_millis(value, field) + skew, batch.received_at)
    if time < EARLIEST:
        raise Invalid("time_out_of_range", f"{field} {value} is before 2000")
    return time


def _millis(value: Any, field: str) -> int:
    if isinstance(value, str):
        try:
            return to_millis(datetime.fromisoformat(value))
        except ValueError as error:
            raise Invalid("field_invalid", f"{field} {value[:80]!r} is not an ISO 8601 time") from error
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise Invalid("field_invalid", f"{field} is neither an ISO 8601 time nor ms since 1970")
