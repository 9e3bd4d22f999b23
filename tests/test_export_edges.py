"""Exports at the edges of what is promised: other hosts' settings, ties, bounds, sizes, what a crash left behind."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest

from exporting import Bench
from landing import DAY, Site, T, activity, event
from outhaul.errors import Cancelled
from outhaul.export.compress import codec
from outhaul.export.parquet import ParquetFile, arrow_schema
from outhaul.export.parts import Parts
from outhaul.export.text import TextFile
from outhaul.formats import writing
from outhaul.schema import EXPORTS
from outhaul.wire import Campaigns, ExportRequest, Period, Pin, Truncate

EVER = Period(T - 10**10, T + 10**10)


@pytest.fixture
def bench(tmp_path):
    site = Site(tmp_path / "data")
    yield Bench(site, tmp_path / "out")
    site.close()


def test_times_are_utc_whatever_the_time_zone_of_the_host(bench):
    bench.site.batch(event("d1", "e1", T))
    how = {"kind": "event", "period": EVER, "format": "jsonl", "time_format": "rfc3339"}
    tasks = [bench.ask(**how), bench.ask(**how, mask={"timestamp": Truncate("day")})]
    process = subprocess.run(
        [sys.executable, Path(__file__).with_name("stepping.py"), bench.site.data],
        env={**os.environ, "OUTHAUL_DESTINATIONS": f"file://{bench.out}/", "TZ": "America/New_York"},
        input="".join(json.dumps({"task": task, "kill_at": 0}) + "\n" for task in tasks),
        capture_output=True,
        text=True,
        check=True,
    )
    assert [json.loads(line)["status"] for line in process.stdout.splitlines()] == [0, 0]
    times = [json.loads((bench.out / f"Event_{task}.jsonl").read_bytes())["timestamp"] for task in tasks]
    assert times == ["2026-11-23T18:26:26.000Z", "2026-11-23T00:00:00.000Z"]


def test_the_same_bytes_however_many_threads_also_where_records_tie(tmp_path):
    """Records sent again when they are no longer remembered, and feedback of the same instant."""
    site = Site(tmp_path / "data", OUTHAUL_DEDUPE_DAYS="7")
    for turn in range(6):
        poll = {"kind": "feedback", "timestamp": T, "campaignType": "Poll", "campaignId": "42"}
        more = {**poll, "status": "content-actioned"}
        site.batch(
            *(event(f"d{n % 7}", f"e{n}", T, name=f"name {turn}") for n in range(3000)),
            *(
                {**more, "deviceId": f"d{n % 900}", "id": f"{turn}-{n}", "campaignName": f"{turn}-{n}"}
                for n in range(1800)
            ),
        )
        site.now += 9 * DAY
        site.restart()
    assert len(site.rows("event")) > 3000
    asked = (
        {"kind": "event", "period": EVER, "columns": ["eventId", "name"], "format": "csv"},
        {"kind": "feedback", "campaigns": Campaigns(type="Poll", ids=["42"]), "format": "csv"},
    )
    for request in asked:
        found = {
            next(iter(Bench(site, tmp_path / "out", **settings).export(**request).values()))
            for settings in (
                {"threads": "1"},
                {"threads": "8"},
                {"threads": "2", "slice_rows": "1000"},
                {"threads": "8"},
            )
        }
        assert len(found) == 1, request["kind"]
    site.close()


LIMIT = 1024 * 1024


@pytest.mark.parametrize("compression", ["none", "zstd", "lz4"])
@pytest.mark.parametrize("sizes", [(1300, 200), (255, 255), (65_536, 10), (1, 1)])
def test_no_part_of_parquet_is_larger_than_asked_for(tmp_path, sizes, compression):
    """Least and greatest texts are long too, and one row may be more than a row group was meant to hold."""
    columns = EXPORTS["crash"].columns
    schema = arrow_schema(columns)
    chance = random.Random(1)
    letters = [chr(code) for code in range(0x4E00, 0x9000)]
    stack, other = sizes

    def text(name):
        return "".join(chance.choices(letters, k=stack if name == "stackTrace" else other))

    def batch(number):
        rows = range(number * 50, number * 50 + 50)
        return pa.record_batch(
            [
                pa.array([T + row for row in rows], field.type)
                if pa.types.is_timestamp(field.type)
                # Every other stack is short: a large row must not follow where there is no room.
                else pa.array([text(field.name if row % 2 else "") for row in rows])
                for field in schema
            ],
            names=schema.names,
        )

    request = ExportRequest(kind="crash", format="parquet", compression=compression, max_file_bytes=LIMIT)

    def make(path, _):
        return ParquetFile(path, schema, compression, LIMIT)

    with Parts(tmp_path, request, "task", make, can_grow=False) as parts:
        for number in range(8):
            parts.add(batch(number), None)
        files = parts.finish()
    assert sum(file.rows for file in files) == 400
    assert max(file.bytes for file in files) <= LIMIT
    assert len(files) > 1 or sizes == (1, 1)


# Attempts


def test_an_attempt_that_is_over_leaves_the_next_one_alone(bench):
    """It waits for what was sent to land when the task is cancelled and taken up again: a queued one stops at once."""
    site = bench.site
    site.batch(event("d1", "e1", T))
    task_id = bench.ask(kind="event", period=EVER, format="jsonl", mark=site.ledger.checkpoint().position + 1)
    raised = []

    def pin():
        try:
            bench.exporter.pin(task_id, 1)
        except Cancelled as error:
            raised.append(error)

    waiting = threading.Thread(target=pin, daemon=True)
    waiting.start()
    site.ledger.cancel_task(task_id, site.now)
    assert site.ledger.retry_task(task_id).attempt == 2
    waiting.join(10)
    assert raised, "it still waits, and holds up the app's exports"
    bench.exporter.fail(task_id, 1, raised[0])
    site.ledger.start_task(task_id, 1, lambda _: Pin({"event": 77}, 1, 1, "ms"), 1)
    task = site.ledger.task(task_id)
    assert (task.state, task.attempt, task.pin, task.failures) == ("queued", 2, None, [])
    site.batch(event("d1", "e2", T))
    assert bench.carry_out(task_id).state == "succeeded"


def test_settings_that_changed_meanwhile_do_not_change_an_export_under_way(bench, tmp_path):
    bench.site.batch(activity("d1", "a1", T))
    how = {"kind": "session", "period": EVER, "format": "csv"}
    [expected, _] = bench.export(**how).values()
    assert b"serverTimeout" in expected
    task_id = bench.ask(**how)
    bench.exporter.pin(task_id, 1)
    later = Bench(bench.site, tmp_path / "out", session_timeout_s="999999999", session_idle_s="99999999")
    assert later.carry_out(task_id).state == "succeeded"
    assert (bench.out / f"Session_{task_id}.csv").read_bytes() == expected


def test_files_made_anew_that_are_not_the_same_are_delivered_anew(bench):
    """As after an upgrade, when what was written is gone: the manifest must not speak of files of before."""
    bench.site.batch(*(event("d1", f"e{n}", T + n) for n in range(50)))
    task_id = bench.ask(kind="event", period=EVER, format="jsonl", max_file_bytes=2000)
    bench.exporter.pin(task_id, 1)
    bench.exporter.write(task_id, 1)
    ledger = bench.site.ledger
    files = ledger.task(task_id).files
    assert len(files) > 2
    other = [msgspec.structs.replace(file, sha256="0" * 64) for file in files]
    ledger.update_task(task_id, files=other, parts_delivered=2, bytes_delivered=3000)
    shutil.rmtree(bench.site.data / "exports" / task_id)
    assert bench.carry_out(task_id).state == "succeeded"
    for file in files:
        assert hashlib.sha256((bench.out / file.name).read_bytes()).hexdigest() == file.sha256


# What a crash left behind


def shorten(folder, size):
    os.truncate(sorted(folder.glob("Event_*"))[-2], size)


def lengthen(folder):
    with max(folder.glob("Event_*")).open("ab") as file:
        file.write(b"rubbish" * 1000)


HARMS = {
    "nothing": lambda _: None,
    "no mark": lambda folder: (folder / "mark.json").unlink(),
    "a torn mark": lambda folder: os.truncate(folder / "mark.json", 10),
    "no list": lambda folder: (folder / "done.jsonl").unlink(),
    "an empty list": lambda folder: os.truncate(folder / "done.jsonl", 0),
    "a torn list": lambda folder: os.truncate(
        folder / "done.jsonl", (folder / "done.jsonl").stat().st_size - 5
    ),
    "a line too many": lambda folder: shorten(folder, 0),
    "a short file": lambda folder: shorten(folder, 10),
    "rubbish after the mark": lengthen,
}


@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("harm", HARMS)
def test_whatever_a_crash_left_the_same_files_come_of_it(tmp_path, harm, compression):
    form = writing("jsonl", EXPORTS["event"].columns, "ms")
    chance = random.Random(2)
    lines = [chance.randbytes(chance.randrange(10_000)).hex() for _ in range(200)]
    limit = 300_000
    request = ExportRequest(kind="event", format="jsonl", compression=compression, max_file_bytes=limit)

    def opened(folder):
        def make(path, growing):
            return TextFile(path, form, codec(compression), limit, growing)

        return Parts(folder, request, "task", make, can_grow=True)

    def write(folder, until):
        with opened(folder) as parts:
            begun = parts.rows
            while parts.rows < until:
                rows = pa.array(lines[parts.rows : min(until, parts.rows + 7)])
                parts.add(pa.record_batch([rows], names=["line"]), None)
                parts.mark(100_000)
            return begun, parts.finish() if until == len(lines) else None

    begun, expected = write(tmp_path / "whole", len(lines))
    assert begun == 0
    write(tmp_path / "cut", 150)
    HARMS[harm](tmp_path / "cut")
    begun, files = write(tmp_path / "cut", len(lines))
    assert files == expected
    assert len(files) > 3
    for file in files:
        assert (tmp_path / "cut" / file.name).read_bytes() == (tmp_path / "whole" / file.name).read_bytes()
    assert begun > 0 or harm in {"no list", "an empty list"}


def test_tags_have_the_types_that_were_declared_when_the_export_was_pinned(bench):
    site = bench.site
    values = {"age": "44", "plan": "it's", "userid": "ada"}
    site.batch(
        *(
            {"kind": "tag", "deviceId": "d", "timestamp": T, "key": key, "value": values[key]}
            for key in values
        )
    )
    assert all("type" not in row for row in bench.rows(kind="tag", format="jsonl"))
    site.ledger.declare_tag(site.app.app_id, "age", "integer", 1)
    site.ledger.declare_tag(site.app.app_id, "never", "date", 1)
    site.ledger.declare_tag("web000009", "plan", "boolean", 1)
    task_id = bench.ask(kind="tag", format="jsonl")
    bench.exporter.pin(task_id, 1)
    site.ledger.declare_tag(site.app.app_id, "age", "string", 2)
    site.ledger.declare_tag(site.app.app_id, "plan", "string", 2)
    bench.carry_out(task_id)
    rows = [json.loads(line) for line in (bench.out / f"Tag_{task_id}.jsonl").read_bytes().splitlines()]
    assert [(row["key"], row["value"], row.get("type")) for row in rows] == [
        ("age", "44", "integer"),
        ("plan", "it's", None),
        ("userid", "ada", None),
    ]
    declared = bench.rows(kind="tag", format="jsonl", columns=["key", "type"])
    assert declared == [
        {"key": "age", "type": "string"},
        {"key": "plan", "type": "string"},
        {"key": "userid"},
    ]
