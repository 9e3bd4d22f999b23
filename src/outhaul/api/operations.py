"""What an operation of `/api/v1` is: one row of a table that routes, checks, documents and tests are made from.

Each module with handlers ends with its rows, `OPERATIONS`; `app` puts them together. A handler is an `async`
function from a `Call` to a Starlette `Response`, mostly made by `reply`; what it raises from `outhaul.errors` is
answered as a problem (`problems`). It is called only once the caller was let in and the query and the body have
the shapes that the row names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import msgspec
from starlette.responses import Response

from outhaul.wire import Scope

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from concurrent.futures import Executor
    from pathlib import Path

    from starlette.requests import Request

    from outhaul.api.access import Access, Caller
    from outhaul.config import Config
    from outhaul.container import Destinations, Sources
    from outhaul.devices import Register
    from outhaul.keys import Keyring
    from outhaul.ledger.ledger import Ledger
    from outhaul.schema import RecordKind
    from outhaul.tables import Tables
    from outhaul.wire import Period, Subject

PREFIX = "/api/v1"
JSON = "application/json"
Needs = Scope | Literal["caller", "nothing"]
"""Who may: a caller with a scope, any caller, or anybody."""


class Lines(Protocol):
    """Lines of a stream, some at a time; an error in the middle means that it is not whole. To be closed."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def close(self) -> None: ...


class Histories(Protocol):
    async def open(
        self, app_id: str, of: Subject, period: Period | None, kinds: Sequence[RecordKind]
    ) -> Lines:
        """Records of a user or device of these kinds, oldest first, one a line, as JSON.

        Raises:
            NotFound: nothing is known of them.
            TooLarge: the user has too many devices.
            Busy: too many are read already, or what came before has not landed in time.
        """


class Door(NamedTuple):
    """What handlers work with: the nouns, the clock, and what there is only so much of.

    `downloads` is the folder with the files that the server keeps. `mark` closes what the journal holds and gives the
    position that an export or import has to wait for. `apps_changed` has devices answered by what the ledger says
    from then on. `histories` streams the records of a person. `now` is ms since 1970 UTC. `patient` runs what waits
    for somebody else's server. `watchers` has a place for each stream of events, all of which end once `stopping` is
    set. Calls to the ledger and the tables block: make them with `asyncio.to_thread`.
    """

    access: Access
    ledger: Ledger
    keyring: Keyring
    config: Config
    destinations: Destinations
    sources: Sources
    tables: Tables
    devices: Register
    histories: Histories
    downloads: Path
    mark: Callable[[], Awaitable[int]]
    apps_changed: Callable[[], None]
    now: Callable[[], int]
    patient: Executor
    watchers: asyncio.Semaphore
    stopping: asyncio.Event


class Call(NamedTuple):
    """A request that was let in.

    `bearer` is who asks, or None where the operation needs nobody. `names` are the values in the path, `query` and
    `body` have the shapes that the operation names (None where it names none). `base` is the URL that clients reach
    `/api/v1` by, without a slash at the end. `request_id` is in the answer and in the log.
    """

    door: Door
    request: Request
    request_id: str
    base: str
    bearer: Caller | None
    names: dict[str, str]
    query: Any
    body: Any

    @property
    def caller(self) -> Caller:
        """Who asks, of an operation that needs a caller."""
        assert self.bearer is not None, "the operation needs nothing"  # noqa: S101  a row of the table is wrong
        return self.bearer


class Header(NamedTuple):
    """A header of a request or an answer; `schema` is its JSON schema."""

    name: str
    help: str
    schema: dict[str, Any]


class Operation(NamedTuple):
    """One operation.

    `path` is below `/api/v1`, its values in braces; `{name:path}` may hold slashes. `name` is its id in the OpenAPI
    document. `query` is a struct of what may be in the URL's query, `body` the struct of the body. A `lenient`
    operation is given the body's JSON object as it came, to say itself what is wrong with it; of one that has
    `body_optional` no body at all is as good as `{}`. `answer` is the struct of the answer, None where it is not
    JSON: then `media` says what it is. `problems` are codes of errors beyond those that every operation can give
    (`problems.EVERYWHERE`). A `linked` operation lets in who has a signed `link` in the query, without a caller.
    """

    method: Literal["GET", "HEAD", "POST", "PUT", "DELETE"]
    path: str
    name: str
    summary: str
    handler: Callable[[Call], Awaitable[Response]]
    needs: Needs
    query: type[msgspec.Struct] | None = None
    body: type[msgspec.Struct] | None = None
    answer: type[msgspec.Struct] | None = None
    status: int = 200
    media: str = JSON
    help: str = ""
    problems: tuple[str, ...] = ()
    takes: tuple[Header, ...] = ()
    gives: tuple[Header, ...] = ()
    more: tuple[tuple[int, str], ...] = ()
    """Other statuses of success, and what they mean."""
    example: dict[str, Any] | None = None
    lenient: bool = False
    body_optional: bool = False
    body_limit: int = 1024 * 1024
    """Bytes of the body."""
    linked: bool = False


def reply(value: msgspec.Struct, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """An answer that holds the value as JSON."""
    return Response(msgspec.json.encode(value), status, headers, JSON)
