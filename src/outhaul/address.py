"""What a destination's URL says: taken apart and brought into one spelling, without opening anything."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from outhaul.errors import Invalid

FORMS = (
    "Use the URL of a container with its token, https://ACCOUNT.blob.core.windows.net/CONTAINER?TOKEN "
    "(for an emulator http://HOST:PORT/ACCOUNT/CONTAINER?TOKEN), of a bucket, s3://BUCKET/PREFIX or "
    "gs://BUCKET/PREFIX, or of a folder, file:///FOLDER/."
)
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
SEPARATOR = re.compile(r"[/\\]")
_PORTS = {"http": 80, "https": 443, "file": 0}
_UNSAFE = re.compile(r"[\x00-\x20\x7f\\]")
_BUCKET = re.compile(r"(?!\d+(\.\d+){3}$)(?=.{3,222}$)[a-z0-9](?:[a-z0-9_-]|\.(?!\.))*[a-z0-9]")
_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
_NUMERIC = re.compile(r"(.*\.)?(\d+|0x[0-9a-f]*)")
# Inside the clouds themselves: not in Python's list of private networks, but as dangerous as 169.254.169.254.
_PLATFORM_NETWORKS = (ipaddress.IPv4Network("168.63.129.16/32"), ipaddress.IPv4Network("192.0.0.0/24"))
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


@dataclass(frozen=True)
class Address:
    """A URL taken apart; what was checked is what is used from here on, not the text that was given."""

    scheme: str
    host: str
    port: int
    segments: tuple[str, ...] = field(default=(), repr=False)
    query: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    crooked: bool = False
    """It does not say plainly where it leads: dots or slashes hidden in the path, or a user name."""

    @property
    def site(self) -> str:
        """Scheme and host: what may be shown to anybody."""
        return f"{self.scheme}://[{self.host}]" if ":" in self.host else f"{self.scheme}://{self.host}"

    @property
    def origin(self) -> str:
        return f"{self.site}:{self.port}" if self.has_port else self.site

    @property
    def has_port(self) -> bool:
        """Whether the port is another than the scheme's own."""
        return self.port != _PORTS[self.scheme]

    @property
    def is_ip(self) -> bool:
        return ":" in self.host or bool(_NUMERIC.fullmatch(self.host))

    @property
    def folder(self) -> Path:
        """The folder that a file URL leads to, with `..` and symbolic links followed."""
        return Path(os.path.realpath("/" + "/".join(self.segments)))

    def covers(self, other: Address) -> bool:
        """Whether `other` lies at or below this one, as URLs go (for folders, compare `folder`)."""
        same_site = (self.scheme, self.host, self.port) == (other.scheme, other.host, other.port)
        return same_site and not other.crooked and other.segments[: len(self.segments)] == self.segments


def parse(text: str) -> Address:
    """Take apart an http, https or file URL.

    Raises:
        Invalid: it is none; the message does not repeat it, for it may hold a token.
    """
    url = text.strip()
    try:
        parts = urlsplit(url)
        host, port = _host(parts.hostname or ""), parts.port
        # A file's path is decoded whole, as the file system will see it; a blob's segment by segment.
        path = unquote(parts.path, errors="strict") if parts.scheme == "file" else parts.path
        query = pairs(parts.query)
        names = [part if parts.scheme == "file" else _decoded(part) for part in path.split("/")]
    except ValueError:
        # What the parser says would quote the URL.
        raise Invalid("The destination is not a URL that can be understood.", hint=FORMS) from None
    segments = tuple(name for name in names if name)
    if _UNSAFE.search(url) or parts.scheme not in _PORTS or port == 0:
        raise Invalid("The destination is not a URL of a kind that exports can be written to.", hint=FORMS)
    if parts.scheme == "file":
        plain = path.startswith("/") and not (parts.query or parts.fragment or CONTROL.search(path))
        if not plain or parts.netloc.lower() not in {"", "localhost"}:
            raise Invalid("The destination is not the URL of a folder of this server.", hint=FORMS)
        return Address("file", "", 0, segments)
    if not host:
        raise Invalid("The destination names no host.", hint=FORMS)
    return Address(
        parts.scheme,
        host,
        port or _PORTS[parts.scheme],
        segments,
        query,
        crooked="@" in parts.netloc or not all(map(is_plain, segments)),
    )


@dataclass(frozen=True)
class Bucket:
    """An `s3:` or `gs:` URL taken apart."""

    scheme: str
    name: str
    folder: tuple[str, ...]


def parse_bucket(text: str) -> Bucket:
    """Take apart an s3 or gs URL; its path is percent-encoded as in any URL.

    Raises:
        Invalid: it is none, or has more than a bucket and a path.
    """
    url = text.strip()
    try:
        parts = urlsplit(url)
        folder = tuple(_decoded(name) for name in parts.path.split("/") if name)
    except ValueError:
        raise Invalid("The destination is not a URL that can be understood.", hint=FORMS) from None
    if "?" in url or "#" in url:
        raise Invalid(
            f"A {parts.scheme}:// URL has a bucket and a path, nothing else.",
            hint="Keys are members of their own; write ? as %3F and # as %23 in a path.",
        )
    # Not `hostname`, which is in lower case: what was written is what must be a bucket's name.
    if _UNSAFE.search(url) or not _BUCKET.fullmatch(parts.netloc):
        raise Invalid(f"The destination does not name a bucket ({parts.scheme}://BUCKET/PREFIX).", hint=FORMS)
    if not all(map(is_plain, folder)):
        raise Invalid("The destination's path has parts that are no names.", hint=FORMS)
    return Bucket(parts.scheme, parts.netloc, folder)


def pairs(query: str) -> tuple[tuple[str, str], ...]:
    """Take apart the query of a URL; a plus sign is itself.

    Raises:
        ValueError: it is not percent-encoded UTF-8.
    """
    parts = [pair.partition("=") for pair in query.split("&") if pair]
    return tuple((_decoded(key), _decoded(value)) for key, _, value in parts)


def is_plain(segment: str) -> bool:
    """Whether a part of a path, decoded, is a name and nothing else."""
    return segment not in {"", ".", ".."} and not CONTROL.search(segment) and not SEPARATOR.search(segment)


def resolve(host: str, port: int) -> list[str]:
    """The IP addresses that a host name has now, as the system resolves it; none if it has none."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [str(address[0]) for *_, address in found]


def is_public(text: str) -> bool:
    """Whether an IP address is of the public internet; one that carries an IPv4 address is judged by that."""
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address):
        carried = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            carried = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        if carried is None:
            return address.is_global and address in _GLOBAL_UNICAST
        address = carried
    platform = any(address in network for network in _PLATFORM_NETWORKS)
    return address.is_global and not address.is_multicast and not platform


def _decoded(text: str) -> str:
    return unquote(text, errors="strict")


def _host(text: str) -> str:
    """Bring a host into its one spelling: lower-case ASCII, an IPv4 address as four decimal numbers.

    Raises:
        ValueError: it is no host.
    """
    if ":" in text:
        return str(ipaddress.IPv6Address(text))
    host = text if text.isascii() else text.encode("idna").decode()
    host = host.lower().removesuffix(".")
    if _NUMERIC.fullmatch(host):
        try:
            # As browsers and C libraries read them: octal, hexadecimal, fewer than four parts.
            return socket.inet_ntoa(socket.inet_aton(host))
        except OSError as error:
            raise ValueError from error
    if host and not _NAME.fullmatch(host):
        raise ValueError
    return host
