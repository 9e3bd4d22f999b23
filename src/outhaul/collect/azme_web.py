"""The dialect of the Azure Mobile Engagement Web SDK (`protocols.azme_web`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outhaul.collect.intake import KEPT_BYTES
from outhaul.collect.requests import Answer, Endpoint, Request
from outhaul.errors import Busy, Invalid, TooLarge, Unauthenticated
from outhaul.keys import read_basic

if TYPE_CHECKING:
    from outhaul.collect.intake import Intake

# Any client error silences this SDK until the page is loaded again, so bodies are never refused, only set aside.
_STATUSES = {Unauthenticated: 503, Busy: 503}


async def _take(intake: Intake, request: Request) -> Answer:
    user, key = read_basic(request.header(b"authorization"))
    # A device id may itself hold dots, an app id never does.
    device_id, _, app_id = user.rpartition(".")
    app = await intake.apps.find(key)
    if app.app_id != app_id or not device_id:
        raise Unauthenticated(
            "The SDK key is not that of the app named.", hint="Check the connection string."
        )
    try:
        await intake.look(request, len)
    except (Invalid, TooLarge):
        # It could not be retried to any use; cut short it cannot be read, so landing sets it aside.
        await intake.store(app, "azme_web", request, device_id, body=request.body[:KEPT_BYTES])
    else:
        await intake.store(app, "azme_web", request, device_id)
    return Answer(200, b"{}")


async def _country(_intake: Intake, _request: Request) -> Answer:
    """No country: where a device is, is not looked up from its address."""
    return Answer(200, b'{"countryCode":""}')


ENDPOINTS = (
    Endpoint("/log", ("POST",), _take, _STATUSES),
    Endpoint("/ip-to-country", ("GET",), _country, _STATUSES),
)
