"""Exceptions as PostHog's SDKs tell them: an error if the app went on, a crash if it did not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from outhaul.protocols.json_text import plain
from outhaul.protocols.keyed import keyed
from outhaul.protocols.posthog_context import of_a_crash
from outhaul.protocols.room import filled
from outhaul.protocols.segment_message import member, particular
from outhaul.records import Crash, Error

if TYPE_CHECKING:
    from outhaul.protocols.posthog_event import Item

_FRAMES_LIMIT = 200
"""Calls of one exception that are written out: a stack that overflowed repeats itself."""
# On these the innermost call comes last, as they send it; it is written first.
_REVERSED = ("python", "web", "node", "hermes", "ruby", "php")


def exception(event: Item) -> Crash | Error:
    """A `Crash` if nothing handled the exception or it is said to be fatal, else an `Error`.

    The class of the exception is the error's name and the crash's type. An error has the message and the stack among
    its extras, as far as there is room; a crash has both in its stack trace.
    """
    told = _exceptions(event.properties)
    kind = particular(told[0].get("type")) if told else None
    message = plain(told[0].get("value")) if told else None
    trace = _trace(told, event.properties)
    fatal = event.properties.get("$exception_level") == "fatal"
    if fatal or any(member(one, "mechanism").get("handled") is False for one in told):
        return Crash(
            **event.within(),
            type=kind or "Error",
            timestamp=event.time,
            stack_trace=trace or None,
            **of_a_crash(event),
        )
    extras = filled(filled(keyed(event.own()), "message", message or ""), "stack", _calls(told))
    return Error(**event.within(), name=kind or "Error", timestamp=event.time, extras=extras or None)


def _exceptions(properties: dict[str, Any]) -> list[dict[str, Any]]:
    """What was thrown, then what caused it."""
    told = properties.get("$exception_list")
    if isinstance(told, list):
        found = [one for one in told if isinstance(one, dict)]
        if found:
            return found
    # Older SDKs tell one exception only.
    single = {"type": properties.get("$exception_type"), "value": properties.get("$exception_message")}
    return [single] if any(single.values()) else []


def _trace(told: list[dict[str, Any]], properties: dict[str, Any]) -> str:
    raw = properties.get("$exception_stack_trace_raw")
    if isinstance(raw, str):
        return raw
    lines: list[str] = []
    for one in told:
        kind, message = particular(one.get("type")) or "Error", plain(one.get("value"))
        lines.append(("Caused by: " if lines else "") + (f"{kind}: {message}" if message else kind))
        calls = _frames(one)
        lines += [f"    at {_place(frame)}" for frame in calls[:_FRAMES_LIMIT]]
        if len(calls) > _FRAMES_LIMIT:
            lines.append(f"    ... {len(calls) - _FRAMES_LIMIT} more")
    return "\n".join(lines)


def _calls(told: list[dict[str, Any]]) -> str:
    """Where the exception came from, without what caused it."""
    frames = _frames(told[0])[:_FRAMES_LIMIT] if told else []
    return "\n".join(f"at {_place(frame)}" for frame in frames)


def _frames(one: dict[str, Any]) -> list[dict[str, Any]]:
    """The calls that led to an exception, the innermost first."""
    told = member(one, "stacktrace").get("frames")
    frames = [frame for frame in told if isinstance(frame, dict)] if isinstance(told, list) else []
    platform = particular(frames[0].get("platform")) if frames else None
    if platform is not None and platform.startswith(_REVERSED):
        frames.reverse()
    return frames


def _place(frame: dict[str, Any]) -> str:
    module, function = particular(frame.get("module")), particular(frame.get("function"))
    if frame.get("platform") == "java":
        function = ".".join(part for part in (module, function) if part)
    function = function or particular(frame.get("instruction_addr")) or "?"
    file = particular(frame.get("filename")) or particular(frame.get("package"))
    numbers = (particular(frame.get("lineno")), particular(frame.get("colno")))
    place = ":".join(part for part in (file, *numbers) if part)
    return f"{function} ({place})" if place else function
