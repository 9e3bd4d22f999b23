"""Collect, as devices meet it: a real server, real sockets, the real journal and ledger."""

import asyncio
import base64
import gzip
import json
import os
import socket
import subprocess
import sys
import time
import zlib

import httpx2
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outhaul import errors, journal
from outhaul.collect import ENDPOINTS, Apps, serves
from outhaul.ledger.ledger import Ledger

SERVED = """
import os, time
from pathlib import Path
from outhaul.collect import Apps, Collect
from outhaul.config import Config
from outhaul.journal import Journal
from outhaul.ledger.ledger import Ledger

async def app(scope, receive, send):
    global collect, opened
    if scope["type"] == "lifespan":
        await receive()
        data = Path(os.environ["DATA"])
        config = Config(os.environ)
        opened = Journal(data / "journal", first=0, segment_bytes=config.segment_bytes,
            max_pending_bytes=config.max_pending_bytes, max_journal_bytes=config.max_journal_bytes)
        collect = Collect(opened, Apps(Ledger(data)), config, lambda: time.time_ns() // 1_000_000)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await opened.close()
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["path"] == "/roll":
        await opened.roll()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})
    else:
        await collect(scope, receive, send)
"""
BODY_LIMIT = 100_000
INFLATED_LIMIT = 300_000


class Served:
    """A server of its own over a folder of its own, and what it stored."""

    def __init__(self, data, **environment):
        self.data = data
        self.ledger = Ledger(data)
        self.app = self.ledger.create_app("shop", "android", 0)
        (data / "served.py").write_text(SERVED)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = [
            sys.executable,
            "-m",
            "granian",
            "--interface",
            "asgi",
            "--loop",
            "uvloop",
            "--workers",
            "1",
        ]
        command += ["--port", str(self.port), "--log-level", "warning", "served:app"]
        self.process = subprocess.Popen(
            command, cwd=data, env={**os.environ, "DATA": str(data), **environment}
        )
        self.http = httpx2.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=20)
        for _ in range(200):
            try:
                self.http.get("/")
            except httpx2.TransportError:
                time.sleep(0.05)
            else:
                return
        self.stop()
        raise AssertionError("the server did not start")

    def stop(self):
        self.http.close()
        self.process.terminate()
        self.process.wait(20)
        self.ledger.close()

    def post(self, path, content, authorization=None, **headers):
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if authorization:
            sent["authorization"] = authorization
        return self.http.post(path, content=content, headers=sent)

    def native(self, content, path="/api/v1/collect", **headers):
        return self.post(path, content, f"Bearer {self.app.sdk_key}", **headers)

    def azme(self, content, device="device.1", key=None, **headers):
        return self.post(
            "/log", content, basic(f"{device}.{self.app.app_id}", key or self.app.sdk_key), **headers
        )

    def stored(self):
        """What is stored since the last time this was asked."""
        self.http.get("/roll")
        segments = journal.segments(self.data / "journal", 0)
        frames = [frame for each in segments for frame in journal.read(each, inflated_limit=INFLATED_LIMIT)]
        for each in segments:
            each.path.unlink()
        return frames


def basic(user, password=""):
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    limits = {"OUTHAUL_MAX_BODY_BYTES": str(BODY_LIMIT), "OUTHAUL_MAX_INFLATED_BYTES": str(INFLATED_LIMIT)}
    server = Served(tmp_path_factory.mktemp("collect"), **limits)
    yield server
    server.stop()


@pytest.fixture
def server(shared):
    shared.stored()
    return shared


EVENT = {"kind": "event", "deviceId": "d1", "name": "a", "timestamp": 1_763_900_000_000}
PATHS = sorted({endpoint.path for endpoint in ENDPOINTS})
POSTED = {endpoint.path for endpoint in ENDPOINTS if "POST" in endpoint.methods}
KEY_IN_BODY = {"/i", "/i/bulk"}
NATIVE = json.dumps({"records": [EVENT, EVENT]}).encode()
TRACK = {"type": "track", "event": "A", "userId": "u1", "messageId": "m1"}
SEGMENT = json.dumps({"batch": [TRACK]}).encode()
LOG = b"<log xmlns='urn:ubikod:ermin:0'><event id='1' name='a' toffset='5'/></log>"
COMPRESSED = {
    "gzip": gzip.compress,
    "gzip twice": lambda body: gzip.compress(body[:20]) + gzip.compress(body[20:]),
    "zstd": zstandard.compress,
    "deflate": zlib.compress,
}


def error_of(answer):
    error = answer.json()["error"]
    assert set(error) == {"code", "message", "hint"}
    return error


@pytest.mark.parametrize("path", ["/api/v1/collect", "/api/v1/collect/"])
def test_native_is_stored_as_it_was_sent_and_acknowledged(server, path):
    before = time.time_ns() // 1_000_000
    answer = server.native(NATIVE, path, user_agent="phone/1")
    assert (answer.status_code, answer.json()) == (202, {"received": 2})
    (frame,) = server.stored()
    assert (frame.app_id, frame.protocol, frame.body) == (server.app.app_id, "native", NATIVE)
    assert (frame.device_id, frame.user_agent) == (None, "phone/1")
    assert before <= frame.received_at <= time.time_ns() // 1_000_000


def test_native_takes_the_key_as_basic_user_too(server):
    assert server.post("/api/v1/collect", NATIVE, basic(server.app.sdk_key)).status_code == 202


@pytest.mark.parametrize("encoding", COMPRESSED)
def test_compressed_bodies_are_known_by_their_bytes(server, encoding):
    compressed = COMPRESSED[encoding](NATIVE)
    headers = {"content_encoding": "deflate"} if encoding == "deflate" else {}
    assert (
        server.native(compressed, content_type="application/x-www-form-urlencoded", **headers).status_code
        == 202
    )
    assert [frame.body for frame in server.stored()] == [NATIVE]


def test_a_body_sent_in_chunks_is_taken_whole(server):
    assert server.native(iter([NATIVE[:7], NATIVE[7:30], NATIVE[30:]])).status_code == 202
    assert [frame.body for frame in server.stored()] == [NATIVE]


@pytest.mark.parametrize(
    "authorization", [None, "Bearer nobody", basic("nobody"), "Basic !!!", "Digest x", "Bearer", basic("é")]
)
def test_native_unknown_key_is_refused(server, authorization):
    answer = server.post("/api/v1/collect", NATIVE, authorization)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert error_of(answer)["code"] == "unauthenticated"
    assert "nobody" not in answer.text
    assert server.stored() == []


def test_an_app_made_while_the_server_runs_is_known_at_once(server):
    time.sleep(1)
    late = server.ledger.create_app("late", "ios", 0)
    assert server.post("/api/v1/collect", NATIVE, f"Bearer {late.sdk_key}").status_code == 202
    assert [frame.app_id for frame in server.stored()] == [late.app_id]


BROKEN = {
    "not JSON": b"not JSON",
    "empty": b"",
    "another shape": b'{"a":1}',
    "cut gzip": gzip.compress(NATIVE)[:-3],
    "gzip and more": gzip.compress(NATIVE) + b"more",
    "gzip without end": gzip.compress(b"") * 1000,
    "cut zstd": zstandard.compress(NATIVE)[:-3],
    "zstd and more": zstandard.compress(NATIVE) + bytes(1000),
    "deep": b'{"records":[' + b"[" * 50_000,
}
LARGE = {
    "sent": b" " * (BODY_LIMIT + 1),
    "sent by far": b" " * (BODY_LIMIT * 7),
    "gzip": gzip.compress(b" " * (INFLATED_LIMIT + 1)),
    "gzip bomb": gzip.compress(bytes(50_000_000)),
    "zstd": zstandard.compress(b" " * (INFLATED_LIMIT + 1)),
    "zstd bomb": zstandard.compress(bytes(1_000_000_000)),
}


@pytest.mark.parametrize("body", BROKEN)
def test_native_broken_body(server, body):
    answer = server.native(BROKEN[body])
    assert answer.status_code == 400
    assert error_of(answer)["code"] == "invalid"
    assert server.stored() == []


@pytest.mark.parametrize("body", LARGE)
def test_native_large_body_is_told_the_limit(server, body):
    answer = server.native(LARGE[body])
    assert answer.status_code == 413
    limit = BODY_LIMIT if "sent" in body else INFLATED_LIMIT
    assert str(limit) in error_of(answer)["message"]
    assert server.stored() == []


def test_a_body_just_within_the_limits_is_taken(server):
    assert server.native(NATIVE.ljust(BODY_LIMIT)).status_code == 202
    assert server.native(gzip.compress(NATIVE.ljust(INFLATED_LIMIT))).status_code == 202
    assert len(server.stored()) == 2


def test_a_check_says_what_would_become_of_a_batch_and_stores_nothing(server):
    answer = server.native(
        json.dumps({"records": [EVENT, {**EVENT, "name": ""}]}), "/api/v1/collect?check=true"
    )
    assert answer.status_code == 200
    told = answer.json()
    assert told["accepted"] == 1
    assert [rejected["reason"] for rejected in told["rejected"]] == ["name_invalid"]
    assert told["rejected"][0]["detail"]
    assert server.native(b"not JSON", "/api/v1/collect?check=true").status_code == 400
    assert server.stored() == []


@pytest.mark.parametrize("where", ["header", "body", "both"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_segment_key_in_header_or_body(server, where, pack):
    body = {"batch": [TRACK], "sentAt": "2026-11-23T18:26:26.060Z"}
    if where != "header":
        body["writeKey"] = server.app.sdk_key
    sent = json.dumps(body).encode()
    answer = server.post("/v1/batch", pack(sent), None if where == "body" else basic(server.app.sdk_key))
    assert (answer.status_code, answer.json()) == (200, {"success": True})
    (frame,) = server.stored()
    assert (frame.app_id, frame.protocol, frame.body) == (server.app.app_id, "segment", sent)


@pytest.mark.parametrize("key", ["nobody", None, 5, {}, ""])
def test_segment_unknown_key_comes_back_later(server, key):
    answer = server.post("/v1/batch", json.dumps({"batch": [TRACK], "writeKey": key}))
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert error_of(answer)["code"] == "unauthenticated"
    assert server.stored() == []


@pytest.mark.parametrize("body", [*BROKEN, *LARGE])
def test_segment_bad_body_is_400_the_one_code_every_sdk_drops_on(server, body):
    answer = server.post("/v1/batch", {**BROKEN, **LARGE}[body], basic(server.app.sdk_key))
    assert answer.status_code == 400
    assert error_of(answer)["message"]
    assert server.stored() == []


@pytest.mark.parametrize("device", ["d", "a.b.c", "."])
def test_azme_web_device_and_app_are_in_the_user(server, device):
    answer = server.azme(LOG, device)
    assert (answer.status_code, answer.json()) == (200, {})
    (frame,) = server.stored()
    assert (frame.protocol, frame.device_id, frame.body) == ("azme_web", device, LOG)


def test_azme_web_unknown_key_or_app_comes_back_later(server):
    other = server.ledger.create_app("other", "web", 0)
    key = server.app.sdk_key
    for authorization in (
        None,
        basic(f"d.{server.app.app_id}", "nobody"),
        basic(f"d.{other.app_id}", key),
        basic(server.app.app_id, key),
        basic("", key),
        f"Bearer {key}",
    ):
        answer = server.post("/log", LOG, authorization)
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert key not in answer.text
    assert server.stored() == []


@pytest.mark.parametrize("body", [*BROKEN, *LARGE])
def test_azme_web_bad_body_is_kept_to_be_set_aside(server, body):
    sent = {**BROKEN, **LARGE}[body]
    assert server.azme(sent).status_code == 200
    (frame,) = server.stored()
    # What inflates is shown inflated, what does not is cut to its start.
    assert frame.body in (sent, sent[: 64 * 1024])


def test_country_is_not_told(server):
    answer = server.http.get("/ip-to-country", headers={"origin": "http://page.example"})
    assert (answer.status_code, answer.json()) == (200, {"countryCode": ""})
    assert answer.headers["access-control-allow-origin"] == "http://page.example"


@pytest.mark.parametrize("path", PATHS)
def test_browsers_are_let_through(server, path):
    asked = {
        "origin": "http://page.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization",
    }
    answer = server.http.options(path, headers=asked)
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == "http://page.example"
    allowed = answer.headers["access-control-allow-headers"].split(", ")
    assert {"authorization", "content-type", "content-encoding", "anonymousid"} <= set(allowed)
    methods = {method for endpoint in ENDPOINTS if endpoint.path == path for method in endpoint.methods}
    assert set(answer.headers["access-control-allow-methods"].split(", ")) == methods | {"OPTIONS"}
    assert int(answer.headers["access-control-max-age"]) > 0
    assert "origin" in answer.headers["vary"]


@pytest.mark.parametrize(
    ("asked", "let"),
    [
        ("rsa-retry-attempt,rsa-retry-reason", {"rsa-retry-attempt", "rsa-retry-reason"}),
        ("x-a, x-b", {"x-a", "x-b"}),
        ("x-a\u00e9", set()),
        ("*", set()),
        ("a b", set()),
    ],
)
def test_headers_that_sdks_have_of_their_own_are_let_through(server, asked, let):
    sent = {"origin": "http://page.example", "access-control-request-headers": asked.encode("latin-1")}
    allowed = server.http.options("/v1/track", headers=sent).headers["access-control-allow-headers"]
    names = set(allowed.replace(" ", "").split(","))
    assert (
        names
        == {"authorization", "content-type", "content-encoding", "anonymousid", "sentat", "x-retry-count"}
        | let
    )


@pytest.mark.parametrize("status", [202, 401, 400, 405])
def test_browsers_may_read_every_answer(server, status):
    origin = {"origin": "http://page.example"}
    answer = {
        202: lambda: server.native(NATIVE, **origin),
        401: lambda: server.post("/api/v1/collect", NATIVE, **origin),
        400: lambda: server.native(b"no", **origin),
        405: lambda: server.http.put("/api/v1/collect", headers=origin),
    }[status]()
    assert answer.status_code == status
    assert answer.headers["access-control-allow-origin"] == "http://page.example"


def test_no_origin_no_cors(server):
    assert "access-control-allow-origin" not in server.native(NATIVE).headers


@pytest.mark.parametrize("path", PATHS)
def test_other_methods_are_refused(server, path):
    methods = {method for endpoint in ENDPOINTS if endpoint.path == path for method in endpoint.methods}
    wrong = next(method for method in ("POST", "GET", "DELETE", "PUT") if method not in methods)
    answer = server.http.request(wrong, path)
    assert answer.status_code == 405
    assert wrong not in answer.headers["allow"]
    assert error_of(answer)["code"] == "method_not_allowed"


def test_a_full_journal_asks_every_device_to_come_back(tmp_path):
    server = Served(tmp_path, OUTHAUL_MAX_JOURNAL_BYTES="600")
    try:
        for _ in range(10):
            answer = server.native(NATIVE)
        for refused in (
            answer,
            server.post("/v1/batch", SEGMENT, basic(server.app.sdk_key)),
            server.azme(LOG),
        ):
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) > 0
            assert error_of(refused)["code"] == "busy"
        assert len(server.stored()) >= 2
        server.http.get("/roll")
        assert server.native(NATIVE).status_code == 202
    finally:
        server.stop()


def test_a_device_that_hangs_up_in_the_middle_leaves_nothing(server):
    with socket.create_connection(("127.0.0.1", server.port)) as device:
        head = f"POST /api/v1/collect HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.app.sdk_key}\r\n"
        device.sendall(f"{head}Content-Length: {len(NATIVE)}\r\n\r\n".encode() + NATIVE[:20])
    assert server.native(NATIVE).status_code == 202
    assert [frame.body for frame in server.stored()] == [NATIVE]


def test_what_was_acknowledged_is_there_after_a_kill(tmp_path):
    server = Served(tmp_path)
    try:
        bodies = [json.dumps({"records": [{**EVENT, "id": str(number)}]}).encode() for number in range(20)]
        assert {server.native(body).status_code for body in bodies} == {202}
        worker = subprocess.run(
            ["pgrep", "-P", str(server.process.pid)], capture_output=True, check=True, text=True
        )
        server.process.kill()
        for each in worker.stdout.split():
            os.kill(int(each), 9)
    finally:
        server.stop()

    async def recover():
        limits = {"segment_bytes": 1, "max_pending_bytes": 1, "max_journal_bytes": 1}
        await journal.Journal(tmp_path / "journal", first=0, **limits).close()

    for _ in range(100):
        try:
            asyncio.run(recover())
        except errors.Conflict:
            time.sleep(0.05)
        else:
            break
    segments = journal.segments(tmp_path / "journal", 0)
    assert [frame.body for each in segments for frame in journal.read(each, inflated_limit=10_000)] == bodies


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=8), each, max_size=3),
    max_leaves=8,
)
BATCHES = st.builds(
    lambda key, items: json.dumps({key: items}).encode(),
    st.sampled_from(["records", "batch", "writeKey", "type"]),
    JSON | st.lists(JSON | st.fixed_dictionaries({"type": st.just("track"), "writeKey": JSON}), max_size=3),
)
BODIES = (
    st.binary(max_size=300) | BATCHES | st.text(max_size=100).map(lambda text: f"<log>{text}</log>".encode())
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=st.sampled_from(["POST", "POST", "POST", "GET", "OPTIONS", "PUT", "DELETE"]),
    path=st.sampled_from(PATHS),
    query=st.sampled_from(["", "?check=true", "?check=true&check=true&%ff"]),
    body=BODIES | BODIES.map(gzip.compress) | BODIES.map(zstandard.compress),
    headers=st.dictionaries(
        st.sampled_from(["authorization", "content-encoding", "content-type", "user-agent", "origin"]),
        st.text(
            st.characters(min_codepoint=33, max_codepoint=255, exclude_characters="\x7f"), max_size=30
        ).map(lambda text: text.encode("latin-1"))
        | st.sampled_from([b"deflate", b"gzip", b"Basic Og==", b"Basic OjpvOg==", b"Bearer \xe9"]),
    ),
    known=st.booleans(),
)
def test_no_request_brings_an_answer_that_is_not_documented(
    server, method, path, query, body, headers, known
):
    sent = dict(headers)
    if known:
        azme = path.startswith("/log")
        user = f"d.{server.app.app_id}" if azme else server.app.sdk_key
        sent["authorization"] = basic(user, server.app.sdk_key if azme else "").encode()
    answer = server.http.request(method, path + query, content=body, headers=sent)
    assert answer.status_code in {200, 202, 204, 400, 401, 405, 413, 503}
    if method == "POST" and known and path in POSTED - KEY_IN_BODY and not path.startswith("/api"):
        assert answer.status_code in ({200} if path.startswith("/log") else {200, 400})


def test_keys_are_looked_up_in_the_ledger_at_most_once_a_second(tmp_path):
    clock = [0.0]

    async def check():
        ledger = Ledger(tmp_path)
        apps = Apps(ledger, clock=lambda: clock[0])
        with pytest.raises(errors.Unauthenticated):
            await apps.find("nobody")
        made = ledger.create_app("late", "web", 0)
        clock[0] = 0.9
        with pytest.raises(errors.Unauthenticated):
            await apps.find(made.sdk_key)
        clock[0] = 1.0
        found = await asyncio.gather(*(apps.find(made.sdk_key) for _ in range(5)))
        assert {app.app_id for app in found} == {made.app_id}

    asyncio.run(check())


def test_an_app_that_is_disabled_is_not_known_within_five_seconds(tmp_path):
    clock = [0.0]

    async def check():
        ledger = Ledger(tmp_path)
        made = ledger.create_app("shop", "web", 0)
        token = ledger.issue_token("send", ["data:write"], made.app_id, None, "operator", 0)[1]
        apps = Apps(ledger, clock=lambda: clock[0])
        for show in (apps.find, apps.admit):
            assert (await show(made.sdk_key)).app_id == made.app_id
        ledger.disable_app(made.app_id, 1)
        clock[0] = 5.0
        with pytest.raises(errors.Unauthenticated):
            await apps.find(made.sdk_key)
        with pytest.raises(errors.Unauthenticated, match="disabled"):
            await apps.admit(token)
        ledger.enable_app(made.app_id)
        apps.look_again()
        for bearer in (made.sdk_key, token):
            assert (await apps.admit(bearer)).app_id == made.app_id

    asyncio.run(check())


def test_while_the_ledger_fails_unknown_keys_are_busy_and_known_ones_work(tmp_path):
    clock = [0.0]

    async def check():
        ledger = Ledger(tmp_path)
        made = ledger.create_app("shop", "web", 0)
        apps = Apps(ledger, clock=lambda: clock[0])
        await apps.find(made.sdk_key)
        ledger.close()
        (tmp_path / "ledger.db").write_bytes(b"not a database" * 100)
        clock[0] = 5.0
        for _ in range(2):
            with pytest.raises(errors.Busy):
                await apps.find("nobody")
        assert (await apps.find(made.sdk_key)).app_id == made.app_id

    asyncio.run(check())


def test_the_paths_are_served_with_and_without_a_slash():
    assert {"/api/v1/collect", "/v1/batch", "/log", "/ip-to-country"} <= set(PATHS)
    assert {"/batch", "/e", "/i/v0/e", "/i/v1/analytics/events", "/flags"} <= set(PATHS)
    assert serves("/array/key/config")
    assert all(serves(path) and serves(f"{path}/") for path in PATHS)
    assert not any(serves(f"{path}/x") for path in PATHS)
    assert not serves("/")
