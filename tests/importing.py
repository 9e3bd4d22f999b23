"""Imports carried out in the test's own process, or in one that dies at a chosen point, on what a landing site holds."""

from __future__ import annotations

import os
import signal
import threading
import time
import uuid
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from outhaul import journal
from outhaul.config import Config
from outhaul.container import Sources, describe_source
from outhaul.errors import OuthaulError
from outhaul.intake import importer as importing
from outhaul.intake.importer import Importer
from outhaul.keys import Keyring
from outhaul.ledger.ledger import Ledger
from outhaul.tables import Devices, Tables
from outhaul.wire import Import, Source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from landing import Site

_context = get_context("forkserver")
_context.set_forkserver_preload(["importing"])


class Bench:
    """Asks for imports of files below `folder` into a site's app, and carries them out."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site = site
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.keyring = Keyring.open(site.data, "")
        # A clock that goes on: what is received later is later.
        self.ahead = site.now + 1 - _clock()
        self.importer = make(site.data, folder, self.ahead)

    def ask(self, content: bytes, **members: Any) -> Import:
        """Put a file there, and ask for its import."""
        path = self.folder / f"{uuid.uuid4().hex}.txt"
        path.write_bytes(content)
        source = Source(url=f"file://{path}")
        fields: dict[str, Any] = {
            "id": str(uuid.uuid4()),
            "app_id": self.site.app.app_id,
            "format": "auto",
            "source": self.keyring.seal(source),
            "source_shown": describe_source(source),
            "state": "queued",
            "created_at": self.site.now,
            "mark": self.site.roll(),
        }
        return self.site.ledger.create_import(Import(**fields | members))

    def path(self, asked: Import) -> Path:
        return self.folder / asked.source_shown.rpartition("/")[2]

    def find(self, asked: Import) -> Import:
        return self.site.ledger.find_import(asked.id)

    def carry_out(self, asked: Import, during: Callable[[], None] = lambda: None) -> Import:
        """Work through the steps as the worker would, while what is offered lands; how it ended."""
        attempt = self.find(asked).attempt

        def work() -> None:
            try:
                for name in self.importer.steps:
                    getattr(self.importer, name)(asked.id, attempt)
            except OuthaulError as error:
                self.importer.fail(asked.id, attempt, error)

        thread = threading.Thread(target=work)
        thread.start()
        while thread.is_alive():
            during()
            self.site.land()
            time.sleep(0.01)
        return self.find(asked)

    def run(self, content: bytes, **members: Any) -> Import:
        return self.carry_out(self.ask(content, **members))

    def tags(self) -> dict[str, dict[str, str]]:
        """The tags of all devices as they are now."""
        self.site.land()
        app_id = self.site.app.app_id
        devices = Devices(Tables(self.site.data / "tables"))
        versions = self.site.ledger.checkpoint().versions.get(app_id, {})
        found = devices.page(app_id, versions, "", 100_000)
        return {one.device_id: {key: tag.value for key, tag in one.tags.items()} for one in found}


def _clock() -> int:
    return time.time_ns() // 1_000_000


def make(data: Path, folder: Path, ahead: int) -> Importer:
    config = Config({"OUTHAUL_DESTINATIONS": f"file://{folder}/"})
    sources = Sources(config.destinations)
    return Importer(data, Ledger(data), config, Keyring.open(data, ""), sources, lambda: _clock() + ahead)


def crash(bench: Bench, asked: Import, point: tuple[str, int], lines: int) -> None:
    """Begin and apply in a process that dies around its n-th offer, or around its n-th word to the ledger."""
    where = (bench.site.data, bench.folder, bench.ahead, asked.id, point, lines)
    process = _context.Process(target=_apply, args=where)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL, f"{point} was never reached"


def _apply(data: Path, folder: Path, ahead: int, import_id: str, point: tuple[str, int], lines: int) -> None:
    importing._CHUNK_LINES = lines  # type: ignore[attr-defined]  # noqa: SLF001
    worker = make(data, folder, ahead)
    worker.begin(import_id, 1)
    where, number = point
    if where == "fsync":
        os.fsync = _counted(os.fsync, number)
    elif where == "offered":
        journal.offer = _counted(journal.offer, number)
    else:
        Ledger.update_import = _counted(Ledger.update_import, number)  # type: ignore[method-assign]
    worker.apply(import_id, 1)


def _counted(call: Callable[..., Any], number: int) -> Callable[..., Any]:
    """The same call, but the process dies with the n-th made."""
    calls = 0

    def counted(*args: Any, **named: Any) -> Any:
        nonlocal calls
        result = call(*args, **named)
        calls += 1
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return counted
