"""Countly's SDKs, unmodified, with only their host changed: what their calls become in the exports."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import time
from urllib.parse import parse_qs, quote

import httpx2
import pytest

from between import Between
from browser import Browser
from exported import Exported, without
from running import Server

PHONE = (
    "Mozilla/5.0 (Linux; Android 15; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/156.0.0.0 Mobile Safari/537.36"
)
WEB = "countly-sdk-web/lib/countly.min.js"
MOMENTS = ("timestamp", "startTime", "endTime", "duration", "sessionId")
IDS = ("activityId", "eventId", "errorId", "crashId", "jobId")
LAST = "the end"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("sdks")
    (root / "out").mkdir()
    with Server(root / "data", destinations=f"file://{root}/out/") as running:
        yield running


def address(url):
    return url.removeprefix("http://")


def told(request):
    """The parameters of a request, from its query and its body."""
    pairs = parse_qs(
        f"{request.path.partition('?')[2]}&{request.body.decode('latin-1')}", keep_blank_values=True
    )
    return {name: values[0] for name, values in pairs.items()}


def events(request):
    return json.loads(told(request).get("events", "[]"))


def taken(seen, key=LAST):
    """Whether an event was acknowledged; as all wait for those before them, they were too."""
    return any(key in [event["key"] for event in events(one)] for one in seen if one.status == 200)


@contextlib.contextmanager
def node_sdk(node, job):
    """The SDK at work in a process; it is told to stop at the end, and must then have reached nothing but its server."""
    process = subprocess.Popen(
        ["node", "countly_node.cjs"],
        cwd=node,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    own = {"app_key": job["options"]["app_key"], "device_id": job["options"].get("device_id")}
    for method, *given in job.get("calls", []):
        if method == "request":
            given[0] |= own
    try:
        process.stdin.write(json.dumps(job) + "\n")
        process.stdin.flush()
        yield
        out, err = process.communicate(timeout=20)
        assert process.returncode == 0, err
        assert json.loads(out)["reached"] == [address(job["options"]["url"])]
    finally:
        process.kill()
        process.wait()


def options(url, key, folder, **more):
    return {
        "app_key": key,
        "url": url,
        "device_id": "dev-1",
        "app_version": "3.1.0",
        "interval": 50,
        "fail_timeout": 1,
        "session_update": 1,
        "storage_path": f"{folder}/",
        "country_code": "FR",
        "city": "Rennes",
        "metrics": {"_os": "Android", "_os_version": "15", "_device": "Pixel 8", "_carrier": "Orange F", "_locale": "fr_FR"},
    } | more  # fmt: skip


CUSTOM = [
    ["userData.set", "plan", "pro"],
    ["userData.set_once", "first", "node"],
    ["userData.increment", "visits"],
    ["userData.increment_by", "points", 5],
    ["userData.multiply", "none", 3],
    ["userData.max", "high", 7],
    ["userData.min", "low", 2],
    ["userData.push", "list", "a"],
    ["userData.push_unique", "set", "a"],
    ["userData.save"],
    ["userData.set_once", "first", "again"],
    ["userData.increment", "visits"],
    ["userData.multiply", "points", 3],
    ["userData.max", "high", 3],
    ["userData.min", "low", 1],
    ["userData.push", "list", "b"],
    ["userData.push", "list", "a"],
    ["userData.push_unique", "set", "a"],
    ["userData.save"],
    ["userData.pull", "list", "a"],
    ["userData.save"],
]
TAGS = {
    "name": "Ann",
    "email": "a@b.c",
    "byear": "1990",
    "plan": "pro",
    "first": "node",
    "visits": "2",
    "points": "15",
    "none": "0",
    "high": "7",
    "low": "1",
    "list": '["b"]',
    "set": '["a"]',
    "campaign_id": "spring",
    "campaign_user": "u7",
}
NOW = int(time.time() * 1000)
CALLS = [
    ["track_errors"],
    ["begin_session"],
    ["user_details", {"name": "Ann", "email": "a@b.c", "byear": 1990, "custom": {"gone": "x"}}],
    ["userData.unset", "gone"],
    *CUSTOM,
    ["track_view", "Home", {"from": "push"}],
    # Events wait for a moment and errors do not; one that lands before the view is on no screen.
    ["sleep", 400],
    ["add_event", {"key": "buy", "count": 2, "sum": 9.9, "segmentation": {"country": "FR"}}],
    ["add_event", {"key": "render", "dur": 3, "segmentation": {"frames": 60}}],
    ["start_event", "upload"],
    ["add_log", "opened"],
    ["log_error", {"Error": "boom"}, {"screen": "Home"}],
    ["report_conversion", "spring", "u7"],
    ["report_trace", {"type": "network", "name": "/api", "stz": NOW - 900, "etz": NOW - 100, "apm_metrics": {"size": 7}}],
    ["report_feedback", {"widget_id": "w1", "rating": 5, "comment": "fine"}],
    ["add_event", {"key": "[CLY]_push_action", "segmentation": {"i": "42", "b": "0", "p": "a"}}],
    ["request", {"token_session": 1, "android_token": "fcm:token", "token_provider": "FCM", "timestamp": NOW}],
    ["fetch_remote_config"],
    ["sleep", 1200],
    ["end_event", {"key": "upload", "segmentation": {"size": 1}}],
    ["track_pageview", "Cart"],
    ["reject", {"Error": "lost"}],
    ["sleep", 300],
    ["end_session"],
    ["add_event", {"key": LAST}],
]  # fmt: skip


def check_node(found):
    """What `CALLS` say."""
    seen = {"deviceId": "dev-1"}
    [session] = found["sessions"]
    assert without([session], *MOMENTS) == [
        {
            **seen,
            "applicationVersionName": "3.1.0",
            "activityCount": 2,
            "eventCount": 2,
            "errorCount": 1,
            "endReason": "ended",
            "locale": "fr_FR",
            "countrycode": "FR",
        }
    ]
    assert 1200 <= session["duration"] < 20_000
    rows = [row for name in ("activities", "events", "jobs", "errors", "crashes") for row in found[name]]
    outside = [row["name"] for row in rows if row.get("sessionId") != session["sessionId"]]
    # A job was over before it began.
    assert sorted(outside) == ["/api", LAST]
    here = {**seen, "applicationVersionName": "3.1.0"}
    home, cart = found["activities"]
    assert without([home, cart], *MOMENTS, *IDS) == [
        {**here, "name": "Home", "extras": {"segment": "Linux", "from": "push"}},
        {**here, "name": "Cart", "previousName": "Home", "extras": {"segment": "Linux"}},
    ]
    assert 1200 <= home["duration"] < 10_000
    assert home["endTime"] <= cart["startTime"]
    assert cart["endTime"] <= session["endTime"]
    widget = {"widget_id": "w1", "rating": 5, "comment": "fine", "app_version": "3.1.0"}
    assert without(found["events"], *MOMENTS, *IDS) == [
        {**here, "name": "buy", "kind": "session", "activityName": "Home", "extras": {"country": "FR", "count": 2, "sum": 9.9}},
        {**here, "name": "[CLY]_star_rating", "kind": "session", "activityName": "Home", "extras": widget},
        {**here, "name": LAST, "kind": "standalone"},
    ]  # fmt: skip
    jobs = {row["name"]: row for row in found["jobs"]}
    assert {name: row.get("extras") for name, row in jobs.items()} == {
        "render": {"frames": 60},
        "upload": {"size": 1},
        "/api": {"type": "network", "size": 7},
    }
    assert (jobs["render"]["duration"], jobs["/api"]["duration"]) == (3000, 800)
    assert jobs["upload"]["duration"] in {1000, 2000}
    assert len(found["jobs"]) == 3
    [error] = found["errors"]
    assert (error["name"], error["activityName"]) == ("TypeError", "Home")
    assert error["extras"]["message"] == "boom"
    assert error["extras"]["screen"] == "Home"
    assert error["extras"]["stack"].startswith("TypeError: boom\n    at ")
    [crash] = found["crashes"]
    assert crash["type"] == "Error"
    assert "lost" in crash["stackTrace"]
    assert (crash["firmwareName"], crash["firmwareVersion"], crash["phoneModel"]) == (
        "Android",
        "15",
        "Pixel 8",
    )
    assert {row["key"]: row["value"] for row in found["tags"]} == TAGS
    [device] = found["devices"]
    assert without([device], "firstSeen", "lastSeen", "lastInfo", "lastLocation", "serviceVersion") == [
        {
            **here,
            "nativePushEnabled": True,
            "phoneModel": "Pixel 8",
            "firmwareName": "Android",
            "firmwareVersion": "15",
            "locale": "fr_FR",
            "carrierName": "Orange F",
            "timeZoneOffset": 0,
            "countrycode": "FR",
            "locality": "Rennes",
            "appInfo": TAGS,
        }
    ]
    [token] = found["tokens"]
    assert (token["token"], token["service"], token["registeredAt"]) == ("fcm:token", "gcm", NOW)
    [feedback] = found["feedbackByDate"]
    assert (feedback["campaignId"], feedback["system-notification-actioned"]) == (42, 1)


def test_the_node_sdk(server, node, tmp_path):
    """All that it offers, as queries; the server is killed under it, and started again."""
    out = Exported(server, "node")
    with (
        Between(server.url) as proxy,
        node_sdk(node, {"options": options(proxy.url, out.key, tmp_path), "calls": CALLS}),
    ):
        proxy.wait(lambda seen: len(seen) > 5)
        server.kill()
        proxy.wait(lambda seen: any(request.status == 0 for request in seen))
        server.start()
        proxy.wait(taken, 60)
        assert {request.method for request in proxy.seen} == {"GET"}
    check_node(out.everything())
    assert out.rejects() == []


def test_the_node_sdk_with_a_salt(server, node, tmp_path):
    """The same as forms, signed, through a server that is busy for a while and answers that get lost."""
    out = Exported(server, "node-salt")
    server.cli("apps", "countly-salt", "node-salt", "pepper & salt")
    given = options("", out.key, tmp_path, salt="pepper & salt", force_post=True)
    with Between(server.url) as proxy:
        proxy.losses = 3
        with node_sdk(node, {"options": given | {"url": proxy.url}, "calls": CALLS}):
            proxy.wait(lambda seen: len(seen) > 8)
            proxy.busy = True
            proxy.wait(lambda seen: any(request.status == 503 for request in seen))
            proxy.busy = False
            proxy.wait(taken, 60)
        assert [request.status for request in proxy.seen].count(0) == 3
        assert all("checksum256" in told(request) for request in proxy.seen)
    check_node(out.everything())
    assert out.rejects() == []


def test_a_wrong_salt_sets_aside_and_does_not_block(server, node, tmp_path):
    out = Exported(server, "node-forged")
    server.cli("apps", "countly-salt", "node-forged", "right")
    with Between(server.url) as proxy:
        given = options(proxy.url, out.key, tmp_path, salt="wrong")
        with node_sdk(node, {"options": given, "calls": [["begin_session"], ["add_event", {"key": LAST}]]}):
            proxy.wait(taken, 60)
    assert out.rows("events") == out.rows("sessions") == []
    assert [reject["reason"] for reject in out.rejects()] == ["field_invalid", "field_invalid"]


def test_another_user_on_a_device_and_the_same_on_another(server, node, tmp_path):
    """A device id that becomes a user's: both ids are the user's. One that is changed without is somebody else's."""
    out = Exported(server, "node-merge")
    calls = [
        ["begin_session"],
        ["add_event", {"key": "one"}],
        ["sleep", 100],
        ["change_id", "user-1", True],
        ["add_event", {"key": "two"}],
        ["sleep", 100],
        ["change_id", "user-2", False],
        ["add_event", {"key": LAST}],
    ]
    with Between(server.url) as proxy:
        given = options(proxy.url, out.key, tmp_path, device_id="dev-1")
        with node_sdk(node, {"options": given, "calls": calls}):
            proxy.wait(taken, 60)
    found = out.everything()
    assert {(row["deviceId"], row["name"]) for row in found["events"]} == {
        ("dev-1", "one"),
        ("user-1", "two"),
        ("user-2", LAST),
    }
    tags = {(row["deviceId"], row["key"], row["value"]) for row in found["tags"]}
    assert tags == {("dev-1", "userid", "user-1"), ("user-1", "userid", "user-1")}
    assert {row["deviceId"]: row.get("userId") for row in found["devices"]} == {
        "dev-1": "user-1",
        "user-1": "user-1",
        "user-2": None,
    }
    assert {row["deviceId"] for row in found["sessions"]} == {"dev-1", "user-2"}
    assert out.rejects() == []


def test_a_picture_is_taken_and_not_kept(server, node, tmp_path):
    out = Exported(server, "node-picture")
    server.cli("apps", "countly-salt", "node-picture", "salt")
    picture = tmp_path / "me.png"
    picture.write_bytes(b"\x89PNG" + bytes(range(256)) * 100)
    calls = [
        ["user_details", {"name": "Ann \u00e9 & co", "picturePath": str(picture)}],
        ["add_event", {"key": LAST}],
    ]
    with Between(server.url) as proxy:
        given = options(proxy.url, out.key, tmp_path, salt="salt")
        with node_sdk(node, {"options": given, "calls": calls}):
            proxy.wait(taken, 60)
        assert any(b"PNG" in request.body and request.status == 200 for request in proxy.seen)
    assert [(row["key"], row["value"]) for row in out.rows("tags")] == [("name", "Ann \u00e9 & co")]
    assert out.rejects() == []


def test_the_node_sdk_in_bulk(server, node, tmp_path):
    """What a server sends for several users at once, with times in seconds."""
    out = Exported(server, "node-bulk")
    at = int(time.time()) - 600
    one, two = {"device_id": "dev-1", "country_code": "FR"}, {"device_id": "dev-2"}
    bulk = [
        [one, "begin_session", {"_os": "Linux", "_app_version": "2"}, 130, at],
        [one, "report_view", "Home", at + 1, 20, {"from": "push"}],
        [one, "add_event", {"key": "buy", "count": 2, "timestamp": at + 2}],
        [one, "report_crash", {"_error": "Error: x\n at y", "_os": "Linux"}, at + 3],
        [two, "user_details", {"name": "Ann"}],
        [two, "custom_increment", "visits"],
        [two, "add_event", {"key": LAST, "timestamp": at * 1000 + 4321}],
    ]
    for user, *_ in bulk:
        user["app_key"] = out.key
    bulk.insert(6, [two, "custom_save"])
    with Between(server.url) as proxy:
        given = {
            "app_key": out.key,
            "url": proxy.url,
            "interval": 50,
            "bulk_size": 3,
            "storage_path": f"{tmp_path}/",
        }
        with node_sdk(node, {"options": given, "bulk": bulk}):
            proxy.wait(lambda seen: LAST in json.dumps([told(one) for one in seen if one.status == 200]), 60)
            time.sleep(0.5)
        assert {request.path.partition("?")[0] for request in proxy.seen} == {"/i/bulk"}
    found = out.everything()
    [session] = found["sessions"]
    assert (session["startTime"], session["activityCount"], session["eventCount"]) == (at * 1000, 1, 1)
    [view] = found["activities"]
    assert (view["startTime"], view["duration"]) == ((at + 1) * 1000, 20_000)
    assert view["extras"] == {"from": "push"}
    assert [(row["deviceId"], row["name"], row["timestamp"]) for row in found["events"]] == [
        ("dev-1", "buy", (at + 2) * 1000),
        ("dev-2", LAST, at * 1000 + 4321),
    ]
    assert [row["type"] for row in found["crashes"]] == ["Error"]
    assert {row["key"]: row["value"] for row in found["tags"]} == {"name": "Ann"}
    assert out.rejects() == []


# In a browser

START = """
Countly.init({
  app_key: given.key, url: given.url, device_id: 'dev-web', app_version: '3.1.0', interval: 100, fail_timeout: 1,
  session_update: 1, salt: given.salt, force_post: given.post,
});
"""
PAGE_CALLS = """
Countly.track_sessions();
Countly.track_errors();
Countly.track_view('Home', null, { from: 'push' });
await sleep(400);
Countly.add_event({ key: 'buy', count: 2, sum: 9.9, segmentation: { country: 'FR' } });
Countly.start_event('upload');
Countly.user_details({ name: 'Ann', email: 'a@b.c', byear: 1990, custom: { gone: 'x' } });
Countly.userData.unset('gone');
CUSTOM
Countly.recordDirectAttribution('spring', 'u7');
const at = Date.now();
Countly.report_trace({ type: 'network', name: '/api', stz: at - 900, etz: at - 100, apm_metrics: { size: 7 } });
Countly.report_feedback({ widget_id: 'w1', rating: 5, comment: 'fine', contactMe: true, platform: 'web', email: 'a@b.c' });
Countly.add_log('opened');
Countly.log_error(new TypeError('boom'), { screen: 'Home' });
setTimeout(() => { throw new RangeError('lost'); });
Countly.track_clicks();
Countly.track_links();
document.body.insertAdjacentHTML('beforeend', '<a href="#more" id="more">More</a>');
document.querySelector('a').click();
const config = await new Promise((resolve) => Countly.fetch_remote_config((error, config) => resolve(config)));
const widgets = await new Promise((resolve) => Countly.get_available_feedback_widgets(resolve));
Countly.content.enterContentZone();
Countly.uploadUserProfilePicture(new File([Uint8Array.from([137, 80, 78, 71])], 'me.png', { type: 'image/png' }));
await step('trouble');
await sleep(1200);
Countly.end_event({ key: 'upload', segmentation: { size: 1 } });
Countly.track_pageview('Cart');
await sleep(200);
Countly.end_session(null, true);
Countly.add_event({ key: 'the end' });
await step('taken');
return { config, widgets };
""".replace(
    "CUSTOM", "\n".join(f"Countly.{call[0]}({', '.join(map(json.dumps, call[1:]))});" for call in CUSTOM)
)
WEB_TAGS = TAGS | {"utm_campaign": "spring"}


def check_web(found):
    """What `PAGE_CALLS` say."""
    here = {"deviceId": "dev-web", "applicationVersionName": "3.1.0"}
    [session] = found["sessions"]
    counts = {name: session[name] for name in ("activityCount", "errorCount", "endReason")}
    assert counts == {"activityCount": 2, "errorCount": 1, "endReason": "ended"}
    assert 1200 <= session["duration"] < 60_000
    home, cart = found["activities"]
    assert without([home, cart], *MOMENTS, *IDS, "extras") == [
        {**here, "name": "Home"},
        {**here, "name": "Cart", "previousName": "Home"},
    ]
    assert home["extras"]["from"] == "push"
    assert home["extras"]["utm_campaign"] == "spring"
    assert home["duration"] >= 1200
    assert home["endTime"] <= cart["startTime"] <= cart["endTime"] <= session["endTime"]
    # How the page is turned is told before the session begins, and again when the page is resized.
    turned = [row for row in found["events"] if row["name"] == "[CLY]_orientation"]
    assert {row["extras"]["mode"] for row in turned} <= {"portrait", "landscape"}
    told_once = [row for row in found["events"] if row not in turned]
    events = {row["name"]: row for row in told_once}
    assert turned
    assert len(events) == len(told_once)
    assert events.keys() == {"buy", "linkClick", "[CLY]_action", "[CLY]_star_rating", LAST}
    assert events["buy"]["extras"] == {"country": "FR", "count": 2, "sum": 9.9}
    assert events["buy"]["activityName"] == "Home"
    assert events["linkClick"]["extras"]["id"] == "more"
    assert events["[CLY]_star_rating"]["extras"]["comment"] == "fine"
    assert {name for name, row in events.items() if row.get("sessionId") != session["sessionId"]} == {LAST}
    jobs = {row["name"]: row["extras"] for row in found["jobs"]}
    assert jobs == {"upload": {"size": 1}, "/api": {"type": "network", "size": 7}}
    assert len(found["jobs"]) == 2
    [error] = found["errors"]
    assert (error["name"], error["extras"]["message"], error["extras"]["screen"]) == (
        "TypeError",
        "boom",
        "Home",
    )
    [crash] = found["crashes"]
    assert "lost" in crash["stackTrace"]
    assert {row["key"]: row["value"] for row in found["tags"]} == WEB_TAGS
    [device] = found["devices"]
    assert device["appInfo"] == WEB_TAGS
    assert device["firmwareName"]
    assert device["locale"] == "en-US"


@pytest.mark.parametrize("salt", [None, "pepper & salt"])
def test_the_web_sdk(server, tmp_path, salt):
    """All that it offers, in Chromium: with the server killed under it, or busy for a while and losing answers."""
    out = Exported(server, f"web-{bool(salt)}", "web")
    if salt:
        server.cli("apps", "countly-salt", out.app.app_id, salt)

    def trouble(_):
        if salt:
            proxy.losses, proxy.busy = 2, True
            proxy.wait(lambda seen: any(request.status == 503 for request in seen), 60)
            proxy.busy = False
        else:
            server.kill()
            proxy.wait(lambda seen: any(request.status == 0 for request in seen), 60)
            server.start()

    with Between(server.url) as proxy, Browser(tmp_path, user_agent=PHONE) as browser:
        given = {"url": proxy.url, "key": out.key, "salt": salt, "post": bool(salt)}
        steps = {"trouble": trouble, "taken": lambda _: proxy.wait(taken, 90)}
        answers = browser.run(START + PAGE_CALLS, WEB, given=given, steps=steps, timeout_s=180)
        assert answers == {"config": {}, "widgets": []}
        assert set(browser.hosts) == {address(proxy.url)}
        assert any(b"PNG" in request.body and request.status == 200 for request in proxy.seen)
        # It asks for content when it has time to, which may be after the page is gone.
        asked = {request.path.partition("?")[0] for request in proxy.seen}
        assert {"/i", "/o/sdk"} <= asked <= {"/i", "/o/sdk", "/o/sdk/content"}
    check_web(out.everything())
    assert out.rejects() == []


# What the SDKs rely on

SUCCESS = (200, {"result": "Success"})
LARGE = b"events=" + b"x" * (6 * 1024 * 1024)


def answered(answer):
    return answer.status_code, answer.json()


def test_bad_data_is_answered_like_good_and_set_aside(server):
    """An SDK repeats for ever what gets any other answer."""
    out = Exported(server, "bad")
    shared = f"app_key={out.key}&device_id=d1"
    at = int(time.time() * 1000)
    for query, body in [
        (f"?{shared}&events=%7B", b""),
        ("", f"{shared}&crash=x".encode()),
        (f"?app_key={out.key}", b"\0\xff"),
        (f"?app_key={out.key}", b"--B\r\nContent-Disposition: form-data\r\n"),
        (f"?{shared}", b"\xff\xfe=1"),
        (f"?{shared}", LARGE),
        ("", f"{shared}&timestamp={at}&begin_session=1&events=".encode() + LARGE),
        (f"?{shared}&timestamp={at}&begin_session=1", b""),
    ]:
        assert answered(httpx2.post(f"{server.url}/i{query}", content=body, timeout=60)) == SUCCESS
    assert answered(httpx2.get(f"{server.url}/i/?{shared}&timestamp=soon")) == SUCCESS
    assert len(out.rows("sessions")) == 1
    reasons = sorted(reject["reason"] for reject in out.rejects())
    assert reasons == [
        "field_invalid",
        "field_missing",
        "malformed",
        "malformed",
        "malformed",
        "malformed",
        "malformed",
        "malformed",
    ]


@pytest.mark.parametrize("params", ["", "app_key=nobody&device_id=d1&begin_session=1", "device_id=d1"])
def test_an_unknown_key_is_for_later(server, params):
    for answer in (
        httpx2.get(f"{server.url}/i?{params}"),
        httpx2.post(f"{server.url}/i/bulk", content=params),
    ):
        assert answer.status_code == 503
        assert "result" not in answer.json()
        assert int(answer.headers["retry-after"]) > 0


def test_a_page_of_any_site_may_ask_and_send(server):
    out = Exported(server, "cors", "web")
    headers = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}
    for path in ("/i", "/i/bulk", "/o/sdk", "/o/sdk/content"):
        answer = httpx2.request("OPTIONS", server.url + path, headers=headers)
        assert answer.status_code == 204
        assert answer.headers["access-control-allow-origin"] == "https://shop.example"
    answer = httpx2.post(f"{server.url}/i?app_key={out.key}&device_id=d1", headers=headers)
    assert answered(answer) == SUCCESS
    assert answer.headers["access-control-allow-origin"] == "https://shop.example"
    for method in ("sc", "rc", "fetch_remote_config", "ab"):
        assert answered(httpx2.get(f"{server.url}/o/sdk?method={method}&app_key={out.key}")) == (200, {})


def test_whatever_is_sent_is_answered(server):
    """Mutilated requests: never an error of ours."""
    out = Exported(server, "noise")
    chance = random.Random(20261124)
    view = json.dumps([{"key": "[CLY]_view", "segmentation": {"name": "Home", "visit": 1}}])
    body = f"app_key={out.key}&device_id=d1&timestamp=1795458892943&events={quote(view)}&user_details=%7B%7D".encode()
    for _ in range(200):
        start = chance.randrange(len(body))
        noise = chance.choice([b"", chance.randbytes(5), b"%", b"&", b"[" * 2000, body[start : start + 20]])
        sent = body[:start] + noise + body[start + chance.randrange(20) :]
        answer = httpx2.post(f"{server.url}/i", content=sent)
        assert answer.status_code in {200, 503}
    assert not {reject["reason"] for reject in out.rejects()} & {"parser_failed"}
