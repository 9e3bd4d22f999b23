"""The dialect of Countly's SDKs (`protocols.countly`).

They take one answer for success, and repeat whatever got another for ever, with everything else waiting behind it. So
all that can be stored is answered alike, and what cannot be understood is set aside when it lands.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from outhaul.collect.intake import KEPT_BYTES
from outhaul.collect.requests import Answer, Endpoint, Request
from outhaul.errors import Busy, Invalid, TooLarge, Unauthenticated
from outhaul.protocols.countly_form import key_in, read_form

if TYPE_CHECKING:
    from outhaul.collect.intake import Intake

_STATUSES = {Unauthenticated: 503, Busy: 503}
_SUCCESS = Answer(200, b'{"result":"Success"}')
_CUT = b"\0"
"""At the end of what is kept of a body that cannot be read: no form holds it, so that landing sets it aside."""


async def _take(intake: Intake, request: Request) -> Answer:
    try:
        form = await intake.look(request, partial(read_form, request.query))
    except (Invalid, TooLarge):
        app = await intake.apps.find(key_in(request.query, request.body))
        start = b"&".join(part for part in (request.query, request.body) if part)[:KEPT_BYTES]
        await intake.store(app, "countly", request, body=start + _CUT)
        return _SUCCESS
    app = await intake.apps.find(form.app_key)
    proven = app.countly_salt is None or form.is_signed_with(app.countly_salt)
    await intake.store(app, "countly" if proven else "countly_unproven", request, body=form.text)
    return _SUCCESS


async def _ask(_intake: Intake, _request: Request) -> Answer:
    """No settings, no remote configuration, no widgets, nothing to show: those are not for this server to give."""
    return Answer(200, b'{"result":[]}' if b"method=feedback" in _request.query + _request.body else b"{}")


ENDPOINTS = (
    *(Endpoint(path, ("GET", "POST"), _take, _STATUSES) for path in ("/i", "/i/bulk")),
    *(Endpoint(path, ("GET", "POST"), _ask, _STATUSES) for path in ("/o/sdk", "/o/sdk/content")),
)
