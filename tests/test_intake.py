"""Files of tags applied once: exact counts, the order of the lines, and the same end wherever it was interrupted."""

from __future__ import annotations

import gzip
import json
import os
import random
import threading

import pytest

import importing
from importing import Bench
from landing import Site, T, event
from outhaul import journal
from outhaul.errors import OuthaulError
from outhaul.intake import importer as room
from outhaul.intake import segments
from outhaul.wire import PROBLEMS, Erasure


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path / "data")
    yield site
    site.close()


@pytest.fixture
def bench(site, tmp_path):
    return Bench(site, tmp_path / "files")


@pytest.fixture
def devices(site):
    """Three devices, two of which are Ann's."""
    tags = [{"kind": "tag", "deviceId": one, "timestamp": T, "key": "userid", "value": "ann"} for one in "ab"]
    site.batch(*(event(one, f"e{one}", T) for one in "abc"), *tags)
    return site


def line(subject, of="deviceId", **tags):
    return json.dumps({of: subject, "tags": tags}) + "\n"


def lines(*more):
    return "".join(more).encode()


def test_what_is_counted_is_what_was_applied(bench, devices):
    found = bench.run(
        lines(
            line("a", plan="gold", vip="yes"),
            line("nobody", plan="gold"),
            "nonsense\n",
            "\n",
            line("ann", "userId", team="x"),
            line("bob", "userId", team="x"),
            line("c", plan=7),
            line("c", plan=None, other="z"),
        )
    )
    assert (found.state, found.lines_applied, found.tags_set) == ("succeeded", 3, 6)
    assert found.rejected == {"unknown_device": 1, "malformed": 1, "unknown_user": 1, "tag_invalid": 1}
    assert [(one.line, one.reason) for one in found.problems] == [
        (2, "unknown_device"),
        (3, "malformed"),
        (6, "unknown_user"),
        (7, "tag_invalid"),
    ]
    assert (found.bytes_done, found.lines_done) == (found.bytes_total, 8)
    assert found.source is None
    assert bench.tags() == {
        "a": {"userid": "ann", "plan": "gold", "vip": "yes", "team": "x"},
        "b": {"userid": "ann", "team": "x"},
        "c": {"other": "z"},
    }


def test_only_the_first_problems_are_explained(bench, devices):
    found = bench.run(lines(line("a", k="v"), *["nonsense\n"] * 250))
    assert found.rejected == {"malformed": 250}
    assert [one.line for one in found.problems] == list(range(2, PROBLEMS + 2))


@pytest.mark.parametrize("size", [1, 2, 50_000])
def test_later_lines_win_and_what_comes_after_the_import_too(bench, devices, monkeypatch, size):
    monkeypatch.setattr(room, "_CHUNK_LINES", size)
    told = [line("a", k=str(n)) for n in range(5)] + [line("c", k="v"), line("c", k=None)]
    found = bench.run(lines(*told, line("ann", "userId", k="last")))
    assert (found.state, found.tags_set) == ("succeeded", 9)
    assert [bench.tags()[one].get("k") for one in "abc"] == ["last", "last", None]
    devices.now += 60_000
    devices.batch({"kind": "tag", "deviceId": "a", "timestamp": devices.now, "key": "k", "value": "phone"})
    assert bench.tags()["a"]["k"] == "phone"


def test_what_a_phone_sets_while_an_import_is_interrupted_wins(bench, devices, monkeypatch):
    monkeypatch.setattr(room, "_CHUNK_LINES", 1)
    asked = bench.ask(lines(line("a", x="1"), line("a", k="import", x="2")))
    devices.land()
    importing.crash(bench, asked, ("told", 2), 1)
    devices.now += 60_000
    phone = {"kind": "tag", "deviceId": "a", "timestamp": devices.now, "key": "k", "value": "phone"}
    devices.batch(phone, event("a", "later", devices.now))
    bench.importer = importing.make(devices.data, bench.folder, bench.ahead + 120_000)
    assert bench.carry_out(asked).state == "succeeded"
    assert bench.tags()["a"] == {"userid": "ann", "k": "phone", "x": "2"}


def test_a_clock_that_is_ahead_does_not_win_over_an_import(bench, devices):
    ahead = devices.now + 3600_000
    devices.batch({"kind": "tag", "deviceId": "a", "timestamp": ahead, "key": "k", "value": "phone"})
    assert bench.run(lines(line("a", k="import"))).state == "succeeded"
    assert bench.tags()["a"]["k"] == "import"


def test_what_was_received_before_it_was_asked_for_is_known(bench, site):
    site.send(event("new", "e1", T))
    asked = bench.ask(lines(line("new", k="v")))
    assert bench.carry_out(asked).lines_applied == 1


def test_an_import_sets_tags_and_lets_nobody_be_seen(bench, devices):
    before = devices.rows("device")
    bench.run(lines(line("a", k="v")))
    assert devices.rows("device") == before
    assert {row["sdkName"] for row in devices.rows("tag") if row["key"] == "k"} == {"import"}


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "nothing_applied"),
        (b"deviceId,key,value\n", "nothing_applied"),
        (b"deviceId,key,value\nsecret,k,v\n", "nothing_applied"),
        (b"hello secret\n", "source_unreadable"),
        (b"\x1f\x8bsecret", "source_unreadable"),
    ],
)
def test_an_import_of_nothing_fails_and_says_why(bench, devices, content, code):
    found = bench.run(content)
    assert (found.state, found.failures[0].code) == ("failed", code)
    assert found.error
    assert "secret" not in found.error
    assert found.source is not None


def test_a_user_of_too_many_devices_costs_its_line(bench, devices, monkeypatch):
    for name, limit in (("_PAIRS", 1), ("USER_DEVICES", 1), ("_LINE_BYTES", 200)):
        with monkeypatch.context() as patch:
            patch.setattr(segments, name, limit)
            found = bench.run(lines(line("c", k=name), line("ann", "userId", k=name), line("a", k=name)))
        assert (found.state, found.rejected) == ("succeeded", {"too_many": 1})
        assert bench.tags()["c"]["k"] == bench.tags()["a"]["k"] == name
        assert bench.tags()["b"].get("k") is None


def test_much_at_once_is_divided_into_segments_in_order(bench, devices, monkeypatch):
    monkeypatch.setattr(segments, "_SEGMENT_BYTES", 1000)
    monkeypatch.setattr(segments, "_FRAME_RECORDS", 3)
    monkeypatch.setattr(segments, "_PAIRS", 2)
    told = [line("ann", "userId", k=str(n), **{f"k{n}": "v"}) for n in range(40)]
    found = bench.run(lines(*told))
    assert (found.lines_applied, found.tags_set) == (40, 160)
    assert bench.tags()["b"] == {"userid": "ann", "k": "39", **{f"k{n}": "v" for n in range(40)}}


def numbered(count):
    """Lines of which every fifth is faulty, and what they come to."""
    rng = random.Random(3)
    told, expected, applied = [], {one: {} for one in "abc"}, 0
    for number in range(count):
        if number % 5 == 4:
            told.append(line("nobody", k="v"))
        else:
            one, key = rng.choice("abc"), f"k{rng.randrange(5)}"
            told.append(line(one, **{key: str(number)}))
            expected[one][key] = str(number)
            applied += 1
    return lines(*told), expected, applied


@pytest.mark.parametrize(
    ("point", "adopted"),
    [
        *((("fsync", number), False) for number in (1, 2, 3, 4)),
        *((("offered", number), True) for number in (1, 3)),
        *((("told", number), True) for number in (1, 2)),
        (("told", 3), False),
    ],
    ids=str,
)
def test_killed_anywhere_it_ends_the_same(bench, devices, monkeypatch, point, adopted):
    content, expected, applied = numbered(60)
    asked = bench.ask(content)
    devices.land()
    importing.crash(bench, asked, point, 20)
    if adopted:
        devices.land()
    monkeypatch.setattr(room, "_CHUNK_LINES", 17)
    found = bench.carry_out(asked)
    assert (found.state, found.lines_applied, found.tags_set) == ("succeeded", applied, applied)
    assert found.rejected == {"unknown_device": 60 - applied}
    assert len(found.problems) == 60 - applied
    tags = bench.tags()
    assert {one: {k: v for k, v in tags[one].items() if k != "userid"} for one in "abc"} == expected
    assert len([row for row in devices.rows("tag") if row["key"] != "userid"]) == applied


def test_cancelled_and_taken_up_again_it_goes_on_where_it_stopped(bench, devices, monkeypatch):
    monkeypatch.setattr(room, "_CHUNK_LINES", 10)
    content, expected, applied = numbered(100)
    asked = bench.ask(content)

    def cancel():
        if bench.find(asked).lines_done >= 20 and bench.find(asked).state == "started":
            devices.ledger.cancel_import(asked.id, devices.now)

    stopped = bench.carry_out(asked, cancel)
    assert (stopped.state, stopped.failures[0].code) == ("cancelled", "cancelled")
    assert 20 <= stopped.lines_done < 100
    assert sum(stopped.rejected.values()) + stopped.lines_applied == stopped.lines_done
    assert not journal.offered(devices.data / "journal")
    devices.ledger.retry_import(asked.id)
    found = bench.carry_out(asked)
    assert (found.state, found.lines_applied, found.attempt) == ("succeeded", applied, 2)
    tags = bench.tags()
    assert {one: {k: v for k, v in tags[one].items() if k != "userid"} for one in "abc"} == expected


@pytest.mark.parametrize(
    "content", [b"\n" * 6_000_000, b'{"x": "' + b"x" * 400_000_000], ids=["lines", "line"]
)
def test_it_is_stopped_also_where_nothing_comes_of_the_file(bench, devices, monkeypatch, content):
    monkeypatch.setattr(room, "_HEED_S", 0.01)
    asked = bench.ask(gzip.compress(content, 1), format="jsonl")
    del content

    def cancel():
        if bench.find(asked).state == "started":
            devices.ledger.cancel_import(asked.id, devices.now)

    stopped = bench.carry_out(asked, cancel)
    assert (stopped.state, stopped.failures[0].code, stopped.lines_done) == ("cancelled", "cancelled", 0)
    assert not stopped.rejected


def test_a_file_that_was_replaced_is_not_gone_on_with(bench, devices, monkeypatch):
    monkeypatch.setattr(room, "_CHUNK_LINES", 10)
    content, _, _ = numbered(100)
    asked = bench.ask(content)
    devices.land()
    importing.crash(bench, asked, ("told", 3), 10)
    bench.path(asked).write_bytes(content)
    found = bench.carry_out(asked)
    assert (found.state, found.failures[0].code, found.lines_done) == ("failed", "source_changed", 20)
    # Killed between the first offer and the word of it: landing has these lines already.
    third = bench.ask(lines(line("a", k="v")))
    importing.crash(bench, third, ("offered", 1), 10)
    bench.path(third).write_bytes(lines(line("a", k="other")))
    found = bench.carry_out(third)
    assert (found.state, found.failures[0].code, found.lines_done) == ("failed", "source_changed", 0)
    assert bench.tags()["a"]["k"] == "v"
    # What was not begun may still be corrected.
    other = bench.ask(b"hello\n")
    assert bench.carry_out(other).failures[0].code == "source_unreadable"
    bench.path(other).write_bytes(lines(line("a", k="v")))
    devices.ledger.retry_import(other.id)
    assert bench.carry_out(other).state == "succeeded"


def test_an_import_waits_for_an_erasure(bench, devices):
    erasure = Erasure(
        id="e", app_id=devices.app.app_id, of="user", subject=None, subject_digest="d", state="queued",
        created_at=1, mark=0,
    )  # fmt: skip
    devices.ledger.create_erasure(erasure)
    devices.ledger.start_erasure("e", 1)
    asked = bench.ask(lines(line("a", k="v")))
    seen = []

    def end():
        seen.append(bench.find(asked).state)
        if len(seen) == 10:
            devices.ledger.end_erasure("e", 2)

    assert bench.carry_out(asked, end).state == "succeeded"
    assert set(seen[:10]) == {"queued"}


def test_the_journal_is_not_filled_up(bench, devices, monkeypatch):
    monkeypatch.setattr(room, "_CHUNK_LINES", 1)
    asked = bench.ask(lines(*(line("a", k=str(n)) for n in range(20))))
    devices.land()
    stopped = threading.Event()

    def work():
        try:
            for name in bench.importer.steps:
                getattr(bench.importer, name)(asked.id, 1)
        except OuthaulError:
            stopped.set()

    thread = threading.Thread(target=work)
    thread.start()
    while bench.find(asked).lines_done < 4:
        pass
    stopped.wait(0.3)
    assert bench.find(asked).lines_done == len(journal.offered(devices.data / "journal")) == 4
    bench.importer._backlog = 0  # noqa: SLF001
    devices.roll()
    stopped.wait(0.3)
    assert bench.find(asked).lines_done == 4
    devices.ledger.cancel_import(asked.id, 1)
    assert stopped.wait(5)
    thread.join()


def test_a_full_disk_is_told_and_what_was_applied_is_kept(bench, devices, monkeypatch):
    monkeypatch.setattr(room, "_CHUNK_LINES", 10)
    content, _, applied = numbered(40)
    asked = bench.ask(content)
    offer, calls = journal.offer, []

    def full(*args):
        calls.append(args)
        if len(calls) == 3:
            raise OSError(28, os.strerror(28))
        return offer(*args)

    with monkeypatch.context() as patch:
        patch.setattr(journal, "offer", full)
        found = bench.carry_out(asked)
    assert (found.state, found.failures[0].code, found.lines_done) == ("failed", "busy", 20)
    devices.ledger.retry_import(asked.id)
    assert bench.carry_out(asked).lines_applied == applied


def test_where_a_failed_import_came_from_is_forgotten_in_the_end(bench, devices):
    failed, other = bench.ask(b"hello\n"), bench.ask(lines(line("a", k="v")))
    assert bench.carry_out(failed).state == "failed"
    bench.importer.sweep()
    assert bench.find(failed).source is not None
    bench.importer._now = lambda: devices.now + 73 * 3600_000  # noqa: SLF001
    bench.importer.sweep()
    assert bench.find(failed).source is None
    assert bench.find(other).source is not None


def test_the_attempt_that_is_over_does_nothing(bench, devices):
    asked = bench.ask(lines(line("a", k="v")))
    devices.ledger.cancel_import(asked.id, 1)
    devices.ledger.retry_import(asked.id)
    for name in bench.importer.steps:
        getattr(bench.importer, name)(asked.id, 1)
    bench.importer.fail(asked.id, 1, OuthaulError("late"))
    found = bench.find(asked)
    assert (found.state, found.attempt, found.lines_done) == ("queued", 2, 0)
    assert bench.carry_out(asked).state == "succeeded"
