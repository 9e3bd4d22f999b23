"""Maintenance: what anyone reads stays the same, at any version, while files are merged and deleted."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING

import polars as pl

from outhaul.config import Config
from outhaul.export import counting
from outhaul.journal import Header, Journal
from outhaul.keys import Keyring
from outhaul.land.lander import Lander
from outhaul.ledger.ledger import Ledger
from outhaul.maintain import Maintainer
from outhaul.tables import Tables

if TYPE_CHECKING:
    from pathlib import Path

HOUR = 3600 * 1000
DAY = 24 * HOUR
# Noon of yesterday: deleting compares with the real time, and a test's events should share a day.
START = time.time_ns() // 1_000_000 // DAY * DAY - DAY // 2
CONFIG = Config({"OUTHAUL_COMPACT_FILES": "8"})


class Clock:
    def __init__(self) -> None:
        self.now = START + HOUR

    def __call__(self) -> int:
        return self.now


def land(data: Path, clock: Clock, batches: range) -> None:
    """One landing, so one file per table, for each batch: ten events and a tag, each batch a minute later."""
    ledger = Ledger(data)
    app_id = ledger.apps()[0].app_id if ledger.apps() else ledger.create_app("shop", "web", START).app_id

    async def feed(batch: int) -> None:
        journal = Journal(
            data / "journal",
            first=ledger.checkpoint().position,
            segment_bytes=1 << 20,
            max_pending_bytes=1 << 20,
            max_journal_bytes=1 << 30,
        )
        at = START + batch * 60_000
        records = [
            {
                "kind": "event",
                "deviceId": f"d{i}",
                "timestamp": at + i,
                "name": "tap",
                "extras": {"batch": batch},
            }
            for i in range(10)
        ]
        records.append(
            {"kind": "tag", "deviceId": "d0", "timestamp": at, "key": "batch", "value": str(batch)}
        )
        await journal.append(Header(app_id, "native", clock()), json.dumps(records).encode())
        await journal.roll()
        await journal.close()

    lander = Lander(data, ledger, CONFIG, clock)
    for batch in batches:
        asyncio.run(feed(batch))
        assert lander.land()
    lander.close()


def maintain(data: Path, clock: Clock, config: Config = CONFIG) -> Maintainer:
    return Maintainer(data, Ledger(data), config, Keyring.open(data, ""), counting.count, clock)


def keep(maintainer: Maintainer, data: Path, clock: Clock) -> None:
    """Everything that there is to do."""
    lander = Lander(data, Ledger(data), CONFIG, clock)
    while maintainer.turn(lander, landed=False):
        pass
    lander.close()


def rows(data: Path, table: str, version: int | None = None) -> pl.DataFrame:
    folder = data / "tables" / "web000001" / table
    return pl.scan_delta(str(folder), version=version).collect().sort(pl.all())


def test_merging_leaves_every_row_and_every_version_as_it_was(tmp_path: Path) -> None:
    clock = Clock()
    land(tmp_path, clock, range(20))
    tables = Tables(tmp_path / "tables")
    version = tables.version("web000001", "event")
    before = {name: rows(tmp_path, name) for name in ("event", "tag", "device")}
    assert len(tables.files("web000001", "event")) == 20
    maintainer = maintain(tmp_path, clock)
    keep(maintainer, tmp_path, clock)
    for name, frame in before.items():
        assert rows(tmp_path, name).equals(frame)
        assert len(tables.files("web000001", name)) == 1
    assert rows(tmp_path, "event", version).equals(before["event"])
    assert len(tables.files("web000001", "event", version)) == 20


def test_merged_files_are_sorted_and_say_what_they_hold(tmp_path: Path) -> None:
    clock = Clock()
    land(tmp_path, clock, range(10))
    maintainer = maintain(tmp_path, clock)
    keep(maintainer, tmp_path, clock)
    (file,) = Tables(tmp_path / "tables").files("web000001", "event")
    assert (file.rows, file.low, file.high) == (100, START, START + 9 * 60_000 + 9)
    times = pl.read_parquet(file.path, columns=["timestamp"])["timestamp"]
    assert times.is_sorted()


def test_landing_goes_on_after_a_merge(tmp_path: Path) -> None:
    clock = Clock()
    land(tmp_path, clock, range(10))
    maintainer = maintain(tmp_path, clock)
    keep(maintainer, tmp_path, clock)
    land(tmp_path, clock, range(5, 15))
    assert len(rows(tmp_path, "event")) == 150


def test_files_merged_away_are_deleted_only_when_no_kept_version_reads_them(tmp_path: Path) -> None:
    clock = Clock()
    land(tmp_path, clock, range(10))
    maintainer = maintain(tmp_path, clock)
    keep(maintainer, tmp_path, clock)
    clock.now += 2 * HOUR
    keep(maintainer, tmp_path, clock)
    folder = tmp_path / "tables" / "web000001" / "event"
    assert len(list(folder.rglob("*.parquet"))) == 11
    forgetful = maintain(tmp_path, clock, Config({"OUTHAUL_KEEP_VERSIONS_HOURS": "0"}))
    clock.now += 2 * HOUR
    keep(forgetful, tmp_path, clock)
    assert len(list(folder.rglob("*.parquet"))) == 1
    assert len(rows(tmp_path, "event")) == 100
