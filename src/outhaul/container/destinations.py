"""What the operator allows, and the container that a destination means."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

from outhaul.address import FORMS, Address, is_plain, parse, resolve
from outhaul.container import azure, gcs, s3
from outhaul.container.allowed import Allowed, how_to_allow
from outhaul.container.folder import Folder, folder_failures
from outhaul.container.members import only
from outhaul.container.objects import Objects
from outhaul.container.probe import Step, ask, folder_steps, refused, storage_steps
from outhaul.errors import DestinationDenied, DestinationRefused, DestinationUnreachable, Invalid
from outhaul.wire import DOWNLOAD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from outhaul.container.objects import Storage
    from outhaul.wire import Destination

READERS: dict[str, Callable[[Destination], Storage]] = {"s3": s3.read, "gs": gcs.read}


class Container(Protocol):
    """What can be written to. Names are relative, `/` allowed; content types as HTTP has them.

    Nothing but write permission is needed: no file is read back, listed or deleted. Putting a name again overwrites
    it, so a delivery that was cut off is simply repeated.

    Raises:
        DestinationDenied, DestinationMissing, DestinationError: trying again will not help.
        DestinationUnreachable: it may, later.
    """

    def put_file(
        self, name: str, path: Path, content_type: str, on_progress: Callable[[int], None] | None = None
    ) -> None:
        """Deliver a local file of any size, in bounded memory; it appears under its name whole or not at all.

        `on_progress` is told the bytes handed over so far, from 0 to the file's size; what it raises stops
        the delivery.
        """

    def put_bytes(self, name: str, data: bytes, content_type: str) -> None:
        """Deliver a small file held in memory."""


class Destinations:
    """What the operator allows: public https, and the prefixes listed in `OUTHAUL_DESTINATIONS`.

    `downloads` is the folder for files that this server keeps to be fetched. `resolve` gives the IP addresses of a
    host name, none if it has none now; `now` the time in seconds since 1970.

    Raises:
        Invalid: a prefix cannot be understood.
    """

    def __init__(
        self,
        allowed: str = "",
        *,
        downloads: Path | None = None,
        resolve: Callable[[str, int], list[str]] = resolve,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._allowed = Allowed(allowed, resolve)
        self._downloads = downloads
        self._now = now

    def check(self, destination: Destination) -> None:
        """Whether exports may be written there; uses the network for nothing but resolving the host's name.

        A name that does not resolve passes: that is a failure of delivery, not of the request.

        Raises:
            Invalid: it is not a destination; a member that is wrong is named.
            DestinationRefused: the operator does not allow it.
        """
        if not _is_download(destination):
            if folder := folder_of(destination):
                self._folder_root(folder)
            else:
                self._admit(destination)

    def open(
        self,
        destination: Destination,
        *,
        timeout_s: int,
        refresh: Callable[[], Destination] | None = None,
        task_id: str = "",
    ) -> Container:
        """Open the container of `destination`, checked again; a single request may take `timeout_s`.

        `refresh` gives the destination as it is now, and is asked every few seconds while a large file is on its
        way, from other threads: new credentials for the same place are used from then on, those of another place
        are not. What it raises stops the delivery. Downloads are kept in a folder named `task_id`.

        What remains of DNS rebinding: the name is resolved here once more, but the connection made after it
        resolves for itself, and a hostile name server may tell it something else. Outside of configured
        prefixes that connection is always TLS with a verified certificate and follows no redirect, so an
        inner service would have to hold a certificate for the hostile name before it is sent any request.

        Raises:
            Invalid, DestinationRefused: as `check`.
            DestinationDenied: the token is of no use, as it says itself.
            DestinationError: the folder that the operator allowed is not there and cannot be made.
            DestinationUnreachable: the host's name does not resolve.
        """
        if local := self._local(destination, task_id):
            root, folder = local
            with folder_failures(root):
                root.mkdir(parents=True, exist_ok=True)
            return Folder(root, folder)
        storage, resolved = self._admit(destination)
        if not resolved:
            raise DestinationUnreachable(
                f"The host name of {storage.site} does not resolve.",
                hint=f"Check its spelling and this server's DNS. {how_to_allow(storage.address)}",
            )
        if complaint := storage.complaint(self._now()):
            words = storage.words
            raise DestinationDenied(
                f"The {words.credential} for the {words.noun} at {storage.site} {complaint}.", hint=words.ask
            )
        return Objects(storage, timeout_s, (lambda: _renewed(refresh())) if refresh else None)

    def probe(self, destination: Destination, needed_s: float) -> list[Step]:
        """Find out whether an export that takes `needed_s` could be delivered there; takes 15 s at most.

        Nothing visible is left: a file is begun under one fixed name and given up.

        Raises:
            Invalid: as `check`.
        """
        return ask(self._steps(destination, needed_s))

    def _steps(self, destination: Destination, needed_s: float) -> Iterator[Step]:
        try:
            self.check(destination)
        except DestinationRefused as error:
            yield refused(error)
            return
        yield Step("allowed", ok=True, detail=f"Exports may be written to {describe(destination)}.")
        if local := self._local(destination, "probe"):
            yield from folder_steps(Folder(*local))
        else:
            yield from storage_steps(storage_of(destination), needed_s, self._now())

    def _local(self, destination: Destination, task_id: str) -> tuple[Path, Path] | None:
        """Find the root and the folder below it that are meant, if it is a folder of this server."""
        if _is_download(destination):
            if self._downloads is None or not is_plain(task_id):
                raise ValueError("downloads need a folder, and a task that they are of")
            return self._downloads.resolve(), self._downloads.resolve() / task_id
        if folder := folder_of(destination):
            return self._folder_root(folder), folder.folder
        return None

    def _folder_root(self, address: Address) -> Path:
        """Find the configured folder that `address` lies in, symbolic links followed."""
        root = self._allowed.root(address)
        if root is None:
            raise DestinationRefused(
                "Exports may not be written to this folder of the server (file://).",
                hint=how_to_allow(address),
            )
        return root

    def _admit(self, destination: Destination) -> tuple[Storage, bool]:
        """Understand a container or bucket at an address that is allowed; and whether its host has one at all."""
        if scheme_of(destination) in READERS:
            storage = storage_of(destination)
            return storage, storage.fixed or self._permit(storage.address)
        # First, so that an address that is not allowed is refused whatever else may be wrong.
        resolved = self._permit(parse(destination.url))
        return storage_of(destination), resolved

    def _permit(self, address: Address) -> bool:
        permitted, resolved = self._allowed.permits(address)
        if not permitted:
            raise DestinationRefused(
                f"Exports may not be written to {address.site}: only https to public addresses is allowed.",
                hint=how_to_allow(address),
            )
        return resolved


def describe(destination: Destination) -> str:
    """What may be shown of a destination: where it is, without any credentials.

    Raises:
        Invalid: it is not a destination.
    """
    if _is_download(destination):
        return DOWNLOAD
    if folder := folder_of(destination):
        return f"file:///{quote('/'.join(folder.segments))}"
    address = storage_of(destination).address
    scheme = scheme_of(destination)
    path = quote("/".join(address.segments), safe="/$")
    if scheme not in READERS:
        return f"{address.origin}/{path}"
    return f"{scheme}://{path}" + (f" at {address.origin}" if destination.endpoint else "")


def scheme_of(destination: Destination) -> str:
    return destination.url.strip().partition(":")[0].lower()


def _is_download(destination: Destination) -> bool:
    if scheme_of(destination) != DOWNLOAD.removesuffix(":"):
        return False
    only(destination, DOWNLOAD)
    if destination.url.strip() != DOWNLOAD:
        raise Invalid(f"The URL for files that this server keeps is {DOWNLOAD!r}, nothing more.", hint=FORMS)
    return True


def folder_of(destination: Destination) -> Address | None:
    """Understand a destination that is a folder of this server."""
    if scheme_of(destination) != "file":
        return None
    address = parse(destination.url)
    only(destination, "a file:// URL")
    return address


def storage_of(destination: Destination) -> Storage:
    """Understand a destination that is a container or bucket."""
    return READERS.get(scheme_of(destination), azure.read)(destination)


def _renewed(destination: Destination) -> Storage | None:
    """Understand a destination that is to have new credentials; None if it has become a folder of this server."""
    return None if _is_download(destination) or folder_of(destination) else storage_of(destination)
