"""What the journal's files are made of: frames, one per request."""

from __future__ import annotations

import os
import zlib
from struct import Struct as Packing
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from outhaul.inflate import Encoding  # noqa: TC001  msgspec resolves it at run time

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

_PREFIX = Packing("<II")
_HEADER_LENGTH = Packing("<I")


class Header(Struct, frozen=True, omit_defaults=True, rename="camel"):
    """What the journal keeps beside the body of a request. `received_at` is in ms since 1970 UTC."""

    app_id: str
    protocol: str
    received_at: int
    encoding: Encoding = "identity"
    device_id: str | None = None
    user_agent: str = ""


_encode_header = msgspec.json.Encoder().encode
_decode_header = msgspec.json.Decoder(Header).decode


def framed(header: Header, body: bytes) -> tuple[bytes, bytes]:
    """A frame, in two pieces to be written one after the other."""
    encoded = _encode_header(header)
    head = _HEADER_LENGTH.pack(len(encoded)) + encoded
    return _PREFIX.pack(len(head) + len(body), zlib.crc32(body, zlib.crc32(head))) + head, body


def scan(file: BinaryIO) -> Iterator[tuple[int, Header, bytes]]:
    """Each frame's end, header and body, from the start of a file to the first that is not whole."""
    left = os.fstat(file.fileno()).st_size
    end = 0
    while left >= _PREFIX.size:
        length, checksum = _PREFIX.unpack(file.read(_PREFIX.size))
        left -= _PREFIX.size + length
        if left < 0 or length < _HEADER_LENGTH.size:
            return
        content = file.read(length)
        if zlib.crc32(content) != checksum:
            return
        start = _HEADER_LENGTH.size + _HEADER_LENGTH.unpack_from(content)[0]
        try:
            header = _decode_header(content[_HEADER_LENGTH.size : start])
        except msgspec.MsgspecError:
            return
        end += _PREFIX.size + length
        yield end, header, content[start:]
