"""Events and crashes of Countly's SDKs. Some events are views, feedback on pushes, or things that took time."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from outhaul import records
from outhaul.protocols.countly_request import Request, identifier, millis, number, particular
from outhaul.protocols.keyed import keyed
from outhaul.protocols.room import filled
from outhaul.records import (
    Activity,
    ActivityEnd,
    Crash,
    Error,
    Event,
    Feedback,
    Job,
    Record,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_VIEW = "[CLY]_view"
_PUSH_ACTION = "[CLY]_push_action"
_NAME_LIMIT = 64
_TYPE_LIMIT = 255
_has_class = re.compile(r"([A-Za-z_$][\w.$]*): ?(.*)", re.DOTALL | re.ASCII).fullmatch


def event(request: Request, position: int, told: Any) -> Record:
    """The record that an event amounts to; `position` is its place in the request.

    Raises:
        records.Invalid: it lacks what it needs.
    """
    if not isinstance(told, dict):
        raise records.Invalid("malformed", "an event is a JSON object")
    key = told.get("key")
    if not isinstance(key, str):
        raise records.Invalid("field_missing", "key is required")
    stamp = told.get("timestamp")
    time = request.time if stamp in (None, "") else millis(stamp, "timestamp")
    own_id = told.get("id")
    shared = request.here(str(position))
    if own_id not in (None, ""):
        shared["id"] = identifier(own_id, "id")
    segments = told.get("segmentation")
    if segments is None:
        segments = {}
    if not isinstance(segments, dict):
        raise records.Invalid("extras_invalid", "segmentation is not a JSON object")
    seconds = number(told.get("dur")) or 0
    if key == _VIEW:
        return _view(shared, time, seconds, segments)
    if key == _PUSH_ACTION:
        return _push_action(request.shared(str(position)) | {"id": shared["id"]}, time, segments)
    extras = _extras(told, segments)
    if seconds > 0:
        start, end = _span(request, time, round(seconds * 1000))
        return Job(**shared, name=key, start_time=start, end_time=end, extras=extras)
    return Event(**shared, name=key, timestamp=time, extras=extras)


def _view(shared: dict[str, Any], time: int, seconds: float, segments: dict[str, Any]) -> Record:
    if particular(segments.get("visit")) in (None, "0"):
        # Start and end of a view have the same id.
        return ActivityEnd(**shared | {"id": f"{shared['id'][:200]}:end:{time}"}, timestamp=time)
    kept = {name: value for name, value in segments.items() if name not in {"name", "visit"}}
    return Activity(
        **shared,
        name=identifier(segments.get("name"), "name"),
        start_time=time,
        end_time=time + round(seconds * 1000) if seconds > 0 else None,
        extras=keyed(kept) or None,
    )


def _push_action(shared: dict[str, Any], time: int, segments: dict[str, Any]) -> Record:
    return Feedback(
        **shared,
        timestamp=time,
        campaign_type="Announcement",
        campaign_id=identifier(segments.get("i"), "i"),
        status="system-notification-actioned",
    )


def _extras(told: dict[str, Any], segments: dict[str, Any]) -> dict[str, Any] | None:
    extras = keyed(segments)
    for name, usual in (("count", 1), ("sum", 0)):
        value = told.get(name)
        if value is not None and value != usual:
            extras[name if name not in extras else f"event_{name}"] = value
    return extras or None


def _span(request: Request, time: int, duration: int) -> tuple[int, int]:
    """When it began and ended: the Android SDK stamps what took time with its beginning, all others with its end.

    Source: `endEventInternal` of countly-sdk-android; `end_event` of countly-sdk-web and countly-sdk-nodejs.
    """
    if "android" in (request.sdk_name or "").lower():
        return time, time + duration
    return time - duration, time


def crash(request: Request) -> Iterator[Record]:
    """A crash, or an error where the app went on."""
    told = request.object("crash")
    stack = told.get("_error")
    if not isinstance(stack, str):
        raise records.Invalid("field_missing", "_error is required")
    first = stack.strip().partition("\n")[0].strip()
    found = _has_class(first)
    kind = particular(told.get("_name")) or (found[1] if found else first) or "unknown"
    if told.get("_nonfatal") in (True, "true", 1, "1"):
        message = found[2] if found else ""
        extras = _error_extras(told, message, stack)
        shared = request.here("error")
        yield Error(**shared, name=kind[:_NAME_LIMIT], timestamp=request.time, extras=extras or None)
        return
    yield Crash(
        **request.here("crash"),
        type=kind[:_TYPE_LIMIT],
        timestamp=request.time,
        stack_trace=stack,
        phone_model=particular(told.get("_device")),
        firmware_name=particular(told.get("_os")),
        firmware_version=particular(told.get("_os_version")),
        service_version=request.sdk_version,
    )


def _error_extras(told: dict[str, Any], message: str, stack: str) -> dict[str, Any]:
    """What was told with an error; of its message and stack as much as there is room for."""
    custom = told.get("_custom")
    extras = keyed(custom) if isinstance(custom, dict) else {}
    return filled(filled(extras, "message", message), "stack", stack)
