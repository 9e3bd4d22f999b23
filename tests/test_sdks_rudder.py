"""RudderStack's SDKs, unmodified, with only their addresses changed: what they send is exported once, come what may."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import UTC, datetime
from time import time_ns
from urllib.parse import urlsplit

import httpx2
import pytest
from rudderstack.analytics.client import Client

from between import Between
from browser import Browser
from exported import Exported, without
from reached import HERE, Reached, node_hosts, node_options
from running import Server
from troubled import delivered, steps

BROWSER_SDK = "@rudderstack/analytics-js/dist/npm/modern/bundled/umd/index.js"

# Every call there is, with the server killed, started again, busy, and an answer lost in between.
BROWSER_SCRIPT = """
const analytics = new rudderanalytics.RudderAnalytics();
analytics.load(given.key, given.url, { configUrl: given.url });
await new Promise((resolve) => analytics.ready(resolve));
analytics.page('Main', 'Home', { from: 'push' });
analytics.identify('u1', { email: 'a@b.c', address: { city: 'Paris' } });
analytics.track('Order Completed', { revenue: 12.5, nested: { a: [1, 2] } });
await step('delivered', 3);
await step('kill');
analytics.track('While down', { n: 1 });
await sleep(300);
await step('start');
await step('delivered', 4);
await step('busy', true);
analytics.group('g1', { name: 'ACME' });
analytics.track('Error', { name: 'net', code: 502 });
await step('refused');
await step('busy', false);
await step('delivered', 6);
await step('lose', 1);
analytics.page('Cart');
await step('delivered', 7);
analytics.track('Job Started', { job_id: 'j1', job_name: 'upload' });
analytics.track('Job Ended', { job_id: 'j1' });
analytics.track('Application Crashed', { type: 'TypeError', stack: 'at x' });
analytics.alias('u2', 'u1');
await step('delivered', 11);
return [analytics.getAnonymousId(), String(analytics.getSessionId())];
"""
BEACON_SCRIPT = """
const analytics = new rudderanalytics.RudderAnalytics();
analytics.load(given.key, given.url, { configUrl: given.url, useBeacon: true });
await new Promise((resolve) => analytics.ready(resolve));
analytics.page('Home');
analytics.track('last before leaving', { n: 1 });
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("rudder")
    (root / "out").mkdir()
    with Server(root / "data", destinations=f"file://{root}/out/") as running:
        yield running


@pytest.fixture
def between(server):
    with Between(server.url) as proxy:
        yield proxy


def test_browser(server, between, tmp_path):
    """`@rudderstack/analytics-js`, bundled: it asks us alone, all it said arrives once, in the session it told."""
    out = Exported(server, "browser", "web")
    given = {"key": out.key, "url": between.url}
    with Browser(tmp_path) as browser:
        told = browser.run(
            BROWSER_SCRIPT, BROWSER_SDK, given=given, steps=steps(server, between), timeout_s=180
        )
        browser.leave()
    device, session_id = told
    assert set(browser.hosts) == {urlsplit(between.url).netloc}
    assert not [request for request in between.seen if request.status == 400]

    found = out.everything()
    [session] = found["sessions"]
    assert session["sessionId"] == session_id
    here = {"deviceId": device, "sessionId": session_id}
    home, cart = found["activities"]
    assert (home["name"], home["extras"]["category"], home["extras"]["from"]) == ("Home", "Main", "push")
    assert (cart["name"], cart["previousName"], cart["sessionId"]) == ("Cart", "Home", session_id)
    # Each message is a request of its own, and in what order those of a millisecond arrive is open.
    assert without(found["events"], "eventId", "timestamp", "userId", "activityName") == [
        {**here, "name": name, "kind": "session", "extras": extras}
        for name, extras in (
            ("Order Completed", {"revenue": 12.5, "nested": {"a": [1, 2]}}),
            ("While down", {"n": 1}),
        )
    ]
    [error] = found["errors"]
    assert (error["name"], error["extras"], error["sessionId"]) == (
        "net",
        {"name": "net", "code": 502},
        session_id,
    )
    [job] = found["jobs"]
    assert (job["jobId"], job["name"]) == ("j1", "upload")
    assert job["duration"] >= 0
    [crash] = found["crashes"]
    assert (crash["type"], crash["stackTrace"], crash["activityName"]) == ("TypeError", "at x", "Cart")
    counts = {name: session[name] for name in ("activityCount", "eventCount", "errorCount")}
    assert counts == {"activityCount": 2, "eventCount": 2, "errorCount": 1}
    tags = {row["key"]: row["value"] for row in found["tags"]}
    assert tags == {
        "email": "a@b.c",
        "address_city": "Paris",
        "group": "g1",
        "group_name": "ACME",
        "userid": "u2",
    }
    [row] = found["devices"]
    assert (row["deviceId"], row["locale"], row["timeZoneOffset"]) == (device, "en-US", 0)
    assert "applicationVersionName" not in row
    assert found["tokens"] == found["feedbackByDate"] == out.rejects() == []


def test_browser_that_leaves(server, between, tmp_path):
    """With `useBeacon`, what is left is sent by a request without headers when the page is left."""
    out = Exported(server, "beacon", "web")
    with Browser(tmp_path) as browser:
        browser.run(BEACON_SCRIPT, BROWSER_SDK, given={"key": out.key, "url": between.url})
        browser.leave()
        between.wait(lambda seen: len(delivered(seen)) >= 2)
    assert set(browser.hosts) == {urlsplit(between.url).netloc}
    [sent] = [request for request in between.seen if request.method == "POST"]
    assert sent.path == f"/beacon/v1/batch?writeKey={out.key}"
    assert "Authorization" not in sent.headers
    assert [row["name"] for row in out.rows("activities")] == ["Home"]
    assert [row["name"] for row in out.rows("events")] == ["last before leaving"]


NOW = time_ns() // 1_000_000
CONTEXT = {
    "app": {"name": "Shop", "version": "3.1.0", "build": "310", "namespace": "com.example.shop"},
    "device": {"id": "dev-1", "model": "Pixel 8", "type": "Android", "token": "fcm-token-abc"},
    "os": {"name": "Android", "version": "15"},
    "sessionId": 1_795_458_000,
}
CALLS = [
    ("identify", {"traits": {"email": "a@b.c"}}),
    ("screen", {"name": "Home", "properties": {"from": "push"}}),
    ("track", {"event": "Order Completed", "properties": {"revenue": 12.5}}),
    ("page", {"name": "Docs"}),
    ("group", {"groupId": "g1", "traits": {"name": "ACME"}}),
    ("alias", {"previousId": "anon-1"}),
]


def at(n):
    return datetime.fromtimestamp((NOW - 60_000 + n) / 1000, UTC)


def from_node(between, server, key, node, tmp_path):
    """All calls through `@rudderstack/rudder-sdk-node`; its first two answers are lost."""
    calls = [
        {
            "call": call,
            "message": {
                "userId": "u1",
                "context": CONTEXT,
                "originalTimestamp": at(n).isoformat(),
                **message,
            },
        }
        for n, (call, message) in enumerate(CALLS)
    ]
    between.losses = 2
    reached = tmp_path / "hosts"
    done = subprocess.run(
        ["node", "rudder_batch.mjs"],
        cwd=node,
        env={**os.environ, **node_options(reached, node)},
        input=json.dumps({"host": between.url, "writeKey": key, "calls": calls}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"delivered": len(calls), "errors": []}
    return node_hosts(reached)


def from_python(between, server, key, node, tmp_path):
    """All calls through `rudder-sdk-python`, with the server busy, then killed, then started again."""
    failures = []
    client = Client(key, host=between.url, on_error=lambda error, _: failures.append(error))
    between.busy = True
    with Reached() as reached:
        for n, (call, message) in enumerate(CALLS):
            named = dict(message)
            when = {"timestamp": at(n), "context": CONTEXT}
            if call == "alias":
                client.alias(named["previousId"], "u1", **when)
            elif call == "group":
                client.group("u1", named["groupId"], named["traits"], **when)
            else:
                getattr(client, call)("u1", **named, **when)
        between.wait(lambda seen: any(request.status == 503 for request in seen))
        server.kill()
        between.busy = False
        between.wait(lambda seen: any(request.status == 0 for request in seen))
        server.start()
        client.flush()
        client.join()
    assert failures == []
    return reached.hosts


@pytest.mark.parametrize("sdk", ["node", "python"])
def test_servers(server, between, node, tmp_path, sdk):
    """The SDKs for servers, which speak for devices: gzip under any content type, exported once, nobody else reached."""
    out = Exported(server, sdk)
    drive = {"node": from_node, "python": from_python}[sdk]
    assert drive(between, server, out.key, node, tmp_path) <= HERE
    sent = [request for request in between.seen if request.method == "POST"]
    assert len(sent) >= 2
    assert {request.path for request in sent} == {"/v1/batch"}
    assert all(request.body.startswith(b"\x1f\x8b") for request in sent)

    found = out.everything()
    here = {
        "deviceId": "dev-1",
        "userId": "u1",
        "applicationVersionName": "3.1.0",
        "sessionId": "1795458000",
    }
    start = NOW - 60_000
    home, docs = without(found["activities"], "activityId")
    assert home == {
        **here,
        "name": "Home",
        "startTime": start + 1,
        "endTime": start + 3,
        "duration": 2,
        "extras": {"from": "push"},
    }
    assert docs == {**here, "name": "Docs", "startTime": start + 3, "previousName": "Home"}
    assert without(found["events"], "eventId") == [
        {
            **here,
            "name": "Order Completed",
            "timestamp": start + 2,
            "kind": "session",
            "activityName": "Home",
            "extras": {"revenue": 12.5},
        }
    ]
    assert [row["sessionId"] for row in found["sessions"]] == ["1795458000"]
    tags = {(row["deviceId"], row["key"]): row["value"] for row in found["tags"]}
    mine = {"email": "a@b.c", "userid": "u1", "group": "g1", "group_name": "ACME"}
    assert tags == {("dev-1", key): value for key, value in mine.items()}
    assert [(row["token"], row["service"]) for row in found["tokens"]] == [("fcm-token-abc", "gcm")]
    assert [row["deviceId"] for row in found["devices"]] == ["dev-1"]
    assert found["errors"] == found["crashes"] == found["jobs"] == out.rejects() == []


@pytest.mark.parametrize("where", ["header", "query", "nowhere"])
def test_a_source_is_whatever_is_asked_for(server, where):
    """Its SDKs hold everything back until they know their source: it is enabled, sends to nobody else, reports nothing."""
    given = {"auth": ("k-1", "")} if where == "header" else {}
    query = "?writeKey=k-1&p=npm" if where == "query" else ""
    for path in ("/sourceConfig", "/sourceConfig/"):
        answer = httpx2.get(f"{server.url}{path}{query}", **given)
        assert answer.status_code == 200
        source = answer.json()["source"]
        assert source["writeKey"] == ("" if where == "nowhere" else "k-1")
        assert source["enabled"] is True
        assert source["destinations"] == source["connections"] == []
        off = {"enabled": False}
        assert source["config"] == {"statsCollection": {"errors": off, "metrics": off}}
    asked = {
        "Origin": "https://shop.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "anonymousid,authorization,content-type,sentat",
    }
    for path in ("/sourceConfig", "/v1/page"):
        answer = httpx2.request("OPTIONS", server.url + path, headers=asked)
        allowed = set(answer.headers["access-control-allow-headers"].split(", "))
        assert {"anonymousid", "authorization", "content-type", "sentat"} <= allowed


def test_a_key_may_be_in_the_query(server):
    out = Exported(server, "query")
    message = {"type": "track", "event": "tap", "anonymousId": "a1", "messageId": "m1"}
    for key, status in ((out.key, 200), ("nobody", 503)):
        answer = httpx2.post(f"{server.url}/beacon/v1/batch?writeKey={key}", json={"batch": [message]})
        assert answer.status_code == status
    assert [row["eventId"] for row in out.rows("events")] == ["m1"]
