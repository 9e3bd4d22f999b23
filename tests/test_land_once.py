"""A record that is sent again lands once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
import pytest

from landing import DAY, Site, T, by, error, event, every_kind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.close()


def test_a_record_sent_again_lands_once(site: Site) -> None:
    once = every_kind()
    site.send(*once, *once)
    site.send(*once)
    site.land()
    tables = ("activity", "event", "error", "crash", "job", "session", "tag", "token", "feedback")
    first = {table: site.rows(table) for table in tables}
    assert [len(rows) for rows in first.values()] == [2, 3, 1, 1, 1, 3, 2, 2, 2]
    assert by(first["session"], "sessionId").keys() >= {"s8", "s9"}
    site.batch(*once)
    site.restart()
    site.batch(*reversed(once))
    for number in range(20):
        site.batch(event("other", f"n{number}", T))
        if number % 7 == 3:
            site.restart()
    site.batch(*once)
    after = {
        table: [row for row in site.rows(table) if row["deviceId"] == "d1"]
        for table in tables
        if table != "session"
    }
    assert after == {table: rows for table, rows in first.items() if table != "session"}
    for session, rows in _sums(site).items():
        assert rows == [
            (row["activityCount"], row["eventCount"], row["errorCount"])
            for row in first["session"]
            if row["sessionId"] == session
        ]


def _sums(site: Site) -> dict[str, list[tuple[int, int, int]]]:
    frame = (
        site.frame("session")
        .group_by("sessionId")
        .agg(pl.col("activityCount", "eventCount", "errorCount").sum())
    )
    return {row[0]: [row[1:]] for row in frame.rows()}


def test_records_without_an_id_are_told_apart_by_what_they_say(site: Site) -> None:
    same = {"kind": "event", "deviceId": "d", "timestamp": T, "name": "tap"}
    site.batch(same, {**same, "extras": {"n": 1}}, {**same, "timestamp": T + 1})
    site.batch(same, {**same, "extras": {"n": 1}}, {**same, "extras": {"n": 2}})
    assert len(site.rows("event")) == 4


def test_the_same_id_of_another_device_kind_or_app_is_another_record(site: Site) -> None:
    other = site.ledger.create_app("Other", "ios", 1)
    site.batch(event("d1", "x", T), event("d2", "x", T), error("d1", "x", T))
    site.send(event("d1", "x", T), app=other)
    site.land()
    assert [row["deviceId"] for row in site.rows("event")] == ["d1", "d2"]
    assert len(site.rows("error")) == 1
    assert len(site.rows("event", other)) == 1


def test_ids_that_only_look_alike_when_joined_are_different(site: Site) -> None:
    site.batch(event("a|b", "c", T), event("a", "b|c", T), event("a|b|c", "", T) | {"id": "|"})
    assert len(site.rows("event")) == 3


def test_a_record_is_known_for_a_week_and_then_forgotten(site: Site) -> None:
    site.batch(event("d", "old", T))
    site.now += 7 * DAY
    site.batch(event("d", "old", T), event("d", "between", T))
    assert len(site.rows("event")) == 2
    site.now += DAY
    site.batch(event("d", "later", T))
    site.batch(event("d", "old", T), event("d", "between", T))
    assert sorted(row["eventId"] for row in site.rows("event")) == ["between", "later", "old", "old"]


def test_the_time_a_record_is_known_is_a_setting(tmp_path: Path) -> None:
    site = Site(tmp_path, OUTHAUL_DEDUPE_DAYS="1")
    site.batch(event("d", "x", T))
    site.now += DAY
    site.batch(event("d", "x", T))
    assert len(site.rows("event")) == 1
    site.now += DAY
    site.batch(event("d", "y", T))
    site.batch(event("d", "x", T))
    assert sorted(row["eventId"] for row in site.rows("event")) == ["x", "x", "y"]
    site.close()
