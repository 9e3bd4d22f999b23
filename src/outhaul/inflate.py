"""Bodies as devices compress them: which encoding it is, and inflating with a limit on what comes out.

The bytes decide, not the headers: some SDKs gzip without a Content-Encoding, and some proxies inflate and
leave the header as it was. Only zlib (`deflate`) has no magic number, so there the header is believed.
"""

from __future__ import annotations

import zlib
from typing import Literal

import zstandard

from outhaul.errors import Invalid, TooLarge

Encoding = Literal["identity", "gzip", "zstd", "deflate"]

_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_GZIP_WBITS = 31
_ZLIB_WBITS = 15
_MAX_MEMBERS = 32
"""Members of one gzip body; each costs a copy of the rest, so a small body could cost minutes."""
_ZSTD_WINDOW = 8 * 1024 * 1024
"""What RFC 8878 asks every decoder to support; a larger window only makes memory a stranger's choice."""
_ZSTD_STEP = 256
"""Compressed bytes inflated at a time: a block of 128 KiB can take as few as 4 of them."""


def sniff(body: bytes, content_encoding: bytes = b"") -> Encoding:
    """How a body is compressed. `content_encoding` is the header's value, and matters for `deflate` only."""
    if body.startswith(_GZIP_MAGIC):
        return "gzip"
    if body.startswith(_ZSTD_MAGIC):
        return "zstd"
    if content_encoding and content_encoding.strip().lower() == b"deflate":
        return "deflate"
    return "identity"


def inflate(body: bytes, encoding: Encoding, limit: int) -> bytes:
    """Inflate a body, to at most `limit` bytes; never much more than that is held in memory.

    Raises:
        TooLarge: there would be more than `limit` bytes.
        Invalid: it is not of that encoding, is cut short, or something follows it.
    """
    if encoding == "identity":
        inflated = body
    elif encoding == "zstd":
        inflated = _unzstd(body, limit)
    else:
        inflated = _unzip(body, _GZIP_WBITS if encoding == "gzip" else _ZLIB_WBITS, limit)
    if len(inflated) > limit:
        raise _too_large(limit)
    return inflated


def _unzip(body: bytes, wbits: int, limit: int) -> bytes:
    inflated = b""
    rest = body
    for _ in range(_MAX_MEMBERS if wbits == _GZIP_WBITS else 1):
        stream = zlib.decompressobj(wbits)
        try:
            piece = stream.decompress(rest, limit + 1 - len(inflated))
        except zlib.error:
            break
        inflated = inflated + piece if inflated else piece
        if len(inflated) > limit:
            raise _too_large(limit)
        if not stream.eof:
            break
        rest = stream.unused_data
        if not rest:
            return inflated
    raise _not_whole("gzip" if wbits == _GZIP_WBITS else "zlib")


def _unzstd(body: bytes, limit: int) -> bytes:
    window = max(limit, _ZSTD_WINDOW)
    stream = zstandard.ZstdDecompressor(max_window_size=window).decompressobj()
    pieces = []
    size = 0
    try:
        for start in range(0, len(body), _ZSTD_STEP):
            if stream.eof:
                break
            piece = stream.decompress(body[start : start + _ZSTD_STEP])
            size += len(piece)
            if size > limit:
                raise _too_large(limit)
            pieces.append(piece)
    except zstandard.ZstdError:
        raise _not_whole("zstd") from None
    if not stream.eof or stream.unused_data or len(pieces) * _ZSTD_STEP < len(body):
        raise _not_whole("zstd")
    return b"".join(pieces)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The body inflates to more than {limit} bytes.", hint="Send fewer records at a time.")


def _not_whole(name: str) -> Invalid:
    return Invalid(
        f"The body is not one whole {name} stream.", hint="Send it again, compressed once and unchanged."
    )
