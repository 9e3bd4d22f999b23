"""Every kind of record lands in its table, once, and what cannot land is set aside."""

from __future__ import annotations

import gzip
import json
import resource
import signal
import threading
from typing import TYPE_CHECKING

import duckdb
import polars as pl
import pyarrow.parquet as pq
import pytest

from landing import DAY, EXTRAS, FACTS, Site, T, by, event, every_kind
from outhaul.land import state
from outhaul.records import RAW_LIMIT, REASONS, RECORD_CLASSES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

META = {"protocol": "native", "sdkName": "kit", "sdkVersion": "1.2"}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.close()


def send_every_kind(site: Site) -> None:
    body = {"records": every_kind(), "sdkName": "kit", "sdkVersion": "1.2"}
    site.send_body(json.dumps(body).encode())
    site.land()


def test_every_kind_is_among_the_records_of_these_tests() -> None:
    assert {cls.__struct_config__.tag for cls in RECORD_CLASSES} == {
        record["kind"] for record in every_kind()
    }


def test_what_happened_lands_with_its_context(site: Site) -> None:
    send_every_kind(site)
    shared = {
        "deviceId": "d1",
        "userId": "u1",
        "applicationVersionName": "3.1.0",
        **META,
        "receivedAt": site.now,
        "day": "2026-11-23",
    }
    extras = json.dumps(EXTRAS, ensure_ascii=False, separators=(",", ":"))
    activities = by(site.rows("activity"), "activityId")
    derived = activities["a1"]["sessionId"]
    screen = {**shared, "sessionId": derived, "previousName": None, "extras": extras}
    assert activities["a1"] == {
        **screen,
        "activityId": "a1",
        "name": "Home",
        "startTime": T,
        "endTime": T + 5000,
    }
    assert activities["a2"] == {
        **screen,
        "activityId": "a2",
        "name": "Cart",
        "startTime": T + 5000,
        "endTime": T + 8000,
        "previousName": "Home",
        "extras": None,
    }
    loose = {"kind": "standalone", "jobId": None, "jobName": None, "activityName": None, "extras": None}
    instant = {**shared, "sessionId": None, "name": "tap", **loose}
    inside = {"sessionId": derived, "kind": "session"}
    assert by(site.rows("event"), "eventId") == {
        "e1": {
            **instant,
            **inside,
            "eventId": "e1",
            "timestamp": T + 100,
            "userId": "someone",
            "activityName": "Home",
            "extras": extras,
        },
        "e2": {
            **instant,
            "eventId": "e2",
            "timestamp": T + 200,
            "kind": "job",
            "jobId": "j1",
            "jobName": "sync",
        },
        "e3": {**instant, "eventId": "e3", "timestamp": T + 300},
    }
    assert site.rows("error") == [
        {
            **instant,
            **inside,
            "errorId": "r1",
            "timestamp": T + 6000,
            "name": "oops",
            "activityName": "Cart",
        }
    ]
    assert site.rows("crash") == [
        {
            **shared,
            "sessionId": derived,
            "crashId": "c1",
            "timestamp": T + 7000,
            "type": "NPE",
            "stackTrace": "at x\n" * 1000,
            "activityName": "Cart",
            **{
                key: FACTS[key] for key in ("phoneModel", "firmwareName", "firmwareVersion", "serviceVersion")
            },
        }
    ]
    assert site.rows("job") == [
        {
            **shared,
            "sessionId": None,
            "jobId": "j1",
            "name": "sync",
            "startTime": T,
            "endTime": T + 9000,
            "extras": extras,
        }
    ]
    assert site.rows("job_end") == site.rows("activity_end") == site.rows("reject") == []


def test_sessions_land_with_what_is_known_of_them(site: Site) -> None:
    send_every_kind(site)
    sessions = by(site.rows("session"), "sessionId")
    (derived,) = set(sessions) - {"s8", "s9"}
    shared = {
        "deviceId": "d1",
        "userId": "u1",
        "applicationVersionName": "3.1.0",
        **META,
        "receivedAt": site.now,
        "day": "2026-11-23",
        "startTime": T,
        "networkType": "wifi",
        "locale": "fr-FR",
        "countrycode": "fr",
        "givenActivityCount": None,
        "givenEventCount": None,
        "givenErrorCount": None,
        "activityCount": 0,
        "eventCount": 0,
        "errorCount": 0,
    }
    counts = {"activityCount": 2, "eventCount": 1, "errorCount": 1}
    assert sessions[derived] == {
        **shared,
        "sessionId": derived,
        "lastTime": T + 8000,
        **counts,
        "userId": "someone",
        "idle": True,
        "endReason": None,
    }
    assert sessions["s9"] == {
        **shared,
        "sessionId": "s9",
        "lastTime": T + 60,
        "networkType": "3g",
        "idle": True,
        "endReason": "timeout",
    }
    assert sessions["s8"] == {
        **shared,
        "sessionId": "s8",
        "lastTime": T + 70,
        "givenEventCount": 9,
        "idle": True,
        "endReason": "ended",
    }


def test_what_is_so_lands_as_it_was_said(site: Site) -> None:
    send_every_kind(site)
    shared = {"deviceId": "d1", **META, "receivedAt": site.now}
    (device,) = site.rows("device")
    assert device == {
        **shared,
        **FACTS,
        "firstSeen": T,
        "lastSeen": T + 9000,
        "lastInfo": T,
        "lastLocation": T,
        "nativePushEnabled": True,
        "countrycode": "fr",
        "region": "Île",
        "locality": "Paris",
    }
    tags, tokens = by(site.rows("tag"), "key"), by(site.rows("token"), "service")
    for row in (*tags.values(), *tokens.values()):
        del row["sequence"]
    assert tags == {
        "userid": {**shared, "key": "userid", "value": "u1", "lastModified": T},
        "plan": {**shared, "key": "plan", "value": None, "lastModified": T},
    }
    assert tokens == {
        "gcm": {**shared, "service": "gcm", "token": "tok", "valid": True, "registeredAt": T},
        "adm": {**shared, "service": "adm", "token": "old", "valid": False, "registeredAt": T},
    }
    push = {**shared, "campaignType": "Poll", "campaignId": "42", "timestamp": T}
    assert by(site.rows("feedback"), "feedbackId") == {
        "f1": {
            **push,
            "feedbackId": "f1",
            "campaignName": None,
            "status": "content-actioned",
            "answers": '{"q":"c"}',
        },
        "f2": {**push, "feedbackId": "f2", "campaignName": "Sale", "status": "pushed", "answers": None},
    }


def test_duckdb_reads_the_files_without_the_log(site: Site) -> None:
    send_every_kind(site)
    files = f"{site.folder('event')}/**/*.parquet".replace("'", "''")
    rows = duckdb.sql(
        f"SELECT eventId, epoch_ms(timestamp), kind, jobName, extras->>'a', day FROM read_parquet('{files}') ORDER BY 1"
    ).fetchall()
    assert rows == [
        ("e1", T + 100, "session", None, 'x"y\n', rows[0][5]),
        ("e2", T + 200, "job", "sync", None, rows[0][5]),
        ("e3", T + 300, "standalone", None, None, rows[0][5]),
    ]
    assert str(rows[0][5]) == "2026-11-23"


def test_a_reader_never_sees_half_a_batch(site: Site) -> None:
    site.batch(*(event("d", f"0-{at}", T + at) for at in range(50)))
    stop, counts, problems = threading.Event(), set[int](), list[Exception]()

    def look() -> None:
        while not stop.is_set():
            try:
                counts.add(site.frame("event").height)
            except Exception as problem:  # noqa: BLE001  whatever the reader raises is what the test is about
                problems.append(problem)
                return

    reader = threading.Thread(target=look)
    reader.start()
    for number in range(1, 8):
        # Over two days, so that a batch is more than one file.
        site.batch(*(event("d", f"{number}-{at}", T - at * DAY // 49) for at in range(50)))
    stop.set()
    reader.join()
    assert not problems
    assert {count % 50 for count in counts} == {0}
    assert len(counts) > 1
    versions = [pl.read_delta(str(site.folder("event")), version=v).height for v in range(1, 9)]
    assert versions == [50 * count for count in range(1, 9)]


# Set aside


def test_what_breaks_a_rule_is_set_aside_with_its_reason(site: Site) -> None:
    bad = [
        {"kind": "bogus"},
        {"kind": "event", "deviceId": "d", "timestamp": T},
        {**event("d", "x", T), "colour": "red"},
        event("d", "y" * 300, T),
        {**event("d", "z", T), "name": "n" * 65},
        event("d", "w", T, extras={"1": 1}),
        event("d", "v", T, extras={"a": "x" * 1025}),
        {"kind": "tag", "deviceId": "d", "timestamp": T, "key": "1", "value": "v"},
        event("d", "u", 5),
        {"kind": "jobEnd", "deviceId": "d", "jobId": "never", "timestamp": T},
    ]
    site.send(*bad, event("d", "good", T))
    site.send_body(b"not json", device_id="phone")
    site.send_body(b"[]", protocol="morse")
    site.land()
    rejects = site.rows("reject")
    assert sorted(row["reason"] for row in rejects) == sorted(
        [
            "unknown_kind",
            "field_missing",
            "field_unknown",
            "field_invalid",
            "name_invalid",
            "extras_invalid",
            "extras_too_long",
            "tag_invalid",
            "time_out_of_range",
            "end_without_start",
            "malformed",
            "not_supported",
        ]
    )
    assert {row["reason"] for row in rejects} | {"parser_failed"} == set(REASONS)
    assert all(row["detail"] and row["receivedAt"] == site.now for row in rejects)
    found = by(rejects, "reason")
    assert json.loads(found["field_unknown"]["raw"]) == bad[2]
    assert json.loads(found["end_without_start"]["raw"]) | bad[9] == json.loads(
        found["end_without_start"]["raw"]
    )
    assert found["end_without_start"]["deviceId"] == "d"
    assert (found["malformed"]["raw"], found["malformed"]["deviceId"]) == ("not json", "phone")
    assert found["not_supported"]["protocol"] == "morse"
    assert [row["eventId"] for row in site.rows("event")] == ["good"]


POISON = [
    b"",
    b"\x00\xff\xfe",
    b"[" * 100_000,
    b"null",
    b'{"records": 3}',
    b'{"records": [[], 1, null, "x", {}]}',
    b'[{"kind":"event","deviceId":"\\u0000","id":"\\ud83d","timestamp":%d,"name":"a\\u0000b"}]' % T,
    b'[{"kind":"event","deviceId":"d","id":"i","timestamp":1e400,"name":"x"}]',
    b'[{"kind":"event","deviceId":"d","id":"big","timestamp":%d,"name":"x","extras":{"a":%s}}]'
    % (T, b"9" * 900),
    b'[{"kind":"event","deviceId":"d","id":"deep","timestamp":%d,"name":"x","extras":{"a":%s}}]'
    % (T, b"[" * 400 + b"]" * 400),
    b'[{"kind":"event","deviceId":"d","id":"nan","timestamp":%d,"name":"x","extras":{"a":NaN}}]' % T,
    b'[{"kind":"event","deviceId":"d","id":"key","timestamp":%d,"name":"x","extras":{"a":1,"a":2,"A":3}}]'
    % T,
    b'[{"kind":"tag","deviceId":"d","timestamp":%d,"key":"k","value":"\\u2028\\u0085\\r\\n\\u0000"}]' % T,
    b'[{"kind":"event","deviceId":"d\\n{}","id":"\'; DROP TABLE frames; --","timestamp":%d,"name":"\\""}]'
    % T,
]


@pytest.mark.parametrize("body", POISON, ids=range(len(POISON)))
def test_no_request_stops_those_behind_it(site: Site, body: bytes) -> None:
    site.send(event("before", "1", T))
    site.send_body(body)
    site.send(event("after", "2", T))
    site.land()
    events = site.rows("event")
    assert {row["deviceId"] for row in events} >= {"before", "after"}
    tags, rejects = site.rows("tag"), site.rows("reject")
    assert len(events) + len(tags) + len(rejects) >= 3
    site.batch(event("after", "3", T))
    assert len(site.rows("event")) == len(events) + 1


def test_a_damaged_segment_is_kept_and_the_rest_of_it_lands(site: Site) -> None:
    site.send(event("d", "first", T))
    site.roll()
    for name in ("second", "third", "fourth"):
        site.send(event("d", name, T))
    site.roll()
    site.send(event("d", "fifth", T))
    site.roll()
    _, damaged, _ = sorted((site.data / "journal").glob("*.log"))
    content = bytearray(damaged.read_bytes())
    content[content.index(b'"third"')] ^= 0xFF
    damaged.write_bytes(content)
    site.land()
    assert [row["eventId"] for row in site.rows("event")] == ["fifth", "first", "second"]
    assert (site.data / "journal" / "damaged" / damaged.name).read_bytes() == content
    assert not list((site.data / "journal").glob("*.log"))


def test_a_segment_that_went_missing_does_not_stop_landing(site: Site) -> None:
    class CutShort(Exception):  # noqa: N818  it is no error
        pass

    def cut() -> None:
        raise CutShort

    site.send(event("d", "lost", T))
    site.roll()
    site.lander.read_segments = cut  # type: ignore[method-assign]
    with pytest.raises(CutShort):
        site.lander.land()
    for path in (site.data / "journal").glob("*.log"):
        path.unlink()
    site.restart()
    site.batch(event("d", "next", T))
    assert [row["eventId"] for row in site.rows("event")] == ["next"]


# Many at once


def test_days_are_cut_at_midnight_utc(site: Site) -> None:
    midnight = T - T % DAY
    times = [midnight - 1, midnight, midnight + DAY - 1, midnight + DAY]
    site.now = midnight + DAY + 1000
    site.batch(*(event("d", str(at), time) for at, time in enumerate(times)))
    days = [(row["eventId"], row["timestamp"], row["day"]) for row in site.rows("event")]
    assert sorted(days) == [
        ("0", times[0], "2026-11-22"),
        ("1", times[1], "2026-11-23"),
        ("2", times[2], "2026-11-23"),
        ("3", times[3], "2026-11-24"),
    ]
    table = pl.scan_delta(str(site.folder("event")))
    assert table.filter(pl.col("day") == "2026-11-23").collect().height == 2
    edge = pl.lit(midnight).cast(pl.Datetime("ms", "UTC"))
    assert table.filter(pl.col("timestamp") < edge).collect()["eventId"].to_list() == ["0"]
    assert sorted(table.filter(pl.col("timestamp") >= edge).collect()["eventId"]) == ["1", "2", "3"]


def test_many_days_of_many_apps_land_in_one_batch(site: Site) -> None:
    apps = [site.app, *(site.ledger.create_app(f"App{number}", "ios", 1) for number in range(3))]
    for number, app in enumerate(apps):
        site.send(*(event("d", f"{number}-{day}", T - day * DAY) for day in range(12 + number)), app=app)
    site.land()
    for number, app in enumerate(apps):
        rows = site.rows("event", app)
        assert {row["eventId"] for row in rows} == {f"{number}-{day}" for day in range(12 + number)}
        assert len({row["day"] for row in rows}) == 12 + number
    checkpoint = site.ledger.checkpoint()
    assert checkpoint.position == site.lander.position == 1
    assert {app.app_id for app in apps} == checkpoint.versions.keys()
    assert all(versions["event"] == 1 for versions in checkpoint.versions.values())


def test_a_batch_takes_as_many_segments_as_fit(tmp_path: Path) -> None:
    site = Site(tmp_path, OUTHAUL_LAND_BATCH_BYTES="1000")
    for number in range(6):
        site.send(*(event("d", f"{number}-{at}", T, extras={"a": "x" * 50}) for at in range(3)))
        site.roll()
    landings = 0
    while site.lander.land():
        landings += 1
    assert 2 <= landings <= 6
    assert len(site.rows("event")) == 18
    assert site.lander.position == 6
    site.close()


def test_what_is_forgotten_on_a_full_disk_is_forgotten_once_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(tmp_path)
    names = [f"{number:04d}-{'x' * 200}" for number in range(3000)]
    site.batch(*({"kind": "tag", "deviceId": n, "timestamp": T, "key": "userid", "value": n} for n in names))
    copy = state.copy

    def copy_with_no_room(db: duckdb.DuckDBPyConnection, path: Path) -> None:
        _, hard = limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            copy(db, path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, handler)

    with monkeypatch.context() as patch:
        patch.setattr(state, "copy", copy_with_no_room)
        with pytest.raises(duckdb.Error):
            site.lander.forget(site.app.app_id, [names[0]], None)
    site.lander.forget(site.app.app_id, [names[0]], None)
    # Of each that is left: whose it is, and its tag.
    assert site.lander.remembered(site.app.app_id, names, None) == 2 * 2999
    site.batch(*every_kind())
    site.close()


def test_bodies_of_nonsense_do_not_take_landings_memory(site):
    """Small as sent, and more in all than the engine may hold: landing must get past them."""
    size = 18_000_000
    for number in range(30):
        site.send_body(gzip.compress(b"{%d" % number + b"z" * size, 1), encoding="gzip")
    site.batch({"kind": "event", "deviceId": "d", "timestamp": T, "name": "after"})
    assert [row["name"] for row in site.rows("event")] == ["after"]
    rejects = site.rows("reject")
    assert len(rejects) == 30
    assert {len(row["raw"]) for row in rejects} == {RAW_LIMIT}
    assert all(f"the first {RAW_LIMIT} of 180000" in row["detail"] for row in rejects)


def test_wide_rows_are_written_in_small_groups(site):
    wide = {"kind": "event", "timestamp": T, "extras": {"a": "y" * 1000}}
    for part in range(20):
        site.send(*({**wide, "deviceId": f"{part}", "name": f"n{number}"} for number in range(1000)))
    site.land()
    (path,) = site.folder("event").rglob("*.parquet")
    file = pq.ParquetFile(path)
    assert file.metadata.num_rows == 20_000
    assert max(file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)) <= 16_384
