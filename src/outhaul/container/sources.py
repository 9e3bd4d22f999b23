"""Files that imports read: where the operator allows reading, and the bytes of one file from any place in it on."""

from __future__ import annotations

import errno
import os
import stat
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from outhaul.address import FORMS, is_plain, parse, resolve
from outhaul.container.allowed import Allowed, how_to_allow
from outhaul.container.destinations import READERS, describe, folder_of, scheme_of, storage_of
from outhaul.container.failures import changed
from outhaul.container.objects import MIB, ObjectReading
from outhaul.errors import (
    Invalid,
    SourceDenied,
    SourceError,
    SourceMissing,
    SourceRefused,
    SourceUnreachable,
)
from outhaul.wire import DOWNLOAD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from outhaul.address import Address
    from outhaul.container.objects import Storage
    from outhaul.wire import Source

SOURCE_FORMS = (
    "Use the URL of a file with its token, https://ACCOUNT.blob.core.windows.net/CONTAINER/FILE?TOKEN "
    "(for an emulator http://HOST:PORT/ACCOUNT/CONTAINER/FILE?TOKEN), of an object, s3://BUCKET/KEY or "
    "gs://BUCKET/KEY, or of a file below a folder that the operator allows, file:///FOLDER/FILE."
)
_PIECE = MIB


class Reading(Protocol):
    """One file, as it was when it was opened. `version` tells it from one that replaces it; `size` is in bytes."""

    size: int
    version: str

    def chunks(self, offset: int = 0) -> Iterator[bytes]:
        """The bytes from an offset on, a few MiB at a time.

        Raises:
            SourceChanged: another file has taken its place.
            SourceError: it cannot be read any more; only `SourceUnreachable` is worth repeating.
        """


class Sources:
    """What may be read: public https, and the prefixes that the operator allows, as for `Destinations`.

    `resolve` gives the IP addresses of a host name, none if it has none now; `now` the time in seconds since 1970.

    Raises:
        Invalid: a prefix cannot be understood.
    """

    def __init__(
        self,
        allowed: str = "",
        *,
        resolve: Callable[[str, int], list[str]] = resolve,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._allowed = Allowed(allowed, resolve)
        self._now = now

    def check(self, source: Source) -> None:
        """Whether it may be read; uses the network for nothing but resolving the host's name.

        Raises:
            Invalid: it is not the URL of a file; a member that is wrong is named.
            SourceRefused: the operator does not allow it.
        """
        with _told_of_sources():
            if address := _file(source):
                self._admit_file(address)
            else:
                self._admit(source)

    def open(self, source: Source, *, timeout_s: int) -> Reading:
        """Open the file, checked again; a single request may take `timeout_s`.

        Raises:
            Invalid, SourceRefused: as `check`.
            SourceDenied: the credentials are refused, or of no use, as they say themselves.
            SourceMissing: there is no such file.
            SourceUnreachable: it, or its host's name, does not answer.
            SourceError: it cannot be read for another reason.
        """
        with _told_of_sources():
            if address := _file(source):
                return FileReading(self._admit_file(address))
            storage, resolved = self._admit(source)
        if not resolved:
            raise SourceUnreachable(
                f"The host name of {storage.site} does not resolve.",
                hint=f"Check its spelling and this server's DNS. {how_to_allow(storage.address)}",
            )
        if complaint := storage.complaint(self._now(), reading=True):
            words = storage.reading
            raise SourceDenied(
                f"The {words.credential} for the file at {storage.site} {complaint}.", hint=words.ask
            )
        return ObjectReading(storage, timeout_s)

    def _admit_file(self, address: Address) -> Path:
        if self._allowed.root(address) is None:
            raise SourceRefused(
                "Imports may not read this folder of the server (file://).", hint=how_to_allow(address)
            )
        return address.folder

    def _admit(self, source: Source) -> tuple[Storage, bool]:
        """Understand an object at an address that is allowed; and whether its host has one at all."""
        if scheme_of(source) in READERS:
            storage = storage_of(source)
            resolved = storage.fixed or self._permit(storage.address)
        else:
            # First, so that an address that is not allowed is refused whatever else may be wrong.
            resolved = self._permit(parse(source.url))
            storage = storage_of(source)
        if not storage.folder or not all(map(is_plain, storage.folder)):
            raise Invalid("The source does not name a file.", hint=SOURCE_FORMS)
        return storage, resolved

    def _permit(self, address: Address) -> bool:
        permitted, resolved = self._allowed.permits(address)
        if not permitted:
            raise SourceRefused(
                f"Imports may not read from {address.site}: only https to public addresses is allowed.",
                hint=how_to_allow(address),
            )
        return resolved


def describe_source(source: Source) -> str:
    """What may be shown of a source: where it is, without any credentials.

    Raises:
        Invalid: it is not a source.
    """
    with _told_of_sources():
        _file(source)
        return describe(source)


def _file(source: Source) -> Address | None:
    """Understand a source that is a file of this server."""
    if scheme_of(source) == DOWNLOAD.removesuffix(":"):
        raise Invalid("The source is not a URL of a kind that files can be read from.", hint=SOURCE_FORMS)
    address = folder_of(source)
    if address is not None and not address.segments:
        raise Invalid("The source does not name a file.", hint=SOURCE_FORMS)
    return address


@contextmanager
def _told_of_sources() -> Iterator[None]:
    """Say of a source what those who take addresses apart say of a destination; they repeat nothing of what it holds."""
    try:
        yield
    except Invalid as error:
        hint = error.hint.replace("destination", "source").replace(FORMS, SOURCE_FORMS)
        message = error.message.replace("destination", "source").replace(
            "exports can be written to", "files can be read from"
        )
        raise Invalid(message, hint=hint, code=error.code) from None


class FileReading:
    """A file of this server, by its path with symbolic links followed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._open() as descriptor:
            found = os.fstat(descriptor)
        self.size = found.st_size
        self.version = _version(found)

    def chunks(self, offset: int = 0) -> Iterator[bytes]:
        with self._open() as descriptor:
            while True:
                data = os.pread(descriptor, _PIECE, offset)
                if _version(os.fstat(descriptor)) != self.version:
                    raise changed()
                if not data:
                    return
                offset += len(data)
                yield data

    @contextmanager
    def _open(self) -> Iterator[int]:
        descriptor = -1
        try:
            # Without waiting: opening a pipe that somebody put there would never end.
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise SourceError(f"{self._path} is not a file.", hint="Name a file, not a folder.")
            yield descriptor
        except OSError as error:
            raise _file_failure(self._path, error) from error
        finally:
            if descriptor >= 0:
                os.close(descriptor)


def _version(found: os.stat_result) -> str:
    return f"{found.st_dev}.{found.st_ino}.{found.st_mtime_ns} {found.st_size}"


def _file_failure(path: Path, error: OSError) -> SourceError:
    reason = os.strerror(error.errno) if error.errno else "unknown error"
    if error.errno in {errno.EACCES, errno.EPERM}:
        return SourceDenied(f"{path} may not be read ({reason}).", hint="Let the server's user read it.")
    if error.errno in {errno.ENOENT, errno.ENOTDIR}:
        return SourceMissing(f"{path} is not there ({reason}).", hint="Check its name.")
    return SourceError(f"{path} cannot be read ({reason}).", hint="Check the disk.")
