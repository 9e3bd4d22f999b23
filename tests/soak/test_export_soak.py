"""Fifty kills while everything runs; and exports much larger than the memory they may take."""

from __future__ import annotations

import itertools
import random
import sys
import threading
import time
from pathlib import Path

import duckdb
import pytest

from asking import App, folder_files, proven, read
from outhaul.client import Collector
from outhaul.land import state
from outhaul.ledger.landing import Checkpoint
from outhaul.ledger.ledger import Ledger
from outhaul.tables import NewFile, Tables
from running import Server

pytestmark = pytest.mark.soak

NOON = 1_772_366_400_000
DAY = ("2026-03-01", "2026-03-01")
KILLS = 50
FILE_ROWS = 500_000
ISO = "%Y-%m-%dT%H:%M:%S.%gZ"


class Sender(threading.Thread):
    """Sends without a pause, again and again the same until it is acknowledged; `sent` holds the ids that were."""

    def __init__(self, app: App) -> None:
        super().__init__(daemon=True)
        self._app = app
        self._stop_asked = threading.Event()
        self.sent: list[str] = []

    def run(self) -> None:
        url, key = self._app.server.url, self._app.sdk_key
        # It counts the pauses it asks for, not those it gets: with short ones its patience must be long.
        with Collector(url, key, patience_s=1e9, sleep=lambda _: time.sleep(0.1)) as collector:
            for batch in itertools.count():
                if self._stop_asked.is_set():
                    return
                ids = [f"{batch}-{number}" for number in range(100)]
                collector.send(
                    {"kind": "event", "id": own, "deviceId": f"d{n}", "timestamp": NOON + batch, "name": "x"}
                    for n, own in enumerate(ids)
                )
                self.sent += ids
                time.sleep(0.02)

    def stop(self) -> None:
        assert self.is_alive()
        self._stop_asked.set()
        self.join(60)
        assert not self.is_alive()


def test_fifty_kills_lose_and_double_nothing(tmp_path):
    """Killed at random while devices send, batches land and exports run: each export holds what it must, once."""
    out = tmp_path / "out"
    out.mkdir()
    settings = {"destinations": f"file://{out}/", "land_interval_ms": "100", "slice_rows": "1000"}
    server = Server(tmp_path / "data", **settings, mark_bytes="100000", segment_bytes="200000")
    app = App(server)
    server.start()
    sender = Sender(app)
    sender.start()
    chance = random.Random(0)
    asked: dict[str, int] = {}
    for _ in range(KILLS):
        acknowledged = len(sender.sent)
        asked[app.create("events", f"file://{out}/", days=DAY)] = acknowledged
        time.sleep(chance.uniform(0, 2.5))
        server.kill()
        server.start()
    sender.stop()
    asked[app.create("events", f"file://{out}/", days=DAY)] = len(sender.sent)
    for task_id, acknowledged in asked.items():
        task = app.wait(task_id, 300)
        assert task["state"] == "Succeeded", task
        ids = [row["eventId"] for row in read(proven(folder_files(out), task))[1]]
        assert len(set(ids)) == len(ids)
        assert set(ids) >= set(sender.sent[:acknowledged])
    assert sorted(ids) == sorted(sender.sent)
    assert server.stop() == 0
    assert len(folder_files(out)) == 2 * len(asked)


def fill(data: Path, app_id: str, rows: int) -> None:
    """Events of one day as landing leaves them, made in bulk."""
    tables, db = Tables(data / "tables"), duckdb.connect()
    db.execute("SET TimeZone = 'UTC'")
    for number, first in enumerate(range(0, rows, FILE_ROWS)):
        last = min(rows, first + FILE_ROWS)
        relative = f"day={DAY[0]}/{number:06d}.parquet"
        file = tables.folder(app_id, "event") / relative
        file.parent.mkdir(parents=True, exist_ok=True)
        # Every file covers the whole day, so that sorting must draw from all of them.
        db.execute(f"""COPY (
            SELECT md5('d' || (i % 50000)) AS "deviceId", 'user-' || (i % 50000) AS "userId",
                '3.1.0' AS "applicationVersionName", NULL::VARCHAR AS "sessionId", md5('e' || i) AS "eventId",
                epoch_ms({NOON} + (i * 7919) % 43000000)::TIMESTAMPTZ AS timestamp, 'event_' || (i % 50) AS name,
                'standalone' AS kind, NULL::VARCHAR AS "jobId", NULL::VARCHAR AS "jobName",
                NULL::VARCHAR AS "activityName", '{{"sku":"A' || (i % 1000) || '","text":"' || md5('x' || i) || '"}}' AS extras,
                epoch_ms({NOON})::TIMESTAMPTZ AS "receivedAt", 'native' AS protocol,
                NULL::VARCHAR AS "sdkName", NULL::VARCHAR AS "sdkVersion"
            FROM range({first}, {last}) t(i) ORDER BY timestamp, "deviceId", "eventId"
        ) TO '{file}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 61440)""")
        low, high = db.execute(
            f"SELECT strftime(min(timestamp), '{ISO}'), strftime(max(timestamp), '{ISO}') FROM read_parquet('{file}')"
        ).fetchone()
        size = file.stat().st_size
        new = NewFile(relative, size, last - first, low, high, NOON, DAY[0])
        version = tables.append(app_id, "event", [new], 1)
    versions = {app_id: {"event": version}}
    (data / "land").mkdir(exist_ok=True)
    with duckdb.connect(str(data / "land" / "state.duckdb")) as known:
        state.prepare(known, 1)
        state.begin(known, 1)
        state.finish(known, 1, versions, NOON)
    Ledger(data).save_checkpoint(Checkpoint(1, versions, NOON))


def peak_mib(server: Server) -> int:
    """The most memory that one of the server's processes ever held."""
    peaks = []
    for pid in server.children():
        status = Path(f"/proc/{pid}/status").read_text()
        peaks.append(int(status.split("VmHWM:")[1].split()[0]) // 1024)
    return max(peaks)


def test_memory_does_not_grow_with_the_export(tmp_path):
    """Ten times the rows take about as much memory, and less than 1 GiB, whatever the format."""
    peaks = {}
    for rows in (1_000_000, 10_000_000):
        root = tmp_path / str(rows)
        out = root / "out"
        out.mkdir(parents=True)
        server = Server(root / "data", destinations=f"file://{out}/")
        app = App(server)
        fill(root / "data", app.app_id, rows)
        with server:
            for form in ("JsonBlob", "CsvBlob"):
                begun = time.monotonic()
                task = app.wait(app.create("events", f"file://{out}/", form, days=DAY), 900)
                took = time.monotonic() - begun
                assert task["state"] == "Succeeded", task
                peaks[rows, form] = peak_mib(server)
                size = sum(path.stat().st_size for path in out.iterdir()) >> 20
                sys.stdout.write(
                    f"{rows} rows, {form}: {took:.1f} s, {size} MiB, peak {peaks[rows, form]} MiB\n"
                )
                for path in out.iterdir():
                    if path.suffix != ".json" or "manifest" not in path.name:
                        with path.open("rb") as file:
                            lines = sum(
                                part.count(b"\n") for part in iter(lambda f=file: f.read(1 << 20), b"")
                            )
                        assert lines == rows + (2 if form == "JsonBlob" else 1)
                    path.unlink()
    assert max(peaks.values()) < 1024, peaks
    assert peaks[10_000_000, "JsonBlob"] < 1.5 * peaks[1_000_000, "JsonBlob"], peaks
