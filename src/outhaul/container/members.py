"""The members of a destination besides its URL: which belong to it, and whether they are as they must be."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from outhaul.address import Address, parse
from outhaul.errors import Invalid

if TYPE_CHECKING:
    from outhaul.wire import Destination

_VISIBLE = re.compile(r"[\x21-\x7e]+")


def only(destination: Destination, kind: str, *names: str) -> None:
    """Let pass only the members that belong to this kind of URL.

    Raises:
        Invalid: there is another, and it is named.
    """
    fields = {field.name: field.encode_name for field in msgspec.structs.fields(destination)}
    for name, spelled in fields.items():
        if name not in {"url", *names} and getattr(destination, name) is not None:
            takes = ", ".join(fields[other] for other in names) or "nothing else"
            raise Invalid(
                f"destination.{spelled} does not go with {kind}.", hint=f"Besides the URL it takes {takes}."
            )


def required(destination: Destination, name: str, why: str) -> str:
    """Give a member that is a key, a token or the like: visible ASCII without spaces.

    Raises:
        Invalid: it is missing, empty or of other characters; it is named and not repeated.
    """
    value: Any = getattr(destination, name)
    spelled = next(f.encode_name for f in msgspec.structs.fields(destination) if f.name == name)
    if not value:
        raise Invalid(f"destination.{spelled} is missing.", hint=why)
    if not _VISIBLE.fullmatch(value):
        raise Invalid(
            f"destination.{spelled} has characters that it cannot have.",
            hint="Copy it whole, without spaces and line breaks.",
        )
    return str(value)


def read_endpoint(text: str) -> Address:
    """Take apart the address of a service.

    Raises:
        Invalid: it is not scheme, host and perhaps a port, nothing else.
    """
    try:
        address = parse(text)
    except Invalid:
        address = None
    if address is None or address.scheme == "file" or address.crooked or address.segments or address.query:
        raise Invalid(
            "destination.endpoint is not the address of a service.",
            hint="Use https://HOST or https://HOST:PORT.",
        )
    return address
