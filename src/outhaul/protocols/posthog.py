"""PostHog: events with properties, some of which mean more than that something happened.

Facts about the wire are from PostHog's documentation of its capture API and from what its SDKs send: the device's
particulars repeated in every event under names with `$`, the user's properties in `$set` and `$set_once`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from outhaul import records
from outhaul.errors import Invalid
from outhaul.protocols.conventions import NAMES, Happening, Names, meant
from outhaul.protocols.json_text import plain, text_of, write
from outhaul.protocols.keyed import keyed
from outhaul.protocols.posthog_body import open_bag
from outhaul.protocols.posthog_context import Tracker, of_a_crash
from outhaul.protocols.posthog_event import Batch, Item, read_item, skew
from outhaul.protocols.posthog_exception import exception
from outhaul.protocols.segment_message import identifier, member, particular
from outhaul.protocols.sieve import Crowded, Sieve, crowded
from outhaul.records import Activity, ActivityEnd, Event, Feedback, Frame, Parsed, Tag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from msgspec import Raw

    from outhaul.records import Record, TagOp

NOT_KEPT = frozenset(
    {
        "$groupidentify",
        "$feature_flag_called",
        "$snapshot",
        "$snapshot_items",
        "$performance_event",
        "$heatmap",
        "$$heatmap",
    }
)
"""Events that have no place here: what they tell is not kept, which the documentation says."""

# What the SDK itself tells of an event, as far as it is about the event: the rest is about the device, or too long.
_TOLD = ("$event_type", "$el_text", "$survey_", "$notification_", "$selected_content", "$copy_type")
_NAME_LIMIT = 64


class _Change(NamedTuple):
    """What is done with a tag; `part` tells its record apart from others that the event implies."""

    key: str
    value: Any
    op: TagOp = "set"
    part: str = ""


def skim(body: bytes) -> int:
    """How many events the body holds, valid or not.

    Raises:
        Invalid: the body holds no events in any of the forms there are.
    """
    return len(open_bag(body).events)


def parse(frame: Frame, names: Names = NAMES) -> Parsed:
    """The records of one request, in stored form, and those that break a rule; never raises.

    `names` say which events are jobs, errors and crashes.
    """
    sieve = Sieve(frame.received_at)
    try:
        bag = open_bag(frame.body)
    except Invalid as error:
        sieve.set_aside("malformed", error.message, text_of(frame.body))
        return sieve.parsed
    batch = Batch(frame.received_at, skew(bag.sent_at, frame.received_at), names, _sdk(frame.user_agent))
    sieve.parsed.sdk_name, sieve.parsed.sdk_version = batch.sdk
    try:
        _sort(bag.events, batch, sieve)
    except Crowded as error:
        return crowded(frame, error)
    return sieve.parsed


def _sdk(user_agent: str) -> tuple[str | None, str | None]:
    """Name and version of an SDK that names itself where browsers do."""
    name, _, version = user_agent.partition(" ")[0].partition("/")
    return (name, version or None) if name.startswith("posthog-") else (None, None)


def _sort(events: list[Raw], batch: Batch, sieve: Sieve) -> None:
    tracker = Tracker(sieve)
    for raw in events:
        try:
            event = read_item(raw, batch)
            if sieve.parsed.sdk_name is None:
                sieve.parsed.sdk_name = particular(event.properties.get("$lib"))
                sieve.parsed.sdk_version = particular(event.properties.get("$lib_version"))
            if event.name in NOT_KEPT:
                continue
            tracker.take(event)
            _TAKERS.get(event.name, _other)(event, batch, sieve)
            _tags(event, sieve)
        except records.Invalid as error:
            sieve.set_aside(error.reason, error.detail, text_of(raw))
        except RecursionError:
            sieve.set_aside("malformed", "nested too deeply", text_of(raw))


def _other(event: Item, batch: Batch, sieve: Sieve) -> None:
    happening = Happening(
        name=event.name,
        properties=event.own(),
        time=event.time,
        shared=event.within(),
        device=lambda: of_a_crash(event),
    )
    record: Record | None = meant(happening, batch.names)
    if record is None:
        record = Event(**event.within(), name=event.name, timestamp=event.time, extras=_extras(event))
    sieve.keep(record, event.text)


def _backgrounded(event: Item, batch: Batch, sieve: Sieve) -> None:
    _other(event, batch, sieve)
    _left(event, batch, sieve, part="end")


def _screen(event: Item, _batch: Batch, sieve: Sieve) -> None:
    name = event.properties.get("$screen_name")
    if name is None:
        raise records.Invalid("field_missing", "a screen needs its $screen_name")
    extras = keyed(event.own()) or None
    sieve.keep(Activity(**event.within(), name=name, start_time=event.time, extras=extras), event.text)


def _page(event: Item, _batch: Batch, sieve: Sieve) -> None:
    told = [event.properties.get(key) for key in ("$pathname", "title", "$current_url")]
    names = [name for name in told if isinstance(name, str) and name]
    if not names:
        raise records.Invalid("field_missing", "a page needs a $pathname, a title or a $current_url")
    # Paths are what pages are compared by, but a long one cannot be a name.
    name = next((name for name in names if len(name) <= _NAME_LIMIT), names[0])
    extras = keyed(event.own()) or None
    sieve.keep(Activity(**event.within(), name=name, start_time=event.time, extras=extras), event.text)


def _left(event: Item, _batch: Batch, sieve: Sieve, part: str = "") -> None:
    sieve.keep(ActivityEnd(**event.within(part), timestamp=event.time), event.text)


def _exception(event: Item, _batch: Batch, sieve: Sieve) -> None:
    sieve.keep(exception(event), event.text)


def _opened(event: Item, batch: Batch, sieve: Sieve) -> None:
    campaign_id = particular(event.properties.get("$notification_campaign_id"))
    if campaign_id is None:
        # It is nobody's feedback, but it happened.
        _other(event, batch, sieve)
        return
    feedback = Feedback(
        **event.shared(),
        timestamp=event.time,
        campaign_type="Announcement",
        campaign_id=campaign_id,
        campaign_name=particular(event.properties.get("$notification_campaign_name")),
        status="system-notification-actioned",
    )
    sieve.keep(feedback, event.text)


def _identify(event: Item, _batch: Batch, sieve: Sieve) -> None:
    if event.user_id is None:
        raise records.Invalid("field_missing", "an identification needs its distinct_id")
    for device, part in _devices(event):
        _keep_tag(event, device, _Change("userid", event.user_id, part=part), sieve)


def _alias(event: Item, _batch: Batch, sieve: Sieve) -> None:
    alias = identifier(event.properties, "alias")
    if alias is None:
        raise records.Invalid("field_missing", "an alias event needs its alias")
    # Both ids are one user's. Servers name the user in `alias`; an app that has named its user just adds an id.
    user = alias if event.of_server or event.user_id is None else event.user_id
    for device, part in ((event.device_id, ""), (alias, "alias:")):
        _keep_tag(event, device, _Change("userid", user, part=part), sieve, user_id=user)


def _person(_event: Item, _batch: Batch, _sieve: Sieve) -> None:
    """Nothing but what it changes of the user's properties, which every event may."""


def _tags(event: Item, sieve: Sieve) -> None:
    for change in _changes(event):
        for device, part in _devices(event):
            _keep_tag(event, device, change._replace(part=part + change.part), sieve)


def _changes(event: Item) -> Iterator[_Change]:
    """How the event changes the user's properties."""

    def told(key: str) -> dict[str, Any]:
        both = {**member(event.item, key), **member(event.properties, key)}
        return keyed({_tag_name(name): value for name, value in both.items()})

    for name, value in told("$set_once").items():
        if value is not None:
            yield _Change(name, value, "once", "once:")
    for name, value in told("$set").items():
        yield _Change(name, value)
    removed = event.properties.get("$unset") or event.item.get("$unset")
    gone = [name for name in removed if isinstance(name, str)] if isinstance(removed, list) else []
    for name in keyed({_tag_name(name): None for name in gone}):
        yield _Change(name, None, part="unset:")


def _tag_name(name: str) -> str:
    """A property's name as a tag's: without the SDK's own `$`, and never the tag that says who the user is."""
    name = name.removeprefix("$")
    return "t_userid" if name == "userid" else name


def _devices(event: Item) -> list[tuple[str, str]]:
    """The devices that the event's user is the user of, and what to tell their records apart by.

    Apps without a `$device_id` name the device after the user once that is known, so what is told
    at that moment is told of both.
    """
    own = (event.device_id, "")
    names_both = event.name == "$identify" and event.properties.get("$device_id") is None
    if names_both and event.distinct_id not in {None, event.device_id}:
        return [own, (str(event.distinct_id), "user:")]
    return [own]


def _keep_tag(event: Item, device: str, change: _Change, sieve: Sieve, *, user_id: str | None = None) -> None:
    key, value, op, part = change
    shared = event.shared(f"{part}tag:{key}") | {"device_id": device}
    shared["user_id"] = user_id or event.user_id
    tag = Tag(**shared, timestamp=event.time, key=key, value=plain(value), op=op)
    # Only the property is quoted if it is set aside: an event may have as many as it has bytes.
    sieve.keep(tag, lambda: write({key: value}))


def _extras(event: Item) -> dict[str, Any] | None:
    told = {
        key.removeprefix("$"): value
        for key, value in event.properties.items()
        if key.startswith(_TOLD) and value is not None
    }
    return keyed(told | event.own()) or None


_TAKERS: dict[str, Callable[[Item, Batch, Sieve], None]] = {
    "$screen": _screen,
    "$pageview": _page,
    "$pageleave": _left,
    "$exception": _exception,
    "$push_notification_opened": _opened,
    "$identify": _identify,
    "$create_alias": _alias,
    "$merge_dangerously": _alias,
    "$set": _person,
    "$set_once": _person,
    "$unset": _person,
    "Application Backgrounded": _backgrounded,
}
