"""What the Azure Mobile Engagement Web SDK posts to `/log`: one XML document of elements, oldest first.

Times are told as `toffset`, ms before sending, so the device's clock does not matter; a request sent again
has grown offsets. Whose device it is stands in the request's credentials, not in the body.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import ParseError

from defusedxml.ElementTree import fromstring, tostring
from msgspec import Struct

from outhaul import records
from outhaul.errors import Invalid
from outhaul.protocols.json_text import JSON_ERRORS, mend, plain, read, text_of
from outhaul.protocols.sieve import Crowded, Sieve, crowded
from outhaul.records import (
    Activity,
    ActivityEnd,
    CampaignType,
    Crash,
    Device,
    Error,
    Event,
    Feedback,
    Frame,
    Heartbeat,
    Job,
    JobEnd,
    Location,
    Parsed,
    Reason,
    Record,
    SessionEnd,
    SessionStart,
    Tag,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from xml.etree.ElementTree import Element

SDK_NAME = "azure-engagement-web"

_OURS = "{urn:ubikod:ermin:0}"
_GEOLOC = "{http://jabber.org/protocol/geoloc}"
_DEPTH = 8
_TAG_LIMIT = 100_000
_DIGITS = 15
_APP_INFO_LIMIT = 1024
_SAME_WITHIN = 10_000
"""Sent again, an element arrives with an offset a little off: made ids do not see less than this, in ms."""

_CAMPAIGN_TYPES: dict[str, CampaignType] = {
    "announcement": "Announcement",
    "datapush": "DataPush",
    "poll": "Poll",
}
_INFO_TEXTS = {
    "phoneModel": "phone_model",
    "phoneManufacturer": "phone_manufacturer",
    "firmwareName": "firmware_name",
    "firmwareVersion": "firmware_version",
    "carrierCountry": "carrier_country",
    "carrierName": "carrier_name",
    "networkType": "network_type",
    "networkSubtype": "network_subtype",
    "locale": "locale",
    "applicationVersionName": "application_version_name",
    "serviceVersion": "service_version",
}
_INFO_NUMBERS = {
    "androidAPILevel": "android_api_level",
    "applicationVersionCode": "application_version_code",
    "timeZoneOffset": "time_zone_offset",
}


class _Said(Struct):
    """One element of a log, and when it happened, in ms UTC."""

    element: Element
    device_id: str
    received_at: int
    time: int

    def get(self, attribute: str) -> str | None:
        return self.element.get(attribute) or None

    def need(self, attribute: str) -> str:
        value = self.get(attribute)
        if value is None:
            raise records.Invalid("field_missing", f"{attribute} is required")
        return value

    def shared(self, own_id: str | None = None) -> dict[str, Any]:
        """The fields every record has; an element without an id gets one made from what it says."""
        return {"device_id": self.device_id, "id": own_id or self.get("id") or self.made_id()}

    def in_session(self) -> dict[str, Any]:
        return {**self.shared(), "session_id": self.get("sid"), "info_id": self.get("infoid")}

    def extras(self) -> dict[str, Any] | None:
        child = self.element.find(f"{_OURS}x")
        if child is None or not child.text:
            return None
        return _json_object(child.text, "extras_invalid") or None

    def made_id(self) -> str:
        told = sorted((key, value) for key, value in self.element.items() if key not in {"toffset", "repost"})
        content = (self.device_id, self.element.tag, told, [*self.element.itertext()])
        when = round(self.time / _SAME_WITHIN)
        return hashlib.md5(repr((content, when)).encode(), usedforsecurity=False).hexdigest()

    def text(self) -> str:
        said: str = tostring(self.element, encoding="unicode")
        return said


def skim(body: bytes) -> int:
    """How many elements the log holds, valid or not.

    Raises:
        Invalid: the body is not XML, declares a document type, or is not a log.
    """
    return len(_open(body))


def parse(frame: Frame) -> Parsed:
    """The records of one request, in stored form, and those that break a rule; never raises."""
    sieve = Sieve(frame.received_at)
    parsed = sieve.parsed
    parsed.sdk_name = SDK_NAME
    try:
        log = _open(frame.body)
    except Invalid as error:
        sieve.set_aside("malformed", error.message, text_of(frame.body))
        return parsed
    if not frame.device_id:
        sieve.set_aside("field_missing", "the credentials name no device", text_of(frame.body))
        return parsed
    try:
        _sort(log, frame.device_id, frame.received_at, sieve)
    except Crowded as error:
        return crowded(frame, error)
    devices = (record for record in parsed.records if isinstance(record, Device))
    parsed.sdk_version = next((device.service_version for device in devices if device.service_version), None)
    return parsed


def _sort(log: Element, device_id: str, received_at: int, sieve: Sieve) -> None:
    for element in log:
        said = _Said(element, device_id, received_at, received_at)
        try:
            said.time -= _offset(said)
            for record in _reader(said)(said):
                sieve.keep(record, said.text)
        except records.Invalid as error:
            sieve.set_aside(error.reason, error.detail, said.text())


def _open(body: bytes) -> Element:
    if body.count(b"<") > _TAG_LIMIT:
        raise Invalid(f"The log holds over {_TAG_LIMIT} tags.", hint="Send fewer elements at a time.")
    try:
        log: Element = fromstring(body, forbid_dtd=True)
    except (ParseError, ValueError, LookupError) as error:
        raise Invalid(f"The body is not XML: {error}.", hint="Send one log element, in UTF-8.") from None
    if log.tag != f"{_OURS}log":
        raise Invalid("The document is not a log.", hint="Send <log xmlns='urn:ubikod:ermin:0'>.")
    level = [log]
    for _ in range(_DEPTH):
        level = [child for element in level for child in element]
    if level:
        raise Invalid(f"The log is nested more than {_DEPTH} deep.", hint="Send elements as the SDK does.")
    return log


def _offset(said: _Said) -> int:
    offset = said.get("toffset") or "0"
    if not (offset.isascii() and offset.isdecimal() and len(offset) <= _DIGITS):
        raise records.Invalid("field_invalid", f"toffset {offset[:80]!r} is not a number of ms")
    return int(offset)


def _reader(said: _Said) -> Callable[[_Said], Iterator[Record]]:
    reader = _READERS.get(said.element.tag)
    if reader is None:
        raise records.Invalid("not_supported", f"there is no element {said.element.tag[:80]!r}")
    return reader


def _json_object(text: str, reason: Reason) -> dict[str, Any]:
    try:
        value = read(mend(text.encode()))
    except JSON_ERRORS as error:
        raise records.Invalid(reason, f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise records.Invalid(reason, "not a JSON object")
    return value


def _info(said: _Said) -> Iterator[Record]:
    told = _json_object(said.element.text or "{}", "field_invalid")
    fields: dict[str, Any] = {own: plain(told[name]) for name, own in _INFO_TEXTS.items() if name in told}
    fields |= {own: _number(told.get(name)) for name, own in _INFO_NUMBERS.items()}
    yield Device(**said.shared(), info_id=said.get("infoid"), timestamp=said.time, **fields)


def _number(value: Any) -> Any:
    """A number sent as text is a number; anything else is left for the record's own limits to judge."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= _DIGITS:
        return int(value)
    return value


def _start_session(said: _Said) -> Iterator[Record]:
    yield SessionStart(
        **said.in_session() | {"id": f"{said.need('sid')}:start"},
        timestamp=said.time,
        location_id=said.get("locid"),
    )


def _end_session(said: _Said) -> Iterator[Record]:
    yield SessionEnd(**said.in_session() | {"id": f"{said.need('sid')}:end"}, timestamp=said.time)


def _activity(said: _Said) -> Iterator[Record]:
    activity = Activity(
        **said.in_session(), name=said.need("name"), start_time=said.time, extras=said.extras()
    )
    yield activity
    if said.get("repost") == "true":
        alive = {**said.in_session(), "id": f"{activity.id}:{said.received_at}"}
        yield Heartbeat(**alive, timestamp=said.received_at)


def _idle(said: _Said) -> Iterator[Record]:
    yield ActivityEnd(**said.in_session(), timestamp=said.time)


def _happened(said: _Said) -> dict[str, Any]:
    job_id = said.get("jobid")
    return {
        **said.in_session(),
        "name": said.need("name"),
        "timestamp": said.time,
        "job_id": job_id,
        "standalone": job_id is None and said.get("sid") is None,
        "extras": said.extras(),
    }


def _event(said: _Said) -> Iterator[Record]:
    yield Event(**_happened(said))


def _error(said: _Said) -> Iterator[Record]:
    yield Error(**_happened(said))


def _start_job(said: _Said) -> Iterator[Record]:
    yield Job(
        **said.shared(said.need("jobid")),
        session_id=said.get("sid"),
        info_id=said.get("infoid"),
        name=said.need("name"),
        start_time=said.time,
        extras=said.extras(),
    )


def _end_job(said: _Said) -> Iterator[Record]:
    job_id = said.need("jobid")
    yield JobEnd(**said.shared(f"{job_id}:end"), job_id=job_id, timestamp=said.time)


def _crash(said: _Said) -> Iterator[Record]:
    yield Crash(
        **said.in_session(),
        type=said.need("crashid"),
        timestamp=said.time,
        standalone=said.get("sid") is None,
        stack_trace=said.element.text or None,
    )


def _location(said: _Said) -> Iterator[Record]:
    area: dict[str, Any] = {
        part: said.element.findtext(f"{_GEOLOC}geoloc/{_GEOLOC}{part}") or None
        for part in ("countrycode", "region", "locality")
    }
    yield Location(**said.shared(), timestamp=said.time, location_id=said.get("locid"), **area)


def _app_info(said: _Said) -> Iterator[Record]:
    text = said.element.text or "{}"
    if len(text) > _APP_INFO_LIMIT:
        raise records.Invalid(
            "tag_invalid", f"tags take {len(text)} characters; the limit is {_APP_INFO_LIMIT}"
        )
    own_id = said.shared()["id"]
    for key, value in _json_object(text, "tag_invalid").items():
        yield Tag(**said.shared(f"{own_id}:{key}"), timestamp=said.time, key=key, value=plain(value))


def _reach(said: _Said) -> Iterator[Record]:
    kind = said.need("kind")
    campaign_type = _CAMPAIGN_TYPES.get(kind.lower())
    if campaign_type is None:
        raise records.Invalid("not_supported", f"there is no campaign kind {kind[:80]!r}")
    status: Any = said.need("status")
    if status == "replied":
        # What polls report where announcements say that the user acted on the content.
        status = "content-actioned"
    text = said.element.text
    answers = _answers(text) if text and campaign_type == "Poll" else None
    yield Feedback(
        **said.shared(),
        timestamp=said.time,
        campaign_type=campaign_type,
        campaign_id=said.need("contentid"),
        status=status,
        answers=answers,
    )
    if text and campaign_type == "Poll" and answers is None:
        raise records.Invalid("field_invalid", "the answers are not a JSON object of strings")


def _answers(text: str) -> dict[str, str] | None:
    try:
        answers = _json_object(text, "field_invalid")
    except records.Invalid:
        return None
    return answers if all(isinstance(value, str) for value in answers.values()) else None


_READERS: dict[str, Callable[[_Said], Iterator[Record]]] = {
    f"{_OURS}{name}": reader
    for name, reader in {
        "info": _info,
        "startSession": _start_session,
        "activity": _activity,
        "idle": _idle,
        "endSession": _end_session,
        "event": _event,
        "error": _error,
        "startJob": _start_job,
        "endJob": _end_job,
        "crash": _crash,
        "location": _location,
        "appInfo": _app_info,
        "reach": _reach,
    }.items()
}
