"""Errors → `application/problem+json` (RFC 9457): every code, its status and its title, in one place."""

from __future__ import annotations

import math
import traceback
from logging import getLogger
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from starlette.responses import Response

from outhaul import errors
from outhaul.rest import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

_log = getLogger(__name__)

MEDIA = "application/problem+json"
_BUSY_S = 5


class Known(NamedTuple):
    status: int
    title: str


PROBLEMS: dict[str, Known] = {
    "invalid": Known(400, "The request is wrong as written"),
    "destination_refused": Known(400, "The operator does not allow exports to this address"),
    "source_refused": Known(400, "The operator does not allow imports from this address"),
    "unauthenticated": Known(401, "Who is asking is unknown"),
    "token_expired": Known(401, "The token has expired"),
    "token_revoked": Known(401, "The token was revoked"),
    "link_expired": Known(401, "The link has expired"),
    "forbidden": Known(403, "The caller may not do this"),
    "scope_missing": Known(403, "The caller lacks the scope for this"),
    "not_found": Known(404, "There is no such thing"),
    "app_not_found": Known(404, "There is no such app"),
    "method_not_allowed": Known(405, "The path takes other methods"),
    "conflict": Known(409, "It is in the way of something that exists"),
    "idempotency_key_used": Known(409, "The idempotency key was used for another request"),
    "collection_not_found": Known(404, "There is no such collection"),
    "import_ended": Known(409, "The import has ended"),
    "import_not_ended": Known(409, "The import has not ended, or has succeeded"),
    "source_forgotten": Known(409, "The import's source is no longer kept"),
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
OF_CALLERS = (
    "unauthenticated",
    "token_expired",
    "token_revoked",
    "forbidden",
    "scope_missing",
    "too_many",
    "busy",
)
"""What any operation can answer that needs a caller; `busy` while an OpenID provider or the ledger does not answer."""

_STATUS_OF: dict[type[errors.OuthaulError], int] = {
    errors.Invalid: 400,
    errors.DestinationError: 400,
    errors.SourceError: 400,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.TooLarge: 413,
    errors.TooMany: 429,
    errors.Busy: 503,
}


def answer(
    error: Exception, request_id: str, path: str, headers: Mapping[str, str] | None = None
) -> Response:
    """The problem that an error is; one that was not raised on purpose is logged, and told without what it said."""
    ours = error if isinstance(error, errors.OuthaulError) else None
    status = _status(ours) if ours else None
    if ours is None or status is None:
        # Where it happened, but not what it said: the message of a foreign error can quote a secret.
        frames = "".join(traceback.format_tb(error.__traceback__))
        _log.error("request %s failed with %s at\n%s", request_id, type(error).__name__, frames)
        hint = f"Its log says more under the request id {request_id}."
        ours, status = (
            errors.OuthaulError("The server failed on this request.", hint=hint, code="internal"),
            500,
        )
    return _response(show(ours, status, request_id, path), {**_headers(ours, status), **(headers or {})})


def show(error: errors.OuthaulError, status: int, request_id: str, path: str) -> Problem:
    """The body of an error's answer."""
    known = PROBLEMS.get(error.code)
    return Problem(
        type="about:blank",
        title=known.title if known else error.code,
        status=status,
        detail=error.message,
        code=error.code,
        hint=error.hint,
        request_id=request_id,
        instance=path,
    )


def _response(problem: Problem, headers: dict[str, str]) -> Response:
    return Response(msgspec.json.encode(problem), problem.status, headers, MEDIA)


def _headers(error: errors.OuthaulError, status: int) -> dict[str, str]:
    headers = {}
    if status == _STATUS_OF[errors.Unauthenticated]:
        headers["WWW-Authenticate"] = 'Bearer realm="outhaul"'
    if isinstance(error, errors.Busy):
        seconds = error.retry_after_s if isinstance(error, errors.TooMany) else _BUSY_S
        headers["Retry-After"] = str(max(1, math.ceil(seconds)))
    return headers


def _status(error: errors.OuthaulError) -> int | None:
    if error.code in PROBLEMS:
        return PROBLEMS[error.code].status
    return next((status for kind, status in _STATUS_OF.items() if isinstance(error, kind)), None)
