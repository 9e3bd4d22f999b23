"""The forms that Countly's SDKs fill in: a query, a body, or both; or a body of parts, when a picture comes with it."""

from __future__ import annotations

import hashlib
import hmac
from email.errors import MessageError
from email.parser import BytesParser
from email.policy import HTTP
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_plus

from msgspec import Struct

from outhaul.errors import Invalid
from outhaul.protocols.countly_request import open_form

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHECKSUM = "checksum256"
_HEAD = 2048
_START = 200
_ENCODED = ("%7B", "%7b", "%5B", "%5b")
_parser = BytesParser(policy=HTTP)


class Form(Struct, frozen=True):
    """What a request says, all of it in the form of a query, and what its checksum was made from."""

    text: bytes
    signed: bytes
    params: dict[str, str]

    @property
    def app_key(self) -> str:
        """The app's SDK key, empty if there is none."""
        return self.params.get("app_key", "")

    def is_signed_with(self, salt: str) -> bool:
        """Whether the checksum is that of what was sent, as it was encoded, followed by the salt."""
        expected = hashlib.sha256(self.signed + salt.encode()).hexdigest()
        told = self.params.get(_CHECKSUM, "").lower()
        return hmac.compare_digest(expected.encode(), told.encode("utf-8", "replace"))


def read_form(query: bytes, body: bytes) -> Form:
    """Read a request. Files in it are left out.

    Raises:
        Invalid: it is no form.
    """
    if body.startswith(b"--") and b"form-data" in body[:_HEAD]:
        fields = list(_fields(body))
        signed = "&".join(f"{name}={value}" for name, value in fields if name != _CHECKSUM)
        if any(value.startswith(_ENCODED) for _, value in fields):
            # The web SDK fills in what it has encoded for a query already.
            fields = [(name, unquote_plus(value)) for name, value in fields]
        text = _joined(query, "&".join(f"{quote(name)}={quote(value)}" for name, value in fields).encode())
        return Form(text, signed.encode("utf-8", "replace"), open_form(text))
    text = _joined(query, body)
    named = f"{_CHECKSUM}=".encode()
    source = body if named in body else query
    signed_pairs = [pair for pair in source.split(b"&") if not pair.startswith(named)]
    return Form(text, b"&".join(signed_pairs), open_form(text))


def key_in(query: bytes, start: bytes) -> str:
    """The SDK key in a request of which only the start is there, or that is broken; empty if it is not to be found."""
    for part in (query, start):
        for pair in part.split(b"&"):
            name, _, value = pair.partition(b"=")
            if name == b"app_key":
                return unquote_plus(value[:_START].decode("latin-1"))
    return ""


def _joined(query: bytes, body: bytes) -> bytes:
    return b"&".join(part for part in (query, body) if part)


def _fields(body: bytes) -> Iterator[tuple[str, str]]:
    """The parts that are no files, by name."""
    boundary = body[2:].partition(b"\r\n")[0][:_START]
    head = b'Content-Type: multipart/form-data; boundary="' + boundary + b'"\r\n\r\n'
    try:
        message = _parser.parsebytes(head + body)
        for part in message.iter_parts():
            disposition = part["content-disposition"]
            name = disposition.params.get("name") if disposition is not None else None
            content = part.get_payload(decode=True)
            if name and part.get_filename() is None and isinstance(content, bytes):
                yield str(name), content.decode("utf-8", "replace")
    except (MessageError, ValueError, LookupError, AttributeError, TypeError, IndexError) as error:
        raise Invalid(
            f"The parts of the body cannot be read: {error}.", hint="Send what the SDK sends."
        ) from None
