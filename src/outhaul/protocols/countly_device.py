"""What Countly's SDKs tell of the device itself: what it is, roughly where, and how it is reached by push."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from outhaul import records
from outhaul.protocols.countly_request import Request, number, particular
from outhaul.records import Device, Location, Record, Token

if TYPE_CHECKING:
    from collections.abc import Iterator

    from outhaul.records import TokenService

_METRICS = {
    "phone_model": ("_device",),
    "phone_manufacturer": ("_manufacturer",),
    # A web page knows its browser; what runs below it, in few browsers only.
    "firmware_name": ("_os", "_browser"),
    "firmware_version": ("_os_version", "_browser_version"),
    "carrier_name": ("_carrier",),
    "locale": ("_locale",),
}
_SANDBOX = {"1"}
"""Values of `test_mode` that mean Apple's sandbox: a build run by its developer. 2 is a test build that is not."""
_is_installation_id = re.compile(r"[A-Za-z0-9_-]{22}").fullmatch
"""Ids of Firebase installations are that short; registration tokens are far longer."""
_OFFSET_LIMIT = 24 * 60


def device(request: Request) -> Iterator[Record]:
    """The technical facts, if there are any besides the versions, which every request has."""
    metrics = request.object("metrics") if request.has("metrics") else {}
    if not {name for name in metrics if metrics[name] not in (None, "")} - {"_ua", "_app_version"}:
        return
    fields: dict[str, Any] = {}
    if "_os" in metrics:
        metrics = {name: value for name, value in metrics.items() if not name.startswith("_browser")}
    for field, names in _METRICS.items():
        fields[field] = next((found for name in names if (found := particular(metrics.get(name)))), None)
    yield Device(
        **request.shared("device"),
        timestamp=request.time,
        service_version=request.sdk_version,
        time_zone_offset=_offset(request),
        **fields,
    )


def location(request: Request) -> Iterator[Record]:
    """Where the device is, as an area; coordinates and addresses are not kept."""
    yield Location(
        **request.shared("location"),
        timestamp=request.time,
        countrycode=request.text("country_code"),
        locality=request.text("city"),
    )


def push_token(request: Request) -> Iterator[Record]:
    """The push token, and whether the user lets pushes be shown: an empty token says no.

    Raises:
        records.Invalid: there is no token that is known of.
    """
    known = [name for name in ("android_token", "ios_token") if name in request.params]
    if not known:
        raise records.Invalid("field_missing", "android_token or ios_token is required")
    token = request.text(known[0])
    yield Device(
        **request.shared("push"),
        timestamp=request.time,
        locale=request.text("locale"),
        service_version=request.sdk_version,
        native_push_enabled=token is not None,
    )
    if token is not None:
        service = _service(request, known[0], token)
        yield Token(**request.shared("token"), timestamp=request.time, token=token, service=service)


def _service(request: Request, name: str, token: str) -> TokenService:
    if name == "ios_token":
        return "apnsDev" if request.text("test_mode") in _SANDBOX else "apns"
    if (request.text("token_provider") or "").upper() == "HMS":
        return "hms"
    return "fcmFid" if _is_installation_id(token) else "gcm"


def _offset(request: Request) -> int | None:
    minutes = number(request.params.get("tz"))
    return None if minutes is None or abs(minutes) > _OFFSET_LIMIT else round(minutes)
