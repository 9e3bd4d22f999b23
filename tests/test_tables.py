"""The tables as others find them on disk: durable, named as one expects, pinned by version."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pytest
from deltalake import DeltaTable

from landing import DAY, Site, T, event, every_kind
from outhaul.schema import TABLES
from outhaul.tables import Tables

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.close()


def test_ls_shows_an_app_and_its_tables(site: Site) -> None:
    site.batch(*every_kind())
    tables = Tables(site.data / "tables")
    assert tables.apps() == [site.app.app_id]
    found = {path.name for path in (site.data / "tables" / site.app.app_id).iterdir()}
    assert found <= TABLES.keys()
    assert {"activity", "event", "session", "device"} <= found
    assert (site.folder("event") / "day=2026-11-23").is_dir()


def test_the_schema_on_disk_is_the_one_that_is_documented(site: Site) -> None:
    site.batch(*every_kind())
    types = {
        "string": "string",
        "json": "string",
        "time": "timestamp",
        "integer": "long",
        "boolean": "boolean",
    }
    for folder in (site.data / "tables" / site.app.app_id).iterdir():
        table = TABLES[folder.name]
        fields = DeltaTable(str(folder)).schema().fields
        expected = [(column.name, types[column.type], not column.required) for column in table.columns]
        if table.partitioned:
            expected.append(("day", "string", False))
        assert [(field.name, field.type.type, field.nullable) for field in fields] == expected


def test_a_version_never_changes(site: Site) -> None:
    tables = Tables(site.data / "tables")
    site.batch(event("d", "1", T))
    first = tables.files(site.app.app_id, "event", 1)
    site.batch(event("d", "2", T))
    assert tables.files(site.app.app_id, "event", 1) == first
    assert [file.rows for file in tables.files(site.app.app_id, "event")] == [1, 1]
    assert site.ledger.checkpoint().versions[site.app.app_id]["event"] == 2


def test_files_are_told_by_day_with_their_bounds(site: Site) -> None:
    tables = Tables(site.data / "tables")
    site.batch(*(event("d", str(at), T - at * DAY) for at in range(4)), event("d", "x", T + 7))
    app = site.app.app_id
    days = [file.day for file in tables.files(app, "event", days=("2026-11-21", "2026-11-22"))]
    assert days == ["2026-11-21", "2026-11-22"]
    newest = tables.files(app, "event", days=("2026-11-23", "2026-11-23"))
    assert [(file.rows, file.low, file.high) for file in newest] == [(2, T, T + 7)]
    assert newest[0].size == newest[0].path.stat().st_size
    (device,) = tables.files(app, "device")
    assert (device.low, device.high, device.day) == ("d", "d", None)


def test_what_was_never_landed_has_no_files(site: Site) -> None:
    tables = Tables(site.data / "tables")
    assert tables.apps() == []
    assert tables.files("nobody", "event") == []
    assert tables.landed("nobody", "event") == 0
    assert tables.version("nobody", "event") is None


def test_files_are_sorted_as_the_schema_says(site: Site) -> None:
    site.batch(*(event(f"d{at % 3}", str(at), T + at * 37 % 11) for at in range(30)))
    (file,) = Tables(site.data / "tables").files(site.app.app_id, "event")
    rows = duckdb.sql(f"SELECT epoch_ms(timestamp), deviceId, eventId FROM '{file.path}'").fetchall()
    assert rows == sorted(rows)
    assert len(rows) == 30


@pytest.mark.parametrize("name", ["it's a place", "100%", "é#&", "a+b=c", "[*]"])
def test_the_data_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    site = Site(tmp_path / name)
    site.batch(event("d", "1", T))
    site.restart()
    site.batch(event("d", "1", T), event("d", "2", T))
    files = Tables(site.data / "tables").files(site.app.app_id, "event")
    assert [(file.rows, file.path.exists()) for file in files] == [(1, True), (1, True)]
    site.close()


def test_all_that_a_batch_adds_is_on_disk_before_it_counts_as_landed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power failure takes what was not synced: files, and the names of files in their folders."""
    site = Site(tmp_path)
    synced: set[Path] = set()
    true_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        synced.add(Path(f"/proc/self/fd/{descriptor}").readlink())
        true_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    known: set[Path] = set()
    for number in range(3):
        synced.clear()
        site.send(event("d", str(number), T - number * DAY), *every_kind(f"d{number}"))
        site.roll()
        at_finish: set[Path] = set()
        finish = site.lander.finish

        def look(finish=finish, at_finish=at_finish) -> None:  # type: ignore[no-untyped-def]
            at_finish |= synced
            finish()

        site.lander.finish = look  # type: ignore[method-assign]
        site.lander.land()
        site.restart()
        tables = site.data / "tables"
        there = set(tables.rglob("*"))
        new = there - known
        assert len([path for path in new if path.suffix == ".parquet"]) >= 10
        assert {path for path in new if not path.is_dir()} <= at_finish
        assert {path.parent for path in new} <= at_finish
        if number == 0:
            assert site.data in at_finish
        known = there
    site.close()


def test_half_of_a_whole_version_is_none(site: Site) -> None:
    """A crash while the log is written down as a whole leaves a file of nearly that name."""
    for number in range(4):
        site.batch(event("d", str(number), T))
    log = site.folder("event") / "_delta_log"
    (log / f"{3:020d}.checkpoint.parquet#1").write_bytes(b"PAR1")
    tables = Tables(site.data / "tables")
    tables.trim(site.app.app_id, "event", 3)
    assert len(site.rows("event")) == 4
    tables.checkpoint(site.app.app_id, "event")
    tables.trim(site.app.app_id, "event", 4)
    assert len(site.rows("event")) == 4
    assert not list(log.glob("*#1"))
