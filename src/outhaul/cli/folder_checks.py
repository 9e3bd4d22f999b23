"""What `outhaul doctor` looks at in a data folder, with the server running or not."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
from typing import TYPE_CHECKING

from outhaul import config
from outhaul.cli.findings import Check, Finding, look
from outhaul.cli.folder import check_exists, now, opened, server_room
from outhaul.cli.output import duration, instant, size

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PRIVATE = 0o077
_LITTLE = 10**9
_FEW = 10 * _LITTLE
_WAITING_MS = 60_000
"""What has waited longer than this should have landed."""


def check_folder(data: Path) -> Iterator[Check]:
    """Look at a data folder; what comes after it turns out to be none is not looked at."""
    folder = look("data folder", lambda: _folder(data))
    yield folder
    if folder.result == "fail":
        return
    yield look("disk", lambda: _disk(data))
    yield look("settings", _settings)
    yield look("secret key", lambda: _secret_key(data))
    yield look("ledger", lambda: _ledger(data))
    yield look("worker", lambda: _worker(data))
    yield look("journal", lambda: _journal(data))


def _folder(data: Path) -> Finding:
    check_exists(data)
    mode = data.stat().st_mode & 0o777
    if mode & _PRIVATE:
        return Finding("fail", f"{data} can be read by others (mode {mode:o})", f"chmod 700 {data}")
    return Finding("ok", f"{data.resolve()}, for its owner only")


def _disk(data: Path) -> Finding:
    free = shutil.disk_usage(data).free
    detail = f"{size(free)} free"
    cure = "Make room, or move the folder: an export needs room for its file before it is delivered."
    if free < _LITTLE:
        return Finding("fail", detail, cure)
    return Finding("warn", detail, cure) if free < _FEW else Finding("ok", detail)


def _settings() -> Finding:
    settings = config.from_environment()
    server_room("container").Destinations(settings.destinations)
    return Finding("ok", "all can be understood, as this shell has them; destinations too")


def _secret_key(data: Path) -> Finding:
    configured = config.from_environment().secret_key
    path = data / "secret.key"
    if not configured and not path.exists():
        return Finding("ok", "none yet: the server makes one when it starts")
    server_room("keys").Keyring.open(data, configured)
    if configured:
        return Finding("ok", "from OUTHAUL_SECRET_KEY")
    mode = path.stat().st_mode & 0o777
    if mode & _PRIVATE:
        return Finding("fail", f"{path} can be read by others (mode {mode:o})", f"chmod 600 {path}")
    return Finding("ok", f"{path}, for its owner only")


def _ledger(data: Path) -> Finding:
    with opened(data) as ledger:
        apps, unfinished = len(ledger.apps()), len(ledger.unfinished_tasks())
    return Finding("ok", f"opens; apps: {apps}, exports unfinished: {unfinished}")


def _worker(data: Path) -> Finding:
    stopped = Finding("warn", "no server works on this folder", f"outhaul serve --data {data}")
    with contextlib.suppress(FileNotFoundError), (data / "worker.lock").open("rb") as file:
        try:
            # Let go of at once; a server that starts at this very moment tries again.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return Finding("ok", "a server works on this folder")
    return stopped


def _journal(data: Path) -> Finding:
    with opened(data) as ledger:
        checkpoint = ledger.checkpoint()
    folder = data / "journal"
    closed = [segment.path for segment in server_room("journal").segments(folder, checkpoint.position)]
    count, oldest = 0, now()
    for path in (*closed, *folder.glob("*.open")):
        with contextlib.suppress(FileNotFoundError):  # it has landed, or was closed, meanwhile
            status = path.stat()
            count += status.st_size
            oldest = min(oldest, int(status.st_mtime * 1000))
    landed = "nothing has landed yet"
    if checkpoint.landed_at:
        ago = duration((now() - checkpoint.landed_at) / 1000)
        landed = f"last landed {instant(checkpoint.landed_at)}, {ago} ago"
    if not count:
        return Finding("ok", f"nothing waits to land; {landed}")
    detail = f"{size(count)} wait to land; {landed}"
    if now() - oldest > _WAITING_MS:
        return Finding("warn", detail, "Let the server run; its log says why, if landing fails.")
    return Finding("ok", detail)
