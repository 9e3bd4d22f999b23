"""Where exports are delivered: a blob container that its owner gave us a token for, or a folder.

    Destinations.check(url)   may exports be written there? asked when a task is created
    Destinations.open(url)    the same question again, then a Container to put files into

Nothing but write permission is needed: no file is read back, listed or deleted. Putting a name again
overwrites it, so a delivery that was cut off is simply repeated.
"""

from __future__ import annotations

import errno
import os
import re
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

import obstore
from obstore.exceptions import BaseError
from obstore.store import AzureStore

from outhaul import __version__
from outhaul.address import FORMS, Address, is_plain, is_public, parse, resolve
from outhaul.durable import sync
from outhaul.errors import (
    DestinationDenied,
    DestinationError,
    DestinationMissing,
    DestinationRefused,
    DestinationUnreachable,
    Invalid,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from obstore.store import AzureSASToken

MIB = 1024 * 1024
BLOCK_BYTES = 8 * MIB
MAX_BLOCKS = 50_000
"""Blocks a blob can have (Azure Storage, "Scalability targets for Blob storage")."""
CONCURRENCY = 4
CONNECT_TIMEOUT_S = 5
CLOCK_LEEWAY_S = 300
"""A token that ended less than this long ago is still tried: our clock may be the one that is wrong."""

_CONTAINER = re.compile(r"\$root|\$web|(?=.{3,63}$)[a-z0-9]+(-[a-z0-9]+)*")
_ACCOUNT = re.compile(r"[a-z0-9-]+")
# Parameters of an operation, not of the token; people copy them along from a listing.
_OPERATION_PARAMETERS = {"restype", "comp", "timeout"}


class Container(Protocol):
    """What can be written to. Names are relative, `/` allowed; content types as HTTP has them.

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

    `resolve` gives the IP addresses of a host name, none if it has none now; `now` the time in seconds
    since 1970.

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
        self._prefixes = [_prefix(text) for text in allowed.split(",") if text.strip()]
        self._resolve = resolve
        self._now = now

    def check(self, url: str) -> None:
        """Whether exports may be written there; uses the network for nothing but resolving the host's name.

        A name that does not resolve passes: that is a failure of delivery, not of the request.

        Raises:
            Invalid: it is not the URL of a container or folder.
            DestinationRefused: the operator does not allow it.
        """
        address = parse(url)
        if address.scheme == "file":
            self._folder_root(address)
            return
        if not self._covered(address):
            self._refuse_private(address)
        _blob_place(address)

    def open(self, url: str, *, timeout_s: int) -> Container:
        """Open the container at `url`, checked again; a single request may take `timeout_s`.

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
        address = parse(url)
        if address.scheme == "file":
            root = self._folder_root(address)
            with _folder_failures(root):
                root.mkdir(parents=True, exist_ok=True)
            return _Folder(root, address.folder)
        if not self._covered(address) and not self._refuse_private(address):
            raise DestinationUnreachable(
                f"The host name of {address.site} does not resolve.",
                hint=f"Check its spelling and this server's DNS. {_how_to_allow(address)}",
            )
        blob_place = _blob_place(address)
        if complaint := _complaint(dict(address.query), self._now()):
            raise DestinationDenied(
                f"The token for the container at {address.site} {complaint}.", hint=_ASK_FOR_TOKEN
            )
        return _Azure(address, blob_place, timeout_s)

    def _covered(self, address: Address) -> bool:
        return any(prefix.covers(address) for prefix in self._prefixes)

    def _folder_root(self, address: Address) -> Path:
        """Find the configured folder that `address` lies in, symbolic links followed."""
        for prefix in self._prefixes:
            if prefix.scheme == "file" and address.folder.is_relative_to(prefix.folder):
                return prefix.folder
        raise DestinationRefused(
            "Exports may not be written to this folder of the server (file://).", hint=_how_to_allow(address)
        )

    def _refuse_private(self, address: Address) -> bool:
        """Raise unless it is https to public addresses only; whether the host resolves at all."""
        addresses = [address.host] if address.is_ip else self._resolve(address.host, address.port)
        local = address.host == "localhost" or address.host.endswith(".localhost")
        if address.scheme != "https" or local or not all(map(is_public, addresses)):
            raise DestinationRefused(
                f"Exports may not be written to {address.site}: only https to public addresses is allowed.",
                hint=_how_to_allow(address),
            )
        return bool(addresses)


def _prefix(text: str) -> Address:
    try:
        address = parse(text)
    except Invalid:
        address = None
    if address is None or address.query or address.crooked:
        raise Invalid(
            "OUTHAUL_DESTINATIONS holds something that is not a URL prefix.",
            hint="Use prefixes such as http://127.0.0.1:10000/ or file:///srv/exports/, separated by commas.",
        )
    return address


def _how_to_allow(address: Address) -> str:
    prefix = f"file://{quote(str(address.folder))}/" if address.scheme == "file" else f"{address.origin}/"
    return f"If it is meant, the operator can add {prefix} to OUTHAUL_DESTINATIONS."


@dataclass(frozen=True)
class _BlobPlace:
    endpoint: str
    account: str
    container: str
    folder: tuple[str, ...]


def _blob_place(address: Address) -> _BlobPlace:
    """Where the container is: the account is named by the host, or else (emulators) first in the path."""
    labels = address.host.split(".")
    by_host = labels[1:2] == ["blob"]
    bare = address.is_ip or len(labels) == 1 or address.has_port
    if bare and not by_host:
        account, segments = address.segments[:1], address.segments[1:]
        endpoint = "/".join((address.origin, *account))
    else:
        account, segments, endpoint = (labels[0],), address.segments, address.origin
    if address.crooked or not account or not _ACCOUNT.fullmatch(account[0]):
        raise Invalid("The destination is not the URL of a container.", hint=FORMS)
    if not segments or not _CONTAINER.fullmatch(segments[0]):
        raise Invalid("The destination does not name a container.", hint=FORMS)
    return _BlobPlace(endpoint, account[0], segments[0], segments[1:])


def _complaint(token: dict[str, str], now: float) -> str:
    """Why a shared access signature cannot work, from what it says itself; empty if it may.

    The parameters are those of "Create a service SAS" and "Create an account SAS" in Azure Storage's REST
    reference. A token that refers to a stored access policy (`si`) may say nothing of itself.
    """
    if not token.get("sig"):
        return "is missing or has no signature (sig)"
    if "sp" in token and not {"w", "c"} & set(token["sp"]):
        return "does not allow writing (sp)"
    if token.get("sr", "c") not in {"c", "d"}:
        return "is for a single blob (sr), not for the container"
    if "b" not in token.get("ss", "b") or "o" not in token.get("srt", "o"):
        return "is not for blobs (ss, srt)"
    try:
        end = datetime.fromisoformat(token.get("se", ""))
    except ValueError:
        return ""
    end = end if end.tzinfo else end.replace(tzinfo=UTC)
    return f"expired at {end.isoformat()}" if end.timestamp() + CLOCK_LEEWAY_S < now else ""


_ASK_FOR_TOKEN = "Ask again with a token that outlives the export and has Write and List permission."  # noqa: S105
_DENIED_HINTS = {
    "AuthenticationFailed": "The token expired, is not yet valid, or was not copied whole. ",
    "AuthorizationFailure": "The token expired, was not copied whole, or the account's firewall refuses us. ",
    "AuthorizationPermissionMismatch": "The token lacks Write permission. ",
    "AuthorizationProtocolMismatch": "The token is for https only. ",
    "AuthorizationResourceTypeMismatch": "The token is not for objects (srt). ",
    "AuthorizationServiceMismatch": "The token is not for the blob service (ss). ",
    "AuthorizationSourceIPMismatch": "The token is for other IP addresses than this server's. ",
}


def block_bytes(size: int) -> int:
    """How large the blocks of a file of `size` bytes are: whole MiB, few enough of them for one blob."""
    return max(BLOCK_BYTES, -(-size // (MAX_BLOCKS * MIB)) * MIB)


class _Azure:
    """A blob container; the token is used as it is and shown to nobody."""

    def __init__(self, address: Address, blob_place: _BlobPlace, timeout_s: int) -> None:
        self._address = address
        self._blob_place = blob_place
        self._timeout_s = timeout_s

    def put_file(
        self, name: str, path: Path, content_type: str, on_progress: Callable[[int], None] | None = None
    ) -> None:
        size = path.stat().st_size
        block = block_bytes(size)
        if size <= block:
            self._put(name, path.read_bytes(), content_type, block)
        else:
            self._put(name, _blocks(path, block, on_progress), content_type, block)
        if on_progress:
            on_progress(size)

    def put_bytes(self, name: str, data: bytes, content_type: str) -> None:
        self._put(name, data, content_type, BLOCK_BYTES)

    def _put(self, name: str, body: bytes | Iterator[bytes], content_type: str, block: int) -> None:
        target = "/".join((*self._blob_place.folder, *_name_parts(name)))
        failure = None
        try:
            obstore.put(
                self._store(block),
                target,
                body,
                attributes={"Content-Type": content_type},
                chunk_size=block,
                max_concurrency=CONCURRENCY,
            )
        except (BaseError, FileNotFoundError) as error:
            failure = _failure(str(error), self._address)
        if failure:
            # Raised out here so that the original, which can quote the token, is not even its context.
            raise failure

    def _store(self, block: int) -> AzureStore:
        return AzureStore(
            self._blob_place.container,
            account_name=self._blob_place.account,
            endpoint=self._blob_place.endpoint,
            credential_provider=self._credential,
            # obstore would take these from the environment, where they belong to something else.
            use_emulator=False,
            skip_signature=False,
            client_options={
                "allow_http": self._address.scheme == "http",
                "connect_timeout": timedelta(seconds=CONNECT_TIMEOUT_S),
                "timeout": timedelta(seconds=self._timeout_s * block // BLOCK_BYTES),
                "user_agent": f"outhaul/{__version__}",
            },
            # Short: whoever delivers tries again, with patience and after looking at the task.
            retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=10)},
        )

    def _credential(self) -> AzureSASToken:
        token = [pair for pair in self._address.query if pair[0] not in _OPERATION_PARAMETERS]
        return {"sas_token": token, "expires_at": None}


def _blocks(path: Path, block: int, on_progress: Callable[[int], None] | None) -> Iterator[bytes]:
    handed_over = 0
    with path.open("rb") as file:
        while data := file.read(block):
            if on_progress:
                on_progress(handed_over)
            yield data
            handed_over += len(data)


def _failure(told: str, address: Address) -> DestinationError:
    """Say what obstore told in our words: only the status and the service's error code are taken over."""
    site = address.site
    answered = re.search(r"Server returned non-2xx status code: (\d{3})", told)
    if answered is None:
        return _connection_failure(told, site)
    status = int(answered[1])
    named = re.search(r"<Code>([A-Za-z]{3,60})</Code>", told)
    # A hostile server could name the token instead of an error.
    code = "" if named is None or any(named[1] in value for _, value in address.query) else named[1]
    answer = f"{status} {code}".rstrip()
    if status in {401, 403}:
        hint = _DENIED_HINTS.get(code, "") + _ASK_FOR_TOKEN
        return DestinationDenied(f"The container at {site} refused the token ({answer}).", hint=hint)
    if status == HTTPStatus.NOT_FOUND:
        hint = "Create the container, or correct its name; exports do not create it."
        return DestinationMissing(f"There is no such container at {site} ({answer}).", hint=hint)
    if status in {408, 429} or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return DestinationUnreachable(
            f"The container at {site} cannot take files now ({answer}).", hint="Try again later."
        )
    return DestinationError(
        f"The container at {site} would not take the file ({answer}).", hint="Is it a blob container?"
    )


def _connection_failure(told: str, site: str) -> DestinationError:
    if "InvalidCertificate" in told:
        hint = "Its certificate must be signed by an authority that this server's system trusts."
        return DestinationError(f"The certificate of {site} is not valid.", hint=hint)
    if "HttpError" not in told:
        return DestinationError(f"What {site} answered is not what a container answers.", hint=FORMS)
    if "kind: Timeout" in told or "TimedOut" in told:
        hint = "If the connection is slow, the operator can raise OUTHAUL_DELIVERY_TIMEOUT_S."
        return DestinationUnreachable(f"The container at {site} did not answer in time.", hint=hint)
    hint = "Check its address, and that this server can reach it."
    return DestinationUnreachable(f"The container at {site} cannot be reached.", hint=hint)


def _name_parts(name: str) -> list[str]:
    parts = name.split("/")
    if not all(map(is_plain, parts)):
        raise Invalid(f"{name!r} cannot be the name of a file in a container.")
    return parts


class _Folder:
    """A folder below one that the operator allows; made when the first file comes."""

    def __init__(self, root: Path, folder: Path) -> None:
        self._root = root
        self._folder = folder

    # A folder has nowhere to keep a content type; it is taken because every container takes it.
    def put_file(
        self,
        name: str,
        path: Path,
        content_type: str,  # noqa: ARG002
        on_progress: Callable[[int], None] | None = None,
    ) -> None:
        size = path.stat().st_size
        with _folder_failures(self._folder), self._new(name) as temporary:
            if not _linked(path, temporary):
                with path.open("rb") as source, temporary.open("xb") as copy:
                    while data := source.read(BLOCK_BYTES):
                        copy.write(data)
                        if on_progress:
                            on_progress(copy.tell())
        if on_progress:
            on_progress(size)

    def put_bytes(self, name: str, data: bytes, content_type: str) -> None:  # noqa: ARG002
        with _folder_failures(self._folder), self._new(name) as temporary:
            temporary.write_bytes(data)

    @contextmanager
    def _new(self, name: str) -> Iterator[Path]:
        """Make a temporary path that becomes `name`, durably, once it has been filled without an error."""
        target = self._folder.joinpath(*_name_parts(name))
        _make_folder(self._root, target.parent)
        # Always the same name: what a killed delivery left is replaced when it is repeated.
        temporary = target.with_name(f".{target.name}.part")
        temporary.unlink(missing_ok=True)
        try:
            yield temporary
            temporary.chmod(0o644)
            sync(temporary)
            temporary.replace(target)
        finally:
            # It is also left over when both names are links to the same file: rename(2) then does nothing.
            temporary.unlink(missing_ok=True)
        sync(target.parent)


def _linked(path: Path, temporary: Path) -> bool:
    """Whether the file could be linked instead of copied: on the same file system, if that has links."""
    try:
        temporary.hardlink_to(path)
    except OSError as error:
        if error.errno in {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS}:
            return False
        raise
    return True


def _make_folder(root: Path, folder: Path) -> None:
    """Make what is missing between `root` and `folder`, durably, once no link leads elsewhere."""
    if folder.resolve() != folder:
        raise DestinationRefused(
            "A symbolic link leads out of the folder that exports may be written to.",
            hint="Remove the link, or have the folder it leads to added to OUTHAUL_DESTINATIONS.",
        )
    missing = [
        parent for parent in (folder, *folder.parents) if parent.is_relative_to(root) and not parent.exists()
    ]
    for new in reversed(missing):
        new.mkdir(exist_ok=True)
        sync(new.parent)


@contextmanager
def _folder_failures(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else "unknown error"
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            hint = "Let the server's user write there."
            raise DestinationDenied(
                f"The folder {folder} may not be written to ({reason}).", hint=hint
            ) from error
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DestinationError(
                f"The folder {folder} is full ({reason}).", hint="Make room there."
            ) from error
        if error.errno in {errno.ENOENT, errno.ENOTDIR}:
            hint = "Check that its path consists of folders."
            raise DestinationMissing(f"The folder {folder} is not there ({reason}).", hint=hint) from error
        raise DestinationError(
            f"The folder {folder} would not take the file ({reason}).", hint="Check the disk."
        ) from error
