"""One event of PostHog: who tells it, when, and under which id, whatever it is about."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

from msgspec import Raw, Struct

from outhaul.protocols.json_text import JSON_ERRORS, read, text_of, write
from outhaul.protocols.segment_message import identifier, member, particular, skew_of
from outhaul.records import EARLIEST, EXTRAS_LIMIT, Invalid, to_millis

if TYPE_CHECKING:
    from outhaul.protocols.conventions import Names

SERVERS = frozenset(
    f"posthog-{name}"
    for name in ("python", "node", "edge", "php", "ruby", "go", "java", "server", "dotnet", "elixir", "rs")
)
"""Libraries of servers, as `$lib` names them: what they say of an operating system is said of their own."""

SESSION_LIMIT = 24 * 3600 * 1000
"""How long, in ms, a session of PostHog can go on (PostHog's documentation of sessions)."""

_ID_LIMIT = 255
_OF_A_PAGE = frozenset(
    "title utm_source utm_medium utm_campaign utm_content utm_term gad_source mc_cid gclid gclsrc dclid gbraid wbraid "  # noqa: SIM905
    "fbclid msclkid twclid li_fat_id igshid ttclid rdt_cid epik qclid sccid oppref bfcid irclid _kx".split()
)
"""What the browser SDK puts beside the app's own: the page's title, and what its address says of where visitors come from."""
_LATE_ID = 60_000
"""The event that opens a session may be this much older, in ms, than the id made for it."""
_UUID7 = re.compile(
    r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-7[0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}"
).fullmatch


class Batch(Struct):
    """What the events of one request have in common; `skew` is how far, in ms, their clock is behind ours."""

    received_at: int
    skew: int
    names: Names
    sdk: tuple[str | None, str | None] = (None, None)


class Item(Struct):
    """An event with everything in it that does not depend on what it is about; times are ms UTC, corrected.

    `distinct_id` is what PostHog knows the user by, `device_id` the device as our records name it, and `user_id` the user,
    once there is one. `session_began` is none unless the session's id tells it.
    """

    raw: Raw
    name: str
    item: dict[str, Any]
    properties: dict[str, Any]
    id: str
    time: int
    distinct_id: str | None
    device_id: str
    user_id: str | None
    session_id: str | None
    session_began: int | None
    application_version_name: str | None
    of_server: bool

    def shared(self, part: str = "") -> dict[str, Any]:
        """The fields every record has. `part` names a record that the event implies besides its own."""
        return {
            "device_id": self.device_id,
            "id": fitted(f"{self.id}:{part}" if part else self.id),
            "user_id": self.user_id,
            "application_version_name": self.application_version_name,
        }

    def within(self, part: str = "") -> dict[str, Any]:
        """The fields of a record that belongs to the session."""
        return {**self.shared(part), "session_id": self.session_id}

    def text(self) -> str:
        """The event as it was sent."""
        return text_of(self.raw)

    def own(self) -> dict[str, Any]:
        """The properties that the app gave the event, without those that every event has from the SDK.

        Where all are too much, without the longest of what the browser SDK tells about the page: a link that somebody
        came by, however long, must not cost all events of the visit.
        """
        given = {
            key: value
            for key, value in self.properties.items()
            if value is not None and not key.startswith("$") and key not in {"token", "distinct_id"}
        }
        added = [key for key in given if key in _OF_A_PAGE and isinstance(given[key], str)]
        added.sort(key=lambda key: len(given[key]))
        while added and len(write(given)) > EXTRAS_LIMIT:
            del given[added.pop()]
        return given


def read_item(raw: Raw, batch: Batch) -> Item:
    """Read what every event has.

    Raises:
        Invalid: it lacks it, with the reason; the event is then set aside whole.
    """
    try:
        item = read(raw)
    except JSON_ERRORS as error:
        raise Invalid("malformed", f"not JSON: {error}") from error
    if not isinstance(item, dict):
        raise Invalid("malformed", "an event is a JSON object")
    name = item.get("event")
    if name is None:
        raise Invalid("field_missing", "an event needs its name, in `event`")
    if not isinstance(name, str):
        raise Invalid("name_invalid", "the name of an event is text")
    properties = member(item, "properties")
    distinct_id = identifier(item, "distinct_id") or identifier(properties, "distinct_id")
    device_id = identifier(properties, "$device_id")
    session_id = identifier(item, "session_id") or identifier(properties, "$session_id")
    skew = 0 if _is_left_alone(item, properties) else batch.skew
    time = _time(item, batch.received_at, skew)
    uuid = identifier(item, "uuid")
    return Item(
        raw=raw,
        name=name,
        item=item,
        properties=properties,
        id=uuid if uuid is not None else _content_id(raw, item, batch.received_at),
        time=time,
        distinct_id=distinct_id,
        device_id=_device_id(properties, device_id, distinct_id),
        user_id=_user_id(name, properties, device_id, distinct_id),
        session_id=session_id,
        session_began=_began(session_id, time, skew),
        application_version_name=_version_name(properties),
        of_server=properties.get("$is_server") is True
        or (particular(properties.get("$lib")) or batch.sdk[0]) in SERVERS,
    )


def skew(sent_at: Any, received_at: int) -> int:
    """How far, in ms, the sender's clock is behind ours; 0 when it is near enough, or does not say.

    PostHog's SDKs say when they sent anew with every attempt, so an event that waited offline is not moved.
    """
    if isinstance(sent_at, str) and sent_at.isascii() and sent_at.isdigit():
        sent_at = int(sent_at)
    return skew_of(sent_at, received_at)


def fitted(own_id: str) -> str:
    """An id within the limit of ids: the same for the same text, however long that is."""
    return own_id if len(own_id) <= _ID_LIMIT else digest(own_id.encode())


def digest(content: bytes) -> str:
    """An id made from what it identifies."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _device_id(properties: dict[str, Any], device_id: str | None, distinct_id: str | None) -> str:
    found = device_id or identifier(properties, "$anon_distinct_id") or distinct_id
    if found is None:
        raise Invalid("field_missing", "one of $device_id, $anon_distinct_id and distinct_id is required")
    return found


def _user_id(
    name: str, properties: dict[str, Any], device_id: str | None, distinct_id: str | None
) -> str | None:
    """The distinct id, unless it stands for somebody who has not been identified yet."""
    if name == "$identify":
        return distinct_id
    identified = properties.get("$is_identified")
    if isinstance(identified, bool):
        return distinct_id if identified else None
    if device_id is not None:
        return distinct_id if distinct_id != device_id else None
    return None if properties.get("$process_person_profile") is False else distinct_id


def _began(session_id: str | None, time: int, skew: int) -> int | None:
    """When a session began, which the first 48 bits of its id say where it is a UUID of version 7 (RFC 9562)."""
    if session_id is None or not _UUID7(session_id):
        return None
    began = int(session_id[:8] + session_id[9:13], 16) + skew
    if not max(EARLIEST, time - SESSION_LIMIT) <= began <= time + _LATE_ID:
        return None
    return min(began, time)


def _is_left_alone(item: dict[str, Any], properties: dict[str, Any]) -> bool:
    """Whether the sender asks for its clock to be believed."""
    return (
        properties.get("$ignore_sent_at") is True
        or member(item, "options").get("disable_skew_correction") is True
    )


def _version_name(properties: dict[str, Any]) -> str | None:
    version = particular(properties.get("$app_version"))
    if version is not None and len(version) > _ID_LIMIT:
        raise Invalid("field_invalid", f"the app's version is longer than {_ID_LIMIT} characters")
    return version


def _content_id(raw: Raw, item: dict[str, Any], received_at: int) -> str:
    # Equal events that do not say when they happened are told apart by when they came.
    salt = "" if item.get("timestamp") is not None else str(received_at)
    return digest(bytes(raw) + salt.encode())


def _time(item: dict[str, Any], received_at: int, skew: int) -> int:
    told, offset = item.get("timestamp"), item.get("offset")
    if told is not None:
        time = min(_millis(told) + skew, received_at)
    elif isinstance(offset, int) and not isinstance(offset, bool) and 0 <= offset <= received_at:
        # Ms between the event and sending it, as older SDKs say instead.
        time = received_at - offset
    else:
        time = received_at
    if time < EARLIEST:
        raise Invalid("time_out_of_range", f"the time {told if told is not None else offset} is before 2000")
    return time


def _millis(value: Any) -> int:
    if isinstance(value, str):
        try:
            return to_millis(datetime.fromisoformat(value))
        except (ValueError, OverflowError) as error:
            raise Invalid("field_invalid", f"timestamp {value[:80]!r} is not an ISO 8601 time") from error
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise Invalid("field_invalid", "timestamp is neither an ISO 8601 time nor ms since 1970")
