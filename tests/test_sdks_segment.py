"""Segment's SDKs, unmodified, with only their host changed: what they send is exported once, whatever happens on the way."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from datetime import UTC, datetime
from time import time_ns
from urllib.parse import urlsplit

import httpx2
import pytest
from segment.analytics.client import Client

from between import Between
from browser import Browser
from exported import Exported, without
from reached import HERE, Reached, node_hosts, node_options
from running import Server
from troubled import steps

BROWSER_SDK = "@segment/analytics-next/dist/umd/index.js"
PHONE = (
    "Mozilla/5.0 (Linux; Android 15; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Mobile"
)
ORIGIN = "https://shop.example"

# Every call there is, with the server killed, started again, busy, and its answers lost in between.
BROWSER_SCRIPT = """
// What the SDK says about itself it would say after half a minute, which is long.
const later = window.setTimeout;
window.setTimeout = (call, ms, ...rest) => later(call, ms === 30000 ? 100 : ms, ...rest);
const { AnalyticsBrowser } = AnalyticsNext;
const options = { writeKey: given.key, cdnURL: given.url };
const segment = { deliveryStrategy: given.batching ? { strategy: 'batching', config: { size: 3, timeout: 300 } } : undefined };
const analytics = AnalyticsBrowser.load(options, { integrations: { 'Segment.io': segment } });
await analytics.ready();
analytics.page('Main', 'Home', { from: 'push' });
analytics.identify('u1', { email: 'a@b.c', address: { city: 'Paris' }, 'plan-name': 'pro', gone: null });
analytics.track('Order Completed', { revenue: 12.5, nested: { a: [1, 2] } });
await step('delivered', 3);
await step('kill');
analytics.track('While down', { n: 1 });
await sleep(300);
await step('start');
analytics.screen('Cart', { items: 2 });
await step('delivered', 5);
await step('busy', true);
analytics.group('g1', { name: 'ACME' });
analytics.track('Error', { name: 'net', code: 502 });
await step('refused');
await step('busy', false);
await step('delivered', 7);
await step('lose', 1);
analytics.track('Job Started', { job_id: 'j1', job_name: 'upload', size: 3 });
await step('delivered', 8);
analytics.track('Job Ended', { job_id: 'j1' });
analytics.track('Application Crashed', { type: 'TypeError', stack: 'at x' });
analytics.alias('u2', 'u1');
await step('delivered', 11);
const user = await analytics.user();
return user.anonymousId();
"""


# With settings of the app's own the SDK asks for none, and reports on itself to where it sends.
OWN_SETTINGS_SCRIPT = """
const later = window.setTimeout;
window.setTimeout = (call, ms, ...rest) => later(call, ms === 30000 ? 100 : ms, ...rest);
const integration = { apiHost: given.url.replace('http://', '') + '/v1', protocol: 'http' };
const analytics = AnalyticsNext.AnalyticsBrowser.load(
  { writeKey: given.key, cdnSettings: { integrations: { 'Segment.io': { apiKey: given.key } } } },
  { integrations: { 'Segment.io': integration } },
);
await analytics.track('tap');
await step('reported');
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("segment")
    (root / "out").mkdir()
    with Server(root / "data", destinations=f"file://{root}/out/") as running:
        yield running


@pytest.fixture
def between(server):
    with Between(server.url) as proxy:
        yield proxy


@pytest.mark.parametrize("batching", [False, True], ids=["standard", "batching"])
def test_browser(server, between, tmp_path, batching):
    """`@segment/analytics-next` in a browser: it asks us alone, and all it said arrives once."""
    out = Exported(server, f"browser-{batching}", "web")
    given = {"key": out.key, "url": between.url, "batching": batching}
    with Browser(tmp_path, user_agent=PHONE) as browser:
        device = browser.run(
            BROWSER_SCRIPT, BROWSER_SDK, given=given, steps=steps(server, between), timeout_s=180
        )
        browser.leave()
    assert set(browser.hosts) == {urlsplit(between.url).netloc}
    paths = {request.path for request in between.seen if request.method == "POST"}
    assert paths == ({"/v1/b"} if batching else {f"/v1/{short}" for short in "pitsga"})

    found = out.everything()
    seen = {"deviceId": device, "userId": "u1"}
    [session] = found["sessions"]
    here = {"sessionId": session["sessionId"]}
    home, cart = found["activities"]
    assert (home["name"], home["extras"]["category"], home["extras"]["from"]) == ("Home", "Main", "push")
    assert without([cart], "activityId", "startTime", "extras") == [
        {**seen, **here, "name": "Cart", "previousName": "Home"}
    ]
    assert cart["extras"]["items"] == 2
    # What comes late, from before an activity that has landed, is not told which one it happened in.
    assert without(found["events"], "eventId", "timestamp", "activityName") == [
        {**seen, **here, "name": name, "kind": "session", "extras": extras}
        for name, extras in (
            ("Order Completed", {"revenue": 12.5, "nested": {"a": [1, 2]}}),
            ("While down", {"n": 1}),
        )
    ]
    [error] = found["errors"]
    assert (error["name"], error["extras"], error["activityName"]) == (
        "net",
        {"name": "net", "code": 502},
        "Cart",
    )
    [job] = found["jobs"]
    assert (job["jobId"], job["name"], job["extras"]) == ("j1", "upload", {"size": 3})
    assert job["duration"] >= 0
    [crash] = found["crashes"]
    assert (crash["type"], crash["stackTrace"], crash["activityName"]) == ("TypeError", "at x", "Cart")
    tags = {row["key"]: row["value"] for row in found["tags"]}
    told = {
        "email": "a@b.c",
        "address_city": "Paris",
        "plan_name": "pro",
        "group": "g1",
        "group_name": "ACME",
    }
    # The SDK says who the user is by now, not what `alias` was given.
    assert tags == {**told, "userid": "u1"}
    [row] = found["devices"]
    assert (row["deviceId"], row["locale"], row["timeZoneOffset"]) == (device, "en-US", 0)
    assert found["tokens"] == found["feedbackByDate"] == out.rejects() == []


def test_browser_with_settings_of_its_own(server, between, tmp_path):
    out = Exported(server, "own-settings", "web")
    told = {"reported": lambda _: between.wait(lambda seen: any(one.path == "/v1/m" for one in seen))}
    with Browser(tmp_path) as browser:
        browser.run(OWN_SETTINGS_SCRIPT, BROWSER_SDK, given={"key": out.key, "url": between.url}, steps=told)
    assert set(browser.hosts) == {urlsplit(between.url).netloc}
    assert {request.path for request in between.seen} == {"/v1/t", "/v1/m"}
    assert {request.status for request in between.seen} == {200, 204}
    assert [row["name"] for row in out.rows("events")] == ["tap"]


def test_what_sdks_say_about_themselves_is_swallowed(server):
    answer = httpx2.post(
        f"{server.url}/v1/m", content=b'{"series":[]}', headers={"Content-Type": "text/plain"}
    )
    assert (answer.status_code, answer.json()) == (200, {"success": True})


NOW = time_ns() // 1_000_000
CONTEXT = {
    "app": {"name": "Shop", "version": "3.1.0", "build": "310"},
    "device": {
        "id": "dev-1",
        "manufacturer": "Apple",
        "model": "iPhone17,1",
        "type": "ios",
        "token": "ab" * 32,
    },
    "os": {"name": "iOS", "version": "19.1"},
    "network": {"cellular": True, "wifi": False, "carrier": "Orange F"},
    "location": {"country": "FR", "city": "Rennes"},
    "locale": "fr-FR",
    "timezone": "Europe/Paris",
}
CAMPAIGN = {"campaign": {"id": "42", "name": "Spring"}}
CALLS = [
    ("identify", {"traits": {"email": "a@b.c"}}),
    ("track", {"event": "Application Opened"}),
    ("screen", {"name": "Home", "properties": {"from": "push"}}),
    ("track", {"event": "Order Completed", "properties": {"revenue": 12.5}}),
    ("track", {"event": "Push Notification Received", "properties": CAMPAIGN}),
    ("track", {"event": "Push Notification Tapped", "properties": CAMPAIGN}),
    ("track", {"event": "Push Notification Bounced", "properties": {"campaign": {"name": "Autumn"}}}),
    ("page", {"name": "Docs"}),
    ("group", {"groupId": "g1", "traits": {"name": "ACME"}}),
    ("alias", {"previousId": "anon-1"}),
]


def from_node(between, server, key, node, tmp_path):
    """All calls through `@segment/analytics-node`; its first answer is lost, then the server is busy for a while."""
    calls = [
        {"call": call, "message": {"userId": "u1", "context": CONTEXT, "timestamp": stamp(n), **message}}
        for n, (call, message) in enumerate(CALLS)
    ]
    job = json.dumps({"host": between.url, "writeKey": key, "calls": calls})
    between.losses = 1
    reached = tmp_path / "hosts"
    done = subprocess.run(
        ["node", "segment_batch.mjs"],
        cwd=node,
        env={**os.environ, **node_options(reached, node)},
        input=job,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"delivered": len(calls), "errors": []}
    return node_hosts(reached)


def stamp(n):
    return datetime.fromtimestamp((NOW - 60_000 + n) / 1000, UTC).isoformat()


def from_python(between, server, key, node, tmp_path):
    """All calls through `segment-analytics-python`, compressed, with the server busy, then killed, then started again."""
    failures = []
    client = Client(
        key,
        host=between.url,
        gzip=True,
        sync_mode=False,
        on_error=lambda error, _: failures.append(error),
    )
    between.busy = True
    with Reached() as reached:
        for n, (call, message) in enumerate(CALLS):
            at = {"timestamp": datetime.fromtimestamp((NOW - 60_000 + n) / 1000, UTC), "context": CONTEXT}
            named = dict(message)
            if call == "alias":
                client.alias(named["previousId"], "u1", **at)
            elif call == "group":
                client.group("u1", named["groupId"], named["traits"], **at)
            else:
                getattr(client, call)("u1", **named, **at)
        between.wait(lambda seen: any(request.status == 503 for request in seen))
        server.kill()
        between.busy = False
        between.wait(lambda seen: any(request.status == 0 for request in seen))
        server.start()
        client.flush()
        client.join()
    assert failures == []
    assert all(request.body.startswith(b"\x1f\x8b") for request in between.seen)
    return reached.hosts


@pytest.mark.parametrize("sdk", ["node", "python"])
def test_servers(server, between, node, tmp_path, sdk):
    """The SDKs for servers, which speak for devices: every call, exported once, and nobody else is reached."""
    out = Exported(server, sdk)
    drive = {"node": from_node, "python": from_python}[sdk]
    assert drive(between, server, out.key, node, tmp_path) <= HERE
    assert len([request for request in between.seen if request.method == "POST"]) >= 2

    found = out.everything()
    at = NOW - 60_000
    [session] = found["sessions"]
    seen = {"deviceId": "dev-1", "userId": "u1", "applicationVersionName": "3.1.0"}
    here = {**seen, "sessionId": session["sessionId"]}
    home, docs = without(found["activities"], "activityId")
    assert home == {
        **here,
        "name": "Home",
        "startTime": at + 2,
        "endTime": at + 7,
        "duration": 5,
        "extras": {"from": "push"},
    }
    assert docs == {**here, "name": "Docs", "startTime": at + 7, "previousName": "Home"}
    assert {row["name"]: (row["timestamp"], row.get("extras")) for row in found["events"]} == {
        "Application Opened": (at + 1, None),
        "Order Completed": (at + 3, {"revenue": 12.5}),
    }
    assert len(found["events"]) == 2
    pushed = {row["campaignId"]: row for row in found["feedbackByDate"]}
    assert set(pushed) == {42, "Autumn"}
    assert (pushed[42]["campaignName"], pushed[42]["delivered"], pushed[42]["feedback"]) == (
        "Spring",
        1,
        "actioned",
    )
    assert pushed["Autumn"]["dropped"] == 1
    tags = {(row["deviceId"], row["key"]): row["value"] for row in found["tags"]}
    mine = {"email": "a@b.c", "userid": "u1", "group": "g1", "group_name": "ACME"}
    assert tags == {("dev-1", key): value for key, value in mine.items()}
    assert without(found["tokens"], "registeredAt", "lastSeen") == [
        {"deviceId": "dev-1", "userId": "u1", "token": "ab" * 32, "service": "apns"}
    ]
    [device] = found["devices"]
    assert (device["phoneModel"], device["networkType"], device["locality"]) == (
        "iPhone17,1",
        "mobile",
        "Rennes",
    )
    assert device["applicationVersionCode"] == 310
    assert found["errors"] == found["crashes"] == found["jobs"] == out.rejects() == []


@pytest.mark.parametrize("path", ["/v1/projects/{}/settings", "/projects/{}/settings"])
def test_settings_keep_every_sdk_with_us(server, path):
    """They name this server for the key that was asked about, even one nobody has, and none of their own reports."""
    for key in ("k-1", "nobody", "%C3%A9", "a%20b", "%FF"):
        answer = httpx2.get(server.url + path.format(key), headers={"Origin": ORIGIN})
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        told = answer.json()
        segment = told["integrations"]["Segment.io"]
        assert segment["protocol"] == "http"
        assert segment["apiHost"] == f"{urlsplit(server.url).netloc}/v1"
        assert told["metrics"] == {"sampleRate": 0, "host": segment["apiHost"]}
    assert httpx2.get(server.url + path.format("k-1")).json()["integrations"]["Segment.io"]["apiKey"] == "k-1"
    secure = {"X-Forwarded-Proto": "https", "Host": "collect.shop.example"}
    segment = httpx2.get(server.url + path.format("k"), headers=secure).json()["integrations"]["Segment.io"]
    assert (segment["protocol"], segment["apiHost"]) == ("https", "collect.shop.example/v1")


def mobile(messages, key, **rest):
    """A batch as the mobile SDKs write it."""
    return {"batch": messages, "sentAt": stamp(0), "writeKey": key, **rest}


def test_mobile_sdks_send_no_header(server):
    """The key is in the body only; the settings they need first; `httpConfig` is what makes them wait."""
    out = Exported(server, "mobile")
    message = {"type": "track", "event": "tap", "anonymousId": "a1", "messageId": "m1", "timestamp": stamp(0)}
    text = {"Content-Type": "text/plain"}
    for _ in range(2):
        answer = httpx2.post(
            f"{server.url}/v1/b", content=json.dumps(mobile([message], out.key)), headers=text
        )
        assert (answer.status_code, answer.json()) == (200, {"success": True})
    assert [row["eventId"] for row in out.rows("events")] == ["m1"]
    refused = httpx2.post(f"{server.url}/v1/b", content=json.dumps(mobile([message], "nobody")), headers=text)
    assert refused.status_code == 503
    assert refused.headers["retry-after"]
    for broken in (b"[1,", b"{}", b'{"writeKey":"k"}'):
        assert httpx2.post(f"{server.url}/v1/b", content=broken).status_code == 400


def test_the_path_may_say_what_a_message_is(server):
    out = Exported(server, "paths")
    basic = {"Authorization": "Basic " + base64.b64encode(f"{out.key}:".encode()).decode()}
    sent = {
        "track": {"event": "tap"},
        "screen": {"name": "Home"},
        "page": {"name": "Docs"},
        "identify": {"traits": {"plan": "pro"}},
        "group": {"groupId": "g1"},
        "alias": {"previousId": "p1"},
    }
    for n, (kind, message) in enumerate(sent.items()):
        for path in (f"/v1/{kind}", f"/v1/{kind[0]}/"):
            body = {"userId": "u1", "anonymousId": "a1", "messageId": kind, "timestamp": stamp(n), **message}
            answer = httpx2.post(server.url + path, json=body, headers=basic)
            assert answer.status_code == 200
    found = out.everything()
    assert [row["name"] for row in found["activities"]] == ["Home", "Docs"]
    assert [row["name"] for row in found["events"]] == ["tap"]
    assert {row["key"]: row["value"] for row in found["tags"]} == {
        "plan": "pro",
        "group": "g1",
        "userid": "u1",
    }
    assert out.rejects() == []
