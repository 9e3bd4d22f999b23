"""The process that talks: collects from devices, answers clients. It never moves data itself."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import uvloop
from granian.constants import Interfaces, SSLProtocols
from granian.server.embed import Server

from outhaul.api.access import Access
from outhaul.api.app import Api
from outhaul.api.events import WATCHERS
from outhaul.api.operations import PREFIX
from outhaul.api.operations import Door as ApiDoor
from outhaul.azme.door import Door
from outhaul.collect import Apps, Collect, serves
from outhaul.container import Destinations, Sources
from outhaul.devices import Register
from outhaul.errors import Busy, Conflict
from outhaul.export.history import History
from outhaul.journal import Journal
from outhaul.keys import Keyring
from outhaul.ledger.ledger import Ledger
from outhaul.server.process import begin, explained, now, patiently
from outhaul.tables import Devices, Tables

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from multiprocessing.synchronize import Event
    from pathlib import Path

    from outhaul.config import Config
    from outhaul.server.supervisor import Address

    App = Callable[
        [dict[str, Any], Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]
    ]
    Mark = Callable[[], Awaitable[int]]

log = logging.getLogger(__name__)

_BACKLOG = 1024
_LOOK_S = 0.5
_PATIENT = 8
"""Threads that wait for other people's servers, so that nobody else has to."""


def run(data: Path, address: Address, config: Config, ready: Event) -> None:
    """Serve until SIGTERM."""
    begin()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, explained(log):
        runner.run(_serve(data, address, config, ready))


async def _serve(data: Path, address: Address, config: Config, ready: Event) -> None:
    ledger = Ledger(data)
    installation = ledger.installation(now())
    journal = patiently(lambda: _journal(data, ledger, config), Conflict)
    _check_port(address)
    apps = Apps(ledger)
    collect = Collect(journal, apps, config, now)
    keyring = Keyring.open(data, config.secret_key)
    register = Register(Devices(Tables(data / "tables")), ledger, journal, now)
    sources = Sources(config.destinations)
    destinations = Destinations(config.destinations)
    door = Door(ledger, keyring, config, destinations, journal.roll, register, now, sources=sources)
    stopping = asyncio.Event()
    api = _api(
        data, ledger, keyring, config, mark=journal.roll, register=register, apps=apps, stopping=stopping
    )
    server = Server(
        _router(collect, api, door, config),
        address=address.host,
        port=address.port,
        interface=Interfaces.ASGINL,
        websockets=False,
        backlog=_BACKLOG,
        log_enabled=False,
        ssl_cert=address.tls_cert,
        ssl_key=address.tls_key,
        # Phones and clients from the old API's days speak nothing newer.
        ssl_protocol_min=SSLProtocols.tls12,
    )

    def started() -> None:
        ready.set()
        scheme = "https" if address.tls_cert else "http"
        log.info(
            "listening on %s://%s:%d, tenant %s", scheme, address.host, address.port, installation.tenant_id
        )

    server.on_startup(started)

    stop: Callable[[], None] = server.stop

    def end() -> None:
        # Streams of events would go on for as long as what they are of.
        stopping.set()
        stop()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end)
    rolling = asyncio.create_task(_roll(journal, config.land_interval_ms / 1000))
    try:
        await server.serve()
    finally:
        rolling.cancel()
        await journal.close()


def _api(
    data: Path,
    ledger: Ledger,
    keyring: Keyring,
    config: Config,
    *,
    mark: Mark,
    register: Register,
    apps: Apps,
    stopping: asyncio.Event,
) -> Api:
    return Api(
        ApiDoor(
            access=Access(ledger, keyring, config, now),
            ledger=ledger,
            keyring=keyring,
            config=config,
            destinations=Destinations(config.destinations, downloads=data / "downloads"),
            sources=Sources(config.destinations),
            tables=Tables(data / "tables"),
            devices=register,
            histories=History(data, ledger, config, register.versions, now),
            downloads=data / "downloads",
            mark=mark,
            apps_changed=apps.look_again,
            now=now,
            patient=ThreadPoolExecutor(_PATIENT, "patient"),
            watchers=asyncio.Semaphore(WATCHERS),
            stopping=stopping,
        )
    )


def _check_port(address: Address) -> None:
    """Refuse a port that somebody listens on: the server would share it with them, and devices' requests too."""
    try:
        family, *_, place = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        socket.create_server(place[:2], family=family).close()
    except OSError as error:
        # Python repeats the address after the reason.
        reason = str(error.strerror).partition(" (")[0]
        raise Conflict(
            f"Cannot listen on {address.host}:{address.port}: {reason}.",
            hint="Choose another --host or --port, or stop what listens there.",
        ) from None


def _journal(data: Path, ledger: Ledger, config: Config) -> Journal:
    return Journal(
        data / "journal",
        first=ledger.checkpoint().position,
        segment_bytes=config.segment_bytes,
        max_pending_bytes=config.max_pending_bytes,
        max_journal_bytes=config.max_journal_bytes,
    )


async def _roll(journal: Journal, interval_s: float) -> None:
    """Hand over to landing what came in: at once after a quiet time, else once per interval."""
    clock = asyncio.get_running_loop().time
    position, rolled_at = -1, 0.0
    while True:
        await asyncio.sleep(min(_LOOK_S, interval_s))
        if clock() - rolled_at < interval_s:
            continue
        try:
            reached = await journal.roll()
        except Busy as error:
            log.warning("%s", error)
            continue
        if reached != position:
            position, rolled_at = reached, clock()


def _router(collect: App, api: App, door: App, config: Config) -> App:
    """Devices' paths to `collect`, those of our own API to it, `/healthz` here, everything else to the old API."""
    prefix = urlsplit(config.public_url).path.rstrip("/")

    async def route(scope: dict[str, Any], receive: Any, send: Any) -> None:
        path = scope["path"]
        if prefix and path.startswith(f"{prefix}/"):
            path = path[len(prefix) :]
        if serves(path):
            scope["path"] = path
            await collect(scope, receive, send)
        elif path == PREFIX or path.startswith(f"{PREFIX}/"):
            scope["path"] = path
            await api(scope, receive, send)
        elif path == "/healthz":
            await _healthy(send)
        else:
            await door(scope, receive, send)

    return route


async def _healthy(send: Callable[[Any], Awaitable[None]]) -> None:
    body = b'{"status":"ok"}'
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
