"""What every request has in common, however it is sent: to whom, how often, and what a refusal means."""

from __future__ import annotations

import email.utils
import random
import time
from datetime import UTC, datetime
from typing import TypeVar
from urllib.parse import quote

import httpx2
import msgspec
from msgspec import Struct

from outhaul import __version__, errors, profiles
from outhaul.errors import Busy, Invalid, OuthaulError, Unauthenticated, Unreachable
from outhaul.rest import Problem

T = TypeVar("T")

AGENT = f"outhaul-python/{__version__}"
API = "/api/v1"
_BY_STATUS: dict[int, type[OuthaulError]] = {
    400: errors.Invalid,
    401: errors.Unauthenticated,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
    410: errors.NotFound,
    413: errors.TooLarge,
    422: errors.Invalid,
    429: errors.TooMany,
    502: errors.Busy,
    503: errors.Busy,
    504: errors.Busy,
}
_BY_CODE: dict[str, type[OuthaulError]] = {
    kind.code: kind
    for kind in (
        errors.DestinationError,
        errors.DestinationRefused,
        errors.DestinationDenied,
        errors.DestinationMissing,
        errors.DestinationUnreachable,
        errors.SourceError,
        errors.SourceRefused,
        errors.SourceDenied,
        errors.SourceMissing,
        errors.SourceUnreachable,
        errors.SourceChanged,
        errors.SourceUnreadable,
    )
}
"""What a status alone does not tell."""
_SHOWN_CHARACTERS = 300
_NEVER_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


class Retries(Struct, frozen=True):
    """How long to go on with what is safe to repeat while the server cannot be reached or asks to come back later.

    Pauses double from `first_delay_s` to `longest_delay_s`, each shortened by chance by up to a half, so that many
    clients do not come back at the same moment; what `Retry-After` says is waited for as it is. With `patience_s`
    of 0 nothing is repeated.
    """

    patience_s: float = 60.0
    first_delay_s: float = 0.5
    longest_delay_s: float = 15.0


class Patience:
    """How long one piece of work has been tried in vain."""

    def __init__(self, retries: Retries) -> None:
        self._retries = retries
        self.renew()

    def renew(self) -> None:
        """Begin again: something was achieved."""
        self._since = time.monotonic()
        self._delay = self._retries.first_delay_s

    def pause(self, error: Busy) -> float:
        """Seconds to wait before the next try; raises the error where patience does not last as long."""
        pause = self._delay * (1 - random.random() / 2)  # noqa: S311  spreads load, hides nothing
        if error.retry_after_s:
            pause = error.retry_after_s
        if time.monotonic() - self._since + pause > self._retries.patience_s:
            raise error
        self._delay = min(self._delay * 2, self._retries.longest_delay_s)
        return pause


class Access(Struct, frozen=True):
    """A server, and how to be let in there: by `token`, or by an access token that a client's secret is good for."""

    url: str
    token: str = ""
    client_id: str = ""
    client_secret: str = ""

    def __repr__(self) -> str:
        return f"Access({self.url!r}, …)"


def find_access(
    url: str | None, token: str | None, client_id: str | None, client_secret: str | None, profile: str | None
) -> Access:
    """What is given, else what the environment says, else what the profile does.

    Raises:
        Invalid: no server is known, or its URL or the token is none.
        Unauthenticated: nothing is known that would let us in.
        NotFound: there is no such profile.
    """
    if url and token and not (client_id or client_secret):
        # Nothing is left to be found: whatever is wrong with the config file is of no concern.
        return Access(profiles.checked_url(url), token=profiles.checked_token(token))
    found = profiles.load(profile, url or "")
    if not found.url:
        raise Invalid(
            "It is not known where the server is.", hint="Give a url, or set OUTHAUL_URL, or make a profile."
        )
    if client_id and client_secret:
        return Access(found.url, client_id=client_id, client_secret=client_secret)
    if client_id or client_secret:
        raise Invalid("client_id and client_secret belong together.", hint="Give both, or a token.")
    if not (token or found.token):
        raise Unauthenticated(
            f"There is no token for {found.url}.",
            hint="Give a token, or a client_id and its client_secret, or set OUTHAUL_TOKEN.",
        )
    return Access(found.url, token=profiles.checked_token(token or found.token))


class AccessToken(Struct, frozen=True):
    """What the token endpoint gives for a client's secret."""

    access_token: str
    expires_in: str | int

    def __repr__(self) -> str:
        return "AccessToken(…)"

    @property
    def use_for_s(self) -> float:
        """Seconds after which another is asked for: before it runs out on the way."""
        lifetime = int(self.expires_in)
        return lifetime - min(60, lifetime / 10)


def token_form(access: Access) -> dict[str, str]:
    """The form that asks for an access token."""
    return {
        "grant_type": "client_credentials",
        "client_id": access.client_id,
        "client_secret": access.client_secret,
        "resource": access.url,
    }


def was_sent(error: httpx2.RequestError) -> bool:
    """Whether the server may have got the request."""
    return not isinstance(error, _NEVER_SENT)


def lost(url: str, error: httpx2.RequestError) -> Unreachable:
    """What it means that there was no answer, or no whole one."""
    reason = f"{type(error).__name__}: {error}".removesuffix(": ")
    return Unreachable(
        f"{url} did not answer: {reason}.", hint="Check the URL and the network, and that the server runs."
    )


def refusal(response: httpx2.Response) -> OuthaulError:
    """The error that an answer is; its body must have been read."""
    try:
        problem = msgspec.json.decode(response.content, type=Problem)
    except msgspec.DecodeError:
        problem = None
    kind = _BY_STATUS.get(response.status_code, OuthaulError)
    if problem is None:
        text = response.text[:_SHOWN_CHARACTERS]
        error = kind(
            f"The server answered {response.status_code}: {text}",
            hint="Check that the URL is the base URL of an Outhaul server.",
        )
    else:
        kind = _BY_CODE.get(problem.code, kind)
        error = kind(problem.detail, hint=problem.hint, code=problem.code)
        error.request_id = problem.request_id
    asked = _retry_after(response)
    if isinstance(error, Busy) and asked is not None:
        error.retry_after_s = asked
    return error


def token_refusal(response: httpx2.Response, access: Access) -> OuthaulError:
    """The error that an answer of the token endpoint is, which speaks OAuth 2 (RFC 6749, 5.2)."""
    if response.status_code not in {httpx2.codes.BAD_REQUEST, httpx2.codes.UNAUTHORIZED}:
        return refusal(response)
    try:
        told = msgspec.json.decode(response.content, type=dict[str, object]).get("error_description", "")
    except msgspec.DecodeError:
        told = ""
    return Unauthenticated(
        f"{access.url} gives no access token to the client {access.client_id}: {told or response.status_code}",
        hint="Check the client_id and the client_secret, and that the URL is the server's public one.",
    )


def _retry_after(response: httpx2.Response) -> float | None:
    text = response.headers.get("Retry-After", "")
    if text.isdecimal():
        return float(text)
    try:
        at = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return max((at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds(), 0.0)


def decoded(response: httpx2.Response, shape: type[T]) -> T:
    """What an answer says.

    Raises:
        OuthaulError: it is not of that shape, so it is not the server that we thought it was.
    """
    try:
        return msgspec.json.decode(response.content, type=shape)
    except msgspec.DecodeError as error:
        raise OuthaulError(
            f"The answer to {response.request.method} {response.request.url.path} cannot be understood: {error}.",
            hint="Check that the URL is the base URL of an Outhaul server, and that this package is not older.",
        ) from error


def quoted(name: str) -> str:
    """A name or an id as a segment of a path."""
    return quote(name, safe="")
