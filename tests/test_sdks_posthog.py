"""PostHog's SDKs, unmodified, with only their host changed: what their calls become in the exports."""

from __future__ import annotations

import base64
import gzip
import json
import socket
import subprocess
import threading
import time
from urllib.parse import urlencode

import httpx2
import pytest
from posthog import Posthog

from between import Between
from browser import Browser
from exported import Exported, without
from running import Server

pytestmark = pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")

PHONE = (
    "Mozilla/5.0 (Linux; Android 15; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/156.0.0.0 Mobile Safari/537.36"
)
FULL = "posthog-js/dist/array.full.no-external.js"
LOADING = "posthog-js/dist/array.js"
SENDING = ("/batch", "/e", "/i/")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("sdks")
    (root / "out").mkdir()
    with Server(root / "data", destinations=f"file://{root}/out/") as running:
        yield running


@pytest.fixture
def reached(monkeypatch):
    """The addresses that this process connects to, and the hosts it looks up."""
    found = set()
    connect, look_up = socket.socket.connect, socket.getaddrinfo

    def connecting(self, address):
        found.add(f"{address[0]}:{address[1]}" if isinstance(address, tuple) else str(address))
        return connect(self, address)

    def looking_up(host, port, *args, **kwargs):
        found.add(f"{host}:{port}")
        return look_up(host, port, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", connecting)
    monkeypatch.setattr(socket, "getaddrinfo", looking_up)
    return found


def address(url):
    return url.removeprefix("http://")


def sending(seen):
    return [request for request in seen if request.path.startswith(SENDING)]


def tags(rows):
    return {(row["deviceId"], row["key"]): row["value"] for row in rows}


# Servers


def python_client(url, key, failures, **given):
    options = {"flush_at": 3, "flush_interval": 0.1, "max_retries": 10, "disable_geoip": True} | given
    return Posthog(key, host=url, on_error=lambda error, _batch: failures.append(error), **options)


def python_calls(client):
    client.capture("Order Completed", distinct_id="u1", properties={"revenue": 12.5, "$session_id": "s1"})
    client.capture("$screen", distinct_id="u1", properties={"$screen_name": "Home", "$session_id": "s1"})
    client.set(distinct_id="u1", properties={"email": "a@b.c", "plan": "pro"})
    client.set_once(distinct_id="u1", properties={"first": "1", "email": "not this"})
    client.alias("anon-1", "u1")
    client.group_identify("company", "g1", {"name": "ACME"})
    client.capture_exception(ValueError("boom"), distinct_id="u1", properties={"screen": "Home"})
    client.capture("Job Started", distinct_id="u1", properties={"job_id": "j1", "job_name": "upload"})
    client.capture("Job Ended", distinct_id="u1", properties={"job_id": "j1"})
    client.flush()
    client.capture_ai("$ai_generation", distinct_id="u1", properties={"$ai_model": "m"})
    assert not client.feature_enabled("beta", "u1")
    assert client.get_all_flags("u1") == {}
    client.flush()
    client.shutdown()


NODE_CALLS = [
    ["capture", {"distinctId": "u1", "event": "Order Completed", "properties": {"revenue": 12.5, "$session_id": "s1"}}],
    ["capture", {"distinctId": "u1", "event": "$screen", "properties": {"$screen_name": "Home", "$session_id": "s1"}}],
    ["identify", {"distinctId": "u1", "properties": {"email": "a@b.c", "old": 1}}],
    ["setPersonProperties", {"distinctId": "u1", "properties": {"plan": "pro"}, "propertiesOnce": {"first": "1"}}],
    ["setPersonProperties", {"distinctId": "u1", "propertiesOnce": {"email": "not this"}}],
    ["unsetPersonProperties", {"distinctId": "u1", "properties": ["old"]}],
    ["alias", {"distinctId": "anon-1", "alias": "u1"}],
    ["groupIdentify", {"groupType": "company", "groupKey": "g1", "properties": {"name": "ACME"}}],
    ["captureException", {"Error": "boom"}, "u1", {"screen": "Home"}],
    ["capture", {"distinctId": "u1", "event": "Job Started", "properties": {"job_id": "j1", "job_name": "upload"}}],
    ["capture", {"distinctId": "u1", "event": "Job Ended", "properties": {"job_id": "j1"}}],
    ["flush"],
    ["captureAi", {"distinctId": "u1", "event": "$ai_generation", "properties": {"$ai_model": "m"}}],
    ["isFeatureEnabled", "beta", "u1"],
    ["getAllFlags", "u1"],
]  # fmt: skip


def node_sdk(url, key, node, calls):
    job = {"host": url, "key": key, "calls": calls, "options": {"disableGeoip": True, "fetchRetryCount": 100}}
    done = subprocess.run(
        ["node", "posthog_node.mjs"],
        cwd=node,
        input=json.dumps(job),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["reached"] == [address(url)]
    return told


def check_server_calls(found, error):
    """What the calls of a server's SDK say, whichever it is."""
    user = {"deviceId": "u1", "userId": "u1"}
    here = {**user, "sessionId": "s1"}
    moments = ("eventId", "errorId", "activityId", "timestamp", "startTime", "endTime", "duration")
    assert without(found["events"], *moments) == [
        {**here, "name": "Order Completed", "kind": "session", "extras": {"revenue": 12.5}},
        {**user, "name": "$ai_generation", "kind": "standalone"},
    ]
    assert without(found["activities"], *moments) == [{**here, "name": "Home"}]
    [told] = without(found["errors"], *moments)
    stack = told["extras"].pop("stack", "at")
    assert told == {
        **user,
        "name": error,
        "kind": "standalone",
        "extras": {"message": "boom", "screen": "Home"},
    }
    assert stack.startswith("at")
    assert without(found["jobs"], *moments) == [{**user, "jobId": "j1", "name": "upload"}]
    assert "endTime" in found["jobs"][0]
    assert found["crashes"] == []
    [session] = without(found["sessions"], *moments)
    assert session == {**here, "activityCount": 1, "eventCount": 1, "errorCount": 0}
    assert tags(found["tags"]) == {
        ("anon-1", "userid"): "u1",
        ("u1", "userid"): "u1",
        ("u1", "email"): "a@b.c",
        ("u1", "plan"): "pro",
        ("u1", "first"): "1",
    }
    assert {row["deviceId"] for row in found["devices"]} == {"anon-1", "u1"}
    # A server's own system is not the device's.
    assert all("firmwareName" not in row for row in found["devices"])
    assert found["tokens"] == found["feedbackByDate"] == []


@pytest.mark.parametrize(("mode", "compress"), [("v0", True), ("v1", False)])
def test_the_python_sdk(server, reached, mode, compress):
    """All that it offers, in both of its protocols, with the first answer lost: sent twice, counted once."""
    out = Exported(server, f"python-{mode}")
    failures = []
    reached.clear()
    with Between(server.url) as proxy:
        proxy.losses = 1
        python_calls(python_client(proxy.url, out.key, failures, capture_mode=mode, gzip=compress))
        assert failures == []
        sent = [request for request in sending(proxy.seen) if "/ai/" not in request.path]
        assert sent[0].status == 0
        assert {request.path for request in sent} == {"/batch/" if mode == "v0" else "/i/v1/analytics/events"}
        assert {request.body.startswith(b"\x1f\x8b") for request in sent} == {compress}
        to_us = address(proxy.url)
    # What the proxy itself asked of the server went by way of this process too.
    assert reached - {address(server.url)} == {to_us}
    check_server_calls(out.everything(), "ValueError")
    assert server.cli("rejects", "--app", out.app.app_id)["counts"] == []


def test_the_node_sdk(server, node):
    """All that it offers, with the first answer lost: sent twice, counted once."""
    out = Exported(server, "node")
    with Between(server.url) as proxy:
        proxy.losses = 1
        told = node_sdk(proxy.url, out.key, node, NODE_CALLS)
        assert [request.status for request in sending(proxy.seen)].count(0) == 1
    assert (told["results"][-1], told["errors"]) == ({}, [])
    check_server_calls(out.everything(), "TypeError")
    assert server.cli("rejects", "--app", out.app.app_id)["counts"] == []


# Browsers

OPTIONS = """
const options = {
  api_host: given.url,
  capture_exceptions: true,
  persistence: 'localStorage',
  request_queue_config: { flush_interval_ms: 250 },
};
"""
PAGE = """
const asked = new Promise((resolve) => { window.flagged = resolve; });
document.body.innerHTML = '<button id="buy">Buy</button>';
posthog.init(given.key, options);
posthog.onFeatureFlags(() => window.flagged('told'));
posthog.register({ tag: 'vip' });
posthog.capture('Order Completed', { revenue: 12.5 });
posthog.capture('$screen', { $screen_name: 'Cart' });
posthog.capture('Job Started', { job_id: 'j1', job_name: 'upload' });
posthog.capture('Job Ended', { job_id: 'j1' });
const anonymous = posthog.get_distinct_id();
posthog.identify('u1', { email: 'a@b.c', old: 1 }, { first: 1 });
await step('arrived', '$identify');
posthog.setPersonProperties({ plan: 'pro' }, { first: 2 });
posthog.unsetPersonProperties(['old']);
posthog.alias('u1-before');
posthog.group('company', 'g1', { name: 'ACME' });
posthog.captureException(new TypeError('boom'), { screen: 'Home' });
await sleep(50);
posthog.capture('Named', { $set: { seen: true }, $set_once: { email: 'not this' } });
setTimeout(() => { throw new RangeError('unhandled'); });
await sleep(50);
const flags = await asked;
document.getElementById('buy').click();
await sleep(1000);
return { anonymous, flags, flag: posthog.getFeatureFlag('beta') ?? null, session: posthog.get_session_id() };
"""


@pytest.fixture
def browser(tmp_path):
    # PostHog sends nothing for a browser that says it is headless.
    with Browser(tmp_path, user_agent=PHONE) as running:
        yield running


def test_the_browser_sdk(server, browser):
    """All that it offers in a page of a real browser, until the page is left; nobody else is asked for anything."""
    out = Exported(server, "browser", "web")
    with Between(server.url) as proxy:
        proxy.losses = 1
        # What is set once is the first to arrive, and a browser may send several requests at a time.
        steps = {"arrived": lambda name: proxy.wait(lambda seen: name in names_in(seen))}
        told = browser.run(OPTIONS + PAGE, FULL, given={"key": out.key, "url": proxy.url}, steps=steps)
        browser.leave()
        proxy.wait(lambda seen: "$pageleave" in names_in(seen))
        assert set(browser.hosts) == {address(proxy.url)}
        assert {r.path for r in proxy.seen} == {f"/array/{out.key}/config", "/flags/?v=2", "/e/"}
        lost = [r for r in proxy.seen if r.status == 0]
        assert len(lost) == 1
    assert (told["flags"], told["flag"]) == ("told", None)
    check_page(out.everything(), told["anonymous"], told["session"])
    assert server.cli("rejects", "--app", out.app.app_id)["counts"] == []


def names_in(seen):
    """The names of the events that requests brought; this SDK says nowhere that it compresses them."""
    for request in seen:
        if request.path.startswith("/e/"):
            yield from (event["event"] for event in json.loads(gzip.decompress(request.body))["batch"])


def check_page(found, device, session_id):
    """What the calls of `PAGE` say."""
    seen = {"deviceId": device, "userId": "u1"}
    here = {**seen, "sessionId": session_id}
    shared = {"tag": "vip", "utm_campaign": "spring"}
    moments = ("eventId", "errorId", "activityId", "crashId", "timestamp", "startTime", "endTime", "duration")
    cart, page = found["activities"]
    assert without([cart], *moments) == [{**here, "name": "Cart", "extras": shared}]
    assert (page["name"].startswith("/page/"), page["extras"]) == (True, {**shared, "title": "Shop"})
    assert cart["endTime"] == page["startTime"]
    assert "endTime" in page
    assert {row["sessionId"] for row in found["activities"]} == {session_id}
    events = {row["name"]: row for row in without(found["events"], *moments, "activityName")}
    assert events == {
        "Order Completed": {
            **here, "name": "Order Completed", "kind": "session", "extras": {**shared, "revenue": 12.5}
        },
        "Named": {**here, "name": "Named", "kind": "session", "extras": shared},
        "$autocapture": {
            **here,
            "name": "$autocapture",
            "kind": "session",
            "extras": {**shared, "event_type": "click", "el_text": "Buy"},
        },
    }  # fmt: skip
    assert len(found["events"]) == 3
    [error] = without(found["errors"], *moments, "activityName")
    assert error["extras"].pop("stack").startswith("at ")
    extras = {**shared, "message": "boom", "screen": "Home"}
    assert error == {**here, "name": "TypeError", "kind": "session", "extras": extras}
    [crash] = found["crashes"]
    assert (crash["type"], crash["sessionId"], crash["firmwareName"]) == ("RangeError", session_id, "Android")
    assert crash["stackTrace"].startswith("RangeError: unhandled\n    at ")
    assert [(job["jobId"], job["name"], "endTime" in job) for job in found["jobs"]] == [
        ("j1", "upload", True)
    ]
    [session] = found["sessions"]
    counts = {name: session[name] for name in ("activityCount", "eventCount", "errorCount", "locale")}
    assert counts == {"activityCount": 2, "eventCount": 3, "errorCount": 1, "locale": "en-US"}
    own = {key: value for (which, key), value in tags(found["tags"]).items() if which == device}
    mine = {"userid": "u1", "email": "a@b.c", "plan": "pro", "first": "1", "seen": "true"}
    assert {key: own.get(key) for key in (*mine, "old")} == {**mine, "old": None}
    # What the SDK tells by itself of where the user first came from.
    assert own["initial_utm_campaign"] == "spring"
    assert tags(found["tags"])["u1-before", "userid"] == "u1"
    [row] = [row for row in found["devices"] if row["deviceId"] == device]
    told = {
        name: row[name] for name in ("userId", "firmwareName", "locale", "timeZoneOffset", "serviceVersion")
    }
    assert told == {
        "userId": "u1",
        "firmwareName": "Android",
        "locale": "en-US",
        "timeZoneOffset": 0,
        "serviceVersion": "1.449.2",
    }
    assert found["tokens"] == found["feedbackByDate"] == []


def test_the_browser_sdk_as_a_page_loads_it(server, browser):
    """The script that loads parts of itself as needed: it asks us for them, does without, and sends all the same."""
    out = Exported(server, "loading", "web")
    script = OPTIONS + "posthog.init(given.key, options); posthog.capture('tap'); await sleep(1000);"
    browser.run(script, LOADING, given={"key": out.key, "url": server.url})
    assert set(browser.hosts) == {address(server.url)}
    assert [row["name"] for row in out.rows("events")] == ["tap"]
    asked = {request.url.removeprefix(server.url).partition("?")[0] for request in browser.passed}
    assert f"/array/{out.key}/config.js" in asked


# Trouble


def threaded(call, *given):
    failures = []

    def run():
        try:
            call(*given)
        except BaseException as error:  # noqa: BLE001  told to the test
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, failures


def test_what_was_not_taken_is_sent_again(server, node, browser):
    """The server is busy until every SDK has noticed, then gone until one has, then busy and there again."""
    outs = {sdk: Exported(server, f"again-{sdk}") for sdk in ("v0", "v1", "node", "browser")}
    names = [f"event {number}" for number in range(8)]
    failures = []
    with Between(server.url) as proxy:
        proxy.busy = True
        jobs = []
        for mode, packing in (("v0", {"gzip": False}), ("v1", {"capture_compression": "gzip"})):
            client = python_client(proxy.url, outs[mode].key, failures, capture_mode=mode, **packing)
            for name in names:
                client.capture(name, distinct_id="u1")
            jobs.append(threaded(client.shutdown))
        calls = [["capture", {"distinctId": "u1", "event": name}] for name in names]
        jobs.append(threaded(node_sdk, proxy.url, outs["node"].key, node, calls))
        script = OPTIONS + "posthog.init(given.key, { ...options, capture_pageview: false });"
        script += (
            "for (const name of given.names) { posthog.capture(name); await sleep(100); } await step('sent');"
        )
        steps = {"sent": lambda _: proxy.wait(lambda seen: arrived(seen, names), 60)}
        given = {"key": outs["browser"].key, "url": proxy.url, "names": names}
        jobs.append(threaded(lambda: browser.run(script, FULL, given=given, steps=steps, timeout_s=90)))
        proxy.wait(lambda seen: refused(seen) == {"posthog-python", "posthog-node", "Mozilla"})
        server.kill()
        proxy.busy = False
        proxy.wait(lambda seen: [r for r in sending(seen) if r.status == 0])
        # Without any answer the browser's SDK gives up after three attempts, so it is not to wait like that for long.
        proxy.busy = True
        server.start()
        proxy.busy = False
        for thread, raised in jobs:
            thread.join(90)
            assert not thread.is_alive()
            assert raised == []
    assert failures == []
    for sdk, out in outs.items():
        assert sorted(row["name"] for row in out.rows("events")) == names, sdk


def refused(seen):
    """Who was told that the server is busy, by the names they give themselves."""
    return {r.headers["User-Agent"].partition("/")[0] for r in sending(seen) if r.status == 503}


def arrived(seen, names):
    taken = [request for request in seen if request.status == 200]
    return set(names) <= set(names_in(taken))


# Mobile apps, whose SDKs run on phones only: what they send, as their source has it


def test_push_subscriptions(server):
    """Two phones of a user, one of which changes users; then one that is not to be pushed to any more."""
    out = Exported(server, "push", "android")

    def ask(method, distinct_id, token, platform="android", slash="/"):
        subscription = {"distinct_id": distinct_id, "device_token": token, "platform": platform}
        body = {"api_key": out.key, **subscription, "app_id": "com.example.shop"}
        url = f"{server.url}/api/push_subscriptions{slash}"
        packed = gzip.compress(json.dumps(body).encode())
        answer = httpx2.request(method, url, content=packed, headers={"Content-Encoding": "gzip"})
        assert answer.status_code == 200

    ask("POST", "anon-1", "t1")
    ask("POST", "u1", "t1")
    ask("POST", "u1", "t2", "ios", slash="")
    ask("POST", "u1", "t2", "ios", slash="")
    found = [(row["token"], row["userId"], row["service"]) for row in out.rows("tokens")]
    assert sorted(found) == [("t1", "u1", "gcm"), ("t2", "u1", "apns")]
    ask("DELETE", "u1", "t2", "ios", slash="")
    assert [row["token"] for row in out.rows("tokens")] == ["t1"]


def test_an_app_on_a_phone(server):
    """Screens, a crash, an opened push, before and after the app names its user, with the body's form never told."""
    out = Exported(server, "phone", "android")
    now = time.time_ns() // 1_000_000
    began = f"{now - 60_000:012x}"
    session = f"{began[:8]}-{began[8:]}-7000-8000-0123456789ab"
    device = {
        "$lib": "posthog-android",
        "$lib_version": "3.60.0",
        "$app_version": "3.1.0",
        "$app_build": "310",
        "$device_manufacturer": "Google",
        "$device_model": "Pixel 8",
        "$os_name": "Android",
        "$os_version": "15",
        "$session_id": session,
        "$device_id": "phone-1",
    }
    thrown = {"type": "NullPointerException", "mechanism": {"handled": False}}
    told = [
        ("Application Opened", {"version": "3.1.0"}),
        ("$screen", {"$screen_name": "Home"}),
        ("$identify", {"$anon_distinct_id": "phone-1", "$is_identified": True, "$set": {"plan": "pro"}}),
        ("$push_notification_opened", {"$notification_campaign_id": "42", "$is_identified": True}),
        ("$exception", {"$exception_list": [thrown], "$exception_level": "fatal", "$is_identified": True}),
    ]
    batch = [
        {
            "event": name,
            "uuid": f"e{number}",
            "distinct_id": "u1" if more.get("$is_identified") else "phone-1",
            "timestamp": now - 50_000 + number,
            "properties": {"$is_identified": False} | device | more,
        }
        for number, (name, more) in enumerate(told)
    ]
    body = gzip.compress(json.dumps({"api_key": out.key, "batch": batch, "sent_at": now}).encode())
    for _ in range(2):
        assert httpx2.post(f"{server.url}/batch", content=body).json() == {"status": 1}
    found = out.everything()
    assert [row["name"] for row in found["events"]] == ["Application Opened"]
    assert [row["name"] for row in found["activities"]] == ["Home"]
    [crash] = found["crashes"]
    assert (crash["type"], crash["phoneModel"], crash["userId"]) == ("NullPointerException", "Pixel 8", "u1")
    [row] = found["sessions"]
    assert (row["sessionId"], row["startTime"], row["endReason"]) == (session, now - 60_000, "crash")
    [feedback] = found["feedbackByDate"]
    assert (feedback["campaignId"], feedback["system-notification-actioned"]) == (42, 1)
    assert tags(found["tags"]) == {("phone-1", "userid"): "u1", ("phone-1", "plan"): "pro"}
    [row] = found["devices"]
    assert (row["deviceId"], row["userId"], row["phoneModel"]) == ("phone-1", "u1", "Pixel 8")
    assert row["applicationVersionCode"] == 310


# The paths


def test_what_older_sdks_send(server):
    out = Exported(server, "older", "web")

    def body(name):
        return json.dumps({"event": name, "properties": {"token": out.key, "distinct_id": "d1"}})

    packed = base64.b64encode(body("form").encode()).decode()
    now = time.time_ns() // 1_000_000
    ahead = (now + 3_600_000) / 1000
    late = {"event": "ahead", "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ahead - 120))}
    requests = [
        ("POST", "/e/?compression=base64", urlencode({"data": packed})),
        ("GET", "/e/?" + urlencode({"data": body("pixel"), "ip": 1}), ""),
        ("POST", "/capture/", body("one")),
        ("POST", f"/e/?token={out.key}", json.dumps([{"event": "array", "distinct_id": "d1"}])),
        ("POST", "/i/v0/e/", body("v0")),
        (
            "POST",
            f"/e/?_={int(ahead * 1000)}&ip=1",
            json.dumps([late | {"properties": {"token": out.key, "distinct_id": "d1"}}]),
        ),
    ]
    for method, path, content in requests:
        answer = httpx2.request(method, server.url + path, content=content.encode())
        assert (answer.status_code, answer.json()) == (200, {"status": 1})
    rows = {row["name"]: row for row in out.rows("events")}
    assert set(rows) == {"form", "pixel", "one", "array", "v0", "ahead"}
    assert abs(rows["ahead"]["timestamp"] - (now - 120_000)) < 5_000


def test_answers_that_decide_what_an_sdk_does_with_its_queue(server):
    """Only what can never be read is refused for good; a key that is not known may be tomorrow."""
    event = {"event": "tap", "uuid": "e1", "distinct_id": "d1"}
    unknown = json.dumps({"api_key": "nobody", "batch": [event]}).encode()
    for path in ("/batch", "/e/", "/i/v0/e", "/i/v0/ai/batch", "/capture", "/i/v1/analytics/events"):
        answer = httpx2.post(server.url + path, content=unknown, headers={"Authorization": "Bearer nobody"})
        assert (answer.status_code, int(answer.headers["retry-after"]) > 0) == (503, True)
        for broken in (b"", b"no", b"{}", gzip.compress(unknown)[:-4]):
            assert httpx2.post(server.url + path, content=broken).status_code == 400
    answer = httpx2.post(f"{server.url}/batch", content=b" " * 6_000_000)
    assert answer.status_code == 413
    for method in ("POST", "DELETE"):
        answer = httpx2.request(
            method, f"{server.url}/api/push_subscriptions", content=b'{"api_key":"nobody"}'
        )
        assert answer.status_code == 503
        assert (
            httpx2.request(method, f"{server.url}/api/push_subscriptions/", content=b"[]").status_code == 400
        )


def test_each_event_has_its_result(server):
    out = Exported(server, "results")
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
    headers = {"Authorization": f"Bearer {out.key}", "PostHog-Request-Timestamp": when}
    batch = [{"event": name, "uuid": name, "distinct_id": "d1", "timestamp": when} for name in ("a", "b")]
    answer = httpx2.post(
        f"{server.url}/i/v1/analytics/events",
        json={"created_at": when, "batch": [*batch, {"event": "no id"}, 5]},
        headers=headers,
    )
    assert answer.json() == {"results": {"a": {"result": "ok"}, "b": {"result": "ok"}}}
    rows = out.rows("events")
    assert [row["name"] for row in rows] == ["a", "b"]
    # The sender's clock is an hour ahead of ours.
    assert all(abs(row["timestamp"] - time.time() * 1000) < 30_000 for row in rows)
    counts = server.cli("rejects", "--app", out.app.app_id)["counts"]
    assert {row["reason"]: row["count"] for row in counts} == {"field_missing": 1, "malformed": 1}


def test_what_is_not_ours_is_answered(server):
    for path in ("/flags?v=2", "/flags/?v=2&config=true", "/decide/?v=3"):
        told = httpx2.post(server.url + path, content=b"{}").json()
        assert (told["flags"], told["featureFlags"], told["errorsWhileComputingFlags"]) == ({}, {}, False)
    config = httpx2.get(f"{server.url}/array/some-key/config").json()
    assert (config["token"], config["sessionRecording"], config["surveys"]) == ("some-key", False, False)
    script = httpx2.get(f"{server.url}/array/some-key/config.js")
    assert script.headers["content-type"] == "application/javascript"
    assert 'window._POSTHOG_REMOTE_CONFIG["some-key"]=' in script.text
    assert httpx2.get(f"{server.url}/api/surveys/?token=some-key").json() == {"surveys": []}
    for path in ("/s/", "/i/v1/logs?token=k", "/i/v1/metrics", "/i/v1/traces"):
        assert httpx2.post(server.url + path, content=b"anything").status_code == 200
