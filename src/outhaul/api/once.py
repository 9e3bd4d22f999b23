"""Asking once, however often it is sent: the header that says that two requests are the same one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from outhaul.api.operations import Header
from outhaul.errors import Invalid

if TYPE_CHECKING:
    from outhaul.api.operations import Call

_KEY = re.compile(r"[\x20-\x7e]{1,255}")


def read_key(call: Call) -> str | None:
    """The key that a request came with.

    Raises:
        Invalid: it is not one.
    """
    key = call.request.headers.get("idempotency-key")
    if key is not None and not _KEY.fullmatch(key):
        raise Invalid(
            "Idempotency-Key: it is not 1 to 255 printable ASCII characters.", hint="Use a UUID, for example."
        )
    return key


def same_request(call: Call, asked: msgspec.Struct) -> str:
    """What two requests have in common that ask for the same; a secret in them cannot be found out from it."""
    return call.door.keyring.digest(msgspec.json.encode(asked, order="deterministic").decode())


def takes_key(what: str) -> Header:
    """The header, as it is documented for what it is that is asked for."""
    return Header(
        "Idempotency-Key",
        f"A text of your own, new for each new {what}. The same key again, from the same caller, gives the same {what}; "
        "with another body it is refused.",
        {"type": "string", "pattern": "^[ -~]{1,255}$"},
    )


def gives_replayed(what: str) -> Header:
    """The header of an answer that was given before."""
    return Header(
        "Idempotency-Replayed",
        f"`true` where the key was used before, and this is the {what} of then.",
        {"const": "true"},
    )
