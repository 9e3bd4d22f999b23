"""What comes in compressed: which encoding it is, and inflating with a limit on what comes out at a time.

The bytes decide, not the headers: some SDKs gzip without a Content-Encoding, and some proxies inflate and
leave the header as it was. Only zlib (`deflate`) has no magic number, so there the header is believed.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Literal

import zstandard

from outhaul.errors import Invalid, TooLarge

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

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
_ZSTD_FILE_WINDOW = 128 * 1024 * 1024
"""What the zstd program takes without being told to."""
_GZIP_STEP = 16 * 1024
"""Compressed bytes inflated at a time: what follows the end of a member is copied for the next."""
_GZIP_PIECE = 1024 * 1024


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


def inflating(pieces: Iterable[bytes], encoding: Encoding) -> Iterator[bytes]:
    """Inflate a file, a few MiB at a time at most; one that was put together from several is read whole.

    Raises:
        Invalid: it is not of that encoding, or is cut short.
    """
    if encoding == "identity":
        yield from pieces
    elif encoding == "zstd":
        yield from _unzstding(_steps(pieces, _ZSTD_STEP))
    else:
        yield from _unzipping(_steps(pieces, _GZIP_STEP))


def _steps(pieces: Iterable[bytes], size: int) -> Iterator[bytes]:
    for piece in pieces:
        for start in range(0, len(piece), size):
            yield piece[start : start + size]


def _unzipping(steps: Iterator[bytes]) -> Iterator[bytes]:
    stream = zlib.decompressobj(_GZIP_WBITS)
    try:
        for step in steps:
            rest = step
            while rest:
                if stream.eof:
                    if not rest.strip(b"\0"):
                        # Tapes and some tools fill up the last block.
                        break
                    stream = zlib.decompressobj(_GZIP_WBITS)
                yield stream.decompress(rest, _GZIP_PIECE)
                rest = stream.unused_data or stream.unconsumed_tail
        yield stream.flush()
    except zlib.error:
        raise _file_not_whole("gzip") from None
    if not stream.eof:
        raise _file_not_whole("gzip")


def _unzstding(steps: Iterator[bytes]) -> Iterator[bytes]:
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_FILE_WINDOW)
    stream = decompressor.decompressobj()
    try:
        for step in steps:
            rest = step
            while rest:
                if stream.eof:
                    stream = decompressor.decompressobj()
                yield stream.decompress(rest)
                rest = stream.unused_data
    except zstandard.ZstdError:
        raise _file_not_whole("zstd") from None
    if not stream.eof:
        raise _file_not_whole("zstd")


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


def _file_not_whole(name: str) -> Invalid:
    return Invalid(f"The file is not whole as {name}.", hint="Compress it again, or upload it again.")
