"""Exports through `/api/v1` on a real server: asked for, checked, listed, watched, stopped, moved, fetched."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import time
from datetime import UTC, datetime
from typing import get_args

import httpx2
import pytest

from api_site import Site, problem
from outhaul.api.events import WATCHERS
from outhaul.api.reading import PART_BYTES
from outhaul.wire import Compression, Format, Period
from running import Server

DAY_MS = 24 * 3600 * 1000
T = int(datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp() * 1000)
ROWS = 300


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """300 events on three days, one every 864 s."""
    folder = tmp_path_factory.mktemp("exports")
    with Server(folder / "data", destinations=f"file://{folder}/out/", rate_per_minute="0") as server:
        site = Site(server)
        site.folder = folder / "out"
        site.folder.mkdir()
        site.send(
            {
                "kind": "event",
                "deviceId": f"d{i % 7}",
                "id": f"e{i}",
                "timestamp": T + i * 864_000,
                "name": "x",
            }
            for i in range(ROWS)
        )
        yield site


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A server that allows little, for apps of the tests' own."""
    data = tmp_path_factory.mktemp("small") / "data"
    with Server(data, rate_per_minute="0", exports_per_day="8", download_link_s="1") as server:
        yield server


def to(site, name):
    return {"url": f"file://{site.folder}/{name}/"}


# Asking


def test_files_arrive_where_they_were_asked_to(site):
    done = site.export(destination=to(site, "plain"), description="all of it")
    assert (done["rows"], done["description"], done["app"]) == (ROWS, "all of it", "Shop")
    assert done["destination"]["url"] == f"file://{site.folder}/plain"
    [file] = done["files"]
    data = (site.folder / "plain" / file["name"]).read_bytes()
    assert file["sha256"] == hashlib.sha256(data).hexdigest()
    assert (file["bytes"], file["rows"], file["url"]) == (len(data), ROWS, None)
    manifest = (site.folder / "plain" / done["manifest"]["name"]).read_bytes()
    assert done["manifest"]["sha256"] == hashlib.sha256(manifest).hexdigest()
    assert done["progress"]["percent"] == 100
    assert (done["error"], done["attempts"], done["attempt"]) == (None, [], 1)
    assert done["createdBy"].startswith("token:")


@pytest.mark.parametrize(
    "members",
    [
        {},
        {
            "format": "csv",
            "compression": "gzip",
            "columns": ["deviceId", "timestamp"],
            "timeFormat": "rfc3339",
        },
        {"format": "parquet", "mask": {"deviceId": "hash", "timestamp": {"truncate": "day"}}},
        {"where": {"and": [{"column": "name", "eq": "x"}, {"not": {"column": "userId", "null": False}}]}},
        {"layout": "parts", "maxFileBytes": 1_048_576, "dayPath": True, "description": "in parts"},
        {"layout": "parts"},
        {"layout": "parts", "dayPath": True},
        {"period": {"from": "2026-03-01T02:00:00+02:00", "to": "2026-04-01", "by": "receivedAt"}},
        {"kind": "device", "period": None},
        {"kind": "feedback", "period": None, "campaigns": {"type": "Poll", "ids": ["1", "b"]}},
        {
            "kind": "feedback",
            "period": None,
            "campaigns": {"type": "Poll", "from": "2026-01-01", "to": "2026-02-01"},
        },
    ],
)
def test_what_was_asked_can_be_asked_again(site, members):
    first = site.create(**members)
    assert {"app": "ios000001", "kind": members.get("kind", "event")}.items() <= first["request"].items()
    again = site.http.post("/exports", json=first["request"])
    assert again.status_code == 202, again.text
    assert again.json()["request"] == first["request"]
    stored = [site.ledger.task(one["id"]).request for one in (first, again.json())]
    assert stored[0] == stored[1]


def test_what_is_not_said_is_chosen(site):
    def stored(**members):
        return site.ledger.task(site.create(**members)["id"]).request

    assert stored().format == "jsonl"
    assert stored().compression == "none"
    assert stored(format="parquet").compression == "zstd"
    assert stored(layout="parts").max_file_bytes == PART_BYTES
    assert stored(layout="parts", dayPath=True).max_file_bytes is None
    asked = stored(period={"from": "2026-03-01T01:00:00+01:00", "to": "2026-03-02"})
    assert asked.period == Period(T - DAY_MS // 2, T + DAY_MS // 2)


@pytest.mark.parametrize(
    ("members", "names"),
    [
        ({"period": None}, "period"),
        ({"kind": "tag"}, "period"),
        ({"period": {"from": "2026-03-02", "to": "2026-03-02"}}, "period.to"),
        ({"period": {"from": "2026-03-02", "to": "tomorrow"}}, "period.to"),
        ({"period": {"from": "2026-03-02T00:00:00", "to": "2026-03-03"}}, "period.from"),
        ({"period": {"from": "1969-12-31", "to": "2026-03-03"}}, "period.from"),
        ({"period": {"from": "2026-03-02", "to": "9999-12-31T23:59:59-01:00"}}, "period.to"),
        ({"campaigns": {"type": "Poll", "ids": ["1"]}}, "campaigns"),
        ({"kind": "feedback", "period": None, "campaigns": {"type": "Poll"}}, "campaigns"),
        ({"kind": "feedback", "period": None, "campaigns": {"type": "Poll", "ids": []}}, "campaigns.ids"),
        (
            {
                "kind": "feedback",
                "period": None,
                "campaigns": {"type": "Poll", "ids": ["1"], "to": "2026-01-01"},
            },
            "campaigns",
        ),
        ({"compression": "snappy"}, "compression"),
        ({"format": "csv", "compression": "lz4"}, "compression"),
        ({"format": "parquet", "timeFormat": "ms"}, "timeFormat"),
        ({"maxFileBytes": 2_000_000}, "maxFileBytes"),
        ({"dayPath": True}, "dayPath"),
        ({"kind": "tag", "period": None, "layout": "parts", "dayPath": True}, "dayPath"),
        ({"layout": "parts", "maxFileBytes": 1}, "maxFileBytes"),
        ({"layout": "parts", "maxFileBytes": 10**30}, "maxFileBytes"),
        ({"columns": ["nothing"]}, "columns"),
        ({"where": {"column": "name", "eq": 1}}, "where.eq"),
        ({"mask": {"timestamp": "hash"}}, "mask.timestamp"),
        ({"destination": {"url": "nowhere"}}, "destination"),
        ({"destination": {"url": "download:", "sasToken": "x"}}, "destination.sasToken"),
    ],
)
def test_what_does_not_go_together_is_told_by_its_member(site, members, names):
    told = problem(site.http.post("/exports", json=site.spec(**members)), 400, "invalid")
    assert told["detail"].startswith((f"{names}:", f"{names} ")), told
    checked = site.http.post("/exports:check", json=site.spec(**members)).json()
    assert not checked["ok"]
    assert checked["steps"][0] == {
        "name": "parse",
        "ok": False,
        "detail": told["detail"],
        "cure": told["hint"],
    }


def test_a_destination_that_is_not_allowed_is_refused(site):
    body = site.spec(destination={"url": "file:///etc/"})
    problem(site.http.post("/exports", json=body), 400, "destination_refused")
    problem(site.http.post("/exports", json=site.spec(app="Nowhere")), 404, "app_not_found")


def test_the_same_key_is_the_same_export(site):
    def ask(key, **members):
        return site.http.post("/exports", json=site.spec(**members), headers={"idempotency-key": key})

    first = ask("k1")
    again = ask("k1")
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json()["id"] == first.json()["id"]
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["location"] == first.headers["location"]
    problem(ask("k1", description="another"), 409, "idempotency_key_used")
    problem(ask("k1", destination=to(site, "elsewhere")), 409, "idempotency_key_used")
    assert ask("k2").json()["id"] != first.json()["id"]
    with site.client(site.token()) as other:
        theirs = other.post("/exports", json=site.spec(), headers={"idempotency-key": "k1"})
    assert theirs.json()["id"] != first.json()["id"]
    for key in ("", "x" * 256, "é".encode()):
        problem(ask(key), 400, "invalid")


def test_quotas(small):
    site = Site(small, "Quota")
    answers = [site.http.post("/exports", json=site.spec()) for _ in range(9)]
    assert [answer.status_code for answer in answers] == [*[202] * 8, 429]
    problem(answers[-1], 429, "too_many")
    assert int(answers[-1].headers["retry-after"]) > 80_000


def test_no_secret_is_kept_or_shown(site):
    secret = "hunter2hunter2hunter2"
    url = f"https://account.blob.core.windows.net/exports?sv=2021-08-06&sr=c&sp=wl&se=2099-01-01T00:00:00Z&sig={secret}"
    body = site.spec(destination={"url": url})
    answer = site.http.post("/exports", json=body, headers={"idempotency-key": "secret"})
    assert answer.status_code == 202, answer.text
    assert answer.json()["destination"]["url"] == "https://account.blob.core.windows.net/exports"
    site.http.post(f"/exports/{answer.json()['id']}:cancel")
    site.http.post(
        "/exports", json=site.spec(destination={"url": url, "sasToken": secret, "endpoint": secret})
    )
    kept = b"".join(path.read_bytes() for path in site.server.data.glob("ledger.db*"))
    for text in (answer.text.encode(), site.server.log.read_bytes(), kept):
        assert secret.encode() not in text


# Looking


def test_lists_are_filtered_and_paged(small):
    site, other = Site(small, "Mine"), Site(small, "Theirs")
    ids = [site.create(kind=kind)["id"] for kind in ["event", "job"] * 3]
    foreign = other.create()["id"]
    began = site.get(ids[0])["createdAt"]

    def listed(http=site.http, **query):
        answer = http.get("/exports", params={"createdAfter": began, **query})
        assert answer.status_code == 200, answer.text
        return answer.json()

    assert [one["id"] for one in listed()["exports"]] == [foreign, *reversed(ids)]
    assert {one["kind"] for one in listed(kind="job")["exports"]} == {"job"}
    assert [one["id"] for one in listed(app="Theirs")["exports"]] == [foreign]
    paged, token = [], None
    while True:
        page = listed(pageSize=2, app="Mine", **({"pageToken": token} if token else {}))
        assert len(page["exports"]) <= 2
        paged += [one["id"] for one in page["exports"]]
        token = page["nextPageToken"]
        if token is None:
            break
    assert paged == ids[::-1]
    middle = listed()["exports"][3]["createdAt"]
    assert len(listed(createdAfter=middle)["exports"]) >= 4
    assert middle not in [one["createdAt"] for one in listed(createdBefore=middle)["exports"]]
    assert listed(createdBefore="2026-01-01")["exports"] == []
    with site.client(site.token(app_id=site.app.app_id)) as bound:
        assert foreign not in [one["id"] for one in listed(bound)["exports"]]
        problem(bound.get("/exports?app=Theirs"), 404, "app_not_found")


def test_another_apps_exports_are_not_said_to_exist(site):
    export = site.create()["id"]
    other = site.ledger.create_app("Elsewhere", "ios", 1)
    with site.client(site.token(app_id=other.app_id)) as bound:
        for method, path in (
            ("GET", ""),
            ("GET", "/events"),
            ("GET", "/files/x"),
            ("POST", ":cancel"),
            ("POST", ":retry"),
            ("PUT", "/destination"),
        ):
            body = {"destination": {"url": "download:"}} if method == "PUT" else None
            problem(bound.request(method, f"/exports/{export}{path}", json=body), 404, "not_found")
        problem(bound.post("/exports", json=site.spec()), 404, "app_not_found")


# Stopping, going on


def test_what_waits_can_be_cancelled_and_taken_up_again(site):
    exports = [site.create()["id"] for _ in range(5)]
    last = exports[-1]
    cancelled = site.http.post(f"/exports/{last}:cancel")
    assert (cancelled.status_code, cancelled.json()["state"]) == (202, "cancelled")
    assert site.http.post(f"/exports/{last}:cancel").json()["state"] == "cancelled"
    again = site.http.post(f"/exports/{last}:retry")
    assert (again.status_code, again.json()["attempt"]) == (202, 2)
    assert site.wait(last)["state"] == "succeeded"
    problem(site.http.post(f"/exports/{last}:cancel"), 409, "export_ended")
    problem(site.http.post(f"/exports/{last}:retry"), 409, "export_not_ended")
    body = {"destination": {"url": "download:"}}
    problem(site.http.put(f"/exports/{last}/destination", json=body), 409, "export_ended")
    for export in exports:
        site.wait(export)


def test_a_failed_export_goes_on_with_another_destination(site):
    (site.folder / "blocked").write_text("a file is no folder")
    failed = site.wait(site.create(destination=to(site, "blocked"))["id"])
    assert failed["state"] == "failed"
    assert failed["error"]["code"].startswith("destination_")
    assert failed["error"]["message"]
    [attempt] = failed["attempts"]
    assert attempt["number"] == 1
    assert attempt["error"] == failed["error"]
    refused = site.http.put(
        f"/exports/{failed['id']}/destination", json={"destination": {"url": "file:///etc/"}}
    )
    problem(refused, 400, "destination_refused")
    moved = site.http.put(f"/exports/{failed['id']}/destination", json={"destination": to(site, "free")})
    assert moved.status_code == 202, moved.text
    done = site.wait(failed["id"])
    assert (done["state"], done["attempt"], done["error"]) == ("succeeded", 2, None)
    assert len(done["attempts"]) == 1
    assert (site.folder / "free" / done["files"][0]["name"]).exists()


# Watching


def watched(http, path):
    """The events of a stream, as `(event, data)`, until it is closed."""
    with http.stream("GET", path) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        event = None
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if name == "event":
                event = value
            elif name == "data":
                yield event, json.loads(value)


def test_a_watcher_is_told_of_every_change_up_to_the_end(site):
    export = site.create()["id"]
    events = list(watched(site.http, f"/exports/{export}/events"))
    assert [event for event, _ in events[:-1]] == ["progress"] * (len(events) - 1)
    event, last = events[-1]
    assert (event, last["state"], last["id"]) == ("end", "succeeded", export)
    assert last["files"][0]["url"]
    [(event, after)] = watched(site.http, f"/exports/{export}/events")
    assert (event, after["state"]) == ("end", "succeeded")


def test_progress_is_bytes_written_and_delivered_out_of_twice_those_planned(small):
    site = Site(small, "Progress")
    export = site.stuck()
    events = watched(site.http, f"/exports/{export}/events")
    event, first = next(events)
    assert (event, first["state"], first["progress"]["percent"]) == ("progress", "queued", 0)
    minute_ago = int(time.time() * 1000) - 60_000
    changes = {"state": "started", "started_at": minute_ago, "phase": "writing", "rows_planned": 1000}
    site.ledger.update_task(export, **changes, rows_done=500, bytes_done=5000)
    _, half = next(events)
    progress = half["progress"]
    assert (progress["percent"], progress["bytesPlanned"], progress["phase"]) == (25, 10_000, "writing")
    assert 175 < progress["etaSeconds"] < 190
    site.ledger.update_task(export, rows_done=1000, bytes_done=9000, bytes_delivered=9000, phase="proving")
    _, nearly = next(events)
    assert nearly["progress"]["percent"] == 99.9
    site.http.post(f"/exports/{export}:cancel")
    _, cancelling = next(events)
    assert (cancelling["cancelling"], cancelling["state"]) in {(True, "started"), (False, "cancelled")}


# Fetching


@pytest.fixture(scope="module")
def kept(site):
    """An export whose file the server keeps, and the file."""
    done = site.export(format="csv")
    [file] = done["files"]
    data = (site.server.data / "downloads" / done["id"] / file["name"]).read_bytes()
    assert len(data) == file["bytes"]
    return done, file, data


def test_a_file_is_fetched_with_a_token_or_by_its_link(site, kept):
    done, file, data = kept
    path = f"/exports/{done['id']}/files/{file['name']}"
    with site.client() as nobody:
        problem(nobody.get(path), 401, "unauthenticated")
        by_link = nobody.get(file["url"])
        problem(nobody.get(file["url"][:-5]), 401, "unauthenticated")
        other = site.create()["id"]
        problem(nobody.get(file["url"].replace(done["id"], other)), 401, "unauthenticated")
        problem(nobody.get(file["url"].replace(".csv", ".json")), 401, "unauthenticated")
    for answer in (by_link, site.http.get(path)):
        assert (answer.status_code, answer.content) == (200, data)
        assert answer.headers["etag"] == f'"{hashlib.sha256(data).hexdigest()}"'
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        assert answer.headers["content-disposition"] == f'attachment; filename="{file["name"]}"'
        assert answer.headers["accept-ranges"] == "bytes"
    head = site.http.head(path)
    assert (head.status_code, head.content, int(head.headers["content-length"])) == (200, b"", len(data))
    problem(site.http.get(f"/exports/{done['id']}/files/other.csv"), 404, "not_found")
    problem(site.http.get(f"/exports/{done['id']}/files/..%2F..%2Fsecret.key"), 404, "not_found")


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ("bytes=0-0", slice(0, 1)),
        ("bytes=10-19", slice(10, 20)),
        ("bytes=100-", slice(100, None)),
        ("bytes=-7", slice(-7, None)),
        ("bytes=0-99999999999", slice(0, None)),
        ("bytes=-99999999999", slice(0, None)),
        ("bytes=5-4", None),
        ("bytes=0-1,4-5", None),
        ("bytes=-", None),
        ("rows=0-1", None),
        ("nonsense", None),
    ],
)
def test_ranges(site, kept, asked, part):
    done, file, data = kept
    path = f"/exports/{done['id']}/files/{file['name']}"
    answer = site.http.get(path, headers={"range": asked})
    if part is None:
        assert (answer.status_code, answer.content) == (200, data)
        return
    first, last, _ = part.indices(len(data))
    assert (answer.status_code, answer.content) == (206, data[part])
    assert answer.headers["content-range"] == f"bytes {first}-{last - 1}/{len(data)}"
    assert int(answer.headers["content-length"]) == last - first
    head = site.http.head(path, headers={"range": asked})
    assert (head.status_code, head.headers["content-range"]) == (206, answer.headers["content-range"])
    current = site.http.get(path, headers={"range": asked, "if-range": answer.headers["etag"]})
    assert (current.status_code, current.content) == (206, data[part])
    changed = site.http.get(path, headers={"range": asked, "if-range": '"another"'})
    assert (changed.status_code, changed.content) == (200, data)


@pytest.mark.parametrize("asked", ["bytes={size}-", "bytes=99999999999-", "bytes=-0"])
def test_a_range_outside_of_the_file(site, kept, asked):
    done, file, data = kept
    answer = site.http.get(
        f"/exports/{done['id']}/files/{file['name']}", headers={"range": asked.format(size=len(data))}
    )
    problem(answer, 416, "range_not_satisfiable")
    assert answer.headers["content-range"] == f"bytes */{len(data)}"


def test_files_of_parts_in_folders_of_days_are_fetched_by_their_names(site):
    done = site.export(layout="parts", dayPath=True)
    assert len(done["files"]) == 4
    with site.client() as nobody:
        fetched = [nobody.get(file["url"]) for file in done["files"]]
    assert [answer.status_code for answer in fetched] == [200] * 4
    assert sum(len(answer.text.splitlines()) for answer in fetched) == done["rows"] == ROWS
    for file, answer in zip(done["files"], fetched, strict=True):
        assert file["name"].startswith("day=2026-03-0")
        assert hashlib.sha256(answer.content).hexdigest() == file["sha256"]


def test_the_manifest_is_fetched_like_a_file(site, kept):
    done, file, _ = kept
    manifest = done["manifest"]
    assert manifest["name"] == f"Event_{done['id']}.manifest.json"
    answer = site.http.get(f"/exports/{done['id']}/files/{manifest['name']}")
    assert site.client().get(manifest["url"]).content == answer.content
    assert (answer.status_code, len(answer.content)) == (200, manifest["bytes"])
    assert manifest["sha256"] == hashlib.sha256(answer.content).hexdigest()
    assert [one["sha256"] for one in answer.json()["files"]] == [file["sha256"]]
    assert answer.headers["etag"] == f'"{hashlib.sha256(answer.content).hexdigest()}"'


def test_files_go_and_links_end(small):
    site = Site(small, "Gone")
    done, old = (site.export(kind=kind) for kind in ("event", "job"))
    path = f"/exports/{old['id']}/files/{old['files'][0]['name']}"
    assert site.http.get(path).status_code == 200
    shutil.rmtree(small.data / "downloads" / old["id"])
    problem(site.http.get(path), 410, "expired")
    with site.client() as nobody:
        assert nobody.get(site.get(done["id"])["files"][0]["url"]).status_code == 200
        time.sleep(1)
        problem(nobody.get(done["files"][0]["url"]), 401, "link_expired")


def test_files_that_are_elsewhere_are_not_found_here(site):
    done = site.export(destination=to(site, "there"))
    told = problem(site.http.get(f"/exports/{done['id']}/files/{done['files'][0]['name']}"), 404, "not_found")
    assert "destination" in told["hint"]


# Checking


def test_a_check_goes_through_its_steps_and_asks_for_nothing(site):
    before = len(site.http.get("/exports?pageSize=200").json()["exports"])
    checked = site.http.post("/exports:check", json=site.spec()).json()
    assert checked["ok"]
    assert [step["name"] for step in checked["steps"]] == [
        "parse",
        "allowed",
        "reach",
        "authorised",
        "valid_long_enough",
    ]
    assert checked["estimate"]["rows"] == ROWS
    refused = site.http.post("/exports:check", json=site.spec(destination={"url": "file:///etc/"})).json()
    assert not refused["ok"]
    assert [step["ok"] for step in refused["steps"]] == [True, False, None, None, None]
    assert "OUTHAUL_DESTINATIONS" in refused["steps"][1]["cure"]
    unknown = site.http.post("/exports:check", json=site.spec(app="Nowhere")).json()
    assert [step["ok"] for step in unknown["steps"]] == [False, None, None, None, None]
    assert unknown["estimate"] is None
    assert len(site.http.get("/exports?pageSize=200").json()["exports"]) == before


@pytest.mark.parametrize("form", get_args(Format))
def test_there_is_an_estimate_for_whatever_can_be_asked_for(site, form):
    for codec in get_args(Compression):
        answer = site.http.post("/exports:check", json=site.spec(format=form, compression=codec)).json()
        assert answer["ok"] is (form == "parquet" or codec in {"none", "gzip", "zstd"})
        assert not answer["ok"] or answer["estimate"]["bytes"] > ROWS


def test_an_estimate_is_near_what_comes_out(site):
    """Rows by how much of the stored time lies in the period, bytes by what exports like it had."""
    period = {"from": "2026-03-02", "to": "2026-03-03"}
    done = site.export(period=period, format="csv")
    asked = site.http.post("/exports:check", json=site.spec(period=period, format="csv")).json()["estimate"]
    assert done["rows"] == 100
    assert abs(asked["rows"] - done["rows"]) <= 2
    assert abs(asked["bytes"] - done["bytes"]) < 0.1 * done["bytes"]
    assert 0 < asked["seconds"] < 10
    assert asked["atMost"] is False
    assert site.http.post("/exports:check", json=site.spec(where={"column": "name", "eq": "y"})).json()[
        "estimate"
    ]["atMost"]
    nothing = site.http.post(
        "/exports:check", json=site.spec(period={"from": "2020-01-01", "to": "2021-01-01"})
    )
    assert nothing.json()["estimate"]["rows"] == 0


# The last of all, for it stops the server


def test_there_is_an_end_to_watchers_and_a_server_that_is_watched_can_stop(small):
    site = Site(small, "Watched")
    path = f"/exports/{site.stuck()}/events"
    http = httpx2.Client(
        base_url=site.http.base_url,
        headers=site.http.headers,
        limits=httpx2.Limits(max_connections=None),
        timeout=30,
    )
    with http, contextlib.ExitStack() as streams:

        def watch():
            stream = contextlib.ExitStack()
            answer = stream.enter_context(http.stream("GET", path))
            if answer.status_code == 200:
                # Kept, or it would close the connection.
                answer.lines = answer.iter_lines()
                next(answer.lines)
                streams.push(stream)
            else:
                answer.read()
            return answer, stream

        watching = [watch() for _ in range(WATCHERS)]
        assert {answer.status_code for answer, _ in watching} == {200}
        refused, _ = watch()
        problem(refused, 503, "busy")
        assert refused.headers["retry-after"]
        assert site.http.get("/me").status_code == 200
        watching[0][1].close()
        deadline = time.monotonic() + 10
        while watch()[0].status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        began = time.monotonic()
        assert small.stop() == 0
        assert time.monotonic() - began < 10
