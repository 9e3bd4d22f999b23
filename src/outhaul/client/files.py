"""Files of an export on their way to a folder: continued where they stopped, in place only once they are proven."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple, Self

import msgspec

from outhaul.errors import Damaged
from outhaul.formats import manifest_name
from outhaul.wire import Manifest

if TYPE_CHECKING:
    from io import BufferedRandom

    from outhaul.rest import Export
    from outhaul.wire import FileEntry

_READ_BYTES = 1024 * 1024


class Downloaded(NamedTuple):
    """An export in a folder: its manifest, and its files in the manifest's order."""

    manifest: Manifest
    paths: list[Path]


class Proof:
    """The manifest, in a folder: put there last, so that where it is, the export is whole."""

    def __init__(self, folder: Path, export: Export) -> None:
        self._export = export
        self.path = folder / manifest_name(export.kind, export.id)

    def content(self) -> bytes | None:
        """What is there from an earlier time."""
        return self.path.read_bytes() if self.path.is_file() else None

    def keep(self, content: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(f"{self.path.name}.part")
        part.write_bytes(content)
        part.replace(self.path)

    def read(self, content: bytes) -> Manifest:
        """What it says.

        Raises:
            Damaged: it is not the manifest of this export.
        """
        known = self._export.manifest
        if known is not None and hashlib.sha256(content).hexdigest() != known.sha256:
            raise Damaged(
                f"The manifest of the export {self._export.id} is not the one that was written.",
                hint=f"If there is a {self.path}, remove it; else export again.",
            )
        try:
            manifest = msgspec.json.decode(content, type=Manifest)
        except msgspec.DecodeError as error:
            raise Damaged(
                f"The manifest of the export {self._export.id} cannot be understood: {error}.",
                hint="Check that this package is not older than the server.",
            ) from error
        if manifest.task_id != self._export.id:
            raise Damaged(
                f"The manifest of the export {self._export.id} is that of {manifest.task_id}.",
                hint="Check that the URL is that of your Outhaul server.",
            )
        return manifest


class PartFile:
    """One file. Its bytes are gathered beside its place, in `NAME.part`; a context manager."""

    def __init__(self, folder: Path, entry: FileEntry) -> None:
        self.entry = entry
        self.path = _place(folder, entry.name)
        self.size = 0
        self._part = self.path.with_name(f"{self.path.name}.part")
        self._file: BufferedRandom | None = None
        self._hash = hashlib.sha256()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def is_there(self) -> bool:
        """Whether it is in its place, whole; the file there is read to know that."""
        if not self.path.is_file() or self.path.stat().st_size != self.entry.bytes:
            return False
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == self.entry.sha256

    def begin(self) -> None:
        """Take up what an earlier try has left."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._part.touch()
        self._file = self._part.open("r+b")
        while piece := self._file.read(_READ_BYTES):
            self._hash.update(piece)
            self.size += len(piece)
        if self.size > self.entry.bytes:
            self.restart()

    def restart(self) -> None:
        """Forget what was written."""
        file = self._opened()
        file.seek(0)
        file.truncate()
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, piece: bytes) -> None:
        """Raises:
        Damaged: there is more than the manifest says.
        """
        if self.size + len(piece) > self.entry.bytes:
            raise self.damaged()
        self._opened().write(piece)
        self._hash.update(piece)
        self.size += len(piece)

    def finish(self) -> bool:
        """Put it in its place if its bytes are those that were exported."""
        if self.size != self.entry.bytes or self._hash.hexdigest() != self.entry.sha256:
            return False
        self._opened().close()
        self._part.replace(self.path)
        return True

    def damaged(self) -> Damaged:
        """The error that it is not what was exported; what was written goes."""
        self.restart()
        return Damaged(
            f"The file {self.entry.name} did not arrive as it was exported: its bytes or its SHA-256 differ.",
            hint="Download it again; if that does not help, export it again.",
        )

    def _opened(self) -> BufferedRandom:
        if self._file is None:
            self.begin()
        assert self._file is not None  # noqa: S101  begin opens it
        return self._file


def _place(folder: Path, name: str) -> Path:
    """Where a file of that name is in a folder; never outside."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or ":" in name:
        raise Damaged(
            f"The export has a file called {name[:200]!r}, which is no name inside a folder.",
            hint="Check that the URL is that of your Outhaul server.",
        )
    return folder.joinpath(*parts)
