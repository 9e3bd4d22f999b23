"""Sessions that an SDK tells, references to what was sent before, and jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from landing import (
    DAY,
    Site,
    T,
    activity,
    activity_end,
    crash,
    ends,
    error,
    event,
    heartbeat,
    on_screen,
    spans,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


S = 1000


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.close()


def started(device: str, session: str, time: int, **more: Any) -> dict[str, Any]:
    return {"kind": "sessionStart", "deviceId": device, "sessionId": session, "timestamp": time, **more}


def ended(device: str, session: str, time: int, **more: Any) -> dict[str, Any]:
    return {"kind": "sessionEnd", "deviceId": device, "sessionId": session, "timestamp": time, **more}


def test_told_sessions_are_taken_as_told(site: Site) -> None:
    inside = {"sessionId": "s"}
    site.batch(
        started("d", "s", T),
        activity("d", "a", T + S, **inside),
        event("d", "1", T + 2 * S, **inside),
        event("d", "loose", T + 3 * S),
    )
    site.restart()
    # An hour without a sign of life: only what is derived ends by itself.
    site.batch(
        event("d", "2", T + 3600 * S, **inside),
        activity_end("d", T + 3601 * S, **inside),
        heartbeat("d", T + 3700 * S, **inside),
    )
    site.batch(ended("d", "s", T + 3800 * S, endReason="timeout"))
    assert {row["eventId"]: row["sessionId"] for row in site.rows("event")} == {
        "1": "s",
        "2": "s",
        "loose": None,
    }
    assert on_screen(site) == {"1": "Home", "2": "Home", "loose": None}
    assert ends(site) == {"a": 3601 * S}
    assert spans(site) == [(0, 3800 * S, 1, 2, 0)]
    latest = max(site.rows("session"), key=lambda row: row["lastTime"])
    assert latest["endReason"] == "timeout"


def test_the_end_of_a_told_session_ends_its_activity(site: Site) -> None:
    site.batch(started("d", "s", T), activity("d", "a", T + S, sessionId="s"))
    site.batch(ended("d", "s", T + 9 * S))
    whole = {"kind": "session", "deviceId": "d", "id": "w", "startTime": T, "endTime": T + 50 * S}
    site.batch(activity("d", "b", T + S, sessionId="w"), whole)
    assert ends(site) == {"a": 9 * S, "b": 50 * S}


@pytest.mark.parametrize("apart", [False, True])
def test_how_a_session_ended_stands_when_more_of_it_arrives(site: Site, apart: bool) -> None:
    site.send(started("d", "s", T), ended("d", "s", T + 9 * S, endReason="crash"))
    if apart:
        site.land()
    site.send(event("d", "late", T + 10 * S, sessionId="s"))
    site.land()
    latest = max(site.rows("session"), key=lambda row: row["lastTime"])
    assert (latest["lastTime"], latest["endReason"]) == (T + 10 * S, "crash")


def test_sessions_of_one_device_may_overlap_when_told(site: Site) -> None:
    site.batch(
        started("d", "s1", T),
        started("d", "s2", T + S),
        activity("d", "a", T + 2 * S, "One", sessionId="s1"),
        activity("d", "b", T + 3 * S, "Two", sessionId="s2"),
        event("d", "1", T + 4 * S, sessionId="s1"),
        event("d", "2", T + 4 * S, sessionId="s2"),
        activity_end("d", T + 5 * S, sessionId="s1"),
    )
    assert on_screen(site) == {"1": "One", "2": "Two"}
    assert ends(site) == {"a": 5 * S, "b": None}
    assert spans(site) == [(0, 5 * S, 1, 1, 0), (S, 4 * S, 1, 1, 0)]


def test_the_same_session_id_on_two_devices_is_two_sessions(site: Site) -> None:
    site.batch(started("d", "s", T), started("e", "s", T + S), event("e", "1", T + 2 * S, sessionId="s"))
    assert spans(site) == [(0, 0, 0, 0, 0), (S, 2 * S, 0, 1, 0)]


def test_a_heartbeat_alone_tells_of_a_session(site: Site) -> None:
    site.batch(heartbeat("d", T, sessionId="s"))
    site.batch(heartbeat("d", T + 20 * S, sessionId="s"))
    assert spans(site) == [(0, 20 * S, 0, 0, 0)]


@pytest.mark.parametrize("apart", [False, True])
def test_references_are_resolved_in_the_same_batch_and_in_later_ones(site: Site, apart: bool) -> None:
    site.send(
        {
            "kind": "device",
            "deviceId": "d",
            "timestamp": T,
            "infoId": "i1",
            "applicationVersionName": "1.0",
            "phoneModel": "P1",
            "firmwareName": "android",
            "firmwareVersion": "14",
            "serviceVersion": "5",
            "locale": "de",
            "networkType": "wifi",
        },
        {"kind": "location", "deviceId": "d", "timestamp": T, "locationId": "l1", "countrycode": "de"},
    )
    if apart:
        site.land()
        site.restart()
        site.batch(
            {
                "kind": "device",
                "deviceId": "d",
                "timestamp": T + S,
                "infoId": "i2",
                "applicationVersionName": "2.0",
            },
            {"kind": "location", "deviceId": "d", "timestamp": T, "locationId": "l2", "countrycode": "fr"},
        )
    session = {"sessionId": "s", "infoId": "i1"}
    site.send(
        started("d", "s", T, infoId="i1", locationId="l1"),
        activity("d", "a", T, **session),
        event("d", "1", T, **session),
        event("d", "own", T, **session, applicationVersionName="own"),
        error("d", "r", T, **session),
        crash("d", "c", T, **session),
        {"kind": "job", "deviceId": "d", "id": "j", "startTime": T, "name": "sync", "infoId": "i1"},
    )
    site.land()
    (told,) = site.rows("session")
    assert (told["locale"], told["networkType"], told["countrycode"]) == ("de", "wifi", "de")
    (crashed,) = site.rows("crash")
    about = ("phoneModel", "firmwareName", "firmwareVersion", "serviceVersion")
    assert [crashed[name] for name in about] == ["P1", "android", "14", "5"]
    versions = {
        row.get("eventId", table): row["applicationVersionName"]
        for table in ("activity", "event", "error", "crash", "job")
        for row in site.rows(table)
    }
    assert versions == {
        "activity": "1.0",
        "1": "1.0",
        "own": "own",
        "error": "1.0",
        "crash": "1.0",
        "job": "1.0",
    }


def test_a_user_is_known_from_the_tag_on(site: Site) -> None:
    tag = {"kind": "tag", "deviceId": "d", "timestamp": T, "key": "userid"}
    site.batch(event("d", "before", T))
    site.batch({**tag, "value": "ann"})
    site.restart()
    site.batch(event("d", "ann", T), event("d", "own", T, userId="bob"), event("e", "other", T))
    site.batch({**tag, "value": None, "timestamp": T + S})
    site.batch(event("d", "after", T))
    users = {row["eventId"]: row["userId"] for row in site.rows("event")}
    assert users == {"before": None, "ann": "ann", "own": "bob", "other": None, "after": None}


# Jobs


def job(device: str, identity: str, time: int, **more: Any) -> dict[str, Any]:
    return {"kind": "job", "deviceId": device, "id": identity, "startTime": time, "name": "sync", **more}


def job_end(device: str, identity: str, time: int) -> dict[str, Any]:
    return {"kind": "jobEnd", "deviceId": device, "jobId": identity, "timestamp": time}


def test_jobs_end_in_the_same_batch_or_later(site: Site) -> None:
    site.batch(
        job("d", "same", T),
        job_end("d", "same", T + S),
        job("d", "told", T, endTime=T + 2 * S),
        job("d", "open", T),
    )
    site.batch(job("d", "later", T), job("e", "later", T + 5 * S))
    site.restart()
    site.batch(job_end("d", "later", T + 7 * S), event("d", "1", T, jobId="later"))
    found = {
        (row["deviceId"], row["jobId"]): row["endTime"] and row["endTime"] - T for row in site.rows("job")
    }
    assert found == {
        ("d", "same"): S,
        ("d", "told"): 2 * S,
        ("d", "open"): None,
        ("d", "later"): None,
        ("e", "later"): None,
    }
    (late,) = site.rows("job_end")
    assert (late["deviceId"], late["jobId"], late["startTime"], late["endTime"]) == (
        "d",
        "later",
        T,
        T + 7 * S,
    )
    (told,) = site.rows("event")
    assert told["jobName"] == "sync"
    assert site.rows("reject") == []


def test_only_the_first_end_of_a_job_counts(site: Site) -> None:
    site.batch(job("d", "a", T), job_end("d", "a", T + 3 * S), job_end("d", "a", T + 2 * S))
    site.batch(job_end("d", "a", T + 9 * S))
    site.batch(job("d", "b", T))
    site.batch(job_end("d", "b", T + S))
    site.batch(job_end("d", "b", T + 2 * S))
    site.batch(job("d", "c", T, endTime=T + S))
    site.batch(job_end("d", "c", T + 2 * S))
    assert ends(site, "job") == {"a": 2 * S, "b": S, "c": S}


def test_an_end_without_a_start_is_set_aside(site: Site) -> None:
    site.batch(job("d", "a", T), job_end("e", "a", T + S))
    (reject,) = site.rows("reject")
    assert (reject["reason"], reject["deviceId"]) == ("end_without_start", "e")
    assert ends(site, "job") == {"a": None}


def test_jobs_are_remembered_for_thirty_days(site: Site) -> None:
    site.batch(job("d", "a", T - 100 * DAY), job("d", "b", T))
    site.now += 29 * DAY
    site.batch(job_end("d", "a", T))
    site.now += 2 * DAY
    site.batch(event("d", "x", T))
    site.batch(job_end("d", "b", T))
    assert ends(site, "job") == {"a": 0, "b": None}
    assert [row["reason"] for row in site.rows("reject")] == ["end_without_start"]


def test_a_job_id_used_again_after_a_week_doubles_nothing(site: Site) -> None:
    site.batch(job("d", "daily", T))
    site.now += 9 * DAY
    site.batch(event("d", "x", T))
    site.batch({**job("d", "daily", T + 9 * DAY), "name": "sync again"})
    site.batch(event("d", "1", T + 9 * DAY, jobId="daily"))
    site.batch(job_end("d", "daily", T + 9 * DAY + S))
    assert [row["jobName"] for row in site.rows("event") if row["jobId"]] == ["sync again"]
    (end,) = site.rows("job_end")
    assert (end["startTime"], end["endTime"]) == (T + 9 * DAY, T + 9 * DAY + S)
