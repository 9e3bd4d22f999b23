"""JSON as devices really write it: read without surprises, mended where it is only half broken."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from outhaul.errors import Invalid

ITEM_LIMIT = 50_000
"""Records or messages in one body."""
JSON_ERRORS = (msgspec.MsgspecError, ValueError, RecursionError)
"""Everything that reading hostile JSON raises: not JSON, not UTF-8, too deep, a number too long."""

# Reading costs some 50 bytes for each value, however short: this many is what a full batch may need.
_VALUE_LIMIT = 1_000_000

_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder()
_encoder = msgspec.json.Encoder()
# Escapes are read one at a time from the left, so that the second half of `\\` never starts one.
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
_REPLACEMENT = rb"\ufffd"


def mend(body: bytes) -> bytes:
    r"""Put U+FFFD wherever half of a surrogate pair is escaped, as in `"\ud83d"`.

    JavaScript and Java cut strings between the two halves of an emoji and escape what is left. No valid
    text holds it, and refusing it would cost the whole batch, because SDKs drop what is refused.
    """
    return _ESCAPE.sub(lambda match: _REPLACEMENT if match[1] else match[0], body)


def check_crowd(body: bytes) -> None:
    """Refuse, before it is read, a body that would take far more memory than its size: `[0,0,0,...]`.

    Raises:
        Invalid: it holds over a million values.
    """
    if len(body) > _VALUE_LIMIT and body.count(b",") > _VALUE_LIMIT:
        raise Invalid(f"The body holds over {_VALUE_LIMIT} values.", hint="Send fewer records at a time.")


def check_count(count: int) -> None:
    """Refuse a body with too many items.

    Raises:
        Invalid: there are over `ITEM_LIMIT`.
    """
    if count > ITEM_LIMIT:
        raise Invalid(f"The body holds {count} items.", hint=f"Send up to {ITEM_LIMIT} at a time.")


def read(text: bytes | msgspec.Raw) -> Any:
    """What the JSON says.

    Raises:
        one of `JSON_ERRORS`.
    """
    return _decoder.decode(text)


def write(value: Any) -> str:
    """The value as JSON text, without spaces."""
    return _encoder.encode(value).decode()


def plain(value: Any) -> str | None:
    """A tag's value as text: strings as they are, null as none, everything else as JSON."""
    if value is None or isinstance(value, str):
        return value
    return write(value)


def text_of(body: bytes | msgspec.Raw) -> str:
    r"""Bytes from outside as text that can be stored; those that are not UTF-8 show as `\xff`."""
    return bytes(body).decode("utf-8", "backslashreplace")
