"""Errors → `application/problem+json` (RFC 9457): every code, its status and its title, in one place."""

from __future__ import annotations

import math
import traceback
from logging import getLogger
from typing import NamedTuple

import msgspec
from starlette.responses import Response

from outhaul import errors
from outhaul.rest import Problem

_log = getLogger(__name__)

MEDIA = "application/problem+json"
_BUSY_S = 5


class Known(NamedTuple):
    status: int
    title: str


PROBLEMS: dict[str, Known] = {
    "invalid": Known(400, "The request is wrong as written"),
    "destination_refused": Known(400, "The operator does not allow exports to this address"),
    "destination_denied": Known(400, "The destination's credentials are of no use, as they say themselves"),
    "unauthenticated": Known(401, "Who is asking is unknown"),
    "token_expired": Known(401, "The token has expired"),
    "token_revoked": Known(401, "The token was revoked"),
    "forbidden": Known(403, "The caller may not do this"),
    "scope_missing": Known(403, "The caller lacks the scope for this"),
    "not_found": Known(404, "There is no such thing"),
    "app_not_found": Known(404, "There is no such app"),
    "method_not_allowed": Known(405, "The path takes other methods"),
    "conflict": Known(409, "It is in the way of something that exists"),
    "idempotency_key_used": Known(409, "The idempotency key was used for another request"),
    "export_ended": Known(409, "The export has ended"),
    "export_not_ended": Known(409, "The export has not ended, or has succeeded"),
    "destination_forgotten": Known(409, "The export's destination is no longer kept"),
    "expired": Known(410, "The file is no longer kept"),
    "too_large": Known(413, "The request is over a documented limit"),
    "range_not_satisfiable": Known(416, "The file does not reach that far"),
    "too_many": Known(429, "Over a rate limit or a quota"),
    "internal": Known(500, "The server failed on this request"),
    "busy": Known(503, "Not now"),
}
"""Every code that `/api/v1` answers with."""

EVERYWHERE = ("invalid", "internal")
"""What any operation can answer."""
OF_CALLERS = ("unauthenticated", "token_expired", "token_revoked", "forbidden", "scope_missing", "too_many")
"""What any operation can answer that needs a caller."""

_STATUSES: tuple[tuple[type[errors.OuthaulError], int], ...] = (
    (errors.Invalid, 400),
    (errors.DestinationError, 400),
    (errors.Unauthenticated, 401),
    (errors.Forbidden, 403),
    (errors.NotFound, 404),
    (errors.Conflict, 409),
    (errors.TooLarge, 413),
    (errors.TooMany, 429),
    (errors.Busy, 503),
)


def answer(error: Exception, request_id: str, path: str) -> Response:
    """The problem that an error is; one that was not raised on purpose is logged, and told without what it said."""
    status = _status(error) if isinstance(error, errors.OuthaulError) else None
    if status is None or not isinstance(error, errors.OuthaulError):
        # Where it happened, but not what it said: the message of a foreign error can quote a secret.
        frames = "".join(traceback.format_tb(error.__traceback__))
        _log.error("request %s failed with %s at\n%s", request_id, type(error).__name__, frames)
        hidden = errors.OuthaulError(
            "The server failed on this request.",
            hint=f"Its log says more under the request id {request_id}.",
            code="internal",
        )
        return _response(hidden, 500, request_id, path)
    return _response(error, status, request_id, path)


def _status(error: errors.OuthaulError) -> int | None:
    known = PROBLEMS.get(error.code)
    if known is not None:
        return known.status
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), None)


def _response(error: errors.OuthaulError, status: int, request_id: str, path: str) -> Response:
    known = PROBLEMS.get(error.code)
    problem = Problem(
        type="about:blank",
        title=known.title if known else error.code,
        status=status,
        detail=error.message,
        code=error.code,
        hint=error.hint,
        request_id=request_id,
        instance=path,
    )
    headers = {}
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="outhaul", error="invalid_token"'
    if isinstance(error, errors.Busy):
        seconds = error.retry_after_s if isinstance(error, errors.TooMany) else _BUSY_S
        headers["Retry-After"] = str(max(1, math.ceil(seconds)))
    return Response(msgspec.json.encode(problem), status, headers, MEDIA)
