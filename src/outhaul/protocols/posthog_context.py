"""What PostHog's SDKs say with every event besides what happened: the device, and when its session began."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from outhaul.protocols.device_facts import network_type, version_code, zone_offset
from outhaul.protocols.json_text import write
from outhaul.protocols.posthog_event import fitted
from outhaul.protocols.segment_message import particular
from outhaul.records import Device, SessionStart

if TYPE_CHECKING:
    from outhaul.protocols.posthog_event import Item
    from outhaul.protocols.sieve import Sieve

_OF_A_CRASH = ("phone_model", "firmware_name", "firmware_version", "service_version")


class Tracker:
    """Takes what comes with each event in turn, and tells only what changed since the device's last one.

    SDKs repeat all of it in every event; a batch of one device tells it once.
    """

    def __init__(self, sieve: Sieve) -> None:
        self._sieve = sieve
        self._told: dict[str, str] = {}
        self._sessions: set[tuple[str, str]] = set()

    def take(self, event: Item) -> None:
        """Keep a `Device` record where the event brings news, and a `SessionStart` for each session."""
        if event.of_server:
            return
        fields = technicals(event)
        version = event.application_version_name
        tells = version is not None or any(v is not None for k, v in fields.items() if k != "service_version")
        told = write([version, fields])
        if tells and self._told.get(event.device_id) != told:
            self._told[event.device_id] = told
            record = Device(**event.shared("device"), timestamp=event.time, **fields)
            self._sieve.keep(record, event.text)
        self._session(event)

    def _session(self, event: Item) -> None:
        if event.session_id is None or event.session_began is None:
            return
        which = (event.device_id, event.session_id)
        if which in self._sessions:
            return
        self._sessions.add(which)
        # Every batch of a session tells it: the same id each time has it stored once.
        shared = {**event.within(), "id": fitted(f"{event.session_id}:start:{event.device_id}")}
        self._sieve.keep(SessionStart(**shared, timestamp=event.session_began), event.text)


def technicals(event: Item) -> dict[str, Any]:
    """The fields of a `Device` record that the event's properties tell, none where they do not."""
    told = event.properties
    return {
        "phone_model": particular(told.get("$device_model")),
        "phone_manufacturer": particular(told.get("$device_manufacturer")),
        "firmware_name": particular(told.get("$os_name")) or particular(told.get("$os")),
        "firmware_version": particular(told.get("$os_version")),
        "carrier_name": particular(told.get("$network_carrier")),
        "network_type": network_type(wifi=told.get("$network_wifi"), cellular=told.get("$network_cellular")),
        "locale": particular(told.get("$locale")) or particular(told.get("$browser_language")),
        "application_version_code": version_code(particular(told.get("$app_build"))),
        "time_zone_offset": zone_offset(told.get("$timezone"), event.time),
        "service_version": particular(told.get("$lib_version")),
    }


def of_a_crash(event: Item) -> dict[str, Any]:
    """The fields of a `Crash` that the event's properties tell about the device."""
    if event.of_server:
        return {}
    told = technicals(event)
    return {name: told[name] for name in _OF_A_CRASH}
