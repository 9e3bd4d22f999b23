"""The door: finds the operation a request asks for, lets the caller in, answers every error as JSON."""

from __future__ import annotations

import asyncio
import logging
import traceback
from typing import TYPE_CHECKING, NamedTuple

from outhaul.api.audit import Audit
from outhaul.azme.auth import Authenticator, authorize
from outhaul.azme.call import Call
from outhaul.azme.devices import Devices
from outhaul.azme.exports import Exports
from outhaul.azme.imports import Imports
from outhaul.azme.paging import API_VERSION
from outhaul.azme.reply import Reply, error_reply, refusal
from outhaul.azme.request import Disconnected, Request
from outhaul.azme.resources import PROVIDER, Resources, check_subscription
from outhaul.azme.tokens import Tokens
from outhaul.errors import Invalid, NotFound, OuthaulError, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from outhaul.azme.exports import Destinations
    from outhaul.azme.request import Receive, Scope, Send
    from outhaul.config import Config
    from outhaul.container import Sources
    from outhaul.devices import Register
    from outhaul.keys import Keyring
    from outhaul.ledger.ledger import Installation, Ledger

_log = logging.getLogger(__name__)
_METHODS = ("GET", "POST", "PUT", "DELETE")
"""What any operation of the API uses, those that are not here yet included."""

_SUBSCRIPTION = "subscriptions/{subscription}"
_APPS = f"{_SUBSCRIPTION}/resourceGroups/{{group}}/providers/{PROVIDER}/appcollections/{{collection}}/apps"
_DEVICES = f"{_APPS}/{{app}}/devices"
_USERS = f"{_APPS}/{{app}}/users"
_TASKS = f"{_DEVICES}/exportTasks"
_IMPORTS = f"{_DEVICES}/importTasks"


class Route(NamedTuple):
    """One operation. `any_version`: it is Azure's own, and clients ask for it by versions of Azure's."""

    method: str
    path: str
    handler: Callable[[Call], Awaitable[Reply]]
    any_version: bool = False

    def match(self, segments: list[str]) -> dict[str, str] | None:
        """The values in the path if it is this route's, whatever the case of the rest of it."""
        template = self.path.split("/")
        if len(template) != len(segments):
            return None
        names = {}
        for expected, segment in zip(template, segments, strict=True):
            if expected.startswith("{"):
                names[expected.strip("{}")] = segment
            elif expected.lower() != segment.lower():
                return None
        return names


class Door:
    """A raw ASGI app.

    `mark` closes what the journal holds and gives the position an export or import has to wait for; `register` knows the
    devices; `now` is ms since 1970 UTC.
    """

    def __init__(
        self,
        ledger: Ledger,
        keyring: Keyring,
        config: Config,
        destinations: Destinations,
        mark: Callable[[], Awaitable[int]],
        register: Register,
        now: Callable[[], int],
        *,
        sources: Sources,
    ) -> None:
        self._ledger = ledger
        self._public_url = config.public_url
        self._now = now
        self._installed: Installation | None = None
        self._tokens = Tokens(ledger, keyring, config, now)
        self._authenticator = Authenticator(ledger, keyring, now)
        self._audit = Audit(ledger, now)
        resources = Resources(ledger)
        exports = Exports(resources, ledger, keyring, destinations, mark, now)
        imports = Imports(resources, ledger, keyring, sources, mark, now)
        devices = Devices(resources, register)
        provider = f"{_SUBSCRIPTION}/providers/{PROVIDER}"
        self._routes = (
            Route("GET", "subscriptions", resources.subscriptions, any_version=True),
            Route("GET", "tenants", resources.tenants, any_version=True),
            Route("GET", provider, resources.registration, any_version=True),
            Route("POST", f"{provider}/register", resources.registration, any_version=True),
            Route("GET", f"{provider}/appCollections", resources.collections),
            Route("POST", f"{provider}/checkAppCollectionNameAvailability", resources.check_name),
            Route("GET", f"{provider}/supportedPlatforms", resources.platforms),
            Route("GET", _APPS, resources.apps),
            Route("GET", _TASKS, exports.list),
            Route("GET", f"{_TASKS}/{{task}}", exports.get),
            Route("POST", f"{_TASKS}/{{task}}", exports.create),
            Route("GET", _IMPORTS, imports.list),
            Route("POST", _IMPORTS, imports.create),
            Route("GET", f"{_IMPORTS}/{{task}}", imports.get),
            Route("GET", _DEVICES, devices.list),
            Route("POST", f"{_DEVICES}/tag", devices.tag),
            Route("GET", f"{_DEVICES}/{{device}}", devices.get),
            Route("POST", f"{_USERS}/tag", devices.tag_by_user),
            Route("GET", f"{_USERS}/{{user}}", devices.get_by_user),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, self._public_url)
        try:
            reply = await self._reply(request)
        except Disconnected:
            return
        headers = {
            "content-type": "application/json; charset=utf-8",
            "content-length": str(len(reply.body)),
            "cache-control": "no-store",
            "x-ms-request-id": request.id,
            **dict(reply.headers),
        }
        asked_as = request.headers.get("x-ms-client-request-id", "")
        if asked_as:
            headers["x-ms-client-request-id"] = asked_as[:128]
        encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": reply.status, "headers": encoded})
        await send({"type": "http.response.body", "body": b"" if request.method == "HEAD" else reply.body})

    async def _reply(self, request: Request) -> Reply:
        try:
            return await self._answer(request)
        except Disconnected:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the client is answered
            return (refusal(error) if isinstance(error, OuthaulError) else None) or _failure(request, error)

    async def _answer(self, request: Request) -> Reply:
        match [segment.lower() for segment in request.segments]:
            # ADAL takes the first segment for the tenant; under a path prefix that is the prefix.
            case [_, "oauth2", "token"] | ["oauth2", "token"]:
                return await self._tokens.answer(request, await self._installation())
            case ["subscriptions" | "tenants", *_]:
                return await self._let_in(request, await self._installation())
        raise _unknown()

    async def _let_in(self, request: Request, installation: Installation) -> Reply:
        try:
            header = request.headers.get("authorization", "")
            credential = await self._authenticator.authenticate(header, installation)
        except Unauthenticated as error:
            authority = f"{request.base}/{installation.tenant_id}"
            challenge = f'Bearer authorization_uri="{authority}", error="invalid_token"'
            return error_reply(401, error.code, str(error), www_authenticate=challenge)
        method = "GET" if request.method == "HEAD" else request.method
        if method not in _METHODS:
            return _not_allowed(_METHODS)
        found = [
            (route, names) for route in self._routes if (names := route.match(request.segments)) is not None
        ]
        # The first path that matches is meant: `devices/tag` is not a device.
        found = [(route, names) for route, names in found if route.path == found[0][0].path]
        for route, names in found:
            if route.method == method:
                _check_version(request, any_version=route.any_version)
                check_subscription(names.get("subscription", installation.subscription_id), installation)
                authorize(credential, writes=method != "GET")
                return await route.handler(Call(request, installation, names, credential, self._audit))
        if found:
            return _not_allowed(tuple(route.method for route, _ in found))
        raise _unknown()

    async def _installation(self) -> Installation:
        if self._installed is None:
            self._installed = await asyncio.to_thread(self._ledger.installation, self._now())
        return self._installed


def _check_version(request: Request, *, any_version: bool) -> None:
    version = request.query.get("api-version")
    if not version:
        raise Invalid(
            "The query option api-version is missing.",
            hint=f"Add api-version={API_VERSION}.",
            code="MissingApiVersionParameter",
        )
    if not any_version and version != API_VERSION:
        raise Invalid(
            f"The api-version {version[:40]!r} is not supported.",
            hint=f"Use api-version={API_VERSION}.",
            code="InvalidApiVersionParameter",
        )


def _not_allowed(methods: tuple[str, ...]) -> Reply:
    allowed = ", ".join(methods)
    return error_reply(405, "MethodNotAllowed", f"This takes {allowed}.", allow=allowed)


def _unknown() -> NotFound:
    return NotFound(
        "There is no such operation.",
        hint="Check the path against the API's; /api/v1/docs has the other API.",
        code="InvalidResourceType",
    )


def _failure(request: Request, error: Exception) -> Reply:
    # Where it happened, but not what it said: the message of a foreign error can quote a secret.
    frames = "".join(traceback.format_tb(error.__traceback__))
    _log.error("Request %s failed with %s at\n%s", request.id, type(error).__name__, frames)
    return error_reply(
        500, "InternalServerError", f"The server failed on this request; its log has it as {request.id}."
    )
