"""The dialect of Segment's SDKs (`protocols.segment`), and of RudderStack's where it is the same.

Every SDK decides by the status what becomes of its queue. The settings it asks for first say where it sends, so they
name this server for whatever key is asked about: one that is not known yet may be in a minute.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from outhaul.collect.requests import Answer, Endpoint, Request, json_answer
from outhaul.errors import Busy, Invalid, TooLarge, Unauthenticated
from outhaul.protocols.dialects import DIALECTS
from outhaul.protocols.json_text import JSON_ERRORS, mend

if TYPE_CHECKING:
    from outhaul.collect.intake import Intake

# 400 is the only client error on which every Segment SDK lets go of a batch; others keep or lose it at will.
STATUSES = {Unauthenticated: 503, TooLarge: 400, Invalid: 400, Busy: 503}
TYPES = {
    "track": "t",
    "identify": "i",
    "page": "p",
    "screen": "s",
    "group": "g",
    "alias": "a",
}
"""Types of messages that have a path of their own, and its short form."""

_DONE = Answer(200, b'{"success":true}')


class _Envelope(Struct, rename="camel"):
    write_key: Any = None
    type: Raw | UnsetType = UNSET
    batch: Raw | UnsetType = UNSET


_read_envelope = msgspec.json.Decoder(_Envelope).decode


async def take(intake: Intake, request: Request, *, kind: str = "") -> Answer:
    """Store a batch or a message; one that leaves its type to the path is of this kind."""
    skim = DIALECTS["segment"].skim

    def look(body: bytes) -> tuple[str, bytes | None]:
        key, typed = request.basic_user, None
        if kind or not key:
            envelope = _envelope(body)
            # The mobile SDKs send no header: their key is in the body only. A browser that leaves sends neither.
            key = key or _text(envelope.write_key) or _in_query(request.query)
            if kind and envelope.type is UNSET and envelope.batch is UNSET:
                body = typed = _with_type(body, kind)
        skim(body)
        return key, typed

    key, typed = await intake.look(request, look)
    app = await intake.apps.find(key)
    await intake.store(app, "segment", request, body=typed)
    return _DONE


async def settings(_intake: Intake, request: Request) -> Answer:
    """What an SDK is to know before it sends: that it is to send here, and nothing to anyone else.

    None of what they would report about themselves: left to its defaults, the browser SDK sends it to its maker every half
    minute, and the one for Apple's devices whenever something fails. `httpConfig` has them wait as long as they are asked to.
    """
    base = request.base
    if request.header(b"x-forwarded-proto") == "https":
        # A proxy in front of us has the certificate, and a secure page may not send to any other address.
        base = base.replace("http://", "https://", 1)
    protocol, _, host = base.partition("://")
    segment = {
        "apiKey": request.names["key"],
        "apiHost": f"{host}/v1",
        "protocol": protocol,
        "unbundledIntegrations": [],
        "addBundledMetadata": True,
        "httpConfig": {"rateLimitConfig": {"enabled": True}, "backoffConfig": {"enabled": True}},
    }
    rest: dict[str, Any] = {"plan": {}, "edgeFunction": {}, "middlewareSettings": {}}
    metrics = {"sampleRate": 0, "host": f"{host}/v1"}
    return json_answer({"integrations": {"Segment.io": segment}, "metrics": metrics, **rest})


async def swallow(_intake: Intake, _request: Request) -> Answer:
    """What SDKs report about themselves; nobody reads it."""
    return _DONE


def _envelope(body: bytes) -> _Envelope:
    for text in (body, mend(body)):
        try:
            return _read_envelope(text)
        except JSON_ERRORS:
            continue
    # What it is not, skimming says.
    return _Envelope()


def _with_type(body: bytes, kind: str) -> bytes:
    """A message with its type, which the HTTP API of Segment lets the path say."""
    opening, brace, rest = body.partition(b"{")
    comma = b"" if rest.lstrip().startswith(b"}") else b","
    return opening + brace + b'"type":"%s"' % kind.encode() + comma + rest if brace else body


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _in_query(query: bytes) -> str:
    return parse_qs(query.decode("latin-1")).get("writeKey", [""])[0]


ENDPOINTS = (
    *(Endpoint(f"/v1/{path}", ("POST",), take, STATUSES) for path in ("batch", "b", "import")),
    *(
        Endpoint(f"/v1/{path}", ("POST",), partial(take, kind=kind), STATUSES)
        for kind, short in TYPES.items()
        for path in (kind, short)
    ),
    Endpoint("/v1/m", ("POST",), swallow, STATUSES),
    Endpoint("/v1/projects/{key}/settings", ("GET",), settings, STATUSES),
    Endpoint("/projects/{key}/settings", ("GET",), settings, STATUSES),
)
