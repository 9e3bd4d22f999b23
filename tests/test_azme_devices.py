"""The old API's devices and users from end to end: devices send, the npm client lists, reads and tags them.

The numbers are those of `docs/old-api.md`, as in `test_azme.py`.
"""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from azme_site import API, Site
from conformance import Checks
from landing import FACTS
from outhaul.client import Collector
from outhaul.ledger.ledger import Ledger
from running import Server
from test_azme_exports import raw_export, read_file

check = Checks()
NOON = int(datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp() * 1000)
PLACE = {"countrycode": "fr", "region": "Bretagne", "locality": "Brest"}
META = ["firstSeen", "lastSeen", "lastInfo", "lastLocation", "nativePushEnabled"]
IDS = sorted([*(f"{n:032x}" for n in range(247)), "o'clock", "a/b %é", "🧡"])
MANY = 5200
TAGGED = IDS[::5]
TOLD = IDS[::50]


def records():
    """250 devices, seen a second apart; some have a tag x, ten seconds later, and some told all of themselves."""
    for n, device in enumerate(IDS):
        yield {"kind": "event", "deviceId": device, "name": "e", "timestamp": NOON + 1000 * n}
    for device in TAGGED:
        yield tag(device, "x", "1", at=seen(device) + 10_000)
    for device in TOLD:
        at = seen(device) + 20_000
        yield {"kind": "device", "deviceId": device, "timestamp": at, **FACTS}
        yield {"kind": "location", "deviceId": device, "timestamp": at, **PLACE}


def tag(device, key, value, at=NOON):
    return {"kind": "tag", "deviceId": device, "key": key, "value": value, "timestamp": at}


def seen(device):
    return NOON + 1000 * IDS.index(device)


class Shop:
    """An app: where its devices send, and how the clients name it."""

    def __init__(self, server, credential, created):
        self._where = server.url, created["sdkKey"]
        self.site = Site(
            url=server.url,
            subscription=created["subscriptionId"],
            tenant=created["tenantId"],
            client_id=credential["clientId"],
            secret=credential["clientSecret"],
            group=created["resourceGroup"],
            collection=created["appCollection"],
            app=created["appName"],
        )
        self._token = self.site.token()
        self.raw = self.site.raw(self._token)

    def send(self, *sent):
        with Collector(*self._where) as collector:
            collector.send(list(sent))

    def fresh(self, **tags):
        """A device that only one test knows."""
        device = uuid.uuid4().hex
        self.send(
            {"kind": "event", "deviceId": device, "name": "e", "timestamp": NOON},
            *(tag(device, key, value) for key, value in tags.items()),
        )
        return device

    def npm(self, *calls):
        """What the npm client makes of calls of `devices`, the app being added."""
        named = [
            (f"devices.{call}", *(() if call == "listNext" else self.site.here), *arguments)
            for call, *arguments in calls
        ]
        return self.site.npm(*named, token=self._token)

    def pages(self, **options):
        """All pages of a list over plain HTTP, by following `nextLink`."""
        query = {f"${name}": value for name, value in options.items()}
        page = self.raw.get(self.site.devices, params={**API, **query})
        while True:
            assert page.status_code == 200, page.text
            assert set(page.json()) <= {"value", "nextLink"}
            yield page.json()["value"]
            if "nextLink" not in page.json():
                return
            page = self.raw.get(page.json()["nextLink"])

    def all(self, **options):
        return [item for page in self.pages(**options) for item in page]

    def device(self, device):
        found = self.raw.get(f"{self.site.devices}/{quote(device, safe='')}", params=API)
        assert found.status_code == 200, found.text
        return found.json()

    def tags(self, device):
        return self.device(device)["appInfo"]


@pytest.fixture(scope="module")
def server(tmp_path_factory, azurite):
    data = tmp_path_factory.mktemp("azme") / "data"
    return Server(data, destinations=azurite.url.rsplit("/", 1)[0] + "/")


@pytest.fixture(scope="module")
def shops(node, server):
    """Three apps by name, on a server that runs."""
    names = ("Shop", "Club", "Crowd")
    created = {name: server.cli("apps", "create", name) for name in names}
    credential = server.cli("credentials", "create", "reports", "--role", "contributor")
    with server:
        made = {name: Shop(server, credential, created[name]) for name in names}
        yield made
        for one in made.values():
            one.raw.close()


@pytest.fixture(scope="module")
def shop(shops):
    """The app of `records`, which no check changes."""
    shops["Shop"].send(*records())
    return shops["Shop"]


@pytest.fixture(scope="module")
def club(shops):
    """An app for what changes devices."""
    return shops["Club"]


def fails(response, status, *, mentions=""):
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"code", "message"}
    assert mentions in error["message"]


def ids(items):
    return [item["deviceId"] for item in items]


@check(48)
def a_list_goes_on_by_device_id(shop, club, azurite):
    first, second, third = shop.npm(("list",), ("listNext", {"$next": 0}), ("listNext", {"$next": 1}))
    pages = [first["value"], second["value"], third["value"]]
    assert [len(page) for page in pages] == [100, 100, 50]
    assert [device for page in pages for device in ids(page)] == IDS
    assert third.get("nextLink") is None
    for page, link in ((pages[0], first["nextLink"]), (pages[1], second["nextLink"])):
        assert link.startswith(f"{shop.site.url}/subscriptions/")
        query = parse_qs(urlsplit(link).query)
        assert query["api-version"] == ["2014-12-01"]
        assert query["$filter"] == [f"deviceId gt '{page[-1]['deviceId']}'"]
        assert not set("$'") & set(link)
    plain = pages[0][1]
    assert plain == {
        "deviceId": IDS[1],
        "meta": {"firstSeen": seen(IDS[1]), "lastSeen": seen(IDS[1]), "nativePushEnabled": False},
    }
    assert pages[0][0]["appInfo"] == {"x": "1"}


@check(49)
def a_page_has_a_hundred_devices_at_most(shop, club, azurite):
    results = shop.npm(("list", {"top": 500}), ("list", {"top": 7}), ("listNext", {"$next": 1}))
    assert [ids(result["value"]) for result in results] == [IDS[:100], IDS[:7], IDS[7:14]]
    for top in ("100", "00101", "9" * 5000):
        page = shop.raw.get(shop.site.devices, params={**API, "$top": top})
        assert ids(page.json()["value"]) == IDS[:100]
    for top in ("0", "-1", "x", "", "1.0", "\uff11"):
        fails(shop.raw.get(shop.site.devices, params={**API, "$top": top}), 400, mentions="$top")


@check(50)
def a_selection_leaves_out_devices_without_it(shop, club, azurite):
    results = shop.npm(
        *(
            ("list", {"select": select})
            for select in ("appInfo", "meta/firstSeen", "appInfo/x", "appInfo/none")
        )
    )
    tags, first_seen, tag_x, none = [result["value"] for result in results]
    assert tags == tag_x == [{"deviceId": device, "appInfo": {"x": "1"}} for device in TAGGED]
    assert first_seen == [{"deviceId": device, "meta": {"firstSeen": seen(device)}} for device in IDS[:100]]
    assert none == []
    places = shop.all(select=" META/lastlocation , appInfo/y")
    assert places == [
        {"deviceId": device, "meta": {"lastLocation": seen(device) + 20_000}} for device in TOLD
    ]
    both = shop.all(select="meta,appInfo")
    assert both == shop.all()
    assert ids(both) == IDS
    assert {name for item in both for name in item} == {"deviceId", "meta", "appInfo"}
    assert sorted(next(iter(both))["meta"]) == sorted(META)
    paged = list(shop.pages(select="appInfo", top="20"))
    assert [ids(page) for page in paged] == [TAGGED[:20], TAGGED[20:40], TAGGED[40:]]
    for select in (
        "",
        "info",
        "location",
        "meta/",
        "meta/x",
        "appInfo/",
        "appInfo/1a",
        "appInfo,,meta",
        "deviceId",
    ):
        fails(shop.raw.get(shop.site.devices, params={**API, "$select": select}), 400, mentions="$select")


@check(51)
def a_filter_is_met_by_ids_and_by_each_property(shop, club, azurite):
    at = seen(IDS[40]) + 10_000
    asked = f"deviceId gt '{IDS[20]}' and lastModified le {at}L"
    [result] = shop.npm(("list", {"filter": asked}))
    # Those seen by then, of which only those tagged by then keep their tag.
    assert ids(result["value"]) == IDS[21:51]
    items = {item["deviceId"]: item for item in result["value"]}
    assert items[IDS[40]]["appInfo"] == {"x": "1"}
    assert items[IDS[45]] == {
        "deviceId": IDS[45],
        "meta": {"firstSeen": seen(IDS[45]), "nativePushEnabled": False},
    }
    assert str(at) not in json.dumps([item.get("appInfo") for item in result["value"]])

    def filtered(text, **options):
        return ids(shop.all(filter=text, **options))

    quoted = [device.replace("'", "''") for device in IDS]
    assert filtered(f"deviceId ge '{quoted[3]}' and deviceId lt '{quoted[7]}'") == IDS[3:7]
    assert filtered(f"((DEVICEID GT '{quoted[3]}') And (deviceid le '{quoted[7]}'))", top="3") == IDS[4:8]
    assert filtered(f"deviceId ge '{quoted[-2]}'", top="1") == IDS[-2:]
    assert filtered("deviceId lt '0'") == filtered("lastModified lt 0") == []
    assert filtered("deviceId gt 'b' and deviceId lt 'a'") == []
    recent = f"lastModified gt {seen(IDS[-1]) - 1}L"
    assert filtered(f"{recent} and lastModified lt {seen(IDS[-1]) + 1}L", select="meta/lastSeen") == [IDS[-1]]
    assert filtered("lastModified ge 2147483647", top="100") == IDS
    assert filtered(f"lastModified ge {NOON}l", select="appInfo", top="9") == TAGGED
    link = shop.raw.get(shop.site.devices, params={**API, "$filter": f"({recent})", "$top": "1"}).json()[
        "nextLink"
    ]
    asked = parse_qs(urlsplit(link).query)["$filter"][0]
    assert asked.startswith("deviceId gt '")
    assert asked.endswith(f" and lastModified gt {seen(IDS[-1]) - 1}L")


@check(52)
def a_filter_of_another_grammar_is_refused(shop, club, azurite):
    for wrong, mentions in {
        "lastModified ge 1447284263690": "needs an L",
        "lastModified ge 2147483648": "needs an L",
        "deviceId eq 'x'": "'eq'",
        "deviceId gt 'x' or deviceId lt 'a'": "'or'",
        "not (deviceId gt 'x')": "'not'",
        "deviceId gt x": "single quotes",
        "deviceId gt 5": "single quotes",
        "lastModified gt 'x'": "whole number",
        "lastModified gt -5": "'-5'",
        "lastModified gt 5Land": "'5Land'",
        f"lastModified gt {2**63}L": "2^63-1",
        f"lastModified gt {'9' * 4500}L": "2^63-1",
        "userId gt 'x'": "'userId'",
        "deviceId gt 'x": "cannot be read",
        "deviceId gt": "ends too early",
        "deviceId gt 'x' and": "ends too early",
        "(deviceId gt 'x'": "not closed",
        "deviceId gt 'x')": "not opened",
        "()": "')'",
        "(" * 6000: "ends too early",
        "": "ends too early",
    }.items():
        response = shop.raw.get(shop.site.devices, params={**API, "$filter": wrong})
        fails(response, 400, mentions=mentions)


@check(53)
def a_device_shows_all_that_is_known(shop, club, azurite):
    full, plain = shop.npm(("getByDeviceId", TOLD[1]), ("getByDeviceId", "a/b %é"))
    at = seen(TOLD[1]) + 20_000
    assert full["value"] == {
        "deviceId": TOLD[1],
        "meta": {
            "firstSeen": seen(TOLD[1]),
            "lastSeen": at,
            "lastInfo": at,
            "lastLocation": at,
            "nativePushEnabled": False,
        },
        # What JavaScript makes of a whole number over 2^53.
        "info": {**FACTS, "applicationVersionCode": 2**53},
        "location": PLACE,
        "appInfo": {"x": "1"},
    }
    assert plain["value"]["deviceId"] == "a/b %é"
    assert shop.device(IDS[1])["info"] == {}
    token = {"kind": "token", "token": "t", "service": "gcm", "timestamp": NOON + 5, "deviceId": "with-token"}
    club.send(token)
    assert club.device("with-token")["meta"]["nativePushEnabled"] is True
    changed = club.all(
        filter=f"lastModified gt {NOON + 4}L and deviceId ge 'with-token'", select="meta/nativePushEnabled"
    )
    assert changed == [{"deviceId": "with-token", "meta": {"nativePushEnabled": True}}]


@check(54)
def what_is_unknown_is_not_found(shop, club, azurite):
    device, user = shop.npm(("getByDeviceId", "nobody"), ("getByUserId", "nobody"))
    for result in (device, user):
        assert result["error"]["statusCode"] == 404
        assert result["error"]["code"] == "NotFound"
        assert "nobody" in result["error"]["message"]
    # A device of another app is none of this one.
    fails(club.raw.get(f"{club.site.devices}/{IDS[0]}", params=API), 404)
    head = shop.raw.head(f"{shop.site.devices}/{IDS[0]}", params=API)
    assert (head.status_code, head.content) == (200, b"")


@check(55)
def a_tag_is_set_and_an_unknown_device_named(shop, club, azurite):
    known, unknown = club.fresh(), uuid.uuid4().hex
    tagged, found = club.npm(
        ("tagByDeviceId", {"tags": {known: {"a": "1"}, unknown: {"a": "1"}}}), ("getByDeviceId", known)
    )
    assert tagged["value"] == {"invalidIds": [unknown]}
    assert found["value"]["appInfo"] == {"a": "1"}
    fails(club.raw.get(f"{club.site.devices}/{unknown}", params=API), 404)
    everyone = post(club, "devices", tags={unknown: {"a": "1"}, "": {}, "x" * 300: {"a": None}})
    assert everyone.json() == {"invalidIds": [unknown, "", "x" * 300]}
    assert post(club, "devices", tags={}).json() == {"invalidIds": []}
    in_other_case = club.raw.post(
        f"{club.site.devices}/Tag", params=API, json={"Tags": {known: {"b": "é" * 1024}}, "x": 1}
    )
    assert in_other_case.json() == {"invalidIds": []}
    assert club.tags(known) == {"a": "1", "b": "é" * 1024}
    assert tags_in_list(club, known) == club.tags(known)


def tags_in_list(shop, device):
    [item] = shop.all(select="appInfo", filter=f"deviceId ge '{device}' and deviceId le '{device}'")
    return item["appInfo"]


def post(shop, what, **body):
    return shop.raw.post(f"{getattr(shop.site, what)}/tag", params=API, json=body)


@check(56)
def a_null_removes_a_tag_where_that_is_asked(shop, club, azurite):
    device = club.fresh(a="1", b="2")
    kept, before, removed, after = club.npm(
        ("tagByDeviceId", {"tags": {device: {"a": None, "c": "3"}}}),
        ("getByDeviceId", device),
        ("tagByDeviceId", {"tags": {device: {"a": None, "nothing": None}}, "deleteOnNull": True}),
        ("getByDeviceId", device),
    )
    assert kept["value"] == removed["value"] == {"invalidIds": []}
    assert before["value"]["appInfo"] == {"a": "1", "b": "2", "c": "3"}
    assert after["value"]["appInfo"] == {"b": "2", "c": "3"}
    post(club, "devices", tags={device: {"b": None}}, deleteOnNull=False)
    assert club.tags(device) == {"b": "2", "c": "3"}


@check(57)
def a_user_is_found_and_tagged_by_the_userid(shop, club, azurite):
    device, user = club.fresh(), f"user/{uuid.uuid4()}"
    results = club.npm(
        ("tagByDeviceId", {"tags": {device: {"userid": user}}}),
        ("getByUserId", user),
        ("tagByUserId", {"tags": {user: {"vip": "true"}, "nobody": {"vip": "true"}}}),
        ("getByUserId", user),
    )
    assert [result.get("error") for result in results] == [None] * 4
    assert results[1]["value"]["deviceId"] == device
    assert results[2]["value"] == {"invalidIds": ["nobody"]}
    assert results[3]["value"]["appInfo"] == {"userid": user, "vip": "true"}
    # Of several devices all are tagged, and the one seen last is the answer.
    later = club.fresh(userid=user)
    club.send({"kind": "event", "deviceId": later, "name": "e", "timestamp": NOON + 24 * 3600_000})
    assert post(club, "users", tags={user: {"tier": "2", "vip": None}}, deleteOnNull=True).status_code == 200
    assert club.tags(device) == {"userid": user, "tier": "2"}
    assert club.tags(later) == {"userid": user, "tier": "2"}
    last = club.raw.get(f"{club.site.users}/{quote(user, safe='')}", params=API).json()
    assert (last["deviceId"], last["meta"]["lastSeen"]) == (later, NOON + 24 * 3600_000)
    assert club.device(device)["meta"]["lastSeen"] == NOON
    # Without the tag it is nobody's.
    post(club, "users", tags={user: {"userid": None}}, deleteOnNull=True)
    fails(club.raw.get(f"{club.site.users}/{quote(user, safe='')}", params=API), 404)


@check(58)
def a_bad_tag_is_refused_with_all_others(shop, club, azurite):
    device = club.fresh()
    bad = [{key: "1"} for key in ("1a", "a-b", "a" * 65, "", "é", "a\n", "_a")]
    bad += [{"a": value} for value in ("x" * 1025, 1, True, ["1"], {"b": "1"})]
    for values in (*bad, None, "1", ["a"], 5):
        for tags in ({device: {"good": "1"}, "unknown": values}, {device: values, "unknown": {"good": "1"}}):
            for what in ("devices", "users"):
                fails(post(club, what, tags=tags), 400, mentions="tags")
    for body in ({}, {"tags": None}, {"tags": []}, {"tags": "x"}, {"tags": {}, "deleteOnNull": "true"}, []):
        fails(club.raw.post(f"{club.site.devices}/tag", params=API, json=body), 400)
    for content in (b"", b"{", b"tags=1", b'{"tags": {"\\ud800": {"a": "1"}}}'):
        fails(club.raw.post(f"{club.site.devices}/tag", params=API, content=content), 400)
    assert club.tags(device) == {}


@check(59)
def over_a_thousand_ids_are_too_many(shop, club, azurite):
    ids_of = [club.fresh(), *(f"unknown-{n}" for n in range(1000))]
    for what in ("devices", "users"):
        fails(post(club, what, tags={one: {"a": "1"} for one in ids_of}), 413)
    assert club.tags(ids_of[0]) == {}
    answer = post(club, "devices", tags={one: {"a": "1"} for one in ids_of[:1000]})
    assert answer.json() == {"invalidIds": ids_of[1:1000]}
    assert club.tags(ids_of[0]) == {"a": "1"}


@check(75)
def devices_are_under_value(shop, club, azurite):
    body = shop.raw.get(shop.site.devices, params={**API, "$filter": "deviceId lt '0'"}).json()
    assert body == {"value": []}


@check(77)
def the_link_starts_with_the_public_base(shop, club, azurite):
    forwarded = {"x-forwarded-proto": "https", "x-forwarded-host": "exports.example:8443"}
    page = shop.raw.get(shop.site.devices, params={**API, "$top": "1"}, headers=forwarded).json()
    assert page["nextLink"].startswith("https://exports.example:8443/subscriptions/")


@pytest.mark.parametrize("number", sorted(check), ids=lambda number: f"check {number}")
def test_check(number, shop, club, azurite):
    check[number](shop, club, azurite)


def test_a_tag_is_there_at_once_whoever_set_it(club, azurite):
    """In the next read, and in an export created after it."""
    device = club.fresh()
    for n in range(2):
        club.send(tag(device, "sent", str(n), at=NOON + n))
        assert club.tags(device)["sent"] == str(n)
        post(club, "devices", tags={device: {"set": str(n)}})
        assert club.tags(device)["set"] == str(n)
    container = azurite.container("tags-at-once")
    club.send(tag(device, "sent", "last", at=NOON + 60_000))
    post(club, "devices", tags={device: {"set": "last"}})
    task = raw_export(club.site, "tags", container)
    rows = json.loads(read_file(azurite, "tags-at-once", task, "json"))
    assert {row["key"]: row["value"] for row in rows if row["deviceId"] == device} == {
        "sent": "last",
        "set": "last",
    }


def test_what_is_set_now_wins_over_a_clock_that_is_ahead(club):
    device = club.fresh()
    ahead = int(datetime.now(UTC).timestamp() * 1000) + 3600_000
    for value in ("1", "1"):
        club.send(tag(device, "a", value, at=ahead), tag(device, "b", None, at=ahead))
        assert club.tags(device) == {"a": value}
        for mine in ("x", "y", "x"):
            post(club, "devices", tags={device: {"a": mine, "b": mine}})
            assert club.tags(device) == {"a": mine, "b": mine}
        ahead += 1000


def test_few_matches_among_many_devices_come_in_bounded_steps(shops):
    crowd = shops["Crowd"]
    many = [f"c{n:05d}" for n in range(MANY)]
    crowd.send(*({"kind": "event", "deviceId": one, "name": "e", "timestamp": NOON} for one in many))
    crowd.send(tag(many[3], "rare", "1"), tag(many[-1], "rare", "2"))
    pages = list(crowd.pages(select="appInfo/rare"))
    assert [ids(page) for page in pages] == [[many[3]], [many[-1]]]
    assert list(crowd.pages(filter=f"lastModified gt {NOON}L")) == [[], []]
    assert ids(crowd.all()) == many


def test_more_tags_than_one_batch_holds_are_all_set(club):
    device = club.fresh()
    values = {f"k{n}": str(n) for n in range(60_000)}
    assert post(club, "devices", tags={device: values}).status_code == 200
    assert club.tags(device) == values


def test_tags_that_multiply_beyond_reason_are_refused(club):
    user = uuid.uuid4().hex
    club.send(*(tag(f"{user}-{n}", "userid", user) for n in range(200)))
    values = {f"k{n}": "x" * 1000 for n in range(500)}
    fails(post(club, "users", tags={user: values}), 413)
    assert club.tags(f"{user}-7") == {"userid": user}
    few = dict(list(values.items())[:3])
    assert post(club, "users", tags={user: few}).json() == {"invalidIds": []}
    assert all(club.tags(f"{user}-{n}") == {"userid": user, **few} for n in (0, 99, 199))


def test_the_audit_log_says_who_but_not_which_device(club, server):
    device = club.fresh()
    club.device(device)
    club.all(top="100")
    post(club, "devices", tags={device: {"a": "1"}})
    ledger = Ledger(server.data)
    entries = ledger.audit(10_000)
    ledger.close()
    of_devices = [entry for entry in entries if entry.action.startswith("device.")]
    assert {entry.action for entry in of_devices} == {"device.read", "device.list", "device.tag"}
    assert {entry.actor for entry in of_devices} == {"credential:reports"}
    assert {entry.target for entry in of_devices} == {entry.app_id for entry in of_devices}
    assert device not in str(entries)
