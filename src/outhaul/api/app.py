"""The ASGI app of `/api/v1`: finds the operation, lets the caller in, answers every error as a problem."""

from __future__ import annotations

import base64
import hashlib
import logging
import re
import time
import uuid
from importlib.resources import files as resources
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route, Router

from outhaul.api import (
    audit,
    catalogue,
    checks,
    collections,
    devices,
    erasures,
    events,
    exports,
    files,
    imports,
    people,
    problems,
    retention,
    tags,
    tokens,
)
from outhaul.api.openapi import document
from outhaul.api.operations import JSON, PREFIX, Call, Door, Operation
from outhaul.api.reading import read_body, read_object, read_query, read_shape
from outhaul.azme.request import Request as Addressed
from outhaul.errors import NotFound, OuthaulError

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

_log = logging.getLogger(__name__)
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_NAME = re.compile(r"\{(\w+)(?::path)?\}")
_OF_PEOPLE = re.compile(r"/(?:users|devices)/\{id:path\}")


class _Rest(PathConvertor):
    """The rest of a path: as the library has it, but not ending at a line break, which ids may have."""

    regex = "(?s:.*)"


register_url_convertor("path", _Rest())


class Api:
    """A raw ASGI app for every path from `/api/v1` on."""

    def __init__(self, door: Door) -> None:
        self._door = door
        paths: dict[str, dict[str, Operation]] = {}
        for operation in OPERATIONS:
            paths.setdefault(operation.path, {})[operation.method] = operation
        # In order of the paths' length, so that `{id}:cancel` is looked at before `{id}`.
        routes = [
            Route(PREFIX + path, _Endpoint(door, path, paths[path]))
            for path in sorted(paths, key=len, reverse=True)
        ]
        self._router = Router(routes, redirect_slashes=False, default=_unknown)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        asked_as = request.headers.get("x-request-id", "")
        request_id = asked_as if _ID.fullmatch(asked_as) else str(uuid.uuid4())
        scope["state"] = {"request_id": request_id, "actor": "-", "path": scope["path"]}
        began = time.monotonic()
        answer = _Answer(scope, send, request_id)
        try:
            await self._router(scope, receive, answer.send)
        except ClientDisconnect:
            pass
        except Exception as error:  # noqa: BLE001  whatever it is, the client is answered
            problem = problems.answer(error, request_id, scope["path"])
            if not answer.status:
                await problem(scope, receive, answer.send)
        took = round(1000 * (time.monotonic() - began))
        # Quoted: a path can hold line breaks.
        path, actor = (quote(scope["state"][name], safe="/:{}") for name in ("path", "actor"))
        _log.info(
            "%s %s %d %d ms, request %s of %s", scope["method"], path, answer.status, took, request_id, actor
        )


class _Answer:
    """Passes an answer on with the headers that every answer has, and remembers its status."""

    def __init__(self, scope: Scope, send: Send, request_id: str) -> None:
        self._bare = scope["method"] == "HEAD"
        self._send = send
        self._request_id = request_id
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(raw=message.setdefault("headers", []))
            headers["X-Request-Id"] = self._request_id
            headers.setdefault("Cache-Control", "no-store")
            headers.setdefault("X-Content-Type-Options", "nosniff")
        elif self._bare and message["type"] == "http.response.body":
            message["body"] = b""
        await self._send(message)


class _Endpoint:
    """The operations of one path.

    The log has the path without ids of devices and users, who may have to be forgotten.
    """

    def __init__(self, door: Door, path: str, operations: dict[str, Operation]) -> None:
        self._door = door
        self._path = path
        self._operations = operations

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        known = request.path_params | ({"id": "{id}"} if _OF_PEOPLE.search(self._path) else {})
        scope["state"]["path"] = PREFIX + _NAME.sub(lambda name: known[name[1]], self._path)
        operation = self._operations.get(request.method)
        if operation is None:
            allowed = ", ".join(self._operations)
            error = OuthaulError(f"This takes {allowed}.", hint="Use one of them.", code="method_not_allowed")
            path = scope["path"]
            answer = problems.answer(error, scope["state"]["request_id"], path, {"Allow": allowed})
        else:
            answer = await self._run(operation, request)
        await answer(scope, receive, send)

    async def _run(self, operation: Operation, request: Request) -> Response:
        door, bearer = self._door, None
        linked = operation.linked and "link" in request.query_params
        if operation.needs != "nothing" and not linked:
            bearer = await door.access.caller(request)
            request.scope["state"]["actor"] = bearer.actor
            if operation.needs != "caller":
                bearer.require(operation.needs)
        query = read_query(request, operation.query) if operation.query else None
        call = Call(
            door=door,
            request=request,
            request_id=request.scope["state"]["request_id"],
            base=_base(request, door.config.public_url),
            bearer=bearer,
            names=request.path_params,
            query=query,
            body=await _read(operation, request),
        )
        return await operation.handler(call)


async def _read(operation: Operation, request: Request) -> Any:
    if operation.body is None:
        return None
    body = await read_body(request, operation.body_limit)
    members = {} if operation.body_optional and not body.strip() else read_object(body)
    return members if operation.lenient else read_shape(members, operation.body)


async def _unknown(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise NotFound("There is no such operation.", hint=f"{PREFIX}/docs lists them.")


def _base(request: Request, public_url: str) -> str:
    """The URL that clients reach the API by."""
    return Addressed(request.scope, request.receive, public_url).base + PREFIX


# The API about itself

_PAGE = (resources("outhaul.api") / "browse.html").read_bytes()


def _policy(page: bytes) -> str:
    """What the page may do: run its own script, use its own style, and ask this server for the document."""
    hashes = {
        tag: base64.b64encode(hashlib.sha256(inside).digest()).decode()
        for tag in ("script", "style")
        for inside in re.findall(rb"<%b>(.*?)</%b>" % (tag.encode(), tag.encode()), page, re.DOTALL)
    }
    return (
        f"default-src 'none'; connect-src 'self'; script-src 'sha256-{hashes['script']}'; "
        f"style-src 'sha256-{hashes['style']}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


_POLICY = _policy(_PAGE)


async def describe(call: Call) -> Response:
    """The OpenAPI document."""
    return Response(msgspec.json.encode({**_DOCUMENT, "servers": [{"url": call.base}]}), media_type=JSON)


async def browse(_call: Call) -> Response:
    """The page that shows the document."""
    return Response(
        _PAGE, media_type="text/html; charset=utf-8", headers={"Content-Security-Policy": _POLICY}
    )


OPERATIONS: tuple[Operation, ...] = (
    *exports.OPERATIONS,
    *checks.OPERATIONS,
    *events.OPERATIONS,
    *files.OPERATIONS,
    *catalogue.OPERATIONS,
    *collections.OPERATIONS,
    *retention.OPERATIONS,
    *devices.OPERATIONS,
    *tags.OPERATIONS,
    *imports.OPERATIONS,
    *people.OPERATIONS,
    *erasures.OPERATIONS,
    *tokens.OPERATIONS,
    *audit.OPERATIONS,
    Operation(
        "GET",
        "/openapi.json",
        "getDocument",
        "The OpenAPI document of this API",
        describe,
        "nothing",
        media=JSON,
    ),
    Operation(
        "GET",
        "/docs",
        "browse",
        "This API on a page for people",
        browse,
        "nothing",
        media="text/html; charset=utf-8",
    ),
)
"""Every operation of the API."""
_DOCUMENT = document(OPERATIONS)
