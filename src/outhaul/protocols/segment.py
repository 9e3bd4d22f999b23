"""The Segment spec: `track`, `screen`, `page`, `identify`, `group` and `alias`, alone or in a batch.

Facts about the wire are from Segment's public HTTP API and mobile specs, and from what its SDKs send: nulls
for whatever is absent, the device's particulars repeated in every message, `sentAt` at the top.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from outhaul import records
from outhaul.errors import Invalid
from outhaul.protocols.conventions import NAMES, Happening, Names, meant
from outhaul.protocols.json_text import (
    JSON_ERRORS,
    check_count,
    check_crowd,
    mend,
    plain,
    read,
    text_of,
    write,
)
from outhaul.protocols.keyed import flat, keyed
from outhaul.protocols.segment_context import Tracker, technicals
from outhaul.protocols.segment_message import Batch, Message, identifier, member, read_message
from outhaul.protocols.sieve import Crowded, Sieve, crowded
from outhaul.records import (
    Activity,
    ActivityEnd,
    Event,
    Feedback,
    FeedbackStatus,
    Frame,
    Parsed,
    SessionEnd,
    SessionStart,
    Tag,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_PUSH: dict[str, FeedbackStatus] = {
    "Push Notification Received": "delivered",
    "Push Notification Tapped": "system-notification-actioned",
    "Push Notification Bounced": "dropped",
}
_NAME_LIMIT = 64
_OPENED = "Application Opened"
_LEFT = "Application Backgrounded"
_OF_A_CRASH = ("phone_model", "firmware_name", "firmware_version", "service_version")


class _Envelope(Struct, rename="camel"):
    """A batch, or a single message, with everything in it unread."""

    batch: list[Raw] | UnsetType = UNSET
    type: Raw | UnsetType = UNSET
    sent_at: Raw | UnsetType = UNSET


_read_envelope = msgspec.json.Decoder(_Envelope).decode


def skim(body: bytes) -> int:
    """How many messages the body holds, valid or not.

    Raises:
        Invalid: the body is not JSON, or neither a batch nor a message.
    """
    return len(_open(body)[0])


def parse(frame: Frame, names: Names = NAMES) -> Parsed:
    """The records of one request, in stored form, and those that break a rule; never raises.

    `names` say which tracked events are jobs, errors and crashes.
    """
    sieve = Sieve(frame.received_at)
    try:
        items, envelope = _open(frame.body)
    except Invalid as error:
        sieve.set_aside("malformed", error.message, text_of(frame.body))
        return sieve.parsed
    try:
        _sort(items, Batch(frame.received_at, _sent_at(envelope), names), sieve)
    except Crowded as error:
        return crowded(frame, error)
    return sieve.parsed


def _sort(items: list[Raw], batch: Batch, sieve: Sieve) -> None:
    tracker = Tracker(sieve)
    for item in items:
        try:
            message = read_message(item, batch)
            tracker.take(message)
            _TAKERS[message.type](message, sieve)
        except records.Invalid as error:
            sieve.set_aside(error.reason, error.detail, text_of(item))
        except RecursionError:
            sieve.set_aside("malformed", "nested too deeply", text_of(item))


def _open(body: bytes) -> tuple[list[Raw], _Envelope]:
    check_crowd(body)
    try:
        envelope = _read_envelope(body)
    except JSON_ERRORS:
        body = mend(body)
        try:
            envelope = _read_envelope(body)
        except JSON_ERRORS as error:
            raise Invalid(
                f"The body is not a Segment batch: {error}.",
                hint='Send a JSON object: {"batch": [...], "sentAt": ...}, or one message.',
            ) from None
    if envelope.batch is not UNSET:
        check_count(len(envelope.batch))
        return envelope.batch, envelope
    if envelope.type is not UNSET:
        return [Raw(body)], envelope
    raise Invalid(
        "The body is neither a Segment batch nor a message.",
        hint="Give the object a `batch`, or a `type`.",
    )


def _sent_at(envelope: _Envelope) -> Any:
    """What the sender's clock said, or none: messages are not to be lost for what stands beside them."""
    try:
        return None if envelope.sent_at is UNSET else read(envelope.sent_at)
    except JSON_ERRORS:
        return None


def _track(message: Message, sieve: Sieve) -> None:
    event, properties = message.item.get("event"), member(message.item, "properties")
    happening = Happening(
        name=event,
        properties=properties,
        time=message.time,
        shared=message.here(),
        device=partial(_of_a_crash, message),
    )
    record = meant(happening, message.names)
    if record is not None:
        sieve.keep(record, message.text)
    elif isinstance(event, str) and event in _PUSH:
        _push(message, event, properties, sieve)
    else:
        _event(message, event, properties, sieve)


def _of_a_crash(message: Message) -> dict[str, Any]:
    told = technicals(message)
    return {field: told[field] for field in _OF_A_CRASH}


def _event(message: Message, event: Any, properties: dict[str, Any], sieve: Sieve) -> None:
    if event is None:
        raise records.Invalid("field_missing", "a track message needs its event")
    # A session that the SDK names is not begun and ended by these.
    unnamed = message.session_id is None
    if event == _OPENED and unnamed:
        sieve.keep(SessionStart(**message.here(part="start"), timestamp=message.time), message.text)
    extras = keyed(properties) or None
    sieve.keep(Event(**message.here(), name=event, timestamp=message.time, extras=extras), message.text)
    if event == _LEFT:
        sieve.keep(ActivityEnd(**message.here(part="end"), timestamp=message.time), message.text)
        if unnamed:
            sieve.keep(SessionEnd(**message.here(part="over"), timestamp=message.time), message.text)


def _push(message: Message, event: str, properties: dict[str, Any], sieve: Sieve) -> None:
    campaign = properties.get("campaign") or message.context.get("campaign")
    name = campaign.get("name") if isinstance(campaign, dict) else None
    campaign_id = plain((campaign.get("id") or name) if isinstance(campaign, dict) else campaign)
    if not campaign_id:
        # It is nobody's feedback, but it happened.
        _event(message, event, properties, sieve)
        return
    feedback = Feedback(
        **message.shared(),
        timestamp=message.time,
        campaign_type="Announcement",
        campaign_id=campaign_id,
        campaign_name=name or None,
        status=_PUSH[event],
    )
    sieve.keep(feedback, message.text)


def _screen(message: Message, sieve: Sieve) -> None:
    properties = member(message.item, "properties")
    category = message.item.get("category")
    extras = keyed(_room({"category": category, **properties} if category else properties, message)) or None
    name = message.item.get("name") or properties.get("name") or category or _page(properties)
    if name is None:
        raise records.Invalid("field_missing", f"a {message.type} needs a name, a category or a path")
    record = Activity(**message.here(), name=name, start_time=message.time, extras=extras)
    sieve.keep(record, message.text)


def _room(properties: dict[str, Any], message: Message) -> dict[str, Any]:
    """The properties, without the longest of those that the SDK adds about the page where all are too much.

    Browser SDKs tell every page's address several times over, and a long one must not cost the page.
    """
    page = member(message.context, "page")
    added = [key for key, value in properties.items() if isinstance(value, str) and page.get(key) == value]
    added.sort(key=lambda key: len(properties[key]))
    while added and len(write(properties)) > records.EXTRAS_LIMIT:
        longest = added.pop()
        properties = {key: value for key, value in properties.items() if key != longest}
    return properties


def _page(properties: dict[str, Any]) -> Any:
    """What a page without a name is called: its path, or its title where the path is too long for a name."""
    path, title = properties.get("path"), properties.get("title")
    fits = isinstance(path, str) and len(path) <= _NAME_LIMIT
    return path if fits or not title else title


def _identify(message: Message, sieve: Sieve) -> None:
    user = {"userid": message.user_id} if message.user_id else {}
    # RudderStack's browser SDK tells them in the context only.
    traits = member(message.item, "traits") or member(message.context, "traits")
    _tags(message, flat(traits) | user, sieve)


def _group(message: Message, sieve: Sieve) -> None:
    group_id = identifier(message.item, "groupId")
    if group_id is None:
        raise records.Invalid("field_missing", "a group message needs its groupId")
    traits = {f"group_{key}": value for key, value in member(message.item, "traits").items()}
    _tags(message, flat(traits) | {"group": group_id}, sieve)


def _alias(message: Message, sieve: Sieve) -> None:
    if message.user_id is None:
        raise records.Invalid("field_missing", "an alias message needs its userId")
    _tags(message, {"userid": message.user_id}, sieve)


def _tags(message: Message, tags: dict[str, Any], sieve: Sieve) -> None:
    for key, value in tags.items():
        shared = message.shared(part=f"tag:{key}")
        # Only the trait is quoted if it is set aside: a message may have as many as it has bytes.
        sieve.keep(
            Tag(**shared, timestamp=message.time, key=key, value=plain(value)), partial(write, {key: value})
        )


_TAKERS: dict[str, Callable[[Message, Sieve], None]] = {
    "track": _track,
    "screen": _screen,
    "page": _screen,
    "identify": _identify,
    "group": _group,
    "alias": _alias,
}
