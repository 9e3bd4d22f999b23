"""The door for the old API's clients as a server of its own: real but for one thing, no export ever runs."""

from __future__ import annotations

import os
import time
from pathlib import Path

from outhaul.azme.door import Door
from outhaul.config import Config
from outhaul.container import Destinations, Sources
from outhaul.devices import Register
from outhaul.journal import Journal
from outhaul.keys import Keyring
from outhaul.ledger.ledger import Ledger
from outhaul.tables import Devices, Tables

DATA = Path(os.environ["AZME_DATA"])
config = Config(os.environ)


async def _mark():
    return 0


def _now():
    return time.time_ns() // 1_000_000


_ledger = Ledger(DATA)
# Another server may be on the same folder.
_journal = Journal(
    DATA / f"journal-{os.getpid()}",
    first=0,
    segment_bytes=config.segment_bytes,
    max_pending_bytes=config.max_pending_bytes,
    max_journal_bytes=config.max_journal_bytes,
)
_door = Door(
    _ledger,
    Keyring.open(DATA, config.secret_key),
    config,
    Destinations(config.destinations),
    _mark,
    Register(Devices(Tables(DATA / "tables")), _ledger, _journal, _now),
    _now,
    sources=Sources(config.destinations),
)


async def app(scope, receive, send):
    """The door, with a list of what it was asked: one line of method and target for each request."""
    with (DATA / "requests.log").open("a") as log:
        target = scope["raw_path"].decode() if scope.get("raw_path") else scope["path"]
        log.write(f"{scope['method']} {target}?{scope['query_string'].decode()}\n")
    await _door(scope, receive, send)
