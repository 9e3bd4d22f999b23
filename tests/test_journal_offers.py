"""Segments that another process offers: adopted in order, whole, and whatever is killed on the way, not lost."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import pytest

from outhaul import errors, journal
from outhaul.journal import Header, Journal

LIMITS = {"segment_bytes": 1 << 20, "max_pending_bytes": 1 << 24, "max_journal_bytes": 1 << 30}
HEADER = Header(app_id="a", protocol="admin", received_at=1)


def bodies(directory, position=0):
    return [
        frame.body
        for segment in journal.segments(directory, position)
        for frame in journal.read(segment, inflated_limit=1 << 20)
    ]


def offer(directory, name, *contents):
    return journal.offer(directory, name, ((HEADER, body) for body in contents))


def opened(directory, **limits):
    return Journal(directory, first=0, **{**LIMITS, **limits})


def test_offers_are_adopted_in_order_behind_what_was_appended(tmp_path):
    async def check():
        writer = opened(tmp_path)
        await writer.append(HEADER, b"first")
        assert offer(tmp_path, "b-2", b"4", b"5") > 10
        offer(tmp_path, "a-1", b"2")
        offer(tmp_path, "b-1", b"3")
        assert journal.offered(tmp_path) == ["a-1", "b-1", "b-2"]
        assert bodies(tmp_path) == []
        assert await writer.roll() == 4
        assert journal.offered(tmp_path) == []
        await writer.append(HEADER, b"last")
        assert await writer.roll() == 5
        await writer.close()

    asyncio.run(check())
    assert bodies(tmp_path) == [b"first", b"2", b"3", b"4", b"5", b"last"]
    assert [segment.number for segment in journal.segments(tmp_path, 0)] == [0, 1, 2, 3, 4]


def test_an_offer_made_again_replaces_the_one_that_waits(tmp_path):
    offer(tmp_path, "a", b"old")
    offer(tmp_path, "a", b"new")
    asyncio.run(rolled(tmp_path))
    assert bodies(tmp_path) == [b"new"]


async def rolled(directory, **limits):
    writer = opened(directory, **limits)
    position = await writer.roll()
    await writer.close()
    return position


def test_what_waits_is_adopted_after_a_restart_and_numbers_grow(tmp_path):
    asyncio.run(rolled(tmp_path))
    offer(tmp_path, "a", b"1")
    assert asyncio.run(rolled(tmp_path)) == 1
    offer(tmp_path, "a", b"2")
    assert asyncio.run(rolled(tmp_path)) == 2
    assert bodies(tmp_path) == [b"1", b"2"]


@pytest.mark.parametrize("name", ["", "a/b", "..", "a.log", "a b", "x" * 201])
def test_a_name_leads_nowhere_else(tmp_path, name):
    with pytest.raises(ValueError, match="name of an offer"):
        offer(tmp_path, name, b"1")


def test_an_offer_that_fails_leaves_nothing(tmp_path):
    def frames():
        yield HEADER, b"1"
        raise RuntimeError

    with pytest.raises(RuntimeError):
        journal.offer(tmp_path, "a", frames())
    assert list((tmp_path / "offered").iterdir()) == []


def test_what_waits_counts_as_backlog_and_what_is_adopted_as_stored(tmp_path):
    size = offer(tmp_path, "a", bytes(3000)) + offer(tmp_path, "b", bytes(3000))
    assert journal.backlog(tmp_path, 0) == size

    async def check():
        writer = opened(tmp_path, max_journal_bytes=7000)
        await writer.append(HEADER, bytes(500))
        position = await writer.roll()
        with pytest.raises(errors.Busy):
            await writer.append(HEADER, bytes(500))
        assert journal.backlog(tmp_path, 0) > size
        assert journal.backlog(tmp_path, position) == 0
        journal.discard(tmp_path, position)
        await writer.roll()
        await writer.append(HEADER, bytes(500))
        await writer.close()

    asyncio.run(check())


@pytest.mark.parametrize("broken", [1, 2, 3, 4])
def test_a_disk_that_fails_while_adopting_costs_nothing(tmp_path, monkeypatch, broken):
    """Whichever sync fails: calling again gives the same order."""
    fsync, calls = os.fsync, []

    def fail(file):
        calls.append(file)
        if len(calls) == broken:
            raise OSError(5, "Input/output error")
        fsync(file)

    async def check():
        writer = opened(tmp_path)
        await writer.append(HEADER, b"0")
        offer(tmp_path, "a", b"1")
        offer(tmp_path, "b", b"2")
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fail)
            with pytest.raises(errors.Busy):
                await writer.roll()
            # What went where is forced to disk before anybody is told.
            assert await writer.roll() == 3
        assert len(calls) > broken
        await writer.close()

    asyncio.run(check())
    assert bodies(tmp_path) == [b"0", b"1", b"2"]


DYING = """
import asyncio, os, signal, sys
from pathlib import Path
from outhaul import journal
from outhaul.journal import Header, Journal

HEADER = Header(app_id="a", protocol="admin", received_at=1)
directory, what, where, number = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
calls = 0

def counted(call, before):
    def wrapped(*args, **named):
        global calls
        calls += 1
        if before and calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        result = call(*args, **named)
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return wrapped

async def adopt():
    writer = Journal(directory, first=0, segment_bytes=1 << 20, max_pending_bytes=1 << 24, max_journal_bytes=1 << 30)
    await writer.append(HEADER, b"0")
    arm()
    await writer.roll()

def arm():
    if where == "fsync":
        os.fsync = counted(os.fsync, False)
    else:
        Path.rename = counted(Path.rename, where == "renaming")

if what == "offer":
    arm()
    journal.offer(directory, "b", [(HEADER, b"2")] * 3)
else:
    asyncio.run(adopt())
"""
POINTS = [("fsync", 1), ("fsync", 2), ("renaming", 1), ("renamed", 1)]


def die(directory, what, where, number):
    done = subprocess.run(
        [sys.executable, "-c", DYING, directory, what, where, str(number)], check=False, capture_output=True
    )
    return done.returncode == -9


@pytest.mark.parametrize(("where", "number"), POINTS)
def test_killed_while_offering_it_is_there_whole_or_not_at_all(tmp_path, where, number):
    offer(tmp_path, "a", b"1")
    assert die(tmp_path, "offer", where, number)
    asyncio.run(rolled(tmp_path))
    assert bodies(tmp_path) in ([b"1"], [b"1", b"2", b"2", b"2"])
    assert list((tmp_path / "offered").iterdir()) == []


@pytest.mark.parametrize(("where", "number"), [*POINTS, ("fsync", 3), ("renaming", 2), ("renamed", 3)])
def test_killed_while_adopting_it_is_adopted_once(tmp_path, where, number):
    offer(tmp_path, "a", b"1")
    offer(tmp_path, "b", b"2")
    assert die(tmp_path, "adopt", where, number)
    asyncio.run(rolled(tmp_path))
    found = bodies(tmp_path)
    assert found[0] == b"0"
    assert sorted(found) == [b"0", b"1", b"2"]
    assert journal.offered(tmp_path) == []


def test_a_segment_that_is_being_made_is_no_leftover(tmp_path):
    def frames():
        yield HEADER, b"1"
        asyncio.run(rolled(tmp_path))
        yield HEADER, b"2"

    journal.offer(tmp_path, "a", frames())
    (tmp_path / "offered" / "left.tmp").write_bytes(b"half")
    asyncio.run(rolled(tmp_path))
    assert bodies(tmp_path) == [b"1", b"2"]
    assert list((tmp_path / "offered").iterdir()) == []
