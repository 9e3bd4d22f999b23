"""Putting files into containers and buckets: whole, in parts, with credentials that may change meanwhile."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol
from urllib.request import getproxies

import obstore
from obstore.exceptions import BaseError

from outhaul import __version__
from outhaul.address import is_plain
from outhaul.container.failures import changed, explain, explain_reading
from outhaul.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from obstore import GetOptions, ObjectMeta
    from obstore.store import AzureStore, ClientConfig, GCSStore, RetryConfig, S3Store

    from outhaul.address import Address
    from outhaul.container.failures import Failed, Words

    Store = AzureStore | GCSStore | S3Store

MIB = 1024 * 1024
PART_BYTES = 8 * MIB
CONCURRENCY = 4
CONNECT_TIMEOUT_S = 5
REFRESH_S = 2
"""Seconds after which credentials that can be asked for again are."""
CHECK_NAME = ".outhaul-check"
_CHECK_TIMEOUT_S = 5


class Storage(Protocol):
    """A container or bucket, with what it takes to write there.

    `words` tell of writing there, `reading` of reading. `fixed` is its service's address if we know it, not the asker.
    `place` is what may not change while a file is on its way. `ends` is when the credentials end, if they say so;
    `endless` that they do not end by themselves.
    """

    max_parts: int
    words: Words
    reading: Words

    @property
    def address(self) -> Address: ...
    @property
    def fixed(self) -> bool: ...
    @property
    def site(self) -> str: ...
    @property
    def folder(self) -> tuple[str, ...]: ...
    @property
    def place(self) -> tuple[object, ...]: ...
    @property
    def secrets(self) -> tuple[str, ...]: ...
    @property
    def ends(self) -> datetime | None: ...
    @property
    def endless(self) -> bool: ...

    def complaint(self, now: float, *, reading: bool = False) -> str:
        """Why the credentials cannot work, from what they say themselves; empty if they may."""

    def credential(self, until: datetime | None) -> Any:
        """Give the credentials as obstore takes them, to be asked for again at `until`."""

    def open(self, credential: Callable[[], Any], client: ClientConfig, retry: RetryConfig) -> Store:
        """Open it with nothing but what is given."""


def part_bytes(size: int, max_parts: int) -> int:
    """How large the parts of a file of `size` bytes are: whole MiB, few enough of them for one object."""
    return max(PART_BYTES, -(-size // (max_parts * MIB)) * MIB)


class Objects:
    """Files of one container or bucket.

    `refresh` gives the storage that is wanted now, and is asked while a file is on its way: credentials for the
    same place are used from then on.
    """

    def __init__(
        self, storage: Storage, timeout_s: int, refresh: Callable[[], Storage | None] | None = None
    ) -> None:
        self._storage = storage
        self._timeout_s = timeout_s
        self._credentials = _Credentials(storage, refresh)

    def put_file(
        self, name: str, path: Path, content_type: str, on_progress: Callable[[int], None] | None = None
    ) -> None:
        size = path.stat().st_size
        part = part_bytes(size, self._storage.max_parts)
        if size <= part:
            self._put(name, path.read_bytes(), content_type, part)
        else:
            self._put(name, _Watched(_parts(path, part, on_progress)), content_type, part)
        if on_progress:
            on_progress(size)

    def put_bytes(self, name: str, data: bytes, content_type: str) -> None:
        self._put(name, data, content_type, PART_BYTES)

    def try_out(self) -> Failed | None:
        """Begin a file and give it up once a part of it was taken: how that failed, or None if it did not.

        Nothing comes to be visible. A service that does not let us give up keeps the parts, hidden, until it tidies
        up by rules of its own.
        """
        target = "/".join((*self._storage.folder, CHECK_NAME))
        try:
            return self._send(target, _Watched(_given_up()), "text/plain", 1, patient=False)
        except _GivenUpError:
            return None

    def _put(self, name: str, body: bytes | _Watched, content_type: str, part: int) -> None:
        target = "/".join((*self._storage.folder, *name_parts(name)))
        if failed := self._send(target, body, content_type, part):
            raise failed.error

    def _send(
        self, target: str, body: bytes | _Watched, content_type: str, part: int, *, patient: bool = True
    ) -> Failed | None:
        failed = None
        self._credentials.failure = None
        try:
            obstore.put(
                self._open(part, patient=patient),
                target,
                body,
                attributes={"Content-Type": content_type},
                use_multipart=isinstance(body, _Watched),
                chunk_size=part,
                max_concurrency=CONCURRENCY if patient else 1,
            )
        except (BaseError, FileNotFoundError) as error:
            failed = explain(str(error), self._storage.site, self._storage.words, self._credentials.secrets)
        # Raised out here so that the original, which can quote the credentials, is not even their context.
        if failed and isinstance(body, _Watched) and body.failure:
            raise body.failure
        if failed and self._credentials.failure:
            raise self._credentials.failure
        return failed

    def _open(self, part: int, *, patient: bool) -> Store:
        timeout_s = self._timeout_s * part // PART_BYTES if patient else _CHECK_TIMEOUT_S
        return _open(self._storage, self._credentials, timeout_s, patient=patient)


class ObjectReading:
    """One file of a container or bucket, named by the folder of `storage`; read in pieces of `PART_BYTES`.

    Each piece is a request of its own: whoever reads may take longer over a piece than a connection lasts.
    """

    def __init__(self, storage: Storage, timeout_s: int) -> None:
        self._storage = storage
        self._name = "/".join(storage.folder)
        self._store = _open(storage, _Credentials(storage, None), timeout_s, patient=True)
        # Asked for as a file rather than for its properties, so that a refusal comes with its reason.
        meta, _ = self._get({})
        self.size = meta["size"]
        self._tag = meta["e_tag"]
        self.version = f"{self._tag or meta['last_modified'].isoformat()} {self.size}"

    def chunks(self, offset: int = 0) -> Iterator[bytes]:
        while offset < self.size:
            options: GetOptions = {"range": (offset, min(offset + PART_BYTES, self.size))}
            if self._tag:
                options["if_match"] = self._tag
            meta, data = self._get(options)
            if (meta["e_tag"], meta["size"]) != (self._tag, self.size) or not data:
                raise changed()
            offset += len(data)
            yield data

    def _get(self, options: GetOptions) -> tuple[ObjectMeta, bytes]:
        try:
            found = obstore.get(self._store, self._name, options=options)
            return found.meta, bytes(found.bytes()) if options else b""
        except (BaseError, FileNotFoundError, PermissionError) as error:
            told = str(error)
        # Raised out here so that the original, which can quote the credentials, is not even the context.
        storage = self._storage
        raise explain_reading(told, storage.site, storage.reading, storage.secrets)


def _open(storage: Storage, credentials: _Credentials, timeout_s: int, *, patient: bool) -> Store:
    return storage.open(
        credentials,
        {
            "allow_http": storage.address.scheme == "http",
            "allow_invalid_certificates": False,
            "connect_timeout": timedelta(seconds=CONNECT_TIMEOUT_S),
            "timeout": timedelta(seconds=timeout_s),
            "user_agent": f"outhaul/{__version__}",
            **_held(storage.address.host),
        },
        # Short: whoever delivers tries again, with patience and after looking at the task.
        {"max_retries": 2 if patient else 0, "retry_timeout": timedelta(seconds=10)},
    )


def _held(host: str) -> ClientConfig:
    """Keep requests from being redirected to another host, whose address nobody has checked.

    obstore follows redirects of requests that have no body, and has no setting for it; but it can be told of a proxy for
    all hosts but one, and no connection to that proxy is possible. Where the operator has a proxy, it has to decide.
    """
    if getproxies().keys() & {"http", "https", "all"}:
        return {}
    return {"proxy_url": "http://127.0.0.1:0", "proxy_excludes": host}


def name_parts(name: str) -> list[str]:
    """Take apart the name of a file.

    Raises:
        Invalid: it would lead out of the container's folder.
    """
    parts = name.split("/")
    if not all(map(is_plain, parts)):
        raise Invalid(f"{name!r} cannot be the name of a file in a container.")
    return parts


class _Credentials:
    """What obstore asks for credentials before each request, from threads of its own.

    `failure` is how asking for new ones failed: obstore would tell it in words of its own.
    """

    def __init__(self, storage: Storage, refresh: Callable[[], Storage | None] | None) -> None:
        self._storage = storage
        self._refresh = refresh
        self._asked = time.monotonic()
        self._lock = threading.Lock()
        self.secrets = set(storage.secrets)
        self.failure: BaseException | None = None

    def __call__(self) -> Any:
        until = datetime.now(UTC) + timedelta(seconds=REFRESH_S) if self._refresh else None
        with self._lock:
            if self._refresh and time.monotonic() - self._asked >= REFRESH_S:
                self._renew(self._refresh)
            return self._storage.credential(until)

    def _renew(self, refresh: Callable[[], Storage | None]) -> None:
        self._asked = time.monotonic()
        try:
            fresh = refresh()
        except BaseException as error:
            self.failure = error
            raise
        # Credentials of another place are none of this one's business.
        if fresh and fresh.place == self._storage.place:
            self._storage = fresh
            self.secrets.update(fresh.secrets)


class _Watched:
    """The parts of a file on their way.

    `failure` is why there were no more: obstore may instead tell that what was begun could not be given up.
    """

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self.failure: BaseException | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._parts)
        except StopIteration:
            raise
        except BaseException as error:
            self.failure = error
            raise


def _parts(path: Path, part: int, on_progress: Callable[[int], None] | None) -> Iterator[bytes]:
    handed_over = 0
    with path.open("rb") as file:
        while data := file.read(part):
            if on_progress:
                on_progress(handed_over)
            yield data
            handed_over += len(data)


class _GivenUpError(Exception):
    """Ends an upload that is not meant to come to anything."""


def _given_up() -> Iterator[bytes]:
    # The second part is asked for once the first was taken.
    yield b"x"
    yield b"x"
    raise _GivenUpError
