"""Device → journal: one raw ASGI app that every device knocks at.

For each request: read the body up to a limit, find out whose it is, look whether it can be read at all,
then append it to the journal, and only after that acknowledge it. What it says is read later, when it is landed.

An answer decides what a device does with its queue, and every SDK decides differently. So each dialect has its
own statuses: to SDKs other than our own, a client error means "throw it away" or "stop", which must never be
the answer while an app is merely not registered yet.
"""

from __future__ import annotations

import asyncio
import math
import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from outhaul.errors import Busy, Forbidden, Invalid, OuthaulError, TooLarge, Unauthenticated
from outhaul.inflate import Encoding, inflate, sniff
from outhaul.journal import Header
from outhaul.keys import read_basic
from outhaul.ledger.access import TOKEN_PREFIX
from outhaul.ledger.bearers import Bearers
from outhaul.protocols.dialects import DIALECTS
from outhaul.protocols.json_text import JSON_ERRORS, mend
from outhaul.records import Frame

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from outhaul.config import Config
    from outhaul.journal import Journal
    from outhaul.ledger.ledger import App, Ledger

    Message = MutableMapping[str, Any]

Seen = TypeVar("Seen")

RETRY_AFTER_S = 30
"""What a device that is refused for now is asked to wait."""
KEPT_BYTES = 64 * 1024
"""What is kept of a body that is too large or does not inflate, where its dialect has it kept."""

_RELOAD_S = 1.0
_BELIEVED_S = 5.0
_AT_ONCE_BYTES = 1024 * 1024
"""A body inflated to more than this is looked at in a thread, so that other devices need not wait for it."""
_DRAIN_FACTOR = 8
"""How many times the limit is read, and thrown away, before answering that a body is too large: a device
whose sending is cut off does not see the answer, and sends it all again."""
_USER_AGENT_BYTES = 512


class Apps:
    """Whose key is whose, in memory.

    A key that is not known makes it look into the ledger, at most once per second, so that an app just made
    on the command line is known at once. One that is known is believed for five seconds: by then it is noticed that
    its app was disabled. `clock` gives seconds that never go back, `now` ms since 1970 UTC.
    """

    def __init__(
        self,
        ledger: Ledger,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._bearers = Bearers(ledger, now)
        self._known: dict[str, App] = {}
        self._by_id: dict[str, App] = {}
        self._loaded_at = -math.inf
        self._loading: asyncio.Task[None] | None = None
        self._trouble = False

    async def find(self, sdk_key: str) -> App:
        """The app that has this key, and is not disabled.

        Raises:
            Unauthenticated: none has.
            Busy: the ledger could not be asked.
        """
        if sdk_key not in self._known or self._is_old():
            await self._reload()
        app = self._known.get(sdk_key)
        if app is not None and app.disabled_at is None:
            return app
        if app is None and self._trouble:
            raise Busy("Keys cannot be checked now.", hint="Send again later.")
        raise Unauthenticated(
            "No app that is enabled has this SDK key.",
            hint="Check the key, or register the app with `outhaul apps create`.",
        )

    async def admit(self, bearer: str) -> App:
        """The app that has this SDK key, or that an API token is for which may send data.

        Raises:
            Unauthenticated: none has, or it is disabled, or the token is good no more.
            Forbidden: the token lacks the scope, or is for no one app.
            Busy: the ledger could not be asked.
        """
        if not bearer.startswith(TOKEN_PREFIX):
            return await self.find(bearer)
        token = await self._bearers.find(bearer)
        if "data:write" not in token.scopes:
            raise Forbidden("The token lacks the scope data:write.", hint="Use one that has it.")
        if token.app_id is None:
            raise Forbidden("The token is for all apps: whose data is it?", hint="Use one for the app.")
        if token.app_id not in self._by_id or self._is_old():
            await self._reload()
        app = self._by_id.get(token.app_id)
        if app is None:
            raise Busy("The token's app cannot be looked up now.", hint="Send again later.")
        if app.disabled_at is not None:
            raise Unauthenticated(
                "The token's app is disabled.", hint="Enable it with `outhaul apps enable`."
            )
        return app

    def look_again(self) -> None:
        """Believe nothing any more: apps have just changed."""
        self._loaded_at = -math.inf

    def _is_old(self) -> bool:
        return self._clock() - self._loaded_at >= _BELIEVED_S

    async def _reload(self) -> None:
        if self._loading is None:
            now = self._clock()
            if now - self._loaded_at < _RELOAD_S:
                return
            self._loaded_at = now
            self._loading = asyncio.create_task(self._load())
        # A device that hangs up must not take along the others that wait for the same look.
        await asyncio.shield(self._loading)

    async def _load(self) -> None:
        try:
            apps = await asyncio.to_thread(self._ledger.apps)
            self._known = {app.sdk_key: app for app in apps}
            self._by_id = {app.app_id: app for app in apps}
            self._trouble = False
        except Exception:  # noqa: BLE001  whatever ails the ledger, the answer to devices is to come back
            self._trouble = True
        finally:
            self._loading = None


class Answer(NamedTuple):
    """An HTTP answer; the body is JSON."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


class _Request(NamedTuple):
    """What arrived. `body` is its start only, unless it is `whole`: there was more than the limit."""

    headers: dict[bytes, bytes]
    query: bytes
    body: bytes
    whole: bool


class _WriteKey(Struct, rename="camel"):
    write_key: Any = None


_encode = msgspec.json.Encoder().encode
_read_write_key = msgspec.json.Decoder(_WriteKey).decode

_JSON = (b"content-type", b"application/json")
_RETRY_AFTER = (b"retry-after", b"%d" % RETRY_AFTER_S)
_CHALLENGE = (b"www-authenticate", b"Bearer")
_EXPOSED = (b"access-control-expose-headers", b"retry-after")
_PREFLIGHT = (
    (b"access-control-allow-methods", b"GET, POST, OPTIONS"),
    # Named one by one: a wildcard does not cover Authorization (Fetch standard, CORS protocol).
    (
        b"access-control-allow-headers",
        b"authorization, content-type, content-encoding, anonymousid, x-retry-count",
    ),
    (b"access-control-max-age", b"86400"),
)

_NATIVE_STATUS = {Unauthenticated: 401, Forbidden: 403, TooLarge: 413, Invalid: 400, Busy: 503}
# 400 is the only client error on which every Segment SDK lets go of a batch; others keep or lose it at will.
_SEGMENT_STATUS = {Unauthenticated: 503, TooLarge: 400, Invalid: 400, Busy: 503}
# Any client error silences this SDK until the page is loaded again, so bodies are never refused, only set aside.
_AZME_STATUS = {Unauthenticated: 503, Busy: 503}


class _Endpoint(NamedTuple):
    """What serves a path, and which status each error has there."""

    method: str
    take: Callable[[Any, _Request], Awaitable[Answer]]
    statuses: dict[type[OuthaulError], int]


class Collect:
    """The ASGI app. `now` gives ms since 1970 UTC."""

    def __init__(self, journal: Journal, apps: Apps, config: Config, now: Callable[[], int]) -> None:
        self._journal = journal
        self._apps = apps
        self._max_body = config.max_body_bytes
        self._max_inflated = config.max_inflated_bytes
        self._now = now

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        headers = dict(scope["headers"])
        path = scope["path"]
        endpoint = self._ENDPOINTS.get(path) or self._ENDPOINTS.get(path.removesuffix("/"))
        method = scope["method"]
        if endpoint is None:
            answer = Answer(404, _error_body("not_found", "There is nothing at this path.", ""))
        elif method == "OPTIONS":
            answer = Answer(204, b"", _PREFLIGHT)
        elif method != endpoint.method:
            message = f"This path takes {endpoint.method}, not {method}."
            allow = (b"allow", f"{endpoint.method}, OPTIONS".encode())
            answer = Answer(405, _error_body("method_not_allowed", message, ""), (allow,))
        else:
            read = await self._read(receive)
            if read is None:
                return
            request = _Request(headers, scope["query_string"], *read)
            try:
                answer = await endpoint.take(self, request)
            except OuthaulError as error:
                answer = _refusal(error, endpoint.statuses)
        start = {"type": "http.response.start", "status": answer.status, "headers": _headers(answer, headers)}
        await send(start)
        await send({"type": "http.response.body", "body": answer.body})

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

    # One method for each dialect

    async def _native(self, request: _Request) -> Answer:
        app = await self._apps.admit(_bearer(request))
        encoding = _sniff(request)
        count = await self._look(request, encoding, DIALECTS["native"].skim)
        if b"check=true" in request.query.split(b"&"):
            return await asyncio.to_thread(self._check, app, request, encoding)
        await self._store(app, "native", request, encoding)
        return Answer(202, b'{"received":%d}' % count)

    def _check(self, app: App, request: _Request, encoding: Encoding) -> Answer:
        """What would become of a batch, without keeping any of it."""
        body = inflate(request.body, encoding, self._max_inflated)
        frame = Frame(app_id=app.app_id, protocol="native", received_at=self._now(), body=body)
        parsed = DIALECTS["native"].parse(frame)
        rejected = [{"reason": reject.reason, "detail": reject.detail} for reject in parsed.rejects]
        return Answer(200, _encode({"accepted": len(parsed.records), "rejected": rejected}))

    async def _segment(self, request: _Request) -> Answer:
        encoding = _sniff(request)
        key = _basic_user(request)
        skim = DIALECTS["segment"].skim

        def look(body: bytes) -> str:
            skim(body)
            # The mobile SDKs send no header: their key is in the body only.
            return key or _write_key(body)

        app = await self._apps.find(await self._look(request, encoding, look))
        await self._store(app, "segment", request, encoding)
        return Answer(200, b'{"success":true}')

    async def _azme_web(self, request: _Request) -> Answer:
        user, key = read_basic(_authorization(request))
        # A device id may itself hold dots, an app id never does.
        device_id, _, app_id = user.rpartition(".")
        app = await self._apps.find(key)
        if app.app_id != app_id or not device_id:
            raise Unauthenticated(
                "The SDK key is not that of the app named.", hint="Check the connection string."
            )
        encoding = _sniff(request)
        try:
            await self._look(request, encoding, len)
        except (Invalid, TooLarge):
            # It could not be retried to any use; cut short it cannot be read, so landing sets it aside.
            request, encoding = request._replace(body=request.body[:KEPT_BYTES]), "identity"
        await self._store(app, "azme_web", request, encoding, device_id)
        return Answer(200, b"{}")

    async def _country(self, _request: _Request) -> Answer:
        """No country: where a device is, is not looked up from its address."""
        return Answer(200, b'{"countryCode":""}')

    _ENDPOINTS = MappingProxyType(
        {
            "/api/v1/collect": _Endpoint("POST", _native, _NATIVE_STATUS),
            "/v1/batch": _Endpoint("POST", _segment, _SEGMENT_STATUS),
            "/log": _Endpoint("POST", _azme_web, _AZME_STATUS),
            "/ip-to-country": _Endpoint("GET", _country, _AZME_STATUS),
        }
    )
    PATHS = frozenset((*_ENDPOINTS, *(f"{path}/" for path in _ENDPOINTS)))
    """The exact paths that are served here."""

    # Steps

    async def _look(self, request: _Request, encoding: Encoding, look: Callable[[bytes], Seen]) -> Seen:
        """What can be seen of the body once inflated.

        Raises:
            TooLarge: it is over a limit, as sent or inflated.
            Invalid: it does not inflate, or `look` says so.
        """
        if not request.whole:
            raise TooLarge(
                f"The body is larger than {self._max_body} bytes.", hint="Send fewer records at a time."
            )
        try:
            body = inflate(request.body, encoding, min(_AT_ONCE_BYTES, self._max_inflated))
        except TooLarge:
            return await asyncio.to_thread(lambda: look(inflate(request.body, encoding, self._max_inflated)))
        return look(body)

    async def _store(
        self, app: App, protocol: str, request: _Request, encoding: Encoding, device_id: str | None = None
    ) -> None:
        agent = request.headers.get(b"user-agent", b"")[:_USER_AGENT_BYTES].decode("latin-1")
        header = Header(app.app_id, protocol, self._now(), encoding, device_id, agent)
        await self._journal.append(header, request.body)


def _sniff(request: _Request) -> Encoding:
    return sniff(request.body, request.headers.get(b"content-encoding", b""))


def _authorization(request: _Request) -> str:
    return request.headers.get(b"authorization", b"").decode("latin-1")


def _bearer(request: _Request) -> str:
    authorization = _authorization(request)
    scheme, _, key = authorization.partition(" ")
    return key.strip() if scheme.lower() == "bearer" else read_basic(authorization)[0]


def _basic_user(request: _Request) -> str:
    try:
        return read_basic(_authorization(request))[0]
    except Unauthenticated:
        return ""


def _write_key(body: bytes) -> str:
    try:
        found = _read_write_key(body)
    except JSON_ERRORS:
        try:
            found = _read_write_key(mend(body))
        except JSON_ERRORS:
            return ""
    return found.write_key if isinstance(found.write_key, str) else ""


def _refusal(error: OuthaulError, statuses: dict[type[OuthaulError], int]) -> Answer:
    status = statuses[type(error)]
    extra = {401: (_CHALLENGE,), 503: (_RETRY_AFTER,)}.get(status, ())
    return Answer(status, _error_body(error.code, error.message, error.hint), extra)


def _error_body(code: str, message: str, hint: str) -> bytes:
    return _encode({"error": {"code": code, "message": message, "hint": hint}})


def _headers(answer: Answer, sent: dict[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    headers = [_JSON, *answer.headers] if answer.body else [*answer.headers]
    origin = sent.get(b"origin")
    if origin is not None:
        headers += ((b"access-control-allow-origin", origin), (b"vary", b"origin"), _EXPOSED)
    return headers
