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
FACTS = {
    "phoneModel": "P8",
    "phoneManufacturer": "Acme",
    "firmwareVersion": "14",
    "firmwareName": "android",
    "androidAPILevel": 34,
    "carrierCountry": "fr",
    "locale": "fr-FR",
    "carrierName": "Tel",
    "networkType": "wifi",
    "networkSubtype": "LTE",
    "applicationVersionName": "3.1.0",
    "applicationVersionCode": 2**53 + 1,
    "timeZoneOffset": -90,
    "serviceVersion": "9",
}
EXTRAS = {"a": 'x"y\n', "b": [1, 2.5, None, {"c": "é😀"}], "n": 2**53 + 1}


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


def every_kind(device: str = "d1") -> list[dict[str, Any]]:
    """At least one record of each kind, of one device."""
    shared: dict[str, Any] = {"deviceId": device, "timestamp": T}
    push = {"campaignType": "Poll", "campaignId": "42"}
    session = {"deviceId": device, "sessionId": "s9"}
    return [
        {"kind": "device", **shared, **FACTS, "infoId": "i1", "nativePushEnabled": True},
        {
            "kind": "location",
            **shared,
            "countrycode": "fr",
            "region": "Île",
            "locality": "Paris",
            "locationId": "l1",
        },
        {"kind": "tag", **shared, "id": "t1", "key": "userid", "value": "u1"},
        {"kind": "tag", **shared, "id": "t2", "key": "plan", "value": None},
        {"kind": "token", **shared, "id": "k1", "token": "tok", "service": "gcm"},
        {"kind": "token", **shared, "id": "k2", "token": "old", "service": "adm", "valid": False},
        activity(device, "a1", T, extras=EXTRAS),
        event(device, "e1", T + 100, extras=EXTRAS, userId="someone"),
        activity(device, "a2", T + 5000, "Cart"),
        error(device, "r1", T + 6000),
        crash(device, "c1", T + 7000, stackTrace="at x\n" * 1000),
        heartbeat(device, T + 7500),
        activity_end(device, T + 8000),
        {"kind": "job", "deviceId": device, "id": "j1", "startTime": T, "name": "sync", "extras": EXTRAS},
        event(device, "e2", T + 200, jobId="j1"),
        {"kind": "jobEnd", "deviceId": device, "jobId": "j1", "timestamp": T + 9000},
        event(device, "e3", T + 300, standalone=True),
        {"kind": "sessionStart", **session, "timestamp": T, "networkType": "3g", "locationId": "l1"},
        {"kind": "sessionEnd", **session, "timestamp": T + 60, "endReason": "timeout"},
        {
            "kind": "session",
            "deviceId": device,
            "id": "s8",
            "startTime": T,
            "endTime": T + 70,
            "eventCount": 9,
        },
        {
            "kind": "feedback",
            **shared,
            "id": "f1",
            **push,
            "status": "content-actioned",
            "answers": {"q": "c"},
        },
        {"kind": "feedback", **shared, "id": "f2", **push, "campaignName": "Sale", "status": "pushed"},
    ]


def on_screen(site: Site, kind: str = "event") -> dict[str, str | None]:
    return {row[f"{kind}Id"]: row["activityName"] for row in site.rows(kind)}


def ends(site: Site, kind: str = "activity") -> dict[str, int | None]:
    """When each activity or job ended, in ms after T, as an export would say."""
    late = {row[f"{kind}Id"]: row["endTime"] for row in site.rows(f"{kind}_end")}
    assert len(late) == len(site.rows(f"{kind}_end"))
    found = {}
    for identity, row in by(site.rows(kind), f"{kind}Id").items():
        assert not (row["endTime"] and identity in late)
        end = row["endTime"] or late.get(identity)
        found[identity] = None if end is None else end - T
    return found


def spans(site: Site) -> list[tuple[int, int, int, int, int]]:
    """Start and end of each session in ms after T, and its counts, with what every landing said added up."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in site.rows("session"):
        found.setdefault(f"{row['deviceId']} {row['sessionId']}", []).append(row)
    return sorted(
        (
            rows[0]["startTime"] - T,
            max(row["lastTime"] for row in rows) - T,
            sum(row["activityCount"] for row in rows),
            sum(row["eventCount"] for row in rows),
            sum(row["errorCount"] for row in rows),
        )
        for rows in found.values()
    )
