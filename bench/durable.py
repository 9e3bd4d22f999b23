"""The collector as it is, over a journal in the folder named by BENCH_DATA."""

import os
import time
from pathlib import Path

from outhaul.collect import Apps, Collect
from outhaul.config import Config
from outhaul.journal import Journal
from outhaul.ledger.ledger import Ledger

collect = None


def now():
    return time.time_ns() // 1_000_000


async def app(scope, receive, send):
    global collect  # noqa: PLW0603  an ASGI app has no other place for what it makes at startup
    if scope["type"] != "lifespan":
        await collect(scope, receive, send)
        return
    await receive()
    data = Path(os.environ["BENCH_DATA"])
    config = Config(os.environ)
    journal = Journal(
        data / "journal",
        first=0,
        segment_bytes=config.segment_bytes,
        max_pending_bytes=config.max_pending_bytes,
        max_journal_bytes=config.max_journal_bytes,
    )
    collect = Collect(journal, Apps(Ledger(data)), config, now)
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await journal.close()
    await send({"type": "lifespan.shutdown.complete"})
