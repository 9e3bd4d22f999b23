"""Compression of a file as it grows, in blocks, so that it is known after each how large the file is.

Both are streams of one member: readers that stop at the first member read all. The same bytes in give the same bytes
out: blocks are cut by size alone. The only import of isal, which makes gzip several times faster than zlib.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

import zstandard
from isal import isal_zlib

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from outhaul.wire import Compression

BLOCK = 128 * 1024
"""Bytes compressed at a time."""
_LEVEL = 1
_GZIP_WINDOW = 31
_READ = 1024 * 1024

Codec = Literal["gzip", "zstd"]


class Compressor(Protocol):
    """One stream: blocks in order, then the end."""

    def block(self, data: bytes | memoryview) -> bytes:
        """All that the stream has to say up to and including this block."""

    def end(self, data: bytes | memoryview) -> bytes:
        """The last of the data, and the stream's end."""


def bound(size: int) -> int:
    """The most bytes that `size` bytes can add to a stream, its frame included."""
    return size + size // 128 + 1024


class _Gzip:
    def __init__(self) -> None:
        self._stream = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, _GZIP_WINDOW)

    def block(self, data: bytes | memoryview) -> bytes:
        return self._stream.compress(data) + self._stream.flush(isal_zlib.Z_SYNC_FLUSH)

    def end(self, data: bytes | memoryview) -> bytes:
        return self._stream.compress(data) + self._stream.flush()


class _Zstd:
    def __init__(self) -> None:
        self._stream = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compressobj()

    def block(self, data: bytes | memoryview) -> bytes:
        return self._stream.compress(data) + self._stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)

    def end(self, data: bytes | memoryview) -> bytes:
        return self._stream.compress(data) + self._stream.flush()


def compressor(codec: Codec) -> Compressor:
    """A new stream."""
    return _Gzip() if codec == "gzip" else _Zstd()


def decompressed(codec: Codec, path: Path, size: int) -> Iterator[bytes]:
    """What the first `size` bytes of a file say, as far as its stream had got by then."""
    decompress: Callable[[bytes], bytes] = (
        isal_zlib.decompressobj(_GZIP_WINDOW).decompress
        if codec == "gzip"
        else zstandard.ZstdDecompressor().decompressobj().decompress
    )
    with path.open("rb") as file:
        while size and (part := file.read(min(_READ, size))):
            size -= len(part)
            yield decompress(part)


def codec(compression: Compression) -> Codec | None:
    """How a text file is compressed, if at all."""
    return compression if compression == "gzip" or compression == "zstd" else None  # noqa: PLR1714  a narrowing mypy knows
