"""Sessions that start and end without having ids."""

from __future__ import annotations

import random
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
M = 60 * S
HERE = {"sessionId": "~"}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.close()


def started(identity: str, time: int, device: str = "d", **more: Any) -> dict[str, Any]:
    shared = {"deviceId": device, "id": identity, "timestamp": time}
    return {"kind": "sessionStart", **shared, **HERE, **more}


def ended(identity: str, time: int, device: str = "d") -> dict[str, Any]:
    return {"kind": "sessionEnd", "deviceId": device, "id": identity, "timestamp": time, **HERE}


def whose(site: Site, kind: str = "event") -> dict[str, str | None]:
    return {row[f"{kind}Id"]: row["sessionId"] for row in site.rows(kind)}


LINE = [
    event("d", "before", T - S, **HERE),
    started("one", T),
    activity("d", "a", T + S, "Home", **HERE),
    event("d", "1", T + 2 * S, **HERE),
    activity_end("d", T + 3 * S, **HERE),
    error("d", "r", T + 40 * S, **HERE),
    heartbeat("d", T + 4 * M, **HERE),
    event("d", "2", T + 30 * M, **HERE),
    crash("d", "c", T + 30 * M + S, **HERE),
    {"kind": "job", "deviceId": "d", "id": "j", "name": "sync", "startTime": T + 30 * M + S, **HERE},
    ended("e1", T + 31 * M),
    event("d", "between", T + 31 * M + S, **HERE),
    started("two", T + 32 * M),
    event("d", "3", T + 32 * M + S, **HERE),
    started("three", T + 33 * M),
    event("d", "4", T + 33 * M + S, **HERE),
    event("d", "late", T + 63 * M + 2 * S, **HERE),
]
WHOSE = {"before": None, "1": "one", "2": "one", "between": None, "3": "two", "4": "three", "late": None}


@pytest.mark.parametrize("cuts", [0, 1, 3, len(LINE)])
@pytest.mark.parametrize("seed", range(2))
def test_a_session_lasts_from_its_start_to_its_end(site: Site, cuts: int, seed: int) -> None:
    chance = random.Random(seed)
    at = sorted(chance.sample(range(1, len(LINE)), min(cuts, len(LINE) - 1)))
    for begin, end in zip([0, *at], [*at, len(LINE)], strict=True):
        site.batch(*LINE[begin:end])
        site.now += 1
        if seed:
            site.restart()
    assert whose(site) == WHOSE
    assert whose(site, "error") == {"r": "one"}
    assert whose(site, "crash") == {"c": "one"}
    assert whose(site, "job") == {"j": "one"}
    assert ends(site) == {"a": 3 * S}
    assert on_screen(site)["1"] == "Home"
    assert spans(site) == [
        (0, 31 * M, 1, 2, 1),
        (32 * M, 32 * M + S, 0, 1, 0),
        (33 * M, 33 * M + S, 0, 1, 0),
    ]
    reasons = {row["sessionId"]: row["endReason"] for row in site.rows("session") if row["endReason"]}
    assert reasons == {"one": "ended"}


def test_what_arrives_late_joins_the_session_it_happened_in(site: Site) -> None:
    site.batch(
        started("one", T), ended("e1", T + 10 * S), started("two", T + 20 * S), ended("e2", T + 30 * S)
    )
    site.now += DAY
    site.batch(
        event("d", "1", T + 5 * S, **HERE),
        event("d", "2", T + 25 * S, **HERE),
        event("d", "x", T + 15 * S, **HERE),
    )
    assert whose(site) == {"1": "one", "2": "two", "x": None}


def test_devices_and_apps_do_not_mix(site: Site) -> None:
    other = site.ledger.create_app("Other", "ios", 1)
    site.batch(started("one", T), event("e", "1", T + S, **HERE))
    site.send(event("d", "1", T + S, **HERE), app=other)
    site.land()
    assert whose(site) == {"1": None}
    assert [row["sessionId"] for row in site.rows("event", other)] == [None]


def test_without_a_start_sessions_are_derived(site: Site) -> None:
    site.batch(activity("d", "a", T, **HERE), event("d", "1", T + S, **HERE), ended("e", T + 2 * S))
    assert len({*whose(site).values(), *whose(site, "activity").values()} - {None}) == 1
    assert spans(site) == [(0, 2 * S, 1, 1, 0)]


def test_other_sessions_are_left_alone(site: Site) -> None:
    named = {"kind": "sessionStart", "deviceId": "d", "id": "n", "sessionId": "s", "timestamp": T}
    site.batch(
        started("one", T),
        named,
        event("d", "1", T + S, sessionId="s"),
        event("d", "2", T + S),
        event("d", "3", T + S, **HERE),
    )
    assert whose(site) == {"1": "s", "2": None, "3": "one"}


def test_known_sessions_are_forgotten_after_a_week(site: Site) -> None:
    site.batch(started("one", T), ended("e1", T + 10 * S))
    site.now += 8 * DAY
    site.batch(started("other", T + 8 * DAY, "e"))
    site.batch(event("d", "1", T + 5 * S, **HERE))
    assert whose(site) == {"1": None}


def test_a_session_told_whole_is_named_after_itself(site: Site) -> None:
    site.batch({"kind": "session", "deviceId": "d", "id": "w", "startTime": T, "endTime": T + S, **HERE})
    assert [row["sessionId"] for row in site.rows("session")] == ["w"]
