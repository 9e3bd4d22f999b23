"""Jobs, errors and crashes in protocols that have none: events that go by agreed names.

An app that sends to such a protocol names an event `Job Started`, and it becomes a job. The names are data, so that
what is agreed can differ; `NAMES` are those that hold unless a parser is given others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from outhaul.protocols.json_text import plain
from outhaul.protocols.keyed import keyed
from outhaul.records import Crash, Error, Invalid, Job, JobEnd

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_NOT_OF_AN_END = ("session_id", "info_id", "standalone")
_LONGEST_S = 366 * 24 * 3600


class Names(Struct, frozen=True, kw_only=True):
    """Which names of events mean what; an event may go by any one of each."""

    job_started: frozenset[str] = frozenset({"Job Started"})
    job_ended: frozenset[str] = frozenset({"Job Ended"})
    error: frozenset[str] = frozenset({"Error"})
    crash: frozenset[str] = frozenset({"Application Crashed"})


NAMES = Names()
"""The names that hold where nobody has agreed on others; documented in docs/protocols.md."""


class Happening(Struct, kw_only=True):
    """An event as a protocol tells it.

    `time` is ms UTC. `shared` are the fields of the record that is to be made which do not depend on its kind, its `id`
    among them. `device` gives those of a `Crash` about the device: `phone_model`, `firmware_name`, `firmware_version`
    and `service_version`, as far as known; it is asked only if there is one.
    """

    name: Any
    properties: dict[str, Any]
    time: int
    shared: Mapping[str, Any]
    device: Callable[[], Mapping[str, Any]] = dict


def meant(event: Happening, names: Names = NAMES) -> Job | JobEnd | Error | Crash | None:
    """What an event means by its name: none if it is just an event.

    - a start with a `job_id` is a job, named `job_name`, else `name`
    - an end with a `job_id` ends it; one without, but with a `duration` in seconds, is a whole job that ends there
    - an error is named `name`, else as the event is
    - a crash is of `type`, else `name`, with the text in `stack_trace`, `stackTrace` or `stack`

    Raises:
        Invalid: it is a job without a name.
    """
    name = event.name
    if not isinstance(name, str):
        return None
    if name in names.job_started or name in names.job_ended:
        return _job(event, starts=name in names.job_started)
    if name in names.error:
        extras = keyed(event.properties) or None
        given = event.properties.get("name") or name
        return Error(**event.shared, name=given, timestamp=event.time, extras=extras)
    if name in names.crash:
        return _crash(event)
    return None


def _job(event: Happening, *, starts: bool) -> Job | JobEnd | None:
    properties = event.properties
    job_id = plain(properties.get("job_id")) or None
    duration = None if starts or job_id else _seconds(properties.get("duration"))
    if starts and job_id:
        shared = {**event.shared, "id": job_id}
        extras = _without(properties, "job_id", "job_name")
        return Job(**shared, name=_job_name(properties), start_time=event.time, extras=extras)
    if duration is not None:
        return Job(
            **event.shared,
            name=_job_name(properties),
            start_time=event.time - duration,
            end_time=event.time,
            extras=_without(properties, "job_id", "job_name", "duration"),
        )
    if job_id and not starts:
        shared = {key: value for key, value in event.shared.items() if key not in _NOT_OF_AN_END}
        return JobEnd(**shared, job_id=job_id, timestamp=event.time)
    return None


def _seconds(value: Any) -> int | None:
    """Seconds in ms; none if it is no number, or no length of a job."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= _LONGEST_S:
        return None
    return round(value * 1000)


def _job_name(properties: dict[str, Any]) -> Any:
    name = properties.get("job_name") or properties.get("name")
    if name is None:
        raise Invalid("field_missing", "a job needs a job_name, or a name")
    return name


def _without(properties: dict[str, Any], *told: str) -> dict[str, Any] | None:
    """The rest as extras: what the record's own fields tell is not told twice."""
    return keyed({key: value for key, value in properties.items() if key not in told}) or None


def _crash(event: Happening) -> Crash:
    properties = event.properties
    stack = properties.get("stack_trace") or properties.get("stackTrace") or properties.get("stack")
    return Crash(
        **event.shared,
        type=plain(properties.get("type") or properties.get("name")) or event.name,
        timestamp=event.time,
        stack_trace=plain(stack),
        **event.device(),
    )
