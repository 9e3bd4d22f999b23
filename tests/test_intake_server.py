"""Imports by a real server from a real storage emulator, killed on the way: exact counts, every tag once."""

from __future__ import annotations

import gzip
import json
import random
import time
import urllib.request
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from outhaul.client import Collector
from outhaul.container import describe_source
from outhaul.keys import Keyring
from outhaul.ledger.ledger import Ledger
from outhaul.wire import ENDED, Import, Source
from running import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from azurite import Azurite
    from outhaul.ledger.ledger import App

T = 1_795_458_386_000
FAULTY = {
    "malformed": '{"deviceId": "d0000001", "tags": {"plan": "gold"}',
    "unknown_device": '{"deviceId": "nobody", "tags": {"plan": "gold"}}',
    "unknown_user": '{"userId": "nobody", "tags": {"plan": "gold"}}',
    "tag_invalid": '{"deviceId": "d0000001", "tags": {"the plan": "gold"}}',
}


class Campaign:
    """A server with an app of so many devices, and a file with a line for each and faulty ones in between."""

    def __init__(self, server: Server, azurite: Azurite, devices: int, faulty: int) -> None:
        self.server = server
        self.devices = devices
        self.faulty = faulty
        self.peaks: dict[int, int] = {}
        self.ledger = Ledger(server.data)
        self.app: App = self.ledger.create_app("Shop", "ios", T)
        self._azurite = azurite
        with Collector(server.url, self.app.sdk_key) as collector:
            collector.send(
                {"kind": "event", "deviceId": f"d{n:07d}", "id": f"e{n}", "timestamp": T, "name": "tap"}
                for n in range(devices)
            )
        while self._rows("device").is_empty() or self._rows("device").height < devices:
            time.sleep(0.2)

    def lines(self) -> Iterator[str]:
        rng = random.Random(5)
        bad = set(rng.sample(range(self.devices + self.faulty), self.faulty))
        kinds = list(FAULTY.values())
        order = list(range(self.devices))
        rng.shuffle(order)
        good = iter(order)
        for number in range(self.devices + self.faulty):
            if number in bad:
                yield kinds[number % len(kinds)]
            else:
                device = f"d{next(good):07d}"
                yield json.dumps({"deviceId": device, "tags": {"plan": f"of {device}"}})

    def upload(self, *, packed: bool) -> Source:
        name = f"imports-{uuid.uuid4().hex[:8]}"
        content = "\n".join(self.lines()).encode()
        if packed:
            content = gzip.compress(content, 1)
        base, _, token = self._azurite.container(name, "rwl").partition("?")
        headers = {"x-ms-blob-type": "BlockBlob", "x-ms-version": "2021-08-06"}
        request = urllib.request.Request(f"{base}/tags.txt?{token}", content, headers, method="PUT")
        urllib.request.urlopen(request, timeout=120).close()
        base, _, token = self._azurite.address(name, "r").partition("?")
        return Source(url=f"{base}/tags.txt?{token}")

    def ask(self, source: Source) -> str:
        sealed = Keyring.open(self.server.data, "").seal(source)
        return self.ledger.create_import(
            Import(
                id=str(uuid.uuid4()),
                app_id=self.app.app_id,
                format="auto",
                source=sealed,
                source_shown=describe_source(source),
                state="queued",
                created_at=time.time_ns() // 1_000_000,
                mark=0,
            )
        ).id

    def wait(self, import_id: str, kill_at: list[int], timeout_s: float) -> Import:
        """Look until it has ended, and kill the server when it has applied so many lines."""
        deadline = time.monotonic() + timeout_s
        waiting = sorted(kill_at)
        while (found := self.ledger.find_import(import_id)).state not in ENDED:
            assert time.monotonic() < deadline, f"{found}\n{self.server.log.read_text()[-3000:]}"
            if waiting and found.state == "started" and found.lines_done >= waiting[0]:
                del waiting[0]
                self.measure()
                self.server.kill()
                self.server.start()
            time.sleep(0.01)
        self.measure()
        assert not waiting
        return found

    def measure(self) -> None:
        """Note the most memory that each of the server's processes has held, in KiB."""
        for pid in self.server.children():
            status = Path(f"/proc/{pid}/status").read_text()
            self.peaks[pid] = int(status.partition("VmHWM:")[2].split()[0])

    def check(self, found: Import) -> None:
        assert found.state == "succeeded", found
        assert found.lines_applied == found.tags_set == self.devices
        assert set(found.rejected) == set(FAULTY)
        assert sum(found.rejected.values()) == self.faulty
        assert found.bytes_done == found.bytes_total
        tags = self._rows("tag")
        assert tags.height == tags["deviceId"].n_unique() == self.devices
        assert tags.filter(pl.col("value") != "of " + pl.col("deviceId")).is_empty()
        assert tags["key"].unique().to_list() == ["plan"]

    def _rows(self, table: str) -> pl.DataFrame:
        folder = self.server.data / "tables" / self.app.app_id / table
        return pl.scan_delta(str(folder)).collect() if (folder / "_delta_log").exists() else pl.DataFrame()


def settings(azurite: Azurite, **more: Any) -> dict[str, str]:
    return {"destinations": f"{azurite.url}/", "land_interval_ms": "500", **more}


def test_killed_once_on_the_way(tmp_path: Path, azurite: Azurite) -> None:
    with Server(tmp_path / "data", **settings(azurite)) as server:
        campaign = Campaign(server, azurite, 10_000, 200)
        import_id = campaign.ask(campaign.upload(packed=True))
        campaign.check(campaign.wait(import_id, [0], 60))
        assert "sig=" not in server.log.read_text()
