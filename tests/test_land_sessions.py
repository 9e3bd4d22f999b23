"""Sessions, activities and jobs, case by case: what a record belongs to, and when things ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from landing import (
    DAY,
    Site,
    T,
    activity,
    activity_end,
    by,
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
"""A second."""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.close()


def session_of(site: Site, kind: str = "event") -> dict[str, str | None]:
    """The session of each record of a kind, by the record's id; activities that open one give it its name here."""
    names: dict[str, str] = {}
    for row in sorted(site.rows("activity"), key=lambda row: row["startTime"]):
        names.setdefault(row["sessionId"], row["activityId"])
    return {
        row[f"{kind}Id"]: names.get(row["sessionId"], row["sessionId"]) if row["sessionId"] else None
        for row in site.rows(kind)
    }


def test_the_first_activity_opens_a_session_and_what_came_before_has_none(site: Site) -> None:
    site.batch(event("d", "before", T), activity("d", "a", T + S), event("d", "in", T + 2 * S))
    assert session_of(site) == {"before": None, "in": "a"}
    assert spans(site) == [(S, 2 * S, 1, 1, 0)]


def test_without_activities_there_is_no_session(site: Site) -> None:
    site.batch(
        event("d", "e", T), error("d", "r", T), crash("d", "c", T), heartbeat("d", T), activity_end("d", T)
    )
    assert session_of(site) == {"e": None}
    assert session_of(site, "error") == {"r": None}
    assert session_of(site, "crash") == {"c": None}
    assert spans(site) == []


def test_a_session_ends_ten_seconds_after_its_last_activity(site: Site) -> None:
    site.batch(
        activity("d", "a", T),
        activity_end("d", T + 5 * S),
        event("d", "still", T + 15 * S),
        event("d", "gone", T + 15 * S + 1),
    )
    assert session_of(site) == {"still": "a", "gone": None}
    assert on_screen(site) == {"still": None, "gone": None}
    assert spans(site) == [(0, 15 * S, 1, 1, 0)]


def test_an_event_does_not_take_back_the_end_of_an_activity(site: Site) -> None:
    site.batch(activity("d", "a", T), activity_end("d", T), event("d", "8", T + 8 * S))
    site.restart()
    site.batch(event("d", "12", T + 12 * S), activity("d", "b", T + 13 * S))
    assert session_of(site) == {"8": "a", "12": None}
    assert session_of(site, "activity") == {"a": "a", "b": "b"}


def test_an_activity_within_ten_seconds_resumes_the_session(site: Site) -> None:
    site.batch(
        activity("d", "a", T),
        activity_end("d", T + S),
        event("d", "between", T + 5 * S),
        activity("d", "b", T + 11 * S, "Cart"),
        event("d", "after", T + 60 * S),
        activity_end("d", T + 61 * S),
        activity("d", "c", T + 71 * S + 1, "Home"),
    )
    assert session_of(site, "activity") == {"a": "a", "b": "a", "c": "c"}
    assert on_screen(site) == {"between": None, "after": "Cart"}
    assert ends(site) == {"a": S, "b": 61 * S, "c": None}
    previous = {row["activityId"]: row["previousName"] for row in site.rows("activity")}
    assert previous == {"a": None, "b": "Home", "c": None}


@pytest.mark.parametrize("batches", [1, 3])
def test_a_session_ends_after_three_minutes_of_silence(site: Site, batches: int) -> None:
    records = [
        activity("d", "a", T),
        event("d", "1", T + 180 * S),
        heartbeat("d", T + 360 * S),
        error("d", "2", T + 540 * S),
        event("d", "3", T + 720 * S + 1),
        activity_end("d", T + 721 * S),
        activity("d", "b", T + 722 * S),
    ]
    for at in range(batches):
        site.batch(*records[at * len(records) // batches : (at + 1) * len(records) // batches])
    assert session_of(site) == {"1": "a", "3": None}
    assert session_of(site, "error") == {"2": "a"}
    assert session_of(site, "activity") == {"a": "a", "b": "b"}
    assert spans(site) == [(0, 540 * S, 1, 1, 1), (722 * S, 722 * S, 1, 0, 0)]
    # Nobody said when the first activity ended: the end that was told later belongs to no session.
    assert ends(site) == {"a": None, "b": None}


def test_both_waits_are_settings(tmp_path: Path) -> None:
    site = Site(tmp_path, OUTHAUL_SESSION_IDLE_S="1", OUTHAUL_SESSION_TIMEOUT_S="20")
    site.batch(
        activity("d", "a", T),
        event("d", "20", T + 20 * S),
        activity_end("d", T + 21 * S),
        event("d", "22", T + 22 * S),
        event("d", "23", T + 23 * S),
        activity("e", "b", T),
        event("e", "21", T + 21 * S),
    )
    assert session_of(site) == {"20": "a", "22": "a", "23": None, "21": None}
    site.close()


def test_a_session_goes_on_over_batches_and_restarts(site: Site) -> None:
    site.batch(activity("d", "a", T))
    site.batch(event("d", "1", T + 100 * S))
    site.restart()
    site.batch(event("d", "2", T + 200 * S), activity("d", "b", T + 300 * S, "Cart"))
    site.restart()
    site.batch(event("d", "3", T + 400 * S), activity_end("d", T + 401 * S))
    assert session_of(site) == {"1": "a", "2": "a", "3": "a"}
    assert on_screen(site) == {"1": "Home", "2": "Home", "3": "Cart"}
    assert by(site.rows("activity"), "activityId")["b"]["previousName"] == "Home"
    assert ends(site) == {"a": 300 * S, "b": 401 * S}
    assert spans(site) == [(0, 401 * S, 2, 3, 0)]
    assert len({row["sessionId"] for row in site.rows("session")}) == 1


def test_the_second_session_of_a_device_goes_on_too(site: Site) -> None:
    site.batch(activity("d", "a", T), activity_end("d", T + S))
    site.batch(activity("d", "b", T + 30 * S), event("d", "1", T + 31 * S))
    site.batch(event("d", "2", T + 60 * S), event("d", "3", T + 90 * S))
    assert session_of(site) == {"1": "b", "2": "b", "3": "b"}
    assert spans(site) == [(0, S, 1, 0, 0), (30 * S, 90 * S, 1, 3, 0)]


def test_one_batch_may_hold_several_sessions_of_a_device(site: Site) -> None:
    records = []
    for number in range(5):
        start = T + number * 60 * S
        records += [
            activity("d", f"a{number}", start),
            event("d", f"e{number}", start + S),
            activity_end("d", start + 2 * S),
        ]
    site.batch(*reversed(records))
    assert session_of(site) == {f"e{number}": f"a{number}" for number in range(5)}
    assert spans(site) == [(n * 60 * S, n * 60 * S + 2 * S, 1, 1, 0) for n in range(5)]


def test_devices_and_apps_do_not_mix(site: Site) -> None:
    other = site.ledger.create_app("Other", "ios", 1)
    site.batch(
        activity("d", "a", T),
        activity("e", "b", T + S, "Cart"),
        activity_end("d", T + 2 * S),
        event("e", "1", T + 30 * S),
        event("d", "2", T + 30 * S),
    )
    site.send(
        event("d", "3", T + S), activity("d", "a", T + 40 * S, "Shop"), event("d", "4", T + 41 * S), app=other
    )
    site.land()
    assert session_of(site) == {"1": "b", "2": None}
    assert ends(site) == {"a": 2 * S, "b": None}
    events = by(site.rows("event", other), "eventId")
    assert (events["3"]["sessionId"], events["4"]["activityName"]) == (None, "Shop")
    (elsewhere,) = site.rows("session", other)
    assert elsewhere["startTime"] == T + 40 * S
    assert elsewhere["sessionId"] not in {row["sessionId"] for row in site.rows("session")}


def test_a_device_named_like_two_others_has_its_own_session(site: Site) -> None:
    site.batch(activity("a|b", "c", T), activity("a", "b|c", T))
    assert len({row["sessionId"] for row in site.rows("session")}) == 2


def test_what_a_phone_sends_late_joins_the_session_it_happened_in(site: Site) -> None:
    site.batch(activity("d", "a", T), event("d", "1", T + 100 * S), activity_end("d", T + 200 * S))
    site.batch(activity("d", "b", T + 500 * S), event("d", "2", T + 510 * S))
    site.restart()
    site.batch(
        event("d", "early", T - S),
        event("d", "first", T + 50 * S),
        error("d", "r", T + 150 * S),
        event("d", "none", T + 250 * S),
        event("d", "second", T + 505 * S),
    )
    assert session_of(site) == {"1": "a", "2": "b", "early": None, "first": "a", "none": None, "second": "b"}
    assert session_of(site, "error") == {"r": "a"}
    assert spans(site) == [(0, 200 * S, 1, 2, 1), (500 * S, 510 * S, 1, 2, 0)]
    site.batch(event("d", "on", T + 520 * S))
    assert session_of(site)["on"] == "b"


def test_an_activity_from_before_a_known_session_is_a_session_of_its_own(site: Site) -> None:
    site.batch(activity("d", "b", T + 60 * S), event("d", "2", T + 90 * S))
    site.batch(activity("d", "a", T), event("d", "1", T + 30 * S), event("d", "3", T + 95 * S))
    assert session_of(site) == {"1": "a", "2": "b", "3": "b"}
    assert spans(site) == [(0, 30 * S, 1, 1, 0), (60 * S, 95 * S, 1, 2, 0)]


def test_a_late_end_of_an_activity_is_still_its_end(site: Site) -> None:
    site.batch(activity("d", "a", T), event("d", "1", T + 20 * S))
    site.batch(activity_end("d", T + 10 * S))
    assert ends(site) == {"a": 10 * S}
    site.batch(event("d", "2", T + 30 * S))
    assert session_of(site)["2"] is None


def test_an_old_timeline_sent_in_pieces_is_one_session(site: Site) -> None:
    """A phone that was offline for weeks, or whose clock is behind."""
    old = T - 20 * DAY
    site.batch(activity("d", "a", old))
    site.batch(event("d", "1", old + S))
    assert session_of(site) == {"1": "a"}


def test_sessions_are_remembered_for_a_week_after_they_were_last_heard_of(site: Site) -> None:
    site.batch(activity("d", "a", T), event("d", "1", T + 100 * S))
    site.now += 7 * DAY - S
    site.batch(event("d", "2", T + 50 * S))
    site.now += 7 * DAY + S
    site.batch(event("other", "x", T))
    site.batch(event("d", "3", T + 50 * S))
    assert session_of(site) == {"1": "a", "2": "a", "x": None, "3": None}


def test_activities_with_a_given_end_are_over_then(site: Site) -> None:
    site.batch(
        activity("d", "a", T, endTime=T + 400 * S),
        event("d", "1", T + 300 * S),
        event("d", "2", T + 405 * S),
        event("d", "3", T + 411 * S),
    )
    site.batch(event("d", "4", T + 350 * S), event("d", "5", T + 408 * S))
    assert session_of(site) == {"1": "a", "2": "a", "3": None, "4": "a", "5": "a"}
    assert on_screen(site) == {"1": "Home", "2": None, "3": None, "4": "Home", "5": None}
    assert ends(site) == {"a": 400 * S}
    assert spans(site) == [(0, 408 * S, 1, 4, 0)]


def test_what_says_its_own_activity_is_believed(site: Site) -> None:
    site.batch(
        activity("d", "a", T),
        event("d", "1", T + S, activityName="Else"),
        crash("d", "c", T + S, activityName="There"),
        activity("d", "b", T + 2 * S, "Cart", previousName="Elsewhere"),
        crash("d", "c2", T + 3 * S),
    )
    assert on_screen(site) == {"1": "Else"}
    assert on_screen(site, "crash") == {"c": "There", "c2": "Cart"}
    assert by(site.rows("activity"), "activityId")["b"]["previousName"] == "Elsewhere"


def test_standalone_records_and_those_of_jobs_stay_out_of_sessions(site: Site) -> None:
    site.batch(
        activity("d", "a", T),
        event("d", "alone", T + S, standalone=True),
        {"kind": "job", "deviceId": "d", "id": "j", "startTime": T, "name": "sync"},
        event("d", "worked", T + 2 * S, jobId="j"),
        event("d", "lost", T + 2 * S, jobId="unknown", jobName="told"),
    )
    assert session_of(site) == {"alone": None, "worked": None, "lost": None}
    kinds = {row["eventId"]: (row["kind"], row["jobName"]) for row in site.rows("event")}
    assert kinds == {"alone": ("standalone", None), "worked": ("job", "sync"), "lost": ("job", "told")}
    assert spans(site) == [(0, 0, 1, 0, 0)]


def test_a_session_says_how_it_stands(site: Site) -> None:
    site.batch(
        activity("idle", "a", T),
        activity_end("idle", T + S),
        event("idle", "1", T + 2 * S),
        activity("busy", "b", T),
        activity("crashed", "c", T),
        crash("crashed", "c", T + S),
    )
    rows = by(site.rows("session"), "deviceId")
    assert {device: (row["idle"], row["endReason"]) for device, row in rows.items()} == {
        "idle": (True, None),
        "busy": (False, None),
        "crashed": (False, "crash"),
    }
    site.batch(event("crashed", "2", T + 5 * S))
    latest = max(
        (row for row in site.rows("session") if row["deviceId"] == "crashed"), key=lambda row: row["lastTime"]
    )
    assert latest["endReason"] is None
