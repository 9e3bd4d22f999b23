"""Exports fetched and opened by the Python client: interrupted, damaged, of every kind and format, from a real server."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import re
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import zstandard

import api_site
from answering import Answer, Site, problem
from landing import FACTS, T, every_kind
from outhaul import AsyncClient, Client, col, errors
from outhaul.client import Collector, Retries, opening
from outhaul.client.files import Downloaded
from outhaul.rest import Tagged
from outhaul.schema import EXPORTS
from outhaul.wire import Manifest
from running import Server
from test_sdk import FAST, ID, TOKEN, export

MANIFEST = f"Event_{ID}.manifest.json"
ARROW = {
    "time": pa.timestamp("ms", "UTC"),
    "duration": pa.int64(),
    "integer": pa.int64(),
    "boolean": pa.bool_(),
}


def manifest(files, *, schema=(("name", "string", True),), **more):
    entries = [
        {
            "name": name,
            "rows": 1,
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "contentType": "x",
        }
        for name, content in files.items()
    ]
    shown = {
        "manifestVersion": 1,
        "taskId": ID,
        "appId": "app-1",
        "exportType": "Event",
        "format": "jsonl",
        "compression": "none",
        "timeFormat": "ms",
        "schema": [{"name": name, "type": kind, "nullable": nullable} for name, kind, nullable in schema],
        "period": None,
        "campaigns": None,
        "where": None,
        "mask": None,
        "tableVersions": {},
        "pinnedAt": "2026-11-23T12:00:00.000Z",
        "rows": len(files),
        "bytes": 0,
        "files": entries,
    }
    return {**shown, **more}


class Kept:
    """Serves an export's files, in ranges, as the server does; each answer ends after `cut` bytes if that is set."""

    def __init__(self, files):
        self.files = files
        self.manifest = manifest(files)
        self.export = export()
        self.cut = None
        self.ranges = True
        self.sent = {}
        self.now = self.most = 0
        self.pause_s = 0
        self._lock = threading.Lock()
        self.site = Site()
        self.site.answer = self.answer

    def answer(self, request):
        name = request.path.partition("/files/")[2]
        if not name:
            return Answer(body=self.export)
        if name == MANIFEST:
            return Answer(body=self.manifest)
        content = self.files[name]
        etag = '"' + next(file["sha256"] for file in self.manifest["files"] if file["name"] == name) + '"'
        asked = request.headers.get("Range")
        if asked and self.ranges and request.headers["If-Range"] == etag:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
            return self._part(name, 206, content[start:], headers)
        return self._part(name, 200, content, {})

    def _part(self, name, status, content, headers):
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(self.pause_s)
        with self._lock:
            self.now -= 1
        sent = content[: self.cut]
        self.sent[name] = self.sent.get(name, 0) + len(sent)
        return Answer(status, sent, headers, len(content) if len(sent) < len(content) else None)

    def fetched(self):
        return [request for request in self.site.requests if "/files/" in request.path]


@pytest.fixture
def kept():
    made = Kept({f"Event_{ID}-{n}.jsonl": bytes([65 + n]) * (200_000 + n) for n in range(6)})
    yield made
    made.site.close()


@pytest.fixture
def task(kept):
    with Client(kept.site.url, TOKEN, retries=FAST) as client:
        yield client.exports.get(ID)


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# Fetching


def test_files_arrive_with_their_manifest(kept, task, tmp_path):
    paths = task.download(tmp_path / "new")
    assert [path.name for path in paths] == list(kept.files)
    assert [path.read_bytes() for path in paths] == list(kept.files.values())
    assert names(tmp_path / "new") == sorted([*kept.files, MANIFEST])
    assert json.loads((tmp_path / "new" / MANIFEST).read_bytes()) == kept.manifest


def test_what_is_there_is_not_fetched_again(kept, task, tmp_path):
    paths = task.download(tmp_path)
    before = len(kept.site.requests)
    assert task.download(tmp_path) == paths
    assert len(kept.site.requests) == before
    paths[2].write_bytes(paths[2].read_bytes()[:-1] + b"x")
    paths[3].unlink()
    task.download(tmp_path)
    assert {request.path.rpartition("/")[2] for request in kept.site.requests[before:]} == {
        path.name for path in paths[2:4]
    }
    assert paths[2].read_bytes() == kept.files[paths[2].name]


def test_an_interrupted_file_goes_on_where_it_stopped(kept, task, tmp_path):
    kept.cut = 70_000
    task.download(tmp_path)
    assert names(tmp_path) == sorted([*kept.files, MANIFEST])
    # Nothing was sent twice.
    assert kept.sent == {name: len(content) for name, content in kept.files.items()}


def test_patience_with_interruptions_ends_when_nothing_comes_any_more(kept, tmp_path):
    kept.cut = 0
    few = Retries(patience_s=0.2, first_delay_s=0.01)
    with Client(kept.site.url, TOKEN, retries=few) as client, pytest.raises(errors.Unreachable):
        client.exports.get(ID).download(tmp_path)
    assert MANIFEST not in names(tmp_path)


@pytest.mark.parametrize("begun", [b"A" * 1000, b"wrong" * 100, b"A" * 300_000, b"A" * 200_000])
def test_what_an_earlier_process_left_is_taken_up(kept, task, tmp_path, begun):
    name, content = next(iter(kept.files.items()))
    (tmp_path / f"{name}.part").write_bytes(begun)
    task.download(tmp_path)
    assert (tmp_path / name).read_bytes() == content
    assert names(tmp_path) == sorted([*kept.files, MANIFEST])
    resumed = [
        request for request in kept.fetched() if request.headers.get("Range") == f"bytes={len(begun)}-"
    ]
    assert len(resumed) == (len(begun) < 200_000)


def test_a_server_without_ranges(kept, task, tmp_path):
    kept.ranges = False
    name, content = next(iter(kept.files.items()))
    (tmp_path / f"{name}.part").write_bytes(b"A" * 1000)
    task.download(tmp_path)
    assert (tmp_path / name).read_bytes() == content


@pytest.mark.parametrize("change", [lambda c: b"x" + c[1:], lambda c: c[:-1], lambda c: c + b"x"])
def test_a_file_that_is_not_what_was_exported(kept, task, tmp_path, change):
    name = next(iter(kept.files))
    kept.files[name] = change(kept.files[name])
    with pytest.raises(errors.Damaged, match=name):
        task.download(tmp_path)
    assert not (tmp_path / name).exists()
    assert MANIFEST not in names(tmp_path)


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a/../../evil", "C:evil", "a\\..\\evil", ""])
def test_no_file_is_written_outside_of_the_folder(kept, task, tmp_path, name):
    kept.manifest = manifest({name: b"x"})
    with pytest.raises(errors.Damaged, match="no name inside a folder"):
        task.download(tmp_path / "in")
    assert names(tmp_path) == []


def test_several_at_once_and_no_more(kept, task, tmp_path):
    kept.pause_s = 0.1
    task.download(tmp_path, at_once=3)
    assert kept.most == 3


def test_an_error_stops_the_others(kept, task, tmp_path):
    first, second = list(kept.files)[:2]

    def slow(request):
        if request.path.endswith(first):
            return Answer(200, (b"A" * 10_000 + bytes(time.sleep(0.1) or 0) for _ in range(20)))
        if request.path.endswith(second):
            return problem(410, "expired")
        return kept.answer(request)

    kept.site.answer = slow
    before = time.monotonic()
    with pytest.raises(errors.NotFound) as caught:
        task.download(tmp_path, at_once=2)
    assert caught.value.code == "expired"
    assert time.monotonic() - before < 1
    assert 0 < (tmp_path / f"{first}.part").stat().st_size < 200_000


@pytest.mark.parametrize(
    ("shown", "error", "said"),
    [
        ({"state": "started"}, errors.Invalid, "is started"),
        ({"state": "failed"}, errors.ExportFailed, "failed"),
        ({"destination": {"url": "s3://bucket/"}}, errors.Invalid, "they went to s3://bucket/"),
    ],
)
def test_what_cannot_be_fetched(kept, task, tmp_path, shown, error, said):
    kept.export = export(**shown)
    task.refresh()
    with pytest.raises(error, match=said):
        task.download(tmp_path)
    with pytest.raises(error):
        next(task.iter_rows())


@pytest.mark.parametrize("other", [b"<html>", manifest({}, taskId="another")])
def test_a_manifest_that_is_none(kept, task, tmp_path, other):
    kept.manifest = other
    with pytest.raises(errors.Damaged):
        task.download(tmp_path)


def test_a_manifest_that_was_changed(kept, task, tmp_path):
    entry = {"name": MANIFEST, "rows": 0, "bytes": 1, "sha256": "0" * 64, "contentType": "x", "url": None}
    kept.export = export(manifest=entry)
    with pytest.raises(errors.Damaged, match="not the one that was written"):
        task.refresh().download(tmp_path)
    entry["sha256"] = hashlib.sha256(json.dumps(kept.manifest).encode()).hexdigest()
    task.refresh().download(tmp_path)
    (tmp_path / MANIFEST).write_text("{}")
    with pytest.raises(errors.Damaged, match="remove it"):
        task.download(tmp_path)


def test_fetching_asynchronously(kept, tmp_path):
    kept.cut = 70_000
    kept.pause_s = 0.02

    async def main():
        async with AsyncClient(kept.site.url, TOKEN, retries=FAST) as client:
            task = await client.exports.get(ID)
            return await task.download(tmp_path, at_once=2)

    paths = asyncio.run(main())
    assert [path.read_bytes() for path in paths] == list(kept.files.values())
    assert kept.most == 2


# Opening


def opened(tmp_path, contents, **more):
    """What is opened of files with these contents."""
    files = {f"{number}": content for number, content in enumerate(contents)}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    proof = msgspec.convert(manifest(files, **more), Manifest)
    return opening.table(Downloaded(proof, [tmp_path / name for name in files]))


ROWS = [b'{"name":"a"}\n', b'{"name":"b"}\n']


@pytest.mark.parametrize(
    ("compression", "pack"), [("gzip", gzip.compress), ("zstd", zstandard.ZstdCompressor().compress)]
)
def test_compressed_in_several_frames(tmp_path, compression, pack):
    # That is how a file looks whose writing was interrupted and went on.
    content = b"".join(pack(row) for row in ROWS)
    assert opened(tmp_path, [content], compression=compression, rows=2).to_pylist() == [
        {"name": "a"},
        {"name": "b"},
    ]


def test_csv_tells_nothing_from_the_empty_text(tmp_path):
    schema = (("name", "string", True), ("at", "time", True), ("on", "boolean", True), ("n", "integer", True))
    content = (
        b'name,at,on,n\r\n"",1795464000001,true,-5\r\n,,,\r\n"a\r\n""b"",c",0,false,9007199254740993\r\n'
    )
    table = opened(
        tmp_path,
        [content],
        format="csv",
        schema=schema,
        rows=3,
    )
    at = datetime(1970, 1, 1, tzinfo=UTC)
    assert table.to_pylist() == [
        {"name": "", "at": at + timedelta(milliseconds=1795464000001), "on": True, "n": -5},
        {"name": None, "at": None, "on": None, "n": None},
        {"name": 'a\r\n"b",c', "at": at, "on": False, "n": 9007199254740993},
    ]


def test_lines_longer_than_a_piece(tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "_PIECE_BYTES", 7)
    rows = [{"name": "x" * n} for n in range(20)]
    for form, content in (
        ("jsonl", b"".join(msgspec.json.encode(row) + b"\n" for row in rows)),
        ("json", b"[\n" + b",\n".join(map(msgspec.json.encode, rows)) + b"\n]\n"),
    ):
        assert opened(tmp_path, [content], format=form, rows=20).to_pylist() == rows


@pytest.mark.parametrize(
    "more",
    [
        {"rows": 2},
        {"format": "parquet"},
        {"format": "csv"},
        {"compression": "gzip"},
        {"schema": (("name", "integer", True),)},
    ],
)
def test_what_cannot_be_read_is_damaged(tmp_path, more):
    with pytest.raises(errors.Damaged):
        opened(tmp_path, ROWS[:1], **more)


# From a real server

YEAR = (datetime.fromtimestamp(T / 1000, UTC) - timedelta(days=100), "2100-01-01")
FORMS = [
    *((form, packed) for form in ("json", "jsonl", "csv") for packed in ("none", "gzip", "zstd")),
    *(("parquet", packed) for packed in ("none", "snappy", "gzip", "zstd", "lz4")),
]

# Parquet has timestamps of its own.
TIMES = {
    "json": {"time_format": "ms"},
    "jsonl": {"time_format": "rfc3339"},
    "csv": {"time_format": "rfc3339"},
    "parquet": {},
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("sdk") / "data", export_concurrency_per_app="4") as server:
        site = api_site.Site(server)
        site.send([*every_kind("d1"), *every_kind('d,2 "ü\n')])
        yield site


@pytest.fixture(scope="module")
def client(shop):
    with Client(shop.server.url, shop.secret) as made:
        yield made


def asked(kind):
    if EXPORTS[kind].personal:
        return {"of": {"userId": "u1"}}
    if EXPORTS[kind].dated:
        return {"period": YEAR}
    return {"campaigns": {"type": "Poll", "ids": ["42"]}} if kind == "feedback" else {}


def plainly(path, kind):
    """The rows of a JSONL file, read without the client, as it should give them."""
    types = {column.name: column.type for column in (*EXPORTS[kind].columns, *EXPORTS[kind].more)}
    rows = []
    for line in path.read_bytes().splitlines():
        row = json.loads(line)
        for name, value in row.items():
            if types[name] == "time":
                row[name] = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=value)
            if types[name] == "identifier":
                row[name] = str(value)
        rows.append(row)
    return rows


def told(table, kind):
    """The rows of a table without what is missing, objects read."""
    objects = {column.name for column in EXPORTS[kind].columns if column.type == "json"}
    return [
        {
            name: json.loads(value) if name in objects else value
            for name, value in row.items()
            if value is not None
        }
        for row in table.to_pylist()
    ]


@pytest.mark.parametrize("kind", EXPORTS)
def test_every_kind_is_the_same_in_every_format(client, tmp_path, kind):
    columns = EXPORTS[kind].columns
    base = client.exports.create("Shop", kind, **asked(kind)).wait()
    expected = plainly(base.download(tmp_path / "base")[0], kind)
    assert expected
    # Formats and compressions are the same for all kinds; one of them goes through all. Times in an object are text.
    forms = FORMS if kind == "event" else [("json", "none"), ("csv", "none"), ("parquet", "zstd")]
    times = {form: {} for form in TIMES} if EXPORTS[kind].personal else TIMES
    tasks = [
        client.exports.create("Shop", kind, format=form, compression=packed, **times[form], **asked(kind))
        for form, packed in forms
    ]
    for task in tasks:
        table = task.wait(60).to_arrow()
        assert table.schema.names == [column.name for column in columns]
        assert table.schema.types == [ARROW.get(column.type, pa.string()) for column in columns]
        assert told(table, kind) == expected, task.request


def test_polars_and_pandas(client, tmp_path):
    task = client.exports.create("Shop", "session", period=YEAR, format="parquet").wait()
    table = task.to_arrow(tmp_path)
    frame = task.to_polars(tmp_path)
    assert frame.schema["startTime"] == pl.Datetime("ms", "UTC")
    assert frame.to_dicts() == table.to_pylist()
    panda = task.to_pandas(tmp_path)
    assert str(panda.dtypes["startTime"]) == "datetime64[ms, UTC]"
    assert str(panda.dtypes["eventCount"]) == "Int64"
    assert str(panda.dtypes["deviceId"]) == "str"
    assert [int(n) for n in panda["eventCount"]] == frame["eventCount"].to_list()
    devices = client.exports.create("Shop", "device").wait().to_pandas()
    assert str(devices.dtypes["nativePushEnabled"]) == "boolean"
    assert str(devices.dtypes["androidAPILevel"]) == "Int64"
    assert isinstance(devices, pd.DataFrame)


@pytest.mark.parametrize("form", ["json", "jsonl", "csv", "parquet"])
def test_nothing_is_opened_as_well(client, form):
    task = client.exports.create(
        "Shop", "event", period=YEAR, format=form, where=col("name") == "never"
    ).wait()
    table = task.to_arrow()
    assert (table.num_rows, task.rows) == (0, 0)
    assert table.schema.names == [column.name for column in EXPORTS["event"].columns]
    assert table.schema.field("timestamp").type == ARROW["time"]
    assert list(task.iter_rows()) == []


def test_rows_and_batches_in_chosen_columns(client):
    task = client.exports.create(
        "Shop",
        "event",
        period=YEAR,
        columns=["timestamp", "receivedAt", "name", "userId"],
        mask={"userId": "hash", "name": "drop", "timestamp": {"truncate": "hour"}},
        where=(col("userId") == "someone") & (col("timestamp") < datetime(2100, 1, 1, tzinfo=UTC)),
        format="csv",
    ).wait()
    rows = list(task.iter_rows())
    assert len(rows) == 2
    assert list(rows[0]) == ["timestamp", "receivedAt", "userId"]
    assert rows[0]["timestamp"] == datetime.fromtimestamp(T // 3_600_000 * 3600, UTC)
    assert re.fullmatch("[0-9a-f]{64}", rows[0]["userId"])
    assert sum(batch.num_rows for batch in task.iter_batches()) == 2


def test_parts_in_folders_of_days(client, tmp_path):
    task = client.exports.create("Shop", "event", period=YEAR, layout="parts", day_path=True).wait()
    paths = task.download(tmp_path)
    assert all(path.parent.name.startswith("day=") for path in paths)
    assert task.to_arrow(tmp_path).num_rows == task.rows == 6


def test_everything_else_of_the_door(shop, client):
    assert "exports:write" in client.me().scopes
    assert [app.name for app in client.apps.list()] == ["Shop"]
    assert client.apps.get("Shop").app_id == shop.app.app_id
    assert {kind.kind for kind in client.kinds.list()} == set(EXPORTS)
    check = client.exports.check("Shop", "event", period=YEAR)
    assert check.ok
    first = client.exports.create("Shop", "tag", idempotency_key="once")
    assert client.exports.create("Shop", "tag", idempotency_key="once").id == first.id
    with pytest.raises(errors.Conflict) as caught:
        client.exports.create("Shop", "device", idempotency_key="once")
    assert caught.value.code == "idempotency_key_used"
    assert caught.value.request_id
    assert [task.id for task in client.exports.list(app="Shop", kind="tag")].count(first.id) == 1
    with pytest.raises(errors.NotFound):
        client.exports.get("6a1c1f66-0c3a-4f0e-9a53-0c5b7d0f8a11")
    with pytest.raises(errors.Invalid, match="nmae"):
        client.exports.create("Shop", "event", period=YEAR, where=col("nmae") == "x")


def test_devices(client):
    client.tags.declare("Shop", "age", "integer")
    assert client.devices.tag("Shop", {"d1": {"age": "44", "gone": None}, "nobody": {"age": "1"}}) == Tagged(
        devices=1, unknown=["nobody"]
    )
    device = client.devices.get("Shop", "d1")
    assert device.tags["age"].value == "44"
    assert device.info["phoneModel"] == FACTS["phoneModel"]
    assert client.devices.get("Shop", 'd,2 "ü\n').device_id == 'd,2 "ü\n'
    client.devices.tag("Shop", {"d1": {"userid": "a/b?"}})
    assert client.devices.tag_users("Shop", {"a/b?": {"plan": "pro"}}).devices == 1
    [device] = client.devices.of_user("Shop", "a/b?")
    assert device.tags["plan"].value == "pro"
    for chosen in (
        {"tag": "plan:pro"},
        {"tag": "plan"},
        {"user_id": "a/b?"},
        {"tag": "age", "user_id": "a/b?"},
    ):
        assert list(client.devices.list("Shop", **chosen)) == [device]
    assert len(list(client.devices.list("Shop"))) >= 2
    with pytest.raises(errors.Invalid, match=r"devices\.d1\.age"):
        client.devices.tag("Shop", {"d1": {"age": "old"}})
    for missing in (client.devices.get, client.devices.of_user):
        with pytest.raises(errors.NotFound):
            missing("Shop", "nobody")
    rows = client.exports.create("Shop", "tag", where=col("deviceId") == "d1").wait().iter_rows()
    assert {row["key"]: row["type"] for row in rows} == {"age": "integer", "plan": None, "userid": None}
    assert [tag.type for tag in client.tags.list("Shop")] == ["integer"]
    declared = client.tags.get("Shop", "age")
    assert client.tags.remove("Shop", "age") == declared
    with pytest.raises(errors.NotFound):
        client.tags.get("Shop", "age")
    client.devices.tag("Shop", {"d1": {"age": None, "plan": None, "userid": "u1"}})


def test_apps(shop, client):
    made = client.apps.create("Made", "web", collection="All")
    assert (made.app_collection, made.disabled_at) == ("All", None)
    assert client.apps.disable("Made").disabled_at
    with Collector(shop.server.url, made.sdk_key) as collector, pytest.raises(errors.Unauthenticated):
        collector.send(every_kind("d"))
    assert client.apps.enable("Made").disabled_at is None
    with Collector(shop.server.url, made.sdk_key) as collector:
        assert collector.send(every_kind("d"))
    with pytest.raises(errors.Conflict):
        client.apps.create("Made", "web")


def test_tokens(shop, client):
    issued = client.tokens.create("narrow", ["exports:read"], app="Shop", expires_at="2100-01-01")
    assert issued.secret not in repr(issued)
    rotated = client.tokens.rotate(issued.id, overlap_s=0)
    with Client(shop.server.url, issued.secret) as before, pytest.raises(errors.Unauthenticated):
        before.me()
    with Client(shop.server.url, rotated.secret) as narrow:
        assert narrow.me().scopes == ["exports:read"]
        with pytest.raises(errors.Forbidden) as caught:
            narrow.exports.create("Shop", "tag")
        assert caught.value.code == "scope_missing"
    assert client.tokens.revoke(issued.id).revoked_at
    assert client.tokens.get(issued.id).name == "narrow"
    assert issued.id in [token.id for token in client.tokens.list()]
    assert any(entry.target == issued.id for entry in client.audit.list())


def test_asynchronously_with_a_client_secret(shop):
    made = shop.server.cli("credentials", "create", "notebook")

    async def main():
        async with AsyncClient(
            shop.server.url, client_id=made["clientId"], client_secret=made["clientSecret"]
        ) as client:
            task = await client.exports.create("Shop", "event", period=YEAR, format="csv", compression="zstd")
            await task.wait(60)
            rows = [row async for row in task.iter_rows()]
            devices = [device.device_id async for device in client.devices.list("Shop")]
            assert (await client.devices.get("Shop", devices[0])).device_id == devices[0]
            return (await client.me()).actor, task.rows, len(rows), await task.to_polars()

    actor, count, rows, frame = asyncio.run(main())
    assert actor == "credential:notebook"
    assert count == rows == frame.height == 6


def test_waiting_through_a_killed_server(tmp_path):
    with Server(tmp_path / "data") as server:
        site = api_site.Site(server)
        site.send({"kind": "event", "deviceId": "d", "name": "n", "timestamp": T} for _ in range(2000))
        with Client(server.url, site.secret) as client:
            task = client.exports.create("Shop", "event", period=YEAR)
            server.kill()
            again = threading.Timer(1, server.start)
            again.start()
            assert task.wait(60, poll_s=0.1).rows == 2000
            again.join()
            assert task.to_arrow().num_rows == 2000


def test_the_examples_of_the_docs_run(shop, tmp_path, monkeypatch, capsys):
    page = (Path(__file__).parent.parent / "docs" / "python.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", page.replace('"shop"', f'"{shop.app.name}"'), re.DOTALL)
    monkeypatch.setenv("OUTHAUL_URL", shop.server.url)
    monkeypatch.setenv("OUTHAUL_TOKEN", shop.secret)
    monkeypatch.chdir(tmp_path)
    shop.send(
        [
            {"kind": "tag", "deviceId": "ada's phone", "timestamp": T, "key": "userid", "value": "ada"},
            {"kind": "event", "deviceId": "ada's phone", "timestamp": T, "name": "hello"},
        ]
    )
    run = {}
    for example in examples:
        code = compile(example, "docs/python.md", "exec")
        # There is no such bucket, nor such a server.
        if "s3://" not in example and "outhaul.example.com" not in example:
            exec(code, run)
    assert len(examples) == 14
    assert run["frame"].width == run["table"].num_columns == 4
    assert "succeeded" in capsys.readouterr().out
