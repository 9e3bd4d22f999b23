"""The dialect of Segment's SDKs (`protocols.segment`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from outhaul.collect.requests import Answer, Endpoint, Request
from outhaul.errors import Busy, Invalid, TooLarge, Unauthenticated
from outhaul.protocols.dialects import DIALECTS
from outhaul.protocols.json_text import JSON_ERRORS, mend

if TYPE_CHECKING:
    from outhaul.collect.intake import Intake

# 400 is the only client error on which every Segment SDK lets go of a batch; others keep or lose it at will.
_STATUSES = {Unauthenticated: 503, TooLarge: 400, Invalid: 400, Busy: 503}


class _WriteKey(Struct, rename="camel"):
    write_key: Any = None


_read_write_key = msgspec.json.Decoder(_WriteKey).decode


async def _take(intake: Intake, request: Request) -> Answer:
    key = request.basic_user
    skim = DIALECTS["segment"].skim

    def look(body: bytes) -> str:
        skim(body)
        # The mobile SDKs send no header: their key is in the body only.
        return key or _write_key(body)

    app = await intake.apps.find(await intake.look(request, look))
    await intake.store(app, "segment", request)
    return Answer(200, b'{"success":true}')


def _write_key(body: bytes) -> str:
    try:
        found = _read_write_key(body)
    except JSON_ERRORS:
        try:
            found = _read_write_key(mend(body))
        except JSON_ERRORS:
            return ""
    return found.write_key if isinstance(found.write_key, str) else ""


ENDPOINTS = (Endpoint("/v1/batch", ("POST",), _take, _STATUSES),)
