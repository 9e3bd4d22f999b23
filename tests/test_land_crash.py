"""Landing is killed at every point there is; what is in the tables afterwards is what it would have been."""

from __future__ import annotations

import random
import shutil
import time
from typing import TYPE_CHECKING, Any

import pytest

import land_crash
from landing import Site, T, activity, activity_end, crash, error, event, heartbeat
from outhaul.land.lander import Lander

if TYPE_CHECKING:
    from pathlib import Path

S = 1000
TABLES = 15
"""Tables that the batch adds to, in two apps."""


def records(number: int) -> list[dict[str, Any]]:
    """The n-th batch: goes on with the sessions and jobs of those before, and repeats some of their records."""
    at = T + number * 20 * S
    found: list[dict[str, Any]] = [{"kind": "bogus", "number": number}]
    for device in ("d1", "d2"):
        shared = {"deviceId": device, "timestamp": at}
        job = {"deviceId": device, "jobId": f"j{number - 1}", "timestamp": at + S}
        found += [
            {"kind": "device", **shared, "infoId": f"i{number}", "applicationVersionName": f"1.{number}"},
            {"kind": "tag", **shared, "key": "userid", "value": f"user {number // 4}"},
            {"kind": "tag", **shared, "key": "visits", "value": str(number), "op": "inc"},
            {"kind": "token", **shared, "token": f"t{number}", "service": "gcm"},
            event(device, f"e{number}-0", at),
            activity(device, f"a{number}", at + S, f"Screen {number}"),
            event(device, f"e{number}-1", at + 2 * S, infoId=f"i{number - 1}", extras={"n": number}),
            error(device, f"r{number}", at + 3 * S),
            heartbeat(device, at + 4 * S),
            {"kind": "job", "deviceId": device, "id": f"j{number}", "startTime": at, "name": "sync"},
            {"kind": "jobEnd", **job},
            event(device, f"e{number}-2", at + 5 * S, jobId=f"j{number - 1}"),
            event(device, f"e{number - 1}-1", at - 18 * S, infoId=f"i{number - 2}", extras={"n": number - 1}),
            {"kind": "feedback", **shared, "campaignType": "Poll", "campaignId": "1", "status": "pushed"},
        ]
        if number % 3 == 0:
            found += [activity_end(device, at + 6 * S), crash(device, f"c{number}", at + 7 * S)]
    return found


def send(site: Site, number: int) -> None:
    site.send(*records(number))
    for app in site.ledger.apps():
        if app != site.app:
            site.send(*records(number)[:8], app=app)
    site.roll()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with seven batches landed, so that the ids of the eighth, which waits, are due to be merged."""
    folder = tmp_path_factory.mktemp("template") / "data"
    site = Site(folder, **land_crash.settings())
    site.ledger.create_app("Other", "ios", 1)
    for number in range(7):
        send(site, number)
    site.land()
    send(site, 7)
    site.close()
    return folder


def finish(folder: Path) -> tuple[dict[str, list[dict[str, Any]]], Any]:
    """Land what is left, then two batches more, which rest on all that was remembered; what is there then."""
    site = Site(folder, **land_crash.settings())
    site.land()
    send(site, 7)
    send(site, 8)
    site.land()
    contents, checkpoint = site.contents(), site.ledger.checkpoint()
    assert not list((folder / "journal").glob("*.log"))
    assert checkpoint.position == site.lander.position
    site.close()
    return contents, checkpoint


@pytest.fixture(scope="module")
def undisturbed(template: Path) -> tuple[dict[str, list[dict[str, Any]]], Any]:
    folder = template.parent / "undisturbed"
    shutil.copytree(template, folder)
    return finish(folder)


def test_the_undisturbed_run_is_what_was_sent(
    undisturbed: tuple[dict[str, list[dict[str, Any]]], Any],
) -> None:
    contents, checkpoint = undisturbed
    assert checkpoint.position == 10
    assert checkpoint.versions.keys() == {"ios000001", "web000001"}
    ids = {f"e{number}-{part}" for number in range(9) for part in range(3)} | {"e-1-1"}
    assert sorted(row["eventId"] for row in contents["web000001/event"]) == sorted([*ids, *ids])
    assert len({row["sessionId"] for row in contents["web000001/session"]}) == 8
    assert len(contents["web000001/job_end"]) == 16
    assert len(contents["ios000001/event"]) == 18
    visits = [int(row["value"]) for row in contents["web000001/tag"] if row["key"] == "visits"]
    assert sorted(visits) == sorted(2 * [0, 1, 3, 6, 10, 15, 21, 28, 36])
    assert sum(len(versions) for versions in checkpoint.versions.values()) >= TABLES


STEPS = [("step", number) for number in range(len(Lander.steps) + 1)]
COMMITS = [(where, number) for where in ("committing", "committed") for number in (1, 2, 5, TABLES)]
SYNCS = [("sync", number) for number in (1, 3, TABLES, TABLES + 1)]


@pytest.mark.parametrize("point", [*STEPS, *COMMITS, *SYNCS], ids=lambda point: f"{point[0]}-{point[1]}")
def test_killed_at_any_point_landing_is_exact(
    template: Path,
    undisturbed: tuple[dict[str, list[dict[str, Any]]], Any],
    point: tuple[str, int],
    tmp_path: Path,
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(template, folder)
    land_crash.run(folder, T + 3600 * S, point)
    contents, checkpoint = finish(folder)
    expected, told = undisturbed
    assert contents.keys() == expected.keys()
    for table, rows in expected.items():
        assert contents[table] == rows, table
    assert checkpoint == told


def kill_at_random_moments(folder: Path, times: int, seed: int) -> None:
    """Land, dying again and again, and compare with a landing that was left alone."""
    chance = random.Random(seed)
    calm, shaken = Site(folder / "calm", **land_crash.settings()), folder / "shaken"
    Site(shaken, **land_crash.settings()).close()
    kills = 0
    for number in range(times):
        send(calm, number)
        # Taken over as it is: the journal's number and bytes are the same in both.
        newest = max((folder / "calm" / "journal").glob("*.log"))
        shutil.copy(newest, shaken / "journal" / newest.name)
        calm.land()
        process = land_crash.start(shaken, calm.now)
        time.sleep(chance.uniform(0.1, 1.2))
        kills += process.is_alive()
        process.kill()
        process.join()
    again = Site(shaken, **land_crash.settings())
    again.land()
    assert again.contents() == calm.contents()
    assert again.ledger.checkpoint() == calm.ledger.checkpoint()
    assert kills > times // 10
    again.close()
    calm.close()


def test_killed_at_random_moments_landing_is_exact(tmp_path: Path) -> None:
    kill_at_random_moments(tmp_path, 10, seed=20261123)
