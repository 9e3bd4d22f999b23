"""Outhaul's own protocol (`protocols.native`)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from outhaul.collect.requests import Answer, Endpoint, Request, json_answer
from outhaul.errors import Busy, Forbidden, Invalid, TooLarge, Unauthenticated
from outhaul.inflate import inflate
from outhaul.protocols.dialects import DIALECTS
from outhaul.records import Frame

if TYPE_CHECKING:
    from outhaul.collect.intake import Intake
    from outhaul.ledger.ledger import App

_STATUSES = {Unauthenticated: 401, Forbidden: 403, TooLarge: 413, Invalid: 400, Busy: 503}


async def _take(intake: Intake, request: Request) -> Answer:
    app = await intake.apps.admit(request.bearer)
    count = await intake.look(request, DIALECTS["native"].skim)
    if b"check=true" in request.query.split(b"&"):
        return await asyncio.to_thread(_check, intake, app, request)
    await intake.store(app, "native", request)
    return Answer(202, b'{"received":%d}' % count)


def _check(intake: Intake, app: App, request: Request) -> Answer:
    """What would become of a batch, without keeping any of it."""
    body = inflate(request.body, request.encoding, intake.max_inflated)
    frame = Frame(app_id=app.app_id, protocol="native", received_at=intake.now(), body=body)
    parsed = DIALECTS["native"].parse(frame)
    rejected = [{"reason": reject.reason, "detail": reject.detail} for reject in parsed.rejects]
    return json_answer({"accepted": len(parsed.records), "rejected": rejected})


ENDPOINTS = (Endpoint("/api/v1/collect", ("POST",), _take, _STATUSES),)
