"""The raw ASGI app that every device knocks at.

For each request: find the endpoint, read the body up to a limit, hand it to its dialect, answer. An answer decides what
a device does with its queue, and every SDK decides differently. So each dialect has its own statuses: to SDKs
other than our own, a client error means "throw it away" or "stop", which must never be the answer while an app is
merely not registered yet.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from outhaul.collect import azme_web, countly, native, posthog, rudder, segment
from outhaul.collect.intake import Intake
from outhaul.collect.requests import Answer, Endpoint, Request, error_body, refusal
from outhaul.errors import OuthaulError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from outhaul.collect.apps import Apps
    from outhaul.config import Config
    from outhaul.journal import Journal

    Message = MutableMapping[str, Any]

_DRAIN_FACTOR = 8
"""How many times the limit is read, and thrown away, before answering that a body is too large: a device
whose sending is cut off does not see the answer, and sends it all again."""

_JSON = (b"content-type", b"application/json")
_EXPOSED = (b"access-control-expose-headers", b"retry-after")
_MAX_AGE = (b"access-control-max-age", b"86400")
# Named one by one: a wildcard does not cover Authorization (Fetch standard, CORS protocol). What else is asked about is
# allowed too: SDKs have headers of their own for what they send again, and would keep it to themselves for ever.
_ALLOWED = b"authorization, content-type, content-encoding, anonymousid, sentat, x-retry-count"
_is_list = re.compile(rb"[A-Za-z0-9_-]+(?:, ?[A-Za-z0-9_-]+)*").fullmatch

ENDPOINTS: tuple[Endpoint, ...] = (
    *native.ENDPOINTS,
    *segment.ENDPOINTS,
    *rudder.ENDPOINTS,
    *azme_web.ENDPOINTS,
    *countly.ENDPOINTS,
    *posthog.ENDPOINTS,
)
"""Everything that devices ask for, of all dialects."""


class Collect:
    """The ASGI app. `now` gives ms since 1970 UTC; `public_url` is the URL that devices reach the server by, if set."""

    def __init__(self, journal: Journal, apps: Apps, config: Config, now: Callable[[], int]) -> None:
        self._intake = Intake(journal, apps, config, now)
        self._max_body = config.max_body_bytes
        self._public_url = config.public_url.rstrip("/")

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        headers = dict(scope["headers"])
        found = _find(scope["path"])
        method = scope["method"]
        if found is None:
            answer = Answer(404, error_body("not_found", "There is nothing at this path."))
        elif method == "OPTIONS":
            methods = ", ".join((*found[0], "OPTIONS")).encode()
            let = (b"access-control-allow-headers", _let(headers))
            answer = Answer(204, b"", ((b"access-control-allow-methods", methods), let, _MAX_AGE))
        elif method not in found[0]:
            allowed = ", ".join((*found[0], "OPTIONS"))
            message = f"This path takes {allowed}, not {method}."
            answer = Answer(405, error_body("method_not_allowed", message), ((b"allow", allowed.encode()),))
        else:
            read = await self._read(receive)
            if read is None:
                return
            endpoint = found[0][method]
            request = Request(headers, scope["query_string"], *read, found[1], self._base(scope, headers))
            try:
                answer = await endpoint.take(self._intake, request)
            except OuthaulError as error:
                answer = refusal(error, endpoint)
        start = {"type": "http.response.start", "status": answer.status, "headers": _headers(answer, headers)}
        await send(start)
        await send({"type": "http.response.body", "body": answer.body})

    def _base(self, scope: Message, headers: dict[bytes, bytes]) -> str:
        if self._public_url:
            return self._public_url
        return f"{scope.get('scheme', 'http')}://{headers.get(b'host', b'').decode('latin-1')}"

    async def _read(self, receive: Callable[[], Awaitable[Message]]) -> tuple[bytes, bool] | None:
        """The body and whether it is all of it; none if the device has hung up."""
        message = await receive()
        body: bytes = message.get("body", b"")
        if message["type"] == "http.request" and not message.get("more_body") and len(body) <= self._max_body:
            return body, True
        pieces, size = [body], len(body)
        while message.get("more_body") and size <= self._max_body * _DRAIN_FACTOR:
            message = await receive()
            piece = message.get("body", b"")
            # Whatever the pieces are cut like, the beginning is kept whole.
            pieces.append(piece[: max(0, self._max_body - size)])
            size += len(piece)
        if message["type"] != "http.request":
            return None
        return b"".join(pieces), size <= self._max_body


def serves(path: str) -> bool:
    """Whether a path is one that devices ask for."""
    return _find(path) is not None


_Methods = dict[str, Endpoint]


def _table() -> tuple[dict[str, _Methods], list[tuple[list[str], _Methods]]]:
    """Endpoints by method by path: paths as they are, and those with values in them."""
    plain: dict[str, _Methods] = {}
    patterns: dict[str, _Methods] = {}
    for endpoint in ENDPOINTS:
        where = patterns if "{" in endpoint.path else plain
        where.setdefault(endpoint.path, {}).update(dict.fromkeys(endpoint.methods, endpoint))
    return plain, [(path.split("/"), methods) for path, methods in patterns.items()]


_PLAIN, _PATTERNS = _table()


def _find(path: str) -> tuple[_Methods, dict[str, str]] | None:
    """What serves a path, by method, and the values in the path."""
    methods = _PLAIN.get(path) or _PLAIN.get(path.removesuffix("/"))
    if methods is not None:
        return methods, {}
    segments = path.removesuffix("/").split("/")
    for template, of_pattern in _PATTERNS:
        names = _match(template, segments)
        if names is not None:
            return of_pattern, names
    return None


def _match(template: list[str], segments: list[str]) -> dict[str, str] | None:
    if len(template) != len(segments):
        return None
    names = {}
    for expected, given in zip(template, segments, strict=True):
        if expected.startswith("{"):
            names[expected.strip("{}")] = given
        elif expected != given:
            return None
    return names


def _let(sent: dict[bytes, bytes]) -> bytes:
    """Names of headers that a page may send: those it asks about too, where they are names."""
    asked = sent.get(b"access-control-request-headers", b"")
    return b"%s, %s" % (_ALLOWED, asked) if _is_list(asked) else _ALLOWED


def _headers(answer: Answer, sent: dict[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    named = any(name == b"content-type" for name, _ in answer.headers)
    headers = [_JSON, *answer.headers] if answer.body and not named else [*answer.headers]
    origin = sent.get(b"origin")
    if origin is not None:
        headers += ((b"access-control-allow-origin", origin), (b"vary", b"origin"), _EXPOSED)
    return headers
