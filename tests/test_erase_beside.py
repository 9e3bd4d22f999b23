"""Erasing beside everything else: exports that have pinned what goes, devices that send, other erasures."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from erasing import ask, erase, maintainer, traces, work
from exporting import Bench
from landing import DAY, Site, T, event, every_kind
from outhaul.wire import Destination, Period

if TYPE_CHECKING:
    from collections.abc import Iterator

    from outhaul.ledger.forgetting import Asked
    from outhaul.maintain import Maintainer
    from outhaul.wire import Erasure

ALL = {"kind": "event", "format": "jsonl", "period": Period(T - DAY, T + DAY)}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path / "data", OUTHAUL_COMPACT_FILES="3", OUTHAUL_KEEP_VERSIONS_HOURS="0")
    yield site
    site.close()


def fill(site: Site, batches: int = 6) -> None:
    for number in range(batches):
        site.batch(
            *(
                event(device, f"{number}-{n}", T + number * 100 + n)
                for n in range(50)
                for device in ("gone", "kept")
            ),
            {"kind": "tag", "deviceId": "gone", "timestamp": T + number, "key": "plan", "value": "pro"},
        )


def shown(done: Bench, task_id: str) -> bytes:
    [file] = done.out.glob(f"*{task_id}.jsonl")
    return file.read_bytes()


def test_a_pinned_export_is_waited_for_and_says_what_it_said(site: Site, tmp_path: Path) -> None:
    """Killed and begun again while files are merged, written again without somebody, and given up."""
    fill(site)
    bench = Bench(site, tmp_path / "out", slice_rows="100", mark_bytes="2000")
    undisturbed = bench.carry_out(bench.ask(**ALL))
    pinned = bench.ask(**ALL)
    with subprocess.Popen(
        [sys.executable, Path(__file__).with_name("stepping.py"), site.data],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "OUTHAUL_DESTINATIONS": f"file://{bench.out}/",
            "OUTHAUL_SLICE_ROWS": "100",
            "OUTHAUL_MARK_BYTES": "2000",
        },
    ) as stepping:
        assert stepping.stdin is not None
        assert stepping.stdout is not None

        def step(kill_at: int) -> int:
            stepping.stdin.write(json.dumps({"task": pinned, "kill_at": kill_at}) + "\n")
            stepping.stdin.flush()
            return int(json.loads(stepping.stdout.readline())["status"])

        assert step(200) == -9
        assert site.ledger.task(pinned).pin is not None
        keeper = maintainer(site)
        erasure_id = ask(site, device_id="gone")
        site.ledger.set_retention(site.app.app_id, {"error": 1})
        for number in range(4):
            site.send(*every_kind("other"), event("kept", f"later-{number}", T + 5000))
            site.roll()
            work(site, keeper, turns=40)
            if number < 3:
                assert step(300 + 150 * number) == -9
        waiting = site.ledger.erasure(erasure_id)
        assert (waiting.state, waiting.phase) == ("started", "deleting")
        assert waiting.receipt.waiting_for == [pinned]
        assert waiting.receipt.removed_at is not None
        assert [row for row in site.rows("event") if row["deviceId"] == "gone"] == []
        assert step(0) == 0
        stepping.stdin.close()
    assert shown(bench, pinned) == shown(bench, undisturbed.id)
    done = finish(site, keeper, erasure_id)
    assert {told.id: told.rows for told in done.receipt.exports} == {pinned: 300, undisturbed.id: 300}
    assert traces(site.data, "gone") == []


def finish(site: Site, keeper: Maintainer, erasure_id: str) -> Erasure:
    """Until an erasure that waited is done."""
    for _ in range(100):
        work(site, keeper)
        done = site.ledger.erasure(erasure_id)
        if done.state != "started":
            assert (done.state, done.error, done.receipt.waiting_for) == ("succeeded", None, [])
            return done
        time.sleep(0.1)
    raise AssertionError(done)


def test_what_comes_after_is_new_and_lands_meanwhile(site: Site) -> None:
    fill(site)
    keeper = maintainer(site)
    erasure_id = ask(site, device_id="gone")
    turns = 0
    while site.ledger.erasure(erasure_id).state != "succeeded":
        site.batch(event("gone", f"new-{turns}", T + turns), event("kept", f"new-{turns}", T + turns))
        keeper.turn(site.lander, landed=True)
        turns += 1
        assert turns < 200
    done = site.ledger.erasure(erasure_id)
    rows = site.rows("event")
    mine = {row["eventId"] for row in rows if row["deviceId"] == "gone"}
    # Those that were landed before anything was looked for went with the others.
    first = turns - len(mine)
    assert 0 < first < 5
    assert mine == {f"new-{number}" for number in range(first, turns)}
    assert len([row for row in rows if row["deviceId"] == "kept"]) == 300 + turns
    assert {table.table: table.rows for table in done.receipt.tables}["event"] == 300 + first


def test_a_failed_export_that_is_taken_up_before_the_files_go_is_waited_for(
    site: Site, tmp_path: Path
) -> None:
    fill(site)
    bench = Bench(site, tmp_path / "out")
    failed = bench.ask(**ALL)
    bench.exporter.pin(failed, 1)
    keeper = maintainer(site)
    erasure_id = ask(site, device_id="gone")
    work(site, keeper)
    assert site.ledger.erasure(erasure_id).receipt.waiting_for == [failed]
    bench.exporter.fail(failed, 1, ValueError())
    site.ledger.retry_task(failed)
    # Under way again, with what it had pinned.
    assert bench.carry_out(failed).state == "succeeded"
    assert b"gone" in shown(bench, failed)
    finish(site, keeper, erasure_id)
    assert traces(site.data, "gone") == []


def test_erasures_of_one_app_come_one_after_the_other(site: Site) -> None:
    fill(site)
    site.batch(*every_kind("second"))
    keeper = maintainer(site)
    first, second, unknown = (ask(site, device_id=one) for one in ("gone", "second", "nobody"))
    work(site, keeper)
    for erasure_id in (first, second, unknown):
        assert site.ledger.erasure(erasure_id).state == "succeeded"
    assert {row["deviceId"] for row in site.rows("event")} == {"kept"}
    receipt = site.ledger.erasure(unknown).receipt
    assert (receipt.devices, receipt.tables, receipt.remembered, receipt.exports) == (0, [], 0, [])
    assert traces(site.data, "gone", "second", "nobody") == []


def test_erasing_again_does_what_is_left_to_do(site: Site) -> None:
    fill(site)
    assert erase(site, device_id="gone").receipt.tables
    site.batch(event("gone", "again", T))
    [table] = [one for one in erase(site, device_id="gone").receipt.tables if one.table == "event"]
    assert (table.rows, table.files) == (1, 1)


def test_old_files_go_beside_others_that_are_written(site: Site, tmp_path: Path) -> None:
    """One erasure waits to delete files while another, and retention, have written some that are in no version yet."""
    fill(site)
    poll = {"kind": "feedback", "campaignType": "Poll", "campaignId": "1", "status": "pushed"}
    site.batch(
        *every_kind("second"),
        *({**poll, "deviceId": f"d{n}", "id": f"f{n}", "timestamp": T - n * DAY} for n in range(20)),
    )
    bench = Bench(site, tmp_path / "out")
    pinned = bench.ask(**ALL)
    bench.exporter.pin(pinned, 1)
    keeper = maintainer(site)
    first = ask(site, device_id="gone")
    work(site, keeper)
    assert site.ledger.erasure(first).receipt.waiting_for == [pinned]
    assert bench.carry_out(pinned).state == "succeeded"
    site.ledger.set_retention(site.app.app_id, {"feedback": 10})
    site.now += DAY
    second = ask(site, device_id="second")
    keeper._engine.uncommitted += 1  # noqa: SLF001  as while a file is written
    time.sleep(1.1)
    work(site, keeper, turns=20)
    assert site.ledger.erasure(first).receipt.files_deleted == 0
    keeper._engine.uncommitted -= 1  # noqa: SLF001
    finish(site, keeper, first)
    finish(site, keeper, second)
    work(site, keeper)
    assert {row["deviceId"] for row in site.rows("event")} == {"kept"}
    assert {row["deviceId"] for row in site.rows("feedback")} == {f"d{n}" for n in range(10)}


def test_another_erasure_finds_what_it_has_yet_to_look_at(site: Site, tmp_path: Path) -> None:
    """One deletes old files when another has published new ones, and looks at the old for what earlier exports had."""
    fill(site)
    site.batch(*every_kind("second"))
    bench = Bench(site, tmp_path / "out")
    early = bench.carry_out(bench.ask(**ALL))
    pinned = bench.ask(**ALL)
    bench.exporter.pin(pinned, 1)
    keeper = maintainer(site)
    first = ask(site, device_id="gone")
    work(site, keeper)
    second = ask(site, device_id="second")
    while site.ledger.erasure(second).phase != "forgetting":
        work(site, keeper, turns=1)
    assert site.ledger.erasure(first).phase == "deleting"
    assert bench.carry_out(pinned).state == "succeeded"
    time.sleep(1.1)
    finish(site, keeper, first)
    finish(site, keeper, second)
    assert early.id in [told.id for told in site.ledger.erasure(second).receipt.exports]


def test_an_export_that_fails_and_is_taken_up_at_the_wrong_moment_still_reads(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(site)
    bench = Bench(site, tmp_path / "out")
    task_id = bench.ask(**ALL)
    bench.exporter.pin(task_id, 1)
    keeper = maintainer(site)
    erasure_id = ask(site, device_id="gone")
    work(site, keeper)
    asked = site.ledger.asked_exports

    def meanwhile(app_id: str, *, unfinished: bool = False) -> list[Asked]:
        if site.ledger.task(task_id).attempt > 1:
            return asked(app_id, unfinished=unfinished)
        bench.exporter.fail(task_id, 1, ValueError())
        found = asked(app_id, unfinished=unfinished)
        site.ledger.retry_task(task_id)
        return found

    monkeypatch.setattr(site.ledger, "asked_exports", meanwhile)
    time.sleep(1.1)
    work(site, keeper)
    assert site.ledger.task(task_id).attempt == 2
    assert bench.carry_out(task_id).state == "succeeded"
    finish(site, keeper, erasure_id)


def test_an_export_pinned_while_it_is_removed_is_told_without_a_number(site: Site, tmp_path: Path) -> None:
    fill(site)
    keeper = maintainer(site)
    erasure_id = ask(site, device_id="gone")
    while "event" not in {one.table for one in site.ledger.erasure(erasure_id).receipt.tables}:
        work(site, keeper, turns=1)
    assert site.ledger.erasure(erasure_id).phase == "removing"
    site.now += 1
    site.batch(event("kept", "new", T))
    bench = Bench(site, tmp_path / "out")
    task_id = bench.ask(**ALL)
    assert bench.carry_out(task_id).state == "succeeded"
    assert b'"gone"' not in shown(bench, task_id)
    finish(site, keeper, erasure_id)
    assert {told.id: told.rows for told in site.ledger.erasure(erasure_id).receipt.exports} == {task_id: None}


def test_an_export_under_way_that_has_the_id_in_its_address_is_waited_for(site: Site, tmp_path: Path) -> None:
    fill(site)
    bench = Bench(site, tmp_path / "out")
    bench.destination = Destination(url=f"file://{bench.out}/gone/")
    waiting = bench.ask(kind="tag", format="jsonl")
    keeper = maintainer(site)
    erasure_id = ask(site, device_id="gone")
    work(site, keeper)
    assert site.ledger.erasure(erasure_id).receipt.waiting_for == [waiting]
    assert bench.carry_out(waiting).state == "succeeded"
    finish(site, keeper, erasure_id)
    assert traces(site.data, "gone") == []


def test_an_erasure_that_lacks_room_does_not_keep_others_from_making_some(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(site)
    other = site.ledger.create_app("Other", "web", 1)
    site.send(event("x", "old", T), app=other)
    site.land()
    site.now = T + 30 * DAY
    site.send(event("x", "new", site.now), app=other)
    site.land()
    for app in (site.app, other):
        site.ledger.set_retention(app.app_id, {"event": 10})
    keeper = maintainer(site)

    def is_full(*_given: object, **_more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    looked_at: list[str] = []
    vacuum = keeper._engine.tables.vacuum  # noqa: SLF001

    def look(app_id: str, name: str, hours: int, keep: list[int]) -> int:
        looked_at.append(app_id)
        return vacuum(app_id, name, hours, keep)

    monkeypatch.setattr(keeper._engine, "_without", is_full)  # noqa: SLF001
    monkeypatch.setattr(keeper._engine.tables, "vacuum", look)  # noqa: SLF001
    erasure_id = ask(site, device_id="gone")
    until = time.monotonic() + 20
    while other.app_id not in looked_at:
        assert time.monotonic() < until
        work(site, keeper, turns=20)
    assert site.ledger.erasure(erasure_id).phase == "removing"
    assert site.app.app_id not in looked_at
    assert [row["eventId"] for row in site.rows("event", other)] == ["new"]


def test_a_user_of_too_many_devices_is_nobody(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("outhaul.tables.devices.USER_DEVICES", 2)
    site.batch(
        *(
            {"kind": "tag", "deviceId": f"d{n}", "timestamp": T, "key": "userid", "value": "all"}
            for n in range(3)
        )
    )
    before = site.contents()
    failed = erase(site, user_id="all")
    assert (failed.state, failed.subject, failed.found) == ("failed", None, None)
    assert "devices" in (failed.error or "")
    assert site.contents() == before
