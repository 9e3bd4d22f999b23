"""Erasing one of many while devices send, in a server that is killed on the way."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from test_export_soak import NOON, fill

from api_site import Site
from erasing import traces
from outhaul.tables import Tables
from running import Server

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.soak

ROWS = 5_000_000
DEVICES = 50_000
FILES = 10


def test_one_user_out_of_five_million_events(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", rate_per_minute="0", land_interval_ms="200")
    site = Site(server)
    fill(server.data, site.app.app_id, ROWS)
    with server:
        assert _events(site) == ROWS
        begun = time.monotonic()
        asked = site.http.post("/users/user-77:erase", json={"app": "Shop"}).json()
        number, slowest, kills = 0, 0.0, 0
        while (done := _erasure(site, asked["id"]))["state"] not in {"succeeded", "failed"}:
            # What a phone sends meanwhile is in the next answer, and soon.
            sent = time.monotonic()
            device = f"meanwhile-{number}"
            site.send([{"kind": "event", "deviceId": device, "timestamp": NOON, "name": "x"}])
            read = site.http.get(f"/apps/{site.app.app_id}/devices/{device}")
            assert read.status_code == 200, read.text
            slowest = max(slowest, time.monotonic() - sent)
            number += 1
            if kills < 2 and done["phase"] == "removing" and number > 3 * (kills + 1):
                kills += 1
                server.kill()
                server.start()
        took = time.monotonic() - begun
        assert done["state"] == "succeeded", done
        receipt = done["receipt"]
        [table] = receipt["tables"]
        assert (table["rows"], table["files"]) == (ROWS // DEVICES, FILES)
        assert _events(site) == ROWS - ROWS // DEVICES + number
        sys.stdout.write(
            f"{took:.1f} s with {kills} restarts, {receipt['bytesDeleted'] >> 20} MiB written again; "
            f"{number} devices read meanwhile, the slowest in {slowest:.2f} s\n"
        )
    assert traces(server.data, "user-77'", '"user-77"') == []


def _erasure(site: Site, erasure_id: str) -> dict[str, Any]:
    found: dict[str, Any] = site.http.get(f"/erasures/{erasure_id}").json()
    return found


def _events(site: Site) -> int:
    """How many events are stored."""
    return sum(file.rows for file in Tables(site.server.data / "tables").files(site.app.app_id, "event"))
