"""Requests of devices and answers to them, as all dialects see them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from outhaul.errors import Unauthenticated
from outhaul.inflate import Encoding, sniff
from outhaul.keys import read_basic

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from outhaul.collect.intake import Intake
    from outhaul.errors import OuthaulError

RETRY_AFTER_S = 30
"""What a device that is refused for now is asked to wait."""

_RETRY_AFTER = (b"retry-after", b"%d" % RETRY_AFTER_S)
_CHALLENGE = (b"www-authenticate", b"Bearer")
_encode = msgspec.json.Encoder().encode


class Answer(NamedTuple):
    """An HTTP answer; the body is JSON unless `headers` say otherwise."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Request(NamedTuple):
    """What arrived. `body` is its start only, unless it is `whole`: there was more than the limit.

    `names` are the values in the path; `base` is the URL that the device reached the server by, without a slash at the end.
    """

    headers: dict[bytes, bytes]
    query: bytes
    body: bytes
    whole: bool
    names: dict[str, str]
    base: str

    def header(self, name: bytes) -> str:
        """A header as text, empty if there is none; `name` is in lower case."""
        return self.headers.get(name, b"").decode("latin-1")

    @property
    def encoding(self) -> Encoding:
        """How the body is compressed, as its bytes say; headers are often wrong about it."""
        return sniff(self.body, self.headers.get(b"content-encoding", b""))

    @property
    def bearer(self) -> str:
        """The key in the Authorization header, sent as a bearer or as the user of Basic.

        Raises:
            Unauthenticated: there is none.
        """
        authorization = self.header(b"authorization")
        scheme, _, key = authorization.partition(" ")
        return key.strip() if scheme.lower() == "bearer" else read_basic(authorization)[0]

    @property
    def basic_user(self) -> str:
        """The user in the Authorization header, empty if there is none."""
        try:
            return read_basic(self.header(b"authorization"))[0]
        except Unauthenticated:
            return ""


class Endpoint(NamedTuple):
    """What serves a path, and which status each error of its dialect has there.

    `path` may hold names of values in braces, each for one segment. It is served with and without a slash at its end.
    `words` is what refusals look like, where the dialect has a form of its own for them.
    """

    path: str
    methods: tuple[str, ...]
    take: Callable[[Intake, Request], Awaitable[Answer]]
    statuses: Mapping[type[OuthaulError], int]
    words: Callable[[OuthaulError], bytes] | None = None


def refusal(error: OuthaulError, endpoint: Endpoint) -> Answer:
    """The answer that says what an error means, to the SDK of this endpoint."""
    status = endpoint.statuses[type(error)]
    extra = {401: (_CHALLENGE,), 503: (_RETRY_AFTER,)}.get(status, ())
    words = endpoint.words or (lambda error: error_body(error.code, error.message, error.hint))
    return Answer(status, words(error), extra)


def error_body(code: str, message: str, hint: str = "") -> bytes:
    """An error in our own words."""
    return _encode({"error": {"code": code, "message": message, "hint": hint}})


def json_answer(value: Any, status: int = 200) -> Answer:
    """An answer that holds a value as JSON."""
    return Answer(status, _encode(value))
