"""Where the operator allows files to be written to and read from: public https, and prefixes of `OUTHAUL_DESTINATIONS`."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING
from urllib.parse import quote

from outhaul.address import Address, is_public, parse
from outhaul.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Allowed:
    """The prefixes in `text`, separated by commas; `resolve` gives the IP addresses of a host's name.

    Raises:
        Invalid: a prefix cannot be understood.
    """

    def __init__(self, text: str, resolve: Callable[[str, int], list[str]]) -> None:
        self._prefixes = [_prefix(one) for one in text.split(",") if one.strip()]
        self._resolve = resolve

    def root(self, address: Address) -> Path | None:
        """Find the configured folder that a file URL leads into, symbolic links followed."""
        for prefix in self._prefixes:
            if prefix.scheme == "file" and address.folder.is_relative_to(prefix.folder):
                return prefix.folder
        return None

    def permits(self, address: Address) -> tuple[bool, bool]:
        """Whether a server may be talked to, and whether its name has an address at all."""
        if any(prefix.covers(address) for prefix in self._prefixes):
            return True, True
        addresses = [address.host] if address.is_ip else self._resolve(address.host, address.port)
        local = address.host == "localhost" or address.host.endswith(".localhost")
        permitted = address.scheme == "https" and not local and all(map(is_public, addresses))
        return permitted, bool(addresses)


def how_to_allow(address: Address) -> str:
    """Say which prefix would allow an address."""
    # As it was asked for: where links of the server lead is not told to who may not look.
    folder = posixpath.normpath("/" + "/".join(address.segments))
    prefix = f"file://{quote(folder)}/" if address.scheme == "file" else f"{address.origin}/"
    return f"If it is meant, the operator can add {prefix} to OUTHAUL_DESTINATIONS."


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
