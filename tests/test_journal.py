import asyncio
import errno
import os
import random
import signal
import subprocess
import sys
import threading
import zlib

import pytest
import zstandard

from outhaul import errors, journal
from outhaul.journal import Header, Journal

LIMITS = {"segment_bytes": 1 << 20, "max_pending_bytes": 1 << 24, "max_journal_bytes": 1 << 30}


def header(received_at=1, **fields):
    return Header(app_id="and000001", protocol="native", received_at=received_at, **fields)


def frames(directory, position=0, limit=1 << 20):
    return [
        frame
        for segment in journal.segments(directory, position)
        for frame in journal.read(segment, inflated_limit=limit)
    ]


def bodies(directory, position=0):
    return [frame.body for frame in frames(directory, position)]


def written(directory, *contents, first=0, **limits):
    """Append each body in turn, and close."""

    async def write():
        opened = Journal(directory, first=first, **{**LIMITS, **limits})
        for body in contents:
            await opened.append(header(), body)
        await opened.close()

    asyncio.run(write())


LEFT_OPEN = """
import asyncio, os, sys
from pathlib import Path
from outhaul.journal import Header, Journal

LIMITS = {"max_pending_bytes": 1 << 30, "max_journal_bytes": 1 << 30}

async def main(directory, *contents):
    opened = Journal(directory, first=0, segment_bytes=1 << 20, **LIMITS)
    for body in contents:
        await opened.append(Header(app_id="a", protocol="native", received_at=1), body.encode())
    os._exit(0)

asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:]))
"""


def left_open(directory, *contents):
    """Append each body in turn, in a process that ends without closing anything."""
    subprocess.run([sys.executable, "-c", LEFT_OPEN, directory, *contents], check=True)
    (segment,) = directory.glob("*.open")
    return segment


def test_what_was_appended_is_read_back_in_order_and_inflated(tmp_path):
    async def write():
        opened = Journal(tmp_path / "deep" / "journal", first=0, **LIMITS)
        sent = header(5, device_id="d.1", user_agent="sdk/1 é", encoding="gzip")
        await opened.append(sent, zlib.compress(b"zipped", wbits=31))
        await opened.append(header(6, encoding="zstd"), zstandard.compress(b"zstd"))
        await opened.append(header(7), b"")
        await opened.close()

    asyncio.run(write())
    first, second, third = frames(tmp_path / "deep" / "journal")
    assert (first.app_id, first.protocol, first.received_at) == ("and000001", "native", 5)
    assert (first.body, first.device_id, first.user_agent) == (b"zipped", "d.1", "sdk/1 é")
    assert (second.body, second.device_id, third.body) == (b"zstd", None, b"")


def test_a_body_over_the_limit_comes_as_it_was_sent(tmp_path):
    bomb = zlib.compress(bytes(5000), wbits=31)

    async def write():
        opened = Journal(tmp_path, first=0, **LIMITS)
        await opened.append(header(encoding="gzip"), bomb)
        await opened.close()

    asyncio.run(write())
    assert [frame.body for frame in frames(tmp_path, limit=4999)] == [bomb]
    assert [frame.body for frame in frames(tmp_path, limit=5000)] == [bytes(5000)]


def test_only_closed_segments_are_read_and_roll_says_up_to_where(tmp_path):
    async def check():
        opened = Journal(tmp_path, first=7, **LIMITS)
        assert await opened.roll() == 7
        await asyncio.gather(*(opened.append(header(), b"%d" % i) for i in range(100)))
        assert frames(tmp_path) == []
        position = await opened.roll()
        assert position == 8
        assert sorted(map(int, bodies(tmp_path))) == list(range(100))
        assert await opened.roll() == 8
        await opened.append(header(), b"later")
        await opened.close()
        assert bodies(tmp_path, position) == [b"later"]

    asyncio.run(check())
    assert sorted(path.name for path in tmp_path.glob("0*")) == [f"{7:020d}.log", f"{8:020d}.log"]


def test_many_more_waiting_than_one_write_takes(tmp_path):
    async def check():
        opened = Journal(tmp_path, first=0, **LIMITS)
        await asyncio.gather(*(opened.append(header(), b"%d" % i) for i in range(3000)))
        await opened.close()

    asyncio.run(check())
    assert [int(body) for body in bodies(tmp_path)] == list(range(3000))


def test_a_segment_that_has_grown_to_its_size_is_closed(tmp_path):
    written(tmp_path, *[bytes(400)] * 10, segment_bytes=1000)
    sizes = [segment.size for segment in journal.segments(tmp_path, 0)]
    assert len(sizes) == 4
    assert all(size >= 1000 for size in sizes[:-1])
    assert len(bodies(tmp_path)) == 10


def test_numbers_grow_over_restarts_and_deletions(tmp_path):
    written(tmp_path, b"a")
    left_open(tmp_path, "b")
    journal.discard(tmp_path, 1)
    written(tmp_path, b"c")
    assert [segment.number for segment in journal.segments(tmp_path, 0)] == [1, 2]
    journal.discard(tmp_path, 3)
    written(tmp_path, b"d", first=3)
    assert [segment.number for segment in journal.segments(tmp_path, 0)] == [3]
    assert bodies(tmp_path, 3) == [b"d"]


def test_a_tail_torn_at_any_byte_is_cut_off_and_kept(tmp_path):
    segment = left_open(tmp_path / "whole", "first", "second", "third")
    content = segment.read_bytes()
    ends = [0, *(content.index(body) + len(body) for body in (b"first", b"second", b"third"))]
    for size in range(len(content) + 1):
        directory = tmp_path / str(size)
        directory.mkdir()
        (directory / segment.name).write_bytes(content[:size])
        written(directory)
        whole = max(index for index, end in enumerate(ends) if end <= size)
        assert bodies(directory) == [b"first", b"second", b"third"][:whole]
        assert not list(directory.glob("*.open"))
        tails = [path.read_bytes() for path in directory.glob("damaged/*.tail")]
        assert b"".join(tails) == content[ends[whole] : size]


def test_a_segment_that_came_to_nothing_keeps_nobody_waiting(tmp_path):
    async def check():
        opened = Journal(tmp_path, first=4, **LIMITS)
        # What landing has reached: it would wait for ever for a segment that is not there.
        assert await opened.roll() == 4
        await opened.close()

    for times in (1, 2):
        (tmp_path / f"{4:020d}.open").write_bytes(b"torn %d" % times)
        asyncio.run(check())
    assert {path.read_bytes() for path in tmp_path.glob("damaged/*.tail")} == {b"torn 1", b"torn 2"}


@pytest.mark.parametrize("garbage", [bytes(5000), b"\xff" * 5000, bytes(7), b"\x04" + bytes(30)], ids=len)
def test_what_a_power_failure_leaves_behind_the_end_is_cut_off(tmp_path, garbage):
    segment = left_open(tmp_path, "first")
    with segment.open("ab") as file:
        file.write(garbage)
    written(tmp_path, b"second")
    assert bodies(tmp_path) == [b"first", b"second"]


def test_any_byte_changed_in_a_closed_segment_is_noticed_after_the_frames_before(tmp_path):
    written(tmp_path, b"first", b"second")
    (segment,) = journal.segments(tmp_path, 0)
    content = segment.path.read_bytes()
    end = content.index(b"first") + 5
    for offset in range(len(content)):
        changed = bytearray(content)
        changed[offset] ^= 0x41
        segment.path.write_bytes(changed)
        seen = []
        with pytest.raises(errors.Damaged):
            seen.extend(frame.body for frame in journal.read(segment, inflated_limit=100))
        assert seen == ([b"first"] if offset >= end else [])


def test_a_damaged_segment_can_be_kept_for_a_look_after_it_was_landed(tmp_path):
    written(tmp_path, b"first")
    (segment,) = journal.segments(tmp_path, 0)
    kept = journal.preserve(segment)
    assert journal.preserve(segment) == kept
    assert journal.segments(tmp_path, 0) == [segment]
    journal.discard(tmp_path, 1)
    assert journal.segments(tmp_path, 0) == []
    assert kept.parent.name == "damaged"
    assert b"first" in kept.read_bytes()
    written(tmp_path, b"second")
    assert [segment.number for segment in journal.segments(tmp_path, 0)] == [1]


def test_two_processes_cannot_write(tmp_path):
    async def check():
        opened = Journal(tmp_path, first=0, **LIMITS)
        with pytest.raises(errors.Conflict):
            Journal(tmp_path, first=0, **LIMITS)
        await opened.close()
        await Journal(tmp_path, first=0, **LIMITS).close()

    asyncio.run(check())


def test_busy_when_too_much_waits_for_the_disk(tmp_path):
    async def check():
        opened = Journal(tmp_path, first=0, **{**LIMITS, "max_pending_bytes": 10_000})
        results = await asyncio.gather(
            *(opened.append(header(), bytes(1000)) for _ in range(30)), return_exceptions=True
        )
        refused = [result for result in results if result is not None]
        assert 15 < len(refused) < 25
        assert {type(error) for error in refused} == {errors.Busy}
        await opened.append(header(), bytes(1000))
        await opened.close()
        assert len(bodies(tmp_path)) == 31 - len(refused)

    asyncio.run(check())


def test_busy_when_too_much_waits_to_be_landed_until_it_has_been(tmp_path):
    written(tmp_path, bytes(3000))

    async def check():
        opened = Journal(tmp_path, first=0, **{**LIMITS, "max_journal_bytes": 10_000})
        await opened.append(header(), bytes(3000))
        await opened.append(header(), bytes(3000))
        with pytest.raises(errors.Busy):
            await opened.append(header(), bytes(3000))
        position = await opened.roll()
        with pytest.raises(errors.Busy):
            await opened.append(header(), bytes(3000))
        journal.discard(tmp_path, position)
        await opened.roll()
        await opened.append(header(), bytes(3000))
        await opened.close()

    asyncio.run(check())


def test_a_request_given_up_does_not_take_others_along(tmp_path):
    async def check():
        opened = Journal(tmp_path, first=0, **LIMITS)
        tasks = [asyncio.create_task(opened.append(header(), b"%d" % i)) for i in range(10)]
        await asyncio.sleep(0)
        tasks[3].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in results if result] == [asyncio.CancelledError]
        await opened.close()
        assert len(bodies(tmp_path)) == 10

    asyncio.run(check())


def test_closing_writes_what_waits_and_refuses_what_comes_after(tmp_path):
    async def check():
        opened = Journal(tmp_path, first=0, **LIMITS)
        waiting = [asyncio.create_task(opened.append(header(), b"%d" % i)) for i in range(10)]
        await asyncio.sleep(0)
        closing = asyncio.create_task(opened.close())
        await asyncio.sleep(0)
        with pytest.raises(errors.Busy):
            await opened.append(header(), b"late")
        with pytest.raises(errors.Busy):
            await opened.roll()
        await asyncio.gather(closing, *waiting)
        assert [int(body) for body in bodies(tmp_path)] == list(range(10))

    asyncio.run(check())


def test_what_was_not_synced_is_not_acknowledged_nor_kept(tmp_path, monkeypatch):
    def fail(_file):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async def check():
        opened = Journal(tmp_path, first=0, **LIMITS)
        await opened.append(header(), b"before")
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", fail)
            together = [opened.append(header(), b"lost") for _ in range(3)]
            results = await asyncio.gather(*together, return_exceptions=True)
            assert [type(result) for result in results] == [errors.Busy] * 3
            assert "Input/output error" in str(results[0])
        await opened.append(header(), b"after")
        await opened.close()

    asyncio.run(check())
    assert [
        (segment.number, bodies(tmp_path, segment.number)[0]) for segment in journal.segments(tmp_path, 0)
    ] == [
        (0, b"before"),
        (1, b"after"),
    ]
    assert bodies(tmp_path) == [b"before", b"after"]


FULL_DISK = """
import asyncio, resource, sys
from pathlib import Path
from outhaul.errors import Busy
from outhaul.journal import Header, Journal

LIMITS = {"max_pending_bytes": 1 << 30, "max_journal_bytes": 1 << 30}

async def main(directory):
    opened = Journal(directory, first=0, segment_bytes=1 << 30, **LIMITS)
    kept = []
    async def one(number):
        try:
            await opened.append(Header(app_id="a", protocol="native", received_at=number), bytes(1000))
        except Busy as error:
            return str(error)
        kept.append(number)
    for number in range(30):
        await one(number)
    # From here on no file can grow beyond 50,000 bytes: the disk is full, but for a new file's start.
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
    refused = [r for r in await asyncio.gather(*(one(n) for n in range(100, 130))) if r]
    assert len(refused) == 30, refused
    for number in range(200, 240):
        await one(number)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    for number in range(300, 330):
        await one(number)
    print(refused[0])
    print(*kept)
    await opened.close()

asyncio.run(main(Path(sys.argv[1])))
"""


def test_a_full_disk_refuses_and_loses_nothing_it_acknowledged(tmp_path):
    ran = subprocess.run(
        [sys.executable, "-c", FULL_DISK, tmp_path], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    message, kept = ran.stdout.splitlines()
    assert "File too large" in message
    numbers = [int(number) for number in kept.split()]
    assert set(range(30)) | set(range(300, 330)) <= set(numbers)
    assert [frame.received_at for frame in frames(tmp_path)] == numbers


KILLED = """
import asyncio, os, sys
from pathlib import Path
from outhaul.journal import Header, Journal

LIMITS = {"max_pending_bytes": 1 << 30, "max_journal_bytes": 1 << 30}

async def main(directory, start):
    opened = Journal(directory, first=0, segment_bytes=200_000, **LIMITS)
    async def device(number):
        while True:
            header = Header(app_id="a", protocol="native", received_at=number)
            await opened.append(header, os.urandom(number % 5000))
            os.write(1, b"%d\\n" % number)
            number += 16
    async def landing():
        while True:
            await asyncio.sleep(0.02)
            await opened.roll()
    await asyncio.gather(landing(), *(device(start + n) for n in range(16)))

asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
"""


def test_nothing_acknowledged_is_lost_when_the_process_is_killed_at_any_moment(tmp_path):
    chance = random.Random(4)
    acknowledged = set()
    for start in range(0, 8_000_000, 1_000_000):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, tmp_path, str(start)], stdout=subprocess.PIPE
        )
        output = [process.stdout.readline()]
        killer = threading.Timer(chance.random() * 0.3, process.send_signal, [signal.SIGKILL])
        killer.start()
        output += process.stdout.readlines()
        assert process.wait() == -signal.SIGKILL
        acknowledged.update(int(line) for line in output if line.endswith(b"\n"))
    written(tmp_path)
    stored = [frame.received_at for frame in frames(tmp_path)]
    assert len(acknowledged) > 100
    assert acknowledged <= set(stored)
    assert len(stored) == len(set(stored))
    for device in range(16):
        of_device = [number for number in stored if number % 16 == device]
        assert of_device == sorted(of_device)
