"""Exports at the edges of what is promised: other hosts' settings, ties, bounds, sizes, what a crash left behind."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from exporting import Bench
from landing import DAY, Site, T, event
from outhaul.export.parquet import ParquetFile, arrow_schema
from outhaul.export.parts import Parts
from outhaul.schema import EXPORTS
from outhaul.wire import Campaigns, ExportRequest, Period, Truncate

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
