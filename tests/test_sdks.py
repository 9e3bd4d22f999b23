"""Unmodified device SDKs, with only their host changed: what their calls become in the exports."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import time
from datetime import UTC, datetime

import httpx2
import pytest
from segment.analytics.client import Client

from asking import App, folder_files, proven, read
from forgetful import Forgetful
from frames import REQUESTS
from running import Server

NOW = int(time.time() * 1000)
CONTEXT = {
    "app": {"name": "Shop", "version": "3.1.0", "build": "310"},
    "device": {
        "id": "dev-1",
        "manufacturer": "Google",
        "model": "Pixel 8",
        "type": "android",
        "token": "fcm-token-abc",
    },
    "os": {"name": "Android", "version": "15"},
    "network": {"wifi": True, "carrier": "Orange F"},
    "location": {"country": "France", "city": "Rennes"},
    "locale": "fr-FR",
    "timezone": "Asia/Tokyo",
}


class Out:
    """An app, and the rows of its exports."""

    def __init__(self, server, name, platform="ios"):
        self.app = App(server, name, platform)
        self.folder = server.data.parent / "out" / name

    def rows(self, segment):
        task = self.app.export(segment, f"file://{self.folder}/")
        return read(proven(folder_files(self.folder), task))[1]

    def everything(self):
        segments = ("activities", "events", "jobs", "errors", "crashes", "sessions")
        snapshots = ("tags", "devices", "tokens", "feedbackByDate")
        return {segment: self.rows(segment) for segment in segments + snapshots}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("sdks")
    (root / "out").mkdir()
    with Server(root / "data", destinations=f"file://{root}/out/") as running:
        yield running


def python_sdk(url, key, *, compress, prefix):
    """What an app would call, through `segment-analytics-python`."""
    failures = []
    client = Client(
        key,
        host=url,
        gzip=compress,
        sync_mode=False,
        on_error=lambda error, _items: failures.append(error),
    )
    at = {"timestamp": datetime.fromtimestamp(NOW / 1000 - 60, UTC), "context": CONTEXT}
    later = {"timestamp": datetime.fromtimestamp(NOW / 1000 - 50, UTC), "context": CONTEXT}
    client.identify("u1", {"email": "a@b.c", "plan-name": "pro"}, **at, message_id=f"{prefix}-i")
    client.screen("u1", "Main", "Home", {"from": "push"}, **at, message_id=f"{prefix}-s")
    client.track("u1", "Order Completed", {"revenue": 12.5}, **at, message_id=f"{prefix}-t")
    client.page("u1", "Docs", "Intro", **later, message_id=f"{prefix}-p")
    client.group("u1", "g1", {"name": "ACME"}, **at, message_id=f"{prefix}-g")
    client.alias("anon-1", "u1", message_id=f"{prefix}-a")
    client.track("u1", "Error", {"name": "net"}, **later, message_id=f"{prefix}-e")
    client.flush()
    client.join()
    assert failures == []


def node_sdk(url, key, *, node, prefix):
    """The same through `@segment/analytics-node`."""

    def at(seconds):
        moment = datetime.fromtimestamp(NOW / 1000 - seconds, UTC).isoformat()
        return {"userId": "u1", "context": CONTEXT, "timestamp": moment}

    calls = [
        (
            "identify",
            {**at(60), "traits": {"email": "a@b.c", "plan-name": "pro"}, "messageId": f"{prefix}-i"},
        ),
        (
            "screen",
            {**at(60), "name": "Home", "properties": {"from": "push"}, "messageId": f"{prefix}-s"},
        ),
        (
            "track",
            {
                **at(60),
                "event": "Order Completed",
                "properties": {"revenue": 12.5},
                "messageId": f"{prefix}-t",
            },
        ),
        ("page", {**at(50), "name": "Intro", "messageId": f"{prefix}-p"}),
        ("group", {**at(60), "groupId": "g1", "traits": {"name": "ACME"}, "messageId": f"{prefix}-g"}),
        ("alias", {"userId": "u1", "previousId": "anon-1", "messageId": f"{prefix}-a"}),
        ("track", {**at(50), "event": "Error", "properties": {"name": "net"}, "messageId": f"{prefix}-e"}),
    ]
    job = {"host": url, "writeKey": key, "calls": [{"call": c, "message": m} for c, m in calls]}
    done = subprocess.run(
        ["node", "segment_batch.mjs"],
        cwd=node,
        input=json.dumps(job),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"delivered": len(calls), "errors": []}


AT = NOW - 60_000
LATER = NOW - 50_000
SEEN = {"deviceId": "dev-1", "userId": "u1", "applicationVersionName": "3.1.0"}
TAGS = {"email": "a@b.c", "group": "g1", "group_name": "ACME", "plan_name": "pro", "userid": "u1"}


@pytest.mark.parametrize("sdk", ["python", "python, gzip", "node"])
def test_segment_sdks(server, node, sdk):
    """Identify, screen, track, page, group and alias, with the first answer lost: sent twice, counted once."""
    out = Out(server, re.sub(r"\W+", "-", sdk))
    with Forgetful(server.url) as proxy:
        if sdk == "node":
            node_sdk(proxy.url, out.app.sdk_key, node=node, prefix="m")
        else:
            python_sdk(proxy.url, out.app.sdk_key, compress="gzip" in sdk, prefix="m")
        assert len(proxy.bodies) >= 2
        assert proxy.bodies[0].startswith(b"\x1f\x8b") == ("gzip" in sdk)
    found = out.everything()

    [session] = found["sessions"]
    here = {**SEEN, "sessionId": session["sessionId"]}
    category = {} if sdk == "node" else {"category": "Main"}
    assert found["activities"] == [
        {
            **here,
            "activityId": "m-s",
            "name": "Home",
            "startTime": AT,
            "endTime": LATER,
            "duration": 10_000,
            "extras": {**category, "from": "push"},
        },
        {
            **here,
            "activityId": "m-p",
            "name": "Intro",
            "startTime": LATER,
            "previousName": "Home",
            **({} if sdk == "node" else {"extras": {"category": "Docs"}}),
        },
    ]
    assert found["events"] == [
        {
            **here,
            "eventId": "m-t",
            "timestamp": AT,
            "name": "Order Completed",
            "kind": "session",
            "activityName": "Home",
            "extras": {"revenue": 12.5},
        }
    ]
    assert found["errors"] == [
        {
            **here,
            "errorId": "m-e",
            "timestamp": LATER,
            "name": "net",
            "kind": "session",
            "activityName": "Intro",
            "extras": {"name": "net"},
        }
    ]
    counts = {name: session[name] for name in ("activityCount", "eventCount", "errorCount", "duration")}
    assert counts == {"activityCount": 2, "eventCount": 1, "errorCount": 1, "duration": 10_000}
    tags = {(row["deviceId"], row["key"]): row["value"] for row in found["tags"]}
    assert tags == {("anon-1", "userid"): "u1"} | {("dev-1", key): value for key, value in TAGS.items()}
    device = next(row for row in found["devices"] if row["deviceId"] == "dev-1")
    assert device == {
        **SEEN,
        "firstSeen": AT,
        "lastSeen": LATER,
        "lastInfo": AT,
        "lastLocation": AT,
        "nativePushEnabled": True,
        "phoneModel": "Pixel 8",
        "phoneManufacturer": "Google",
        "firmwareVersion": "15",
        "firmwareName": "Android",
        "locale": "fr-FR",
        "carrierName": "Orange F",
        "networkType": "wifi",
        "applicationVersionCode": 310,
        "timeZoneOffset": 540,
        "serviceVersion": device["serviceVersion"],
        "countrycode": "France",
        "locality": "Rennes",
        "appInfo": TAGS,
    }
    assert found["tokens"] == [
        {
            "deviceId": "dev-1",
            "userId": "u1",
            "token": "fcm-token-abc",
            "service": "gcm",
            "registeredAt": AT,
            "lastSeen": LATER,
        }
    ]


DEVICE = "93bdf26ebdede0ac0fb123e32dd0ef6e"
SESSION = "8051a0a2af574870a90b640484a0d8c3"
JOB = "618a76e834414795b9befb16d9c147a6"
ORIGIN = "https://shop.example"
CONVERSATION = ("info", "everything", "activity", "idle", "end_job", "end_session")
KEPT_OPEN = ("start_session", "activity_and_job", "repost")


class Page:
    """A web page with the Azure Mobile Engagement Web SDK: what it once sent, sent again to an app of ours."""

    def __init__(self, app):
        self.app = app
        self.sent_at = {}

    def post(self, name):
        """As the SDK does, offsets have grown by the time that has passed when something is sent again."""
        request = json.loads((REQUESTS / f"azme_web-{name}.json").read_text())
        headers = dict(request["headers"]) | {"Origin": ORIGIN}
        user = base64.b64decode(headers["Authorization"].removeprefix("Basic ")).decode().split(":")[0]
        device, _, app_id = user.rpartition(".")
        key = f"{device}.{self.app.app_id}:{self.app.sdk_key}"
        headers["Authorization"] = f"Basic {base64.b64encode(key.encode()).decode()}"
        now = time.time_ns() // 1_000_000
        grown = now - self.sent_at.setdefault(name, now)
        body = request["body"].replace(f"appid='{app_id}'", f"appid='{self.app.app_id}'")
        body = re.sub(r"toffset='(\d+)'", lambda match: f"toffset='{int(match[1]) + grown}'", body)
        # Feedback has no id: it is recognised by its time, to 10 s. Put it in the middle of those.
        body = re.sub(r"(<reach [^>]*toffset=)'\d+'", rf"\1'{grown + self.sent_at[name] % 10_000}'", body)
        answer = httpx2.post(self.app.server.url + request["target"], content=body.encode(), headers=headers)
        assert (answer.status_code, answer.content) == (200, b"{}")
        assert answer.headers["access-control-allow-origin"] == ORIGIN


def without(rows, *fields):
    return [{name: value for name, value in row.items() if name not in fields} for row in rows]


def check_conversation(found, sent_at):
    """What the requests of `CONVERSATION` say, whenever they were sent."""
    seen = {"deviceId": DEVICE, "applicationVersionName": "3.1.0"}
    there = {**seen, "sessionId": SESSION}
    home, cart = found["activities"]
    assert without([home, cart], "activityId", "startTime", "endTime", "duration") == [
        {**there, "name": "Home", "extras": {"from": "push"}},
        {**there, "name": "Cart", "previousName": "Home"},
    ]
    assert abs(home["startTime"] - sent_at["everything"]) < 2000
    assert home["endTime"] == cart["startTime"]
    assert abs(cart["endTime"] - sent_at["idle"]) < 2000
    in_job = {"kind": "job", "jobId": JOB, "jobName": "upload"}
    assert [row["name"] for row in found["events"]] == ["bg_sync", "tap_buy", "chunk"]
    assert without(found["events"], "eventId", "timestamp", "name") == [
        {**seen, "kind": "standalone", "extras": {"n": 1}},
        {**there, "kind": "session", "activityName": "Home", "extras": {"sku": "A1"}},
        {**seen, **in_job, "extras": {"i": 1}},
    ]
    assert without(found["errors"], "errorId", "timestamp") == [
        {**there, "name": "net_fail", "kind": "session", "extras": {"code": 500}},
        {**seen, "name": "chunk_fail", **in_job, "extras": {"i": 2}},
        {**seen, "name": "io", "kind": "standalone"},
    ]
    [job] = found["jobs"]
    assert without([job], "startTime", "endTime", "duration") == [
        {**seen, "jobId": JOB, "name": "upload", "extras": {"size": 10}}
    ]
    assert abs(job["endTime"] - sent_at["end_job"]) < 2000
    assert job["duration"] == job["endTime"] - job["startTime"]
    assert without(found["crashes"], "timestamp") == [
        {
            **there,
            "crashId": "de678229a89348d69519d6f5d12ac71d",
            "type": "da14877ca4152788deaaf604fb49845b",
            "stackTrace": "at a.b.C(C.java:1)\nat x.Y",
            "activityName": "Home",
            "phoneModel": "Android",
            "firmwareName": "Chrome",
            "firmwareVersion": "156",
            "serviceVersion": "2.0.1",
        }
    ]
    [session] = found["sessions"]
    assert without([session], "startTime", "endTime", "duration") == [
        {
            **there,
            "activityCount": 2,
            "eventCount": 1,
            "errorCount": 1,
            "endReason": "ended",
            "locale": "en",
            "countrycode": "fr",
        }
    ]
    assert abs(session["endTime"] - sent_at["end_session"]) < 2000
    tags = {row["key"]: row["value"] for row in found["tags"]}
    assert tags == {"birth": "1990-01-01", "plan": "pro", "vip": "true"}
    [feedback] = found["feedbackByDate"]
    assert feedback["campaignId"] == "c42"
    assert feedback["in-app-notification-displayed"] == 1
    assert feedback["feedback"] == "pushed"
    [device] = found["devices"]
    assert device["countrycode"] == "fr"
    assert device["appInfo"] == tags


def test_azure_mobile_engagement_web(server):
    """The whole conversation with the server killed in its middle; then all of it again, which changes nothing."""
    out = Out(server, "azme-web", "web")
    page = Page(out.app)
    for name in CONVERSATION[:2]:
        page.post(name)
    server.kill()
    server.start()
    for name in CONVERSATION[2:]:
        page.post(name)
    found = out.everything()
    check_conversation(found, page.sent_at)
    for name in CONVERSATION:
        page.post(name)
    again = out.everything()
    assert without(again["devices"], "lastSeen", "lastInfo", "lastLocation", "firstSeen") == without(
        found["devices"], "lastSeen", "lastInfo", "lastLocation", "firstSeen"
    )
    for segment in set(found) - {"devices", "tags"}:
        assert again[segment] == found[segment], segment


def test_azure_mobile_engagement_web_keeps_a_session_open(server):
    """An activity posted again every minute is one activity; its session lives as long as that goes on."""
    out = Out(server, "azme-web-open", "web")
    page = Page(out.app)
    for name in KEPT_OPEN:
        page.post(name)
    [activity] = out.rows("activities")
    assert (activity["name"], "endTime" in activity) == ("Long", False)
    [session] = out.rows("sessions")
    assert (session["activityCount"], session["countrycode"], "endReason" in session) == (1, "fr", False)
    assert session["endTime"] >= page.sent_at["repost"]
    [job] = out.rows("jobs")
    assert (job["name"], "endTime" in job) == ("bigjob", False)


def test_browsers_may_send_from_any_page(server):
    """What a browser asks before it sends to another site, and the SDK's question for the country."""
    for path in ("/log", "/v1/batch", "/api/v1/collect"):
        asked = {
            "Origin": ORIGIN,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type",
        }
        answer = httpx2.request("OPTIONS", server.url + path, headers=asked)
        assert answer.status_code == 204
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert "POST" in answer.headers["access-control-allow-methods"]
        allowed = answer.headers["access-control-allow-headers"].lower()
        assert {"authorization", "content-type"} <= set(allowed.split(", "))
    answer = httpx2.get(f"{server.url}/ip-to-country", headers={"Origin": ORIGIN})
    assert answer.json() == {"countryCode": ""}
    assert answer.headers["access-control-allow-origin"] == ORIGIN
