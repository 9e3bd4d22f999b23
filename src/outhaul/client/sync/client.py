# Made from the module of the same name in `aio` by `python -m outhaul.client.generate`; edit that one.
"""The client: everything of `/api/v1` in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from outhaul.client.requests import Retries, find_access
from outhaul.client.sync.connection import Connection
from outhaul.client.sync.devices import Devices, Tags
from outhaul.client.sync.erasures import Erasures
from outhaul.client.sync.exports import Exports
from outhaul.client.sync.imports import Imports
from outhaul.client.sync.others import Apps, Audit, Collections, Kinds, Tokens
from outhaul.client.sync.people import People
from outhaul.rest import Caller

if TYPE_CHECKING:
    from types import TracebackType


class Client:
    """A server; a context manager.

    `url` and `token` not given are taken from `OUTHAUL_URL` and `OUTHAUL_TOKEN`, then from the `profile` in the config
    file. Instead of a token, a `client_id` with its `client_secret` will do: access tokens are then fetched and
    renewed as needed. `timeout_s` bounds each step of a request, `retries` how long what is safe to repeat is repeated.

    Every operation raises `outhaul.errors`, each of which is an `OuthaulError`: `Invalid`, `Unauthenticated`,
    `Forbidden`, `NotFound`, `Conflict`, `TooLarge`, `TooMany`, `Busy` or `Unreachable`.

    Raises:
        Invalid: no server is known, or its URL is none.
        Unauthenticated: nothing is known that would let us in.
        NotFound: there is no such profile.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        client_id: str | None = None,
        client_secret: str | None = None,
        timeout_s: float = 30.0,
        retries: Retries = Retries(),  # noqa: B008  it never changes
        profile: str | None = None,
    ) -> None:
        access = find_access(url, token, client_id, client_secret, profile)
        self.url = access.url
        self._connection = Connection(access, timeout_s, retries)
        self.exports = Exports(self._connection)
        self.imports = Imports(self._connection)
        self.apps = Apps(self._connection)
        self.collections = Collections(self._connection)
        self.devices = Devices(self._connection)
        self.tags = Tags(self._connection)
        self.people = People(self._connection)
        self.erasures = Erasures(self._connection)
        self.kinds = Kinds(self._connection)
        self.tokens = Tokens(self._connection)
        self.audit = Audit(self._connection)

    def __repr__(self) -> str:
        return f"Client({self.url!r}, …)"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give up the connections."""
        self._connection.close()

    def me(self) -> Caller:
        """Who the server thinks is asking, and what they may do."""
        return self._connection.get("/me", Caller)
