"""What the door answers: always JSON, whatever was asked for, and one shape for every error."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from outhaul import errors

_ERRORS: tuple[tuple[type[errors.OuthaulError], int, str], ...] = (
    (errors.Invalid, 400, "BadRequest"),
    (errors.DestinationRefused, 400, "DestinationNotAllowed"),
    (errors.SourceRefused, 400, "SourceNotAllowed"),
    (errors.Unauthenticated, 401, "AuthenticationFailed"),
    (errors.Forbidden, 403, "AuthorizationFailed"),
    (errors.NotFound, 404, "NotFound"),
    (errors.Conflict, 409, "Conflict"),
    (errors.TooLarge, 413, "RequestEntityTooLarge"),
    (errors.Busy, 503, "ServiceUnavailable"),
)
"""Status and code by error. Only `Busy` is a 5xx: clients repeat those, for two minutes."""


class Reply(Struct, frozen=True):
    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


def json_reply(status: int, value: Any, **headers: str) -> Reply:
    """A reply holding the value as JSON; header names are written with underscores."""
    named = tuple((name.replace("_", "-"), text) for name, text in headers.items())
    return Reply(status=status, body=msgspec.json.encode(value), headers=named)


def error_reply(status: int, code: str, message: str, **headers: str) -> Reply:
    """An error as every client of the API reads it: nested under `error`, with a code and a message."""
    return json_reply(status, {"error": {"code": code, "message": message}}, **headers)


def refusal(error: errors.OuthaulError) -> Reply | None:
    """The reply to an error of ours, or None for one that no client can do anything about."""
    for kind, status, code in _ERRORS:
        if isinstance(error, kind):
            # A code given where the error was raised is the wire's own, such as ResourceGroupNotFound.
            known = code if error.code == kind.code else error.code
            headers = {"retry_after": "5"} if kind is errors.Busy else {}
            return error_reply(status, known, str(error), **headers)
    return None
