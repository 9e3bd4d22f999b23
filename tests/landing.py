"""A data folder that records are sent to and landed in, and its tables as a Delta reader of others sees them."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import polars as pl

from outhaul.config import Config
from outhaul.journal import Header, Journal
from outhaul.land.lander import Lander
from outhaul.ledger.ledger import Ledger

if TYPE_CHECKING:
    from pathlib import Path

    from outhaul.ledger.ledger import App

T = 1_795_458_386_000
"""2026-11-23 18:26:26 UTC: when things happen in these tests."""
DAY = 24 * 3600 * 1000


class Site:
    """One data folder with a journal and a lander; `now` is the clock of both."""

    def __init__(self, data: Path, **environment: str) -> None:
        self.data = data
        self.now = T + 3600_000
        self.config = Config(environment)
        self.ledger = Ledger(data)
        known = [app for app in self.ledger.apps() if app.name == "Shop"]
        self.app: App = known[0] if known else self.ledger.create_app("Shop", "web", 1)
        self._runner = asyncio.Runner()
        self._journal = self._runner.run(self._open_journal())
        self.lander = self._open_lander()

    async def _open_journal(self) -> Journal:
        return Journal(
            self.data / "journal",
            first=self.ledger.checkpoint().position,
            segment_bytes=1 << 25,
            max_pending_bytes=1 << 28,
            max_journal_bytes=1 << 34,
        )

    def _open_lander(self) -> Lander:
        return Lander(self.data, self.ledger, self.config, lambda: self.now)

    def send(self, *records: dict[str, Any], app: App | None = None) -> None:
        """One request with these records, in the native protocol."""
        self.send_body(json.dumps({"records": records}).encode(), app=app)

    def send_body(self, body: bytes, *, app: App | None = None, **header: Any) -> None:
        fields = {"app_id": (app or self.app).app_id, "protocol": "native", "received_at": self.now, **header}
        self._runner.run(self._journal.append(Header(**fields), body))

    def roll(self) -> int:
        return self._runner.run(self._journal.roll())

    def land(self) -> None:
        """Land all that was sent, in one batch where it fits."""
        self.roll()
        while self.lander.land():
            pass

    def batch(self, *records: dict[str, Any]) -> None:
        """Send these records and land them by themselves."""
        self.send(*records)
        self.land()

    def restart(self) -> None:
        """A new lander, as after a restart of the server."""
        self.lander.close()
        self.lander = self._open_lander()

    def close(self) -> None:
        self.lander.close()
        self._runner.run(self._journal.close())
        self._runner.close()
        self.ledger.close()

    def folder(self, table: str, app: App | None = None) -> Path:
        return self.data / "tables" / (app or self.app).app_id / table

    def frame(self, table: str, app: App | None = None) -> pl.DataFrame:
        """All rows of a table, as Polars reads them."""
        folder = self.folder(table, app)
        return pl.scan_delta(str(folder)).collect() if folder.exists() else pl.DataFrame()

    def rows(self, table: str, app: App | None = None) -> list[dict[str, Any]]:
        """All rows of a table, times in ms, sorted by their text."""
        return sorted(map(plain, self.frame(table, app).to_dicts()), key=str)

    def contents(self) -> dict[str, list[dict[str, Any]]]:
        """Every table of every app."""
        apps = {app.app_id: app for app in self.ledger.apps()}
        return {
            f"{name}/{table.name}": self.rows(table.name, app)
            for name, app in sorted(apps.items())
            for table in sorted((self.data / "tables" / name).glob("*"))
        }


def plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row with its times as ms since 1970."""
    return {
        name: round(value.timestamp() * 1000) if hasattr(value, "timestamp") else value
        for name, value in row.items()
    }


def by(rows: list[dict[str, Any]], name: str) -> dict[Any, dict[str, Any]]:
    """Rows by one of their columns, which must tell them apart."""
    found = {row[name]: row for row in rows}
    assert len(found) == len(rows)
    return found


def activity(device: str, identity: str, time: int, name: str = "Home", **more: Any) -> dict[str, Any]:
    return {
        "kind": "activity",
        "deviceId": device,
        "id": identity,
        "startTime": time,
        "name": name,
        **more,
    }


def activity_end(device: str, time: int, **more: Any) -> dict[str, Any]:
    return {"kind": "activityEnd", "deviceId": device, "timestamp": time, **more}


def event(device: str, identity: str, time: int, **more: Any) -> dict[str, Any]:
    return {"kind": "event", "deviceId": device, "id": identity, "timestamp": time, "name": "tap", **more}


def error(device: str, identity: str, time: int, **more: Any) -> dict[str, Any]:
    return {"kind": "error", "deviceId": device, "id": identity, "timestamp": time, "name": "oops", **more}


def crash(device: str, identity: str, time: int, **more: Any) -> dict[str, Any]:
    return {"kind": "crash", "deviceId": device, "id": identity, "timestamp": time, "type": "NPE", **more}


def heartbeat(device: str, time: int, **more: Any) -> dict[str, Any]:
    return {"kind": "heartbeat", "deviceId": device, "timestamp": time, **more}
