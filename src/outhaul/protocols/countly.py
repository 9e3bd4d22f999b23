"""What Countly's SDKs send to `/i`: sessions, views, events, crashes, user details and push tokens, as parameters.

A request says one thing or several, all of one device. It has no id, so the ids of its records are made from all that it
says; it carries a time that no other request of the device has. Sessions have no ids either: landing tells them apart
(`land.unnamed`).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from outhaul import records
from outhaul.errors import Invalid
from outhaul.protocols.countly_device import device, location, push_token
from outhaul.protocols.countly_event import crash, event
from outhaul.protocols.countly_request import (
    Request,
    identifier,
    millis,
    open_form,
    particular,
    read_request,
)
from outhaul.protocols.countly_user import attribution, merge, user_details
from outhaul.protocols.json_text import ITEM_LIMIT, text_of, write
from outhaul.protocols.keyed import keyed
from outhaul.protocols.sieve import Crowded, Sieve, crowded
from outhaul.records import Frame, Heartbeat, Job, Parsed, Record, SessionEnd, SessionStart

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def skim(body: bytes) -> int:
    """How many parameters the request has.

    Raises:
        Invalid: it is not a form.
    """
    return len(open_form(body))


def parse(frame: Frame) -> Parsed:
    """The records of one request, in stored form, and those that break a rule; never raises."""
    sieve = Sieve(frame.received_at)
    try:
        params = open_form(frame.body)
    except Invalid as error:
        sieve.set_aside("malformed", error.message, text_of(frame.body))
        return sieve.parsed
    try:
        if "requests" in params:
            _bulk(params, frame.received_at, sieve)
        else:
            _one(params, frame.received_at, sieve)
    except Crowded as error:
        return crowded(frame, error)
    return sieve.parsed


def parse_unproven(frame: Frame) -> Parsed:
    """The whole request set aside: its checksum is not what the app's salt makes of it."""
    sieve = Sieve(frame.received_at)
    try:
        open_form(frame.body)
    except Invalid as error:
        sieve.set_aside("malformed", error.message, text_of(frame.body))
    else:
        sieve.set_aside("field_invalid", "checksum256 is missing or wrong", text_of(frame.body))
    return sieve.parsed


def _bulk(params: dict[str, str], received_at: int, sieve: Sieve) -> None:
    envelope = Request({"requests": params["requests"]}, "", "", 0, None, None, None)
    try:
        requests = envelope.array("requests")
    except records.Invalid as error:
        sieve.set_aside(error.reason, error.detail, params["requests"])
        return
    if len(requests) > ITEM_LIMIT:
        sieve.set_aside("not_supported", f"there are over {ITEM_LIMIT} requests", params["requests"])
        return
    for request in requests:
        if not isinstance(request, dict):
            sieve.set_aside("malformed", "a request is a JSON object", write(request))
        elif particular(request.get("app_key")) not in {None, params.get("app_key")}:
            sieve.set_aside("field_invalid", "app_key is that of another app", write(request))
        else:
            _one(request, received_at, sieve)


def _one(params: dict[str, Any], received_at: int, sieve: Sieve) -> None:
    try:
        request = read_request(params, received_at)
    except records.Invalid as error:
        sieve.set_aside(error.reason, error.detail, write(params))
        return
    parsed = sieve.parsed
    if parsed.sdk_name is None:
        parsed.sdk_name, parsed.sdk_version = request.sdk_name, request.sdk_version
    for names, reader in _READERS:
        if any(map(request.has, names)):
            _read(request, names, reader, sieve)
    if request.has("events"):
        _events(request, sieve)
    if request.has("end_session"):
        ended = SessionEnd(**request.here("end"), timestamp=request.time)
        sieve.keep(ended, partial(request.sent, "end_session"))


def _read(
    request: Request,
    names: tuple[str, ...],
    reader: Callable[[Request], Iterator[Record]],
    sieve: Sieve,
) -> None:
    raw = partial(request.sent, *names)
    try:
        for record in reader(request):
            sieve.keep(record, raw)
    except records.Invalid as error:
        sieve.set_aside(error.reason, error.detail, raw())


def _events(request: Request, sieve: Sieve) -> None:
    try:
        events = request.array("events")
    except records.Invalid as error:
        sieve.set_aside(error.reason, error.detail, request.sent("events"))
        return
    for position, told in enumerate(events):
        try:
            sieve.keep(event(request, position, told), partial(write, told))
        except records.Invalid as error:
            sieve.set_aside(error.reason, error.detail, write(told))


def _begin(request: Request) -> Iterator[Record]:
    yield SessionStart(**request.here("begin"), timestamp=request.time)


def _duration(request: Request) -> Iterator[Record]:
    if not request.has("end_session"):
        yield Heartbeat(**request.here("alive"), timestamp=request.time)


def _trace(request: Request) -> Iterator[Record]:
    """A performance trace takes time, as a job does."""
    trace = request.object("apm")
    metrics, attributes = trace.get("apm_metrics"), trace.get("apm_attr")
    told: dict[str, Any] = {"type": trace.get("type")} if "type" in trace else {}
    for more in (metrics, attributes):
        if isinstance(more, dict):
            told |= more
    yield Job(
        **request.here("trace"),
        name=identifier(trace.get("name"), "name"),
        start_time=millis(trace.get("stz"), "stz"),
        end_time=millis(trace.get("etz"), "etz"),
        extras=keyed(told) or None,
    )


_READERS: tuple[tuple[tuple[str, ...], Callable[[Request], Iterator[Record]]], ...] = (
    (("metrics", "av"), device),
    (("city", "country_code"), location),
    (("begin_session",), _begin),
    (("session_duration",), _duration),
    (("old_device_id",), merge),
    (("user_details",), user_details),
    (("campaign_id", "campaign_user"), attribution),
    (("crash",), crash),
    (("apm",), _trace),
    (("token_session",), push_token),
)
"""What is read when a request has one of the parameters named."""
