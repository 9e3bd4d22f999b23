# Made from the module of the same name in `aio` by `python -m outhaul.client.generate`; edit that one.
"""Files that the server keeps → a folder: several at a time, each continued after an interruption, all proven."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from outhaul.client.files import Downloaded, PartFile
from outhaul.client.requests import quoted
from outhaul.client.shown import check_kept
from outhaul.client.sync.running import in_thread, side_by_side, sleep
from outhaul.errors import Busy, Damaged
from outhaul.wire import Manifest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import httpx2

    from outhaul.client.sync.connection import Connection
    from outhaul.rest import Export
    from outhaul.wire import FileEntry

_PIECE_BYTES = 256 * 1024
_PARTIAL = 206


def download(connection: Connection, export: Export, folder: Path, at_once: int) -> Downloaded:
    """Fetch an export's files that are not in the folder yet.

    Raises:
        Invalid: its files are not kept by the server, or it is not done.
        NotFound: they are no longer kept.
        Damaged: what arrived is not what was exported.
        Busy: the server could not be reached for longer than patience lasts; what has arrived stays.
    """

    def fetch(entry: FileEntry, stopped: Callable[[], bool]) -> Path:
        path = f"/exports/{quoted(export.id)}/files/{quote(entry.name)}"
        with PartFile(folder, entry) as part:
            if not in_thread(part.is_there):
                _fetch(connection, path, part, stopped)
            return part.path

    proof = fetch(check_kept(export), lambda: False)
    manifest = _read_manifest(proof, export)
    return Downloaded(manifest, side_by_side(fetch, manifest.files, at_once))


def _read_manifest(path: Path, export: Export) -> Manifest:
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except msgspec.DecodeError as error:
        raise Damaged(
            f"The manifest of the export {export.id} cannot be understood: {error}.",
            hint="Check that this package is not older than the server.",
        ) from error
    if manifest.task_id != export.id:
        raise Damaged(
            f"The manifest of the export {export.id} is that of {manifest.task_id}.",
            hint="Check that the URL is that of your Outhaul server.",
        )
    return manifest


def _fetch(connection: Connection, path: str, part: PartFile, stopped: Callable[[], bool]) -> None:
    in_thread(part.begin)
    while True:
        continued = part.size > 0
        _fill(connection, path, part, stopped)
        if stopped() or in_thread(part.finish):
            return
        damaged = part.damaged()
        if not continued:
            raise damaged
        # What was there from before may be at fault: once more, all of it.


def _fill(connection: Connection, path: str, part: PartFile, stopped: Callable[[], bool]) -> None:
    patience = connection.patience()
    while part.size < part.entry.bytes:
        headers = {}
        if part.size:
            headers = {"Range": f"bytes={part.size}-", "If-Range": f'"{part.entry.sha256}"'}
        try:
            with connection.stream(path, headers) as response:
                if part.size and not _goes_on(response, part.size):
                    in_thread(part.restart)
                for piece in response.iter_raw(_PIECE_BYTES):
                    in_thread(part.write, piece)
                    patience.renew()
                    if stopped():
                        return
        except Busy as error:
            sleep(patience.pause(error))
        else:
            return


def _goes_on(response: httpx2.Response, size: int) -> bool:
    """Whether an answer begins where the file ends so far, rather than with the whole."""
    begins = response.headers.get("Content-Range", "").startswith(f"bytes {size}-")
    if response.status_code == _PARTIAL and not begins:
        raise Damaged(
            "The server sent another range of a file than was asked for.",
            hint="Check proxies between here and the server.",
        )
    return response.status_code == _PARTIAL
