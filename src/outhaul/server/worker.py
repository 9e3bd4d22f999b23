"""The process that moves data: lands the journal, carries out exports."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

from outhaul.container import Destinations, Sources
from outhaul.errors import Conflict
from outhaul.export import counting
from outhaul.export.exporter import Exporter
from outhaul.intake.importer import Importer
from outhaul.jobs import Jobs, Work
from outhaul.keys import Keyring
from outhaul.land.lander import Lander
from outhaul.ledger.ledger import Ledger
from outhaul.maintain import Maintainer
from outhaul.server.process import begin, explained, lock, now, patiently

if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType

    from outhaul.config import Config
    from outhaul.wire import Due

log = logging.getLogger(__name__)

_LOOK_S = 0.1
_SWEEP_S = 60.0
_FAILED_S = 5.0
_IMPORTS = 2
"""Imports that run at the same time, all apps together."""


def run(data: Path, config: Config) -> None:
    """Work until SIGTERM."""
    begin()
    stopping = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with explained(log), patiently(lambda: lock(data / "worker.lock"), Conflict):
        # Held: two workers on one folder would carry out the same exports, into the same files.
        _work(data, config, stopping)


def _work(data: Path, config: Config, stopping: threading.Event) -> None:
    ledger = Ledger(data)
    keyring = Keyring.open(data, config.secret_key)
    exporter = Exporter(
        data,
        ledger,
        config,
        keyring,
        Destinations(config.destinations, downloads=data / "downloads"),
        now,
    )
    exports = Work(
        {name: getattr(exporter, name) for name in exporter.steps},
        exporter.fail,
        at_once=config.export_concurrency,
        per_app=config.export_concurrency_per_app,
    )
    importer = Importer(data, ledger, config, keyring, Sources(config.destinations), now)
    imports = Work(
        {name: getattr(importer, name) for name in importer.steps},
        importer.fail,
        at_once=_IMPORTS,
        per_app=1,
    )
    jobs = Jobs(data, config, {"exports": exports, "imports": imports})
    exporter.clear_spill()
    # A daemon: when this thread fails the process must end, so that it is started again whole.
    maintainer = Maintainer(data, ledger, config, keyring, counting.count, now)
    landing = threading.Thread(
        target=_land, args=(data, ledger, config, maintainer, stopping), name="landing", daemon=True
    )
    landing.start()
    jobs.start()
    swept = -_SWEEP_S
    while not stopping.wait(_LOOK_S):
        if time.monotonic() >= swept + _SWEEP_S:
            swept = time.monotonic()
            exporter.sweep()
            importer.sweep()
        for task in _due(ledger.unfinished_tasks(), config.export_concurrency_per_app):
            jobs.enqueue("exports", task)
        for task in _due(ledger.unfinished_imports(), 1):
            jobs.enqueue("imports", task)
    landing.join()
    # Exports under way are taken up again by the next start; waiting for their threads could take hours.
    logging.shutdown()
    os._exit(0)


def _due(tasks: list[Due], per_app: int) -> list[Due]:
    """The oldest few of each app: the queue orders what it holds by whole seconds only, then at random."""
    due, counts = [], Counter[str]()
    for task in tasks:
        counts[task.app_id] += 1
        if counts[task.app_id] <= max(1, per_app):
            due.append(task)
    return due


def _land(
    data: Path, ledger: Ledger, config: Config, maintainer: Maintainer, stopping: threading.Event
) -> None:
    while not stopping.is_set():
        lander = None
        try:
            lander = patiently(lambda: Lander(data, ledger, config, now), Conflict)
            while not stopping.is_set():
                landed = lander.land()
                # One small step: what devices send next must not wait for more.
                if not maintainer.turn(lander, landed=landed) and not landed:
                    stopping.wait(_LOOK_S)
        except Exception:
            # The journal keeps what was not landed; a new lander repeats the batch from what is durable.
            log.exception("landing failed; trying again in %.0f s", _FAILED_S)
            stopping.wait(_FAILED_S)
        finally:
            if lander is not None:
                lander.close()
