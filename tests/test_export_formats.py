"""Every kind in every format and compression, opened by readers of others: the same rows, the right types."""

from __future__ import annotations

import io
import json
import subprocess

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from exporting import Bench, inflated, rows_of
from landing import Site, T, every_kind
from outhaul.schema import EXPORTS
from outhaul.wire import Campaigns, Period, Subject

YEAR = Period(T - 10**10, T + 10**10)
FORMS = [
    *((form, compression) for form in ("json", "jsonl", "csv") for compression in ("none", "gzip", "zstd")),
    *(("parquet", compression) for compression in ("none", "snappy", "gzip", "zstd", "lz4")),
]
ARROW = {
    "string": pa.string(),
    "json": pa.string(),
    "identifier": pa.string(),
    "time": pa.timestamp("ms", "UTC"),
    "duration": pa.int64(),
    "integer": pa.int64(),
    "boolean": pa.bool_(),
}


def asked(kind):
    """What is asked for a kind: a period where it takes one, all campaigns of a type for feedback, one of two devices."""
    if EXPORTS[kind].personal:
        return {"kind": kind, "of": Subject(device_id='d,2 "ü\n')}
    if EXPORTS[kind].dated:
        return {"kind": kind, "period": YEAR}
    return (
        {"kind": kind, "campaigns": Campaigns(type="Poll", ids=["42"])}
        if kind == "feedback"
        else {"kind": kind}
    )


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    root = tmp_path_factory.mktemp("formats")
    site = Site(root / "data")
    site.batch(*every_kind("d1"), *every_kind('d,2 "ü\n'))
    yield Bench(site, root / "out")
    site.close()


def plain(row, columns):
    """A row of any format as plain values: times in ms, objects as objects, no nulls."""
    found = {}
    for column in columns:
        value = row.get(column.name)
        if value is None or value == "":
            continue
        if column.type == "time" and not isinstance(value, (int, str)):
            value = round(value.timestamp() * 1000)
        if column.type in {"time", "duration", "integer"}:
            value = int(value)
        if column.type == "boolean":
            value = value in {True, "true"}
        if column.type == "json" and isinstance(value, str):
            value = json.loads(value)
        found[column.name] = str(value) if column.type == "identifier" else value
    return found


@pytest.mark.parametrize("kind", EXPORTS)
def test_every_format_holds_the_same_rows(bench, kind):
    columns = EXPORTS[kind].columns
    expected = None
    for form, compression in FORMS:
        *files, manifest = bench.export(**asked(kind), format=form, compression=compression).values()
        rows = [plain(row, columns) for row in rows_of(*files, form, compression)]
        expected = expected or rows
        assert rows == expected, (form, compression)
        said = json.loads(manifest)
        assert (said["format"], said["compression"], said["rows"]) == (form, compression, len(rows))
    assert expected
    assert all(set(row) >= {c.name for c in columns if c.required} for row in expected)


@pytest.mark.parametrize("kind", EXPORTS)
def test_parquet_has_the_types_that_the_documentation_names(bench, kind):
    columns = EXPORTS[kind].columns
    data, _ = bench.export(**asked(kind), format="parquet", compression="zstd").values()
    schema = pq.read_schema(io.BytesIO(data))
    assert schema.names == [c.name for c in columns]
    assert schema.types == [ARROW[c.type] for c in columns]
    assert [field.nullable for field in schema] == [not c.required for c in columns]
    framed = pl.read_parquet(io.BytesIO(data))
    assert framed.schema == {
        c.name: {"time": pl.Datetime("ms", "UTC"), "boolean": pl.Boolean}.get(
            c.type, pl.Int64 if c.type in {"duration", "integer"} else pl.String
        )
        for c in columns
    }


def test_parquet_is_the_same_to_polars_duckdb_and_pandas(bench, tmp_path):
    for kind in EXPORTS:
        data, _ = bench.export(**asked(kind), format="parquet", compression="zstd").values()
        path = tmp_path / f"{kind}.parquet"
        path.write_bytes(data)
        framed = pl.read_parquet(path)
        found = duckdb.sql(f"SELECT * FROM read_parquet('{path}')").pl()
        assert found.cast(dict(framed.schema)).equals(framed)
        assert pl.from_pandas(pd.read_parquet(path)).cast(dict(framed.schema)).equals(framed)


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_compressed_text_is_read_whole_by_every_reader(bench, tmp_path, compression):
    """Also by those that stop at the end of the first member of a stream; and the tools find nothing wrong."""
    suffix = {"gzip": "gz", "zstd": "zst"}[compression]
    many = bench.site
    many.batch(
        *(
            {"kind": "event", "id": f"x{n}", "deviceId": "d3", "timestamp": T + n, "name": "n"}
            for n in range(6000)
        )
    )
    lines, _ = bench.export(**asked("event"), format="jsonl", compression=compression).values()
    table, _ = bench.export(**asked("event"), format="csv", compression=compression).values()
    (tmp_path / f"e.jsonl.{suffix}").write_bytes(lines)
    (tmp_path / f"e.csv.{suffix}").write_bytes(table)
    tool = {"gzip": "gzip", "zstd": "zstd"}[compression]
    for name in ("jsonl", "csv"):
        subprocess.run([tool, "-t", str(tmp_path / f"e.{name}.{suffix}")], check=True, capture_output=True)
    expected = [json.loads(line)["eventId"] for line in inflated(lines, compression).splitlines()]
    assert len(expected) > 6000
    assert pd.read_json(tmp_path / f"e.jsonl.{suffix}", lines=True)["eventId"].tolist() == expected
    assert pd.read_csv(tmp_path / f"e.csv.{suffix}")["eventId"].tolist() == expected
    assert pl.read_csv(tmp_path / f"e.csv.{suffix}")["eventId"].to_list() == expected
    for reader, name in (("read_json", "jsonl"), ("read_csv", "csv")):
        path = tmp_path / f"e.{name}.{suffix}"
        assert duckdb.sql(f"SELECT eventId FROM {reader}('{path}')").pl()["eventId"].to_list() == expected


def test_times_as_text(bench):
    for form in ("jsonl", "csv"):
        texts = bench.rows(**asked("event"), format=form, time_format="rfc3339")
        numbers = bench.rows(**asked("event"), format=form, time_format="ms")
        shown = [str(pd.Timestamp(row["timestamp"]).value // 10**6) for row in texts]
        assert shown == [str(row["timestamp"]) for row in numbers]
        assert all(row["timestamp"].endswith("Z") for row in texts)


@pytest.mark.parametrize(("form", "compression"), FORMS)
def test_an_export_of_nothing_is_a_file_of_nothing(bench, form, compression):
    files = bench.export(kind="event", period=Period(5, 6), format=form, compression=compression)
    assert len(files) == 2
    [data, manifest] = files.values()
    assert rows_of(data, form, compression) == []
    assert json.loads(manifest)["rows"] == 0


# Parts


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Rows of three days, whose sizes differ much."""
    root = tmp_path_factory.mktemp("parts")
    site = Site(root / "data")
    day = 24 * 3600 * 1000
    for first in range(0, 9000, 3000):
        site.batch(
            *(
                {
                    "kind": "crash",
                    "id": f"c{n}",
                    "deviceId": f"d{n % 97}",
                    "timestamp": T - (n % 3) * day - n,
                    "type": "Oops",
                    "stackTrace": f"{n * 2654435761 % 2**32:x} " * (n * 7 % 400),
                }
                for n in range(first, first + 3000)
            )
        )
    yield Bench(site, root / "out", slice_rows="500")
    site.close()


@pytest.mark.parametrize(("form", "compression"), FORMS)
def test_no_part_is_larger_than_asked_and_together_they_are_the_export(many, form, compression):
    whole = many.rows(kind="crash", period=YEAR, format=form, compression=compression)
    limit = 1024 * 1024
    files = many.export(kind="crash", period=YEAR, format=form, compression=compression, max_file_bytes=limit)
    manifest = json.loads(files.pop("manifest.json"))
    rows = [row for data in files.values() for row in rows_of(data, form, compression)]
    assert rows == whole
    assert len(whole) == 9000
    sizes = [len(data) for data in files.values()]
    assert max(sizes) <= limit
    if compression == "none":
        assert len(files) > 5
        assert min(sizes[:-1]) > limit * 0.8
    assert [entry["name"][-16:].partition(".")[0][-5:] for entry in manifest["files"]] == [
        f"{number:05d}" for number in range(1, len(files) + 1)
    ]


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_each_day_has_its_own_folder_that_readers_take_for_a_column(many, form):
    files = many.export(kind="crash", period=YEAR, format=form, day_path=True)
    manifest = json.loads(files.pop("manifest.json"))
    assert [name.partition("/")[0] for name in files] == [
        "day=2026-11-21",
        "day=2026-11-22",
        "day=2026-11-23",
    ]
    assert sum(entry["rows"] for entry in manifest["files"]) == 9000
    suffix = manifest["taskId"]
    reader = {"jsonl": "read_json", "parquet": "read_parquet"}[form]
    found = duckdb.sql(
        f"SELECT day::VARCHAR AS day, count(*) FROM "
        f"{reader}('{many.out}/day=*/*{suffix}*', hive_partitioning = true) GROUP BY day ORDER BY day"
    ).fetchall()
    assert [row[0] for row in found] == ["2026-11-21", "2026-11-22", "2026-11-23"]
    assert sum(row[1] for row in found) == 9000


def test_a_row_that_is_larger_than_a_part_has_a_part_of_its_own(many):
    """`maxFileBytes` has a least value at the door; below that nothing is lost either."""
    few = {"kind": "crash", "period": Period(T - 50, T + 1)}
    for form, compression in (("json", "none"), ("jsonl", "zstd"), ("csv", "gzip"), ("parquet", "zstd")):
        files = many.export(**few, format=form, compression=compression, max_file_bytes=1500)
        files.pop("manifest.json")
        assert sum(len(rows_of(data, form, compression)) for data in files.values()) == 17
        assert len(files) > 5
