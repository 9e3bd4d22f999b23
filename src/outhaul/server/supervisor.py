"""Starts the two processes, starts them again when they die, stops them when asked."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import threading
import time
from pathlib import Path  # noqa: TC003  msgspec resolves it at run time
from typing import TYPE_CHECKING

from msgspec import Struct

from outhaul.errors import Invalid
from outhaul.server import front, worker

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.context import SpawnProcess
    from multiprocessing.synchronize import Event
    from types import FrameType

    from outhaul.config import Config

log = logging.getLogger(__name__)

_CHECK_S = 0.2
_RESTART_S = 1.0
_STOP_S = 30.0


class Address(Struct, frozen=True):
    """Where to listen, and with what certificate."""

    host: str
    port: int
    tls_cert: Path | None
    tls_key: Path | None


def serve(
    data: Path, host: str, port: int, tls_cert: Path | None, tls_key: Path | None, config: Config
) -> int:
    """Run everything until SIGTERM or SIGINT; the exit code.

    Raises:
        Invalid: a certificate without its key, or either missing.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    _check_tls(tls_cert, tls_key)
    data = data.resolve()
    # What devices sent and what clients are allowed is nobody else's to read.
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    address = Address(host, port, tls_cert, tls_key)
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    stopping = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    start: dict[str, Callable[[], SpawnProcess]] = {
        "front": lambda: context.Process(target=front.run, args=(data, address, config, ready), name="front"),
        "worker": lambda: context.Process(target=worker.run, args=(data, config), name="worker"),
    }
    return _Supervision(start, ready, stopping).run()


class _Supervision:
    def __init__(
        self, start: dict[str, Callable[[], SpawnProcess]], ready: Event, stopping: threading.Event
    ) -> None:
        self._start = start
        self._ready = ready
        self._stopping = stopping
        self._running: dict[str, SpawnProcess] = {}

    def run(self) -> int:
        for name in self._start:
            self._launch(name)
        code = 0
        while not self._stopping.wait(_CHECK_S):
            for name, process in list(self._running.items()):
                if process.is_alive():
                    continue
                # What fails before anything ever worked is a mistake in how it was started: say so and end.
                if not self._ready.is_set():
                    code = process.exitcode or 1
                    self._stopping.set()
                    break
                log.error("the %s ended with code %s; starting it again", name, process.exitcode)
                time.sleep(_RESTART_S)
                self._launch(name)
        self._stop()
        return code

    def _launch(self, name: str) -> None:
        process = self._start[name]()
        process.start()
        self._running[name] = process

    def _stop(self) -> None:
        """Both at once: what the front still takes in waits in the journal for the next start."""
        for process in self._running.values():
            if process.is_alive():
                process.terminate()
        for name, process in self._running.items():
            process.join(_STOP_S)
            if process.is_alive():
                log.error("the %s did not stop in %.0f s; killing it, which loses nothing", name, _STOP_S)
                process.kill()
                process.join()


def _check_tls(cert: Path | None, key: Path | None) -> None:
    if (cert is None) != (key is None):
        raise Invalid("Only one of --tls-cert and --tls-key was given.", hint="TLS needs both, as PEM files.")
    for path in (cert, key):
        if path is not None and not path.is_file():
            raise Invalid(f"There is no file {path}.", hint="Give the path of a PEM file.")
