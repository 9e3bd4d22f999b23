"""Folders of this server: files appear under their names whole, by link where that is possible."""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

from outhaul.container.objects import name_parts
from outhaul.durable import sync
from outhaul.errors import DestinationDenied, DestinationError, DestinationMissing, DestinationRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_COPY_BYTES = 8 * 1024 * 1024


class Folder:
    """A folder below one that the operator allows; made when the first file comes."""

    def __init__(self, root: Path, folder: Path) -> None:
        self._root = root
        self._folder = folder

    # A folder has nowhere to keep a content type; it is taken because every container takes it.
    def put_file(
        self,
        name: str,
        path: Path,
        content_type: str,  # noqa: ARG002
        on_progress: Callable[[int], None] | None = None,
    ) -> None:
        size = path.stat().st_size
        with folder_failures(self._folder), self._new(name) as temporary:
            if not _linked(path, temporary):
                with path.open("rb") as source, temporary.open("xb") as copy:
                    while data := source.read(_COPY_BYTES):
                        copy.write(data)
                        if on_progress:
                            on_progress(copy.tell())
        if on_progress:
            on_progress(size)

    def put_bytes(self, name: str, data: bytes, content_type: str) -> None:  # noqa: ARG002
        with folder_failures(self._folder), self._new(name) as temporary:
            temporary.write_bytes(data)

    def try_out(self) -> None:
        """Make a file without a name where the folder is, or will be made; nothing of it stays.

        Raises:
            DestinationError: files cannot be put there.
        """
        with folder_failures(self._folder):
            there = next(path for path in (self._folder, *self._folder.parents) if path.exists())
            with tempfile.TemporaryFile(dir=there) as file:
                file.write(b"x")

    @contextmanager
    def _new(self, name: str) -> Iterator[Path]:
        """Make a temporary path that becomes `name`, durably, once it has been filled without an error."""
        target = self._folder.joinpath(*name_parts(name))
        _make_folder(self._root, target.parent)
        # Always the same name: what a killed delivery left is replaced when it is repeated.
        temporary = target.with_name(f".{target.name}.part")
        temporary.unlink(missing_ok=True)
        try:
            yield temporary
            temporary.chmod(0o644)
            sync(temporary)
            temporary.replace(target)
        finally:
            # It is also left over when both names are links to the same file: rename(2) then does nothing.
            temporary.unlink(missing_ok=True)
        sync(target.parent)


def _linked(path: Path, temporary: Path) -> bool:
    """Whether the file could be linked instead of copied: on the same file system, if that has links."""
    try:
        temporary.hardlink_to(path)
    except OSError as error:
        if error.errno in {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS}:
            return False
        raise
    return True


def _make_folder(root: Path, folder: Path) -> None:
    """Make what is missing between `root` and `folder`, durably, once no link leads elsewhere."""
    if folder.resolve() != folder:
        raise DestinationRefused(
            "A symbolic link leads out of the folder that exports may be written to.",
            hint="Remove the link, or have the folder it leads to added to OUTHAUL_DESTINATIONS.",
        )
    missing = [
        parent for parent in (folder, *folder.parents) if parent.is_relative_to(root) and not parent.exists()
    ]
    for new in reversed(missing):
        new.mkdir(exist_ok=True)
        sync(new.parent)


@contextmanager
def folder_failures(folder: Path) -> Iterator[None]:
    """Say in our words why the file system refused something in `folder`.

    Raises:
        DestinationDenied, DestinationMissing, DestinationError: by the reason it gave.
    """
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else "unknown error"
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            hint = "Let the server's user write there."
            raise DestinationDenied(
                f"The folder {folder} may not be written to ({reason}).", hint=hint
            ) from error
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DestinationError(
                f"The folder {folder} is full ({reason}).", hint="Make room there."
            ) from error
        if error.errno in {errno.ENOENT, errno.ENOTDIR}:
            hint = "Check that its path consists of folders."
            raise DestinationMissing(f"The folder {folder} is not there ({reason}).", hint=hint) from error
        raise DestinationError(
            f"The folder {folder} would not take the file ({reason}).", hint="Check the disk."
        ) from error
