"""Retention: what is kept no longer goes by the day or by the device, and no pinned export notices."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from erasing import maintainer, traces, work
from exporting import Bench
from landing import DAY, Site, T, activity, activity_end, error, event, every_kind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from outhaul.wire import RetainedKind

HOUR = 3_600_000


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path / "data")
    yield site
    site.close()


def retain(site: Site, **days: int) -> None:
    """Set retention and have it applied."""
    kept: dict[RetainedKind, int] = dict(days)  # type: ignore[assignment]
    site.ledger.set_retention(site.app.app_id, kept)
    assert work(site, maintainer(site))


def days_of(site: Site, table: str, column: str) -> list[int]:
    """How many days after T the rows of a table are of."""
    return sorted({(row[column] - T) // DAY for row in site.rows(table)})


def test_whole_days_go_once_all_of_a_day_is_old_enough(site: Site) -> None:
    for day in range(5):
        site.now = T + day * DAY
        site.batch(event("d", f"e{day}", T + day * DAY), error("d", f"r{day}", T + day * DAY))
    site.now = T + 4 * DAY
    retain(site, event=2)
    # T is at half past six in the evening: the day two days ago is not over for two days.
    assert days_of(site, "event", "timestamp") == [2, 3, 4]
    assert days_of(site, "error", "timestamp") == [0, 1, 2, 3, 4]
    [entry] = [one for one in site.ledger.audit(10) if one.action == "retention.apply"]
    assert (entry.actor, entry.target, entry.app_id) == ("server", "event", site.app.app_id)


def test_ends_go_with_what_they_end(site: Site) -> None:
    site.batch(activity("d", "a", T))
    site.batch(activity_end("d", T + 1000))
    assert site.rows("activity_end")
    site.now = T + 10 * DAY
    retain(site, activity=3)
    assert site.rows("activity") == []
    assert site.rows("activity_end") == []


def test_feedback_goes_row_by_row(site: Site) -> None:
    shared = {"kind": "feedback", "campaignType": "Poll", "campaignId": "1", "status": "pushed"}
    site.now = T + 3 * DAY
    site.batch(*({**shared, "deviceId": f"d{n}", "id": f"f{n}", "timestamp": T + n * DAY} for n in range(4)))
    retain(site, feedback=1)
    assert [row["deviceId"] for row in site.rows("feedback")] == ["d2", "d3"]


def test_devices_not_seen_go_with_all_that_is_said_of_them(site: Site) -> None:
    site.batch(*every_kind("old-device"))
    site.now = T + 40 * DAY
    site.batch(*({**record, **_later(record)} for record in every_kind("new-device")))
    retain(site, device=30)
    for table in ("device", "tag", "token"):
        assert {row["deviceId"] for row in site.rows(table)} == {"new-device"}, table
    assert {row["deviceId"] for row in site.rows("user")} == {"new-device"}
    # Its events are of another kind.
    assert {row["deviceId"] for row in site.rows("event")} == {"old-device", "new-device"}
    left = traces(site.data / "land", "old-device")
    assert left == []
    # What landing knew of it is forgotten: nobody says now whose it was.
    site.batch(event("old-device", "again", site.now))
    [row] = [row for row in site.rows("event") if row["eventId"] == "again"]
    assert row["userId"] is None


def _later(record: dict[str, object]) -> dict[str, object]:
    times = ("timestamp", "startTime", "endTime")
    return {name: value + 40 * DAY for name in times if isinstance(value := record.get(name), int)}


def test_a_pinned_export_reads_on_and_the_next_one_has_less(site: Site, tmp_path: Path) -> None:
    bench = Bench(site, tmp_path / "out")
    # Noon six days ago: deleting compares with the real time.
    start = time.time_ns() // 1_000_000 // DAY * DAY - 6 * DAY + DAY // 2
    for day in range(5):
        site.now = start + day * DAY + HOUR
        site.batch(*(event("d", f"e{day}-{n}", start + day * DAY + n) for n in range(20)))
    request = {"kind": "event", "format": "jsonl", "period": None}
    undisturbed = bench.export(**request)
    pinned = bench.ask(**request)
    bench.exporter.pin(pinned, 1)
    site.ledger.set_retention(site.app.app_id, {"event": 2})
    site.config.keep_versions_hours = 0
    keeper = maintainer(site)
    assert work(site, keeper)
    site.now += 2 * HOUR
    site.batch(event("d", "later", site.now))
    assert work(site, keeper)
    assert len(bench.rows(**request)) == 61
    done = bench.carry_out(pinned)
    assert done.state == "succeeded", done.failures
    [name] = [name for name in undisturbed if name != "manifest.json"]
    [mine] = tmp_path.glob(f"out/*{pinned}.jsonl")
    assert mine.read_bytes() == undisturbed[name]
    # Nobody reads it any more.
    site.now += 2 * HOUR
    assert work(site, keeper)
    assert len({path.parent.name for path in site.folder("event").rglob("*.parquet")}) == 3


def test_it_is_applied_once_in_an_hour(site: Site) -> None:
    site.batch(event("d", "e", T))
    keeper = maintainer(site)
    assert work(site, keeper)
    site.ledger.set_retention(site.app.app_id, {"event": 1})
    site.now = T + HOUR + 59 * 60_000
    assert work(site, keeper)
    assert site.rows("event")
    site.now = T + 10 * DAY
    assert work(site, keeper)
    assert site.rows("event") == []
