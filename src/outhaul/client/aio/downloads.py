"""Files that the server keeps → a folder: several at a time, each continued after an interruption, all proven."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from outhaul.client.aio.running import in_thread, side_by_side, sleep
from outhaul.client.files import Downloaded, PartFile, Proof
from outhaul.client.requests import quoted
from outhaul.client.shown import check_kept
from outhaul.errors import Busy, Damaged

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import httpx2

    from outhaul.client.aio.connection import Connection
    from outhaul.rest import Export
    from outhaul.wire import FileEntry

_PARTIAL = 206


async def download(connection: Connection, export: Export, folder: Path, at_once: int) -> Downloaded:
    """Fetch an export's files that are not in the folder yet, its manifest last.

    Raises:
        Invalid: its files are not kept by the server, or it is not done.
        NotFound: they are no longer kept.
        Damaged: what arrived is not what was exported.
        Busy: the server could not be reached for longer than patience lasts; what has arrived stays.
    """
    check_kept(export)
    above = f"/exports/{quoted(export.id)}/files"
    proof = Proof(folder, export)
    content = proof.content()
    if content is None:
        content = await connection.content(f"{above}/{proof.path.name}")
    manifest = proof.read(content)

    async def fetch(entry: FileEntry, stopped: Callable[[], bool]) -> Path:
        with PartFile(folder, entry) as part:
            if not await in_thread(part.is_there):
                await _fetch(connection, f"{above}/{quote(entry.name)}", part, stopped)
            return part.path

    paths = await side_by_side(fetch, manifest.files, at_once)
    proof.keep(content)
    return Downloaded(manifest, paths)


async def _fetch(connection: Connection, path: str, part: PartFile, stopped: Callable[[], bool]) -> None:
    await in_thread(part.begin)
    while True:
        continued = part.size > 0
        await _fill(connection, path, part, stopped)
        if stopped() or await in_thread(part.finish):
            return
        damaged = part.damaged()
        if not continued:
            raise damaged
        # What was there from before may be at fault: once more, all of it.


async def _fill(connection: Connection, path: str, part: PartFile, stopped: Callable[[], bool]) -> None:
    patience = connection.patience()
    while part.size < part.entry.bytes:
        headers = {}
        if part.size:
            headers = {"Range": f"bytes={part.size}-", "If-Range": f'"{part.entry.sha256}"'}
        try:
            async with connection.stream(path, headers) as response:
                if part.size and not _goes_on(response, part.size):
                    await in_thread(part.restart)
                # Gathered into larger pieces, the last of them would be lost with the connection.
                async for piece in response.aiter_raw():
                    await in_thread(part.write, piece)
                    patience.renew()
                    if stopped():
                        return
        except Busy as error:
            await sleep(patience.pause(error))
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
