"""Everything about a user or device over HTTP, from Python and on the command line: streamed, and exported."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import duckdb
import httpx2
import pytest

from api_site import Site, problem
from landing import Site as Folder
from landing import T, event, every_kind
from outhaul import devices, errors
from outhaul.client import AsyncClient, Client
from outhaul.client.lines import Lines
from outhaul.config import Config
from outhaul.export import history
from outhaul.instants import show
from outhaul.tables import Devices, NewFile, Tables
from outhaul.wire import Subject
from running import Server

ODD = "a/b:records"
BULK = 40_000


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("people") / "data", slice_rows="5000") as server:
        site = Site(server)
        site.send(
            [
                *every_kind("d1"),
                *every_kind("d2"),
                *every_kind("ü\n"),
                event(ODD, "e1", T),
                {"kind": "event", "deviceId": "d1", "timestamp": "soon"},
            ]
        )
        yield site


@pytest.fixture(scope="module")
def bulk(site):
    """A device with far more records than sockets hold."""
    site.send(event("bulk", f"e{n:06d}", T + n, extras={"text": "x" * 900}) for n in range(BULK))
    return f"/devices/bulk:records?app={site.app.app_id}"


def lines(site, path, **query):
    answer = site.http.get(path, params={"app": "Shop", **query})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.text.endswith("\n") or not answer.text
    return [json.loads(line) for line in answer.content.split(b"\n")[:-1]]


def exported(site, **members):
    """The rows of an export of a history, as lines of a stream are."""
    done = site.export(**{"kind": "history", "timeFormat": "rfc3339", "period": None, **members})
    return [json.loads(line) for line in httpx2.get(done["files"][0]["url"]).content.splitlines()]


@pytest.mark.parametrize("device", ["d1", "ü\n", ODD])
def test_a_stream_has_what_the_export_has(site, device):
    quoted = {"d1": "d1", "ü\n": "%C3%BC%0A", ODD: ODD}[device]
    found = lines(site, f"/devices/{quoted}:records")
    assert found == exported(site, of={"deviceId": device})
    assert [row["timestamp"] for row in found] == sorted(row["timestamp"] for row in found)
    assert list(found[0]) == [
        name for name in ("kind", "timestamp", "deviceId", "userId", "record") if name in found[0]
    ]
    if device == "d1":
        assert {row["kind"] for row in found} == set(history.KINDS)


def test_of_a_user_it_is_of_their_devices_and_of_whatever_carries_their_id(site):
    found = lines(site, "/users/u1:records")
    assert {row["deviceId"] for row in found if row["kind"] == "device"} == {"d1", "d2", "ü\n"}
    assert found == exported(site, of={"userId": "u1"})
    sent = lines(site, "/users/someone:records")
    assert {row["record"]["eventId"] for row in sent if row["kind"] == "event"} == {"e1"}


def test_what_was_acknowledged_before_is_among_them(site):
    for number in range(3):
        site.send([event("fresh", f"f{number}", T + number)])
        found = lines(site, "/devices/fresh:records", kinds="event")
        assert [row["record"]["eventId"] for row in found] == [f"f{n}" for n in range(number + 1)]


def test_kinds_and_a_period(site):
    every = lines(site, "/devices/d1:records")
    assert lines(site, "/devices/d1:records", kinds="tag,event") == [
        row for row in every if row["kind"] in {"tag", "event"}
    ]
    start, end = show(T + 100), show(T + 6000)
    assert lines(site, "/devices/d1:records", **{"from": start, "to": end}) == [
        row for row in every if start <= row["timestamp"] < end
    ]
    assert lines(site, "/devices/d1:records", to="2026-01-01") == []
    assert lines(site, "/users/someone:records", kinds="crash") == []


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ({"kinds": "event,x"}, "kinds"),
        ({"kinds": ""}, "kinds"),
        ({"from": "soon"}, "from"),
        ({"from": "2026-01-02", "to": "2026-01-01"}, "to"),
        ({"what": "1"}, "what"),
        ({"app": None}, "app"),
    ],
)
def test_what_is_wrong_is_named(site, query, named):
    asked = {name: value for name, value in {"app": "Shop", **query}.items() if value is not None}
    answer = site.http.get("/devices/d1:records", params=asked)
    assert problem(answer, 400, "invalid")["detail"].startswith(named)


def test_who_is_not_known_is_not_found(site):
    for path in ("/users/nobody:records", "/devices/D1:records"):
        problem(site.http.get(path, params={"app": "Shop"}), 404, "not_found")
        problem(site.http.get(path, params={"app": "Shop", "kinds": "tag"}), 404, "not_found")
    problem(site.http.get("/users/u1:records", params={"app": "Nowhere"}), 404, "app_not_found")
    too_long = site.http.get(f"/devices/{'x' * 256}:records", params={"app": "Shop"})
    problem(too_long, 400, "invalid")


def test_a_token_for_one_app_need_not_say_it_and_sees_no_other(site):
    other = site.ledger.create_app("Other", "web", 1)
    mine = site.client(site.token("data:read", "exports:write", app_id=site.app.app_id))
    theirs = site.client(site.token("data:read", "exports:write", app_id=other.app_id))
    assert mine.get("/devices/d1:records").status_code == 200
    assert mine.post("/devices/d1:export").status_code == 202
    problem(theirs.get("/devices/d1:records"), 404, "not_found")
    problem(theirs.get("/devices/d1:records", params={"app": "Shop"}), 404, "app_not_found")


def test_an_export_by_the_path_is_one_like_any_other(site):
    headers = {"Idempotency-Key": "history-1"}
    body = {"app": "Shop", "format": "csv", "description": "for Ada"}
    first = site.http.post("/users/u1:export", json=body, headers=headers)
    assert first.status_code == 202, first.text
    made = first.json()
    assert (made["kind"], made["request"]["of"]) == ("history", {"userId": "u1"})
    assert first.headers["location"].endswith(f"/exports/{made['id']}")
    again = site.http.post("/users/u1:export", json=body, headers=headers)
    assert (again.json()["id"], again.headers["idempotency-replayed"]) == (made["id"], "true")
    of_another = site.http.post("/users/u2:export", json=body, headers=headers)
    problem(of_another, 409, "idempotency_key_used")
    done = site.wait(made["id"])
    assert (done["state"], done["rows"]) == ("succeeded", len(lines(site, "/users/u1:records")))
    manifest = json.loads(httpx2.get(done["manifest"]["url"]).content)
    assert (manifest["exportType"], manifest["of"]) == ("History", {"userId": "u1"})
    listed = site.http.get("/exports", params={"kind": "history"}).json()["exports"]
    assert made["id"] in {task["id"] for task in listed}


def test_nobody_is_named_in_the_audit_log(site):
    lines(site, "/devices/d2:records")
    site.http.post("/users/u1:export", json={"app": "Shop"})
    entries = site.http.get("/audit", params={"pageSize": 10}).json()["entries"]
    assert {"device.records", "export.create"} <= {entry["action"] for entry in entries}
    assert not any(one in json.dumps(entries) for one in ('"d2"', '"u1"', "users/"))


def test_it_takes_both_scopes(site):
    problem(site.client(site.token("exports:write")).post("/users/u1:export"), 403, "scope_missing")
    problem(site.client(site.token("data:read")).post("/users/u1:export"), 403, "scope_missing")
    reader = site.client(site.token("exports:write"))
    problem(reader.get("/users/u1:records", params={"app": "Shop"}), 403, "scope_missing")


@pytest.mark.parametrize(
    ("members", "named"),
    [
        ({"of": None}, "of"),
        ({"of": {}}, "of"),
        ({"of": {"userId": "a", "deviceId": "b"}}, "of"),
        ({"of": {"userId": ""}}, "of.userId"),
        ({"of": {"deviceId": "\0"}}, "of"),
        ({"kind": "event"}, "of"),
        ({"period": {"from": "2026-01-01", "to": "2026-01-02", "by": "receivedAt"}}, "period.by"),
        ({"mask": {"timestamp": {"truncate": "day"}}}, "mask.timestamp"),
        ({"where": {"column": "name", "eq": "x"}}, "where.column"),
    ],
)
def test_what_is_wrong_with_a_history_is_named(site, members, named):
    body = site.spec(**{"kind": "history", "of": {"userId": "u1"}, **members})
    if "period" not in members and body["kind"] == "history":
        body.pop("period")
    assert problem(site.http.post("/exports", json=body), 400, "invalid")["detail"].startswith(named)


def test_checking_one_estimates_nothing(site):
    body = site.spec(kind="history", of={"deviceId": "d1"}, period=None)
    check = site.http.post("/exports:check", json=body).json()
    assert check["ok"]
    assert check["estimate"] is None


# Streams that end otherwise than they should


def test_a_server_that_stops_cuts_a_stream_so_that_it_shows(tmp_path):
    with Server(tmp_path / "data") as server:
        site = Site(server)
        site.send(event("bulk", f"e{n:06d}", T + n, extras={"text": "x" * 900}) for n in range(20_000))
        for end in (server.stop, server.kill):
            with site.http.stream("GET", "/devices/bulk:records", params={"app": "Shop"}) as answer:
                pieces = answer.iter_raw()
                assert next(pieces)
                ending = threading.Thread(target=end)
                ending.start()
                with pytest.raises(httpx2.TransportError):
                    list(pieces)
                ending.join()
            server.start()
        with Client(server.url, site.secret) as client:
            found = client.people.records(device_id="bulk", app="Shop")
            first = next(found)
            assert first.record["eventId"] == "e000000"
            server.kill()
            with pytest.raises(errors.Unreachable):
                list(found)


def test_two_at_a_time_and_who_leaves_makes_room(site, bulk):
    with contextlib.ExitStack() as stack:
        for _ in range(history.AT_ONCE):
            answer = stack.enter_context(site.http.stream("GET", bulk))
            assert answer.status_code == 200
        refused = site.http.get(bulk)
        problem(refused, 503, "busy")
        assert int(refused.headers["retry-after"]) > 0
    deadline = time.monotonic() + 20
    while (answer := site.http.get("/devices/d1:records?app=Shop")).status_code == 503:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert answer.status_code == 200
    # What fails, or has nothing, takes no place for good.
    for _ in range(history.AT_ONCE + 1):
        assert site.http.get("/devices/nobody:records?app=Shop").status_code == 404


def test_a_stream_is_whole_and_takes_bounded_memory(site, bulk):
    """Read slowly at first: what waits for the reader is not kept in memory."""
    [front, _] = sorted(site.server.children())

    def used():
        status = Path(f"/proc/{front}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    sizes, seen, pending = [], 0, Lines()
    with site.http.stream("GET", bulk) as answer:
        for number, piece in enumerate(answer.iter_raw()):
            for line in pending.of(piece):
                assert json.loads(line)["record"].get("eventId", f"e{seen:06d}") == f"e{seen:06d}"
                seen += b'"kind":"event"' in line
            if number < 20:
                time.sleep(0.05)
                sizes.append(used())
    assert seen == BULK
    assert max(sizes) < 700


@pytest.fixture
def folder(tmp_path):
    site = Folder(tmp_path / "data")
    for number in range(3):
        site.batch(*(event("d1", f"e{number}-{n}", T + n) for n in range(2000)))
    yield site
    site.close()


def merge(folder):
    """Put one file in the place of all that the events have, as maintenance does; the files that it replaces."""
    tables, app_id = Tables(folder.data / "tables"), folder.app.app_id
    files = tables.files(app_id, "event")
    path = files[0].path.with_name("merged.parquet")
    rows = duckdb.sql(f"SELECT * FROM read_parquet({[str(file.path) for file in files]})")
    rows.order("timestamp, deviceId, eventId").write_parquet(str(path))
    low, high = show(T), show(T + 1999)
    relative = str(path.relative_to(tables.folder(app_id, "event")))
    tables.replace(
        app_id,
        "event",
        files,
        NewFile(relative, path.stat().st_size, 6000, low, high, folder.now, files[0].day),
    )
    return [file.path for file in files], tables.version(app_id, "event")


def read(folder, asked, on_first=lambda: None):
    """The ids of the events that a stream gives, when the versions of the tables are those asked for one after the other."""
    asked = iter(asked)

    async def versions(_app_id):
        return next(asked)

    async def take():
        config = Config({"OUTHAUL_SLICE_ROWS": "500"})
        streams = history.History(folder.data, folder.ledger, config, versions, lambda: T)
        stream = await streams.open(folder.app.app_id, Subject(device_id="d1"), kinds=["event"])
        found = []
        try:
            async for some in stream:
                if not found:
                    on_first()
                found += [json.loads(line)["record"]["eventId"] for line in some.splitlines()]
        finally:
            await stream.close()
        return found

    return asyncio.run(take())


def test_files_that_are_gone_before_the_first_line_are_looked_for_anew(folder):
    before = folder.ledger.checkpoint().versions[folder.app.app_id]
    expected = sorted(f"e{number}-{n}" for number in range(3) for n in range(2000))
    assert sorted(read(folder, [before])) == expected
    old, version = merge(folder)
    for path in old:
        path.unlink()
    assert sorted(read(folder, [before, {**before, "event": version}])) == expected
    with pytest.raises(errors.Damaged):
        read(folder, [before, before])


def test_files_that_are_gone_after_it_cut_the_stream(folder):
    before = folder.ledger.checkpoint().versions[folder.app.app_id]
    old, _ = merge(folder)
    with pytest.raises(duckdb.IOException):
        read(folder, [before], lambda: [path.unlink() for path in old])


def test_devices_are_looked_up_anew_where_files_are_gone(folder):
    """What an erasure deletes between the question and the answer is not missed."""

    class Register(devices.Register):
        asked = 0

        async def versions(self, app_id):
            self.asked += 1
            return {"device": 10**6} if self.asked == 1 else folder.ledger.checkpoint().versions[app_id]

    register = Register(Devices(Tables(folder.data / "tables")), folder.ledger, None, lambda: T)
    assert set(asyncio.run(register.get(folder.app.app_id, ["d1"]))) == {"d1"}
    assert register.asked == 2
    register.asked = 0

    async def pages():
        return [one.device_id async for page in register.pages(folder.app.app_id, "", 1) for one in page]

    assert asyncio.run(pages()) == ["d1"]


# From Python and on the command line


def test_from_python(site, tmp_path):
    expected = lines(site, "/users/u1:records")
    with Client(site.server.url, site.secret) as client:
        found = list(client.people.records(user_id="u1", app="Shop"))
        assert [(one.kind, one.timestamp, one.device_id, one.user_id, one.record) for one in found] == [
            (row["kind"], row["timestamp"], row.get("deviceId"), row.get("userId"), row["record"])
            for row in expected
        ]
        some = client.people.records(
            device_id="d1", app="Shop", kinds=["event"], period=(show(T + 150), None)
        )
        assert [one.record["eventId"] for one in some] == ["e2", "e3"]
        task = client.people.export(user_id="u1", app="Shop", format="parquet").wait(60)
        assert task.to_arrow(tmp_path).num_rows == len(expected)
        with pytest.raises(errors.NotFound):
            next(client.people.records(user_id="nobody", app="Shop"))
        with pytest.raises(errors.Invalid):
            next(client.people.records(app="Shop"))
        with pytest.raises(errors.Invalid):
            client.people.export(user_id="u1", app="Shop", of={"userId": "u2"})
        with pytest.raises(errors.Invalid):
            client.exports.create("Shop", "history", of={"user": "u2"})

    async def first():
        async with AsyncClient(site.server.url, site.secret) as client:
            async for one in client.people.records(user_id="u1", app="Shop"):
                return one
        return None

    assert asyncio.run(first()) == found[0]


def test_lines_are_those_of_line_feeds_alone():
    taken = Lines()
    pieces = ['{"a":"\u2028x', '\x85"}\n{"b"', ":1}\n", "\n", "{"]
    assert [line.decode() for piece in pieces for line in taken.of(piece.encode())] == [
        '{"a":"\u2028x\x85"}',
        '{"b":1}',
        "",
    ]


def cli(site, *words, check=0):
    done = subprocess.run(
        [sys.executable, "-m", "outhaul", "people", *words],
        env={**os.environ, "OUTHAUL_URL": site.server.url, "OUTHAUL_TOKEN": site.secret},
        capture_output=True,
        check=False,
    )
    assert done.returncode == check, done.stderr.decode()
    return done


def test_on_the_command_line(site):
    printed = cli(site, "records", "Shop", "--user", "u1").stdout
    assert [json.loads(line) for line in printed.splitlines()] == lines(site, "/users/u1:records")
    some = cli(site, "records", "Shop", "--device", "d1", "--kinds", "tag,event", "--to", show(T + 1)).stdout
    assert [json.loads(line)["record"]["key"] for line in some.splitlines()] == ["plan", "userid"] or some
    made = json.loads(
        cli(site, "export", "Shop", "--device", "d1", "--format", "csv", "--wait", "--json").stdout
    )
    assert (made["state"], made["request"]["of"]) == ("succeeded", {"deviceId": "d1"})
    assert made["rows"] == len(lines(site, "/devices/d1:records"))
    cli(site, "records", "Shop", "--user", "nobody", check=4)
    cli(site, "records", "Shop", check=2)
    cli(site, "records", "Shop", "--user", "a", "--device", "b", check=2)
    cli(site, "records", "Shop", "--user", "u1", "--kinds", "x", check=2)
    cli(site, "export", "Shop", check=2)
