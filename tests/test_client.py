"""The light client against real HTTP: a server whose answers are chosen, and Outhaul itself."""

from __future__ import annotations

import base64
import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from outhaul.client import BATCH_BYTES, BATCH_RECORDS, Collector
from outhaul.errors import Busy, Invalid, TooLarge, Unauthenticated
from running import Server, free_port

KEY = "k3y!@$%-_secret"


class Answers:
    """A server that gives the next of its answers to each request (the last for ever) and keeps what it was sent."""

    def __init__(self):
        self.answers = [(202, {})]
        self.requests = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = gzip.decompress(self.rfile.read(int(self.headers["Content-Length"])))
                outer.requests.append((self.path, dict(self.headers), json.loads(body)))
                status, headers = outer.answers.pop(0) if len(outer.answers) > 1 else outer.answers[0]
                if status is None:
                    self.close_connection = True
                    return
                self.send_response(status)
                for name, value in {"Content-Length": "2", **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def records(self):
        return [body["records"] for _, _, body in self.requests]

    def close(self):
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def answers():
    server = Answers()
    yield server
    server.close()


@pytest.fixture
def slept():
    return []


@pytest.fixture
def collector(answers, slept):
    with Collector(answers.url, KEY, sleep=slept.append) as made:
        yield made


def event(**more):
    return {"kind": "event", "deviceId": "d", "name": "n", "timestamp": 1_795_464_000_000, **more}


def test_records_go_out_in_batches_with_the_key_and_the_sdk(collector, answers):
    count = 2 * BATCH_RECORDS + 1
    assert collector.send(event(name=str(number)) for number in range(count)) == count
    assert [len(batch) for batch in answers.records()] == [BATCH_RECORDS, BATCH_RECORDS, 1]
    assert [record["name"] for batch in answers.records() for record in batch] == [
        str(n) for n in range(count)
    ]
    path, headers, body = answers.requests[0]
    assert path == "/api/v1/collect"
    assert base64.b64decode(headers["Authorization"].removeprefix("Basic ")).decode() == f"{KEY}:"
    assert body["sdkName"] == "outhaul-python"


def test_batches_are_bounded_in_bytes(collector, answers):
    collector.send(event(extras={"text": "x" * 300_000}) for _ in range(7))
    assert [len(batch) for batch in answers.records()] == [3, 3, 1]
    assert all(len(json.dumps(batch, separators=(",", ":"))) <= BATCH_BYTES for batch in answers.records())


def test_nothing_to_send_sends_nothing(collector, answers):
    assert collector.send([]) == 0
    assert answers.requests == []


def test_ids_are_given_once_and_kept(collector, answers):
    records = [event(), event(), event(id="mine")]
    collector.send(records)
    collector.send(records)
    first, second = answers.records()
    assert first == second == records
    assert first[2]["id"] == "mine"
    assert len({record["id"] for record in first}) == 3


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_busy_server_is_asked_again_when_it_says(collector, answers, slept, status):
    answers.answers = [(status, {"Retry-After": "7"}), (status, {}), (202, {})]
    assert collector.send([event()]) == 1
    assert slept == [7, 1]
    assert answers.records()[0] == answers.records()[1] == answers.records()[2]


def test_a_broken_connection_is_tried_again(collector, answers, slept):
    answers.answers = [(None, {}), (202, {})]
    assert collector.send([event()]) == 1
    assert slept == [0.5]
    assert len(answers.requests) == 2


def test_patience_ends(answers, slept):
    answers.answers = [(503, {"Retry-After": "40"})]
    with (
        Collector(answers.url, KEY, patience_s=100, sleep=slept.append) as collector,
        pytest.raises(Busy) as caught,
    ):
        collector.send([event()])
    assert slept == [40, 40]
    assert "503" in str(caught.value)
    assert KEY not in str(caught.value)


def test_nobody_there(slept):
    with (
        Collector(f"http://127.0.0.1:{free_port()}", KEY, patience_s=10, sleep=slept.append) as collector,
        pytest.raises(Busy, match="ConnectError"),
    ):
        collector.send([event()])
    assert slept == [0.5, 1, 2, 4]


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, Unauthenticated), (400, Invalid), (404, Invalid), (302, Invalid), (413, TooLarge)],
)
def test_a_refusal_is_not_repeated(collector, answers, slept, status, error):
    answers.answers = [(status, {})]
    with pytest.raises(error) as caught:
        collector.send([event()])
    assert slept == []
    assert len(answers.requests) == 1
    assert KEY not in str(caught.value)


def test_records_that_cannot_be_sent(collector, answers):
    with pytest.raises(Invalid, match="not JSON"):
        collector.send([event(extras={"thing": object()})])
    with pytest.raises(TooLarge, match="'big'"):
        collector.send([event(id="big", extras={"text": "x" * BATCH_BYTES})])
    assert answers.requests == []


@pytest.mark.parametrize(
    "url", ["", "localhost:8080", "ftp://host", "http://", "http://key@host/", "http://host:port"]
)
def test_urls_that_are_none(url):
    with pytest.raises(Invalid, match="URL"):
        Collector(url, KEY)


def test_the_real_server_takes_it(tmp_path):
    with Server(tmp_path / "data") as server:
        app = server.cli("apps", "create", "shop")
        with Collector(server.url + "/", app["sdkKey"]) as collector:
            assert collector.send(event(name=str(number)) for number in range(600)) == 600
        with Collector(server.url, "wrong") as collector, pytest.raises(Unauthenticated):
            collector.send([event()])
