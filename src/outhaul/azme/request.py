"""One HTTP request as the door sees it: decoded path and query, headers, body, and the base it came by."""

from __future__ import annotations

import re
import uuid
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote_to_bytes, urlsplit

from outhaul.errors import Invalid, TooLarge

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Scope = MutableMapping[str, Any]
    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]

BODY_LIMIT = 2 * 1024 * 1024
"""Bytes of a request body, the old API's own limit."""

_DRAIN_FACTOR = 8
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_HOST = re.compile(r"[A-Za-z0-9._-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")


class Disconnected(Exception):  # noqa: N818 - nobody is told: the client is gone
    """The client went away before it had sent all of its request."""


class Request:
    """A request; what can be wrong with it is raised when it is looked at, so that the error is answered.

    `id` is ours, made for this request; `base` is the URL clients reach the server by, without a slash at
    the end; header names are lower-case.
    """

    def __init__(self, scope: Scope, receive: Receive, public_url: str) -> None:
        self._scope = scope
        self._receive = receive
        self._public_url = public_url.rstrip("/")
        self._root_path = str(scope.get("root_path") or "").rstrip("/")
        self.id = str(uuid.uuid4())
        self.method = str(scope["method"]).upper()
        self.headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            key, text = name.decode("latin-1").lower(), value.decode("latin-1")
            # HTTP reads a header sent twice as one list; two Authorizations thus match no credential.
            self.headers[key] = f"{self.headers[key]}, {text}" if key in self.headers else text

    @property
    def base(self) -> str:
        if self._public_url:
            return self._public_url
        scheme = _first(self.headers.get("x-forwarded-proto", "")).lower()
        if scheme not in {"http", "https"}:
            scheme = str(self._scope.get("scheme") or "http")
        host = _first(self.headers.get("x-forwarded-host", "")) or self.headers.get("host", "")
        if not _HOST.fullmatch(host):
            name, port = self._scope.get("server") or ("localhost", None)
            host = f"{name}:{port}" if port else str(name)
        return f"{scheme}://{host}{self._root_path}"

    @cached_property
    def segments(self) -> list[str]:
        """The path below the base, split at `/` and then decoded, so that a name may hold an escaped `/`.

        Raises:
            Invalid: an escape is malformed, or is not UTF-8.
        """
        raw = self._scope.get("raw_path")
        path = raw.decode("latin-1").partition("?")[0] if raw else quote(self._scope["path"], safe="/%")
        segments = [_unescape(segment) for segment in path.strip("/").split("/")] if path.strip("/") else []
        for prefix in (urlsplit(self._public_url).path, self._root_path):
            names = [name.lower() for name in prefix.split("/") if name]
            if names and [segment.lower() for segment in segments[: len(names)]] == names:
                return segments[len(names) :]
        return segments

    @cached_property
    def query(self) -> dict[str, str]:
        """Query options by lower-case name.

        Raises:
            Invalid: an escape is malformed, or an option is given twice with different values.
        """
        options: dict[str, str] = {}
        for pair in self._scope.get("query_string", b"").decode("latin-1").split("&"):
            name, _, value = pair.replace("+", " ").partition("=")
            key, text = _unescape(name).lower(), _unescape(value)
            if options.setdefault(key, text) != text:
                raise Invalid(f"The query option {key[:40]} is given twice.", hint="Give it once.")
        options.pop("", None)
        return options

    async def body(self) -> bytes:
        """The body as sent.

        Raises:
            TooLarge: it is longer than `BODY_LIMIT`.
            Disconnected: the client went away before sending all of it.
        """
        body = bytearray()
        size = 0
        more = True
        # Read on past the limit for a while: a client that is still sending would not see the answer.
        while more and size <= BODY_LIMIT * _DRAIN_FACTOR:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            part = message.get("body", b"")
            size += len(part)
            if size <= BODY_LIMIT:
                body += part
            more = message.get("more_body", False)
        if size > BODY_LIMIT:
            raise TooLarge(
                f"The request body is larger than {BODY_LIMIT} bytes.", hint="Send less in one request."
            )
        return bytes(body)


def _first(header: str) -> str:
    """The first of a comma-separated list: what the outermost proxy was asked for."""
    return header.partition(",")[0].strip()


def _unescape(text: str) -> str:
    wrong = Invalid(
        "The URL holds a percent-escape that cannot be decoded.", hint="Escape UTF-8 bytes as %XX."
    )
    if _BAD_ESCAPE.search(text):
        raise wrong
    try:
        return unquote_to_bytes(text.encode("latin-1")).decode()
    except UnicodeDecodeError:
        raise wrong from None
