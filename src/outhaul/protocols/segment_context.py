"""What a Segment message says about the device besides what happened: technicals, push token, place, session."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from outhaul.protocols import rudder
from outhaul.protocols.json_text import plain, write
from outhaul.protocols.segment_message import member, particular
from outhaul.protocols.segment_tokens import service_of
from outhaul.records import Device, Location, SessionStart, Token

if TYPE_CHECKING:
    from outhaul.protocols.segment_message import Message
    from outhaul.protocols.sieve import Sieve

_VERSION_CODE_DIGITS = 18
_BROWSER_LIBRARIES = ("analytics.js", "RudderLabs JavaScript SDK")


class Tracker:
    """Takes the context of each message in turn, and tells only what changed since the device's last one.

    SDKs repeat the whole context in every message; a batch of one device tells it once.
    """

    def __init__(self, sieve: Sieve) -> None:
        self._sieve = sieve
        self._told: dict[tuple[str, str], str] = {}

    def take(self, message: Message) -> None:
        """Keep a `Device`, a `Token`, a `Location` and a `SessionStart` where the message brings news."""
        library = member(message.context, "library")
        parsed = self._sieve.parsed
        if parsed.sdk_name is None:
            parsed.sdk_name = particular(library.get("name"))
            parsed.sdk_version = particular(library.get("version"))
        self._device(message)
        self._token(message)
        self._location(message)
        self._session(message)

    def _is_news(self, message: Message, part: str, content: Any) -> bool:
        key, told = (message.device_id, part), write(content)
        if self._told.get(key) == told:
            return False
        self._told[key] = told
        return True

    def _device(self, message: Message) -> None:
        fields = technicals(message)
        version = message.application_version_name
        # The library alone is no news about a device: servers send it too, for devices they never saw.
        tells = version is not None or any(v is not None for k, v in fields.items() if k != "service_version")
        if tells and self._is_news(message, "device", [version, fields]):
            record = Device(**message.shared(part="device"), timestamp=message.time, **fields)
            self._sieve.keep(record, lambda: write({"context": message.context}))

    def _token(self, message: Message) -> None:
        device = member(message.context, "device")
        token = plain(device.get("token") or None)
        system = particular(member(message.context, "os").get("name")) or _platform(message.context)
        if token is None or not self._is_news(message, "token", [token, device.get("type"), system]):
            return
        service = service_of(device, system)
        if service is None:
            self._sieve.set_aside(
                "not_supported",
                "neither context.device.type nor tokenKind says which push service the token is for",
                write({"context": {"device": device}}),
            )
            return
        record = Token(**message.shared(part="token"), timestamp=message.time, token=token, service=service)
        self._sieve.keep(record, lambda: write({"context": {"device": device}}))

    def _location(self, message: Message) -> None:
        place = member(message.context, "location")
        area: dict[str, Any] = {
            "countrycode": particular(place.get("country")),
            "region": particular(place.get("region")),
            "locality": particular(place.get("city")),
        }
        if any(area.values()) and self._is_news(message, "location", area):
            record = Location(**message.shared(part="location"), timestamp=message.time, **area)
            self._sieve.keep(record, lambda: write({"context": {"location": place}}))

    def _session(self, message: Message) -> None:
        starts = message.session_id is not None and rudder.starts_session(message.context)
        if starts and self._is_news(message, "session", message.session_id):
            record = SessionStart(**message.here(part="session"), timestamp=message.time)
            self._sieve.keep(record, lambda: write({"context": message.context}))


def technicals(message: Message) -> dict[str, Any]:
    """The fields of a `Device` record that the context tells, none where it does not."""
    context = message.context
    device, network = member(context, "device"), member(context, "network")
    system = member(context, "os")
    return {
        "phone_model": particular(device.get("model")),
        "phone_manufacturer": particular(device.get("manufacturer")),
        "firmware_name": particular(system.get("name")),
        "firmware_version": particular(system.get("version")),
        "carrier_name": particular(network.get("carrier")),
        "network_type": _network_type(network),
        "locale": particular(context.get("locale")),
        "application_version_code": _version_code(rudder.app_of(member(context, "app")).get("build")),
        "time_zone_offset": _zone_offset(context.get("timezone"), message.time),
        "service_version": particular(member(context, "library").get("version")),
    }


def _platform(context: dict[str, Any]) -> str:
    """`web` where the message is from an SDK for browsers, which name no system; else nothing."""
    return "web" if member(context, "library").get("name") in _BROWSER_LIBRARIES else ""


def _network_type(network: dict[str, Any]) -> str | None:
    if network.get("wifi") is True:
        return "wifi"
    return "mobile" if network.get("cellular") is True else None


def _version_code(build: Any) -> int | None:
    digits = particular(build) or ""
    whole = digits.isascii() and digits.isdecimal() and len(digits) <= _VERSION_CODE_DIGITS
    return int(digits) if whole else None


def _zone_offset(zone: Any, time: int) -> int | None:
    """Minutes from UTC of a zone named as in the IANA database, at that time; or written as an offset."""
    if not isinstance(zone, str) or not zone:
        return None
    told = rudder.offset_of(zone)
    if told is not None:
        return told
    try:
        offset = datetime.fromtimestamp(time / 1000, UTC).astimezone(ZoneInfo(zone)).utcoffset()
    except (KeyError, ValueError, OSError):
        return None
    return None if offset is None else int(offset.total_seconds()) // 60
