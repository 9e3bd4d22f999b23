"""Whatever the document allows, and much that it does not, asked of a real server: it answers as documented."""

from __future__ import annotations

import json

import httpx2
import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import checks

from api_site import PERIOD, Site
from outhaul.api.app import OPERATIONS
from outhaul.api.openapi import document
from running import Server

EXAMPLES = 25
DOCUMENT = json.loads(msgspec.json.encode(document(OPERATIONS)))
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """With an export that has succeeded, and a token that nobody uses."""
    quotas = ("exports_unfinished", "exports_per_day", "imports_unfinished", "imports_per_day")
    limits = dict.fromkeys(("rate_per_minute", *quotas), "0")
    with Server(tmp_path_factory.mktemp("contract") / "data", **limits) as server:
        site = Site(server)
        done = site.export(format="csv")
        tag = {"kind": "tag", "timestamp": 1_700_000_000_000, "key": "userid"}
        site.send([{**tag, "deviceId": one, "value": one} for one in ("d", "leaver")])
        site.ledger.declare_tag(site.app.app_id, "plan", "string", 1)
        spare, _ = site.ledger.issue_token("spare", ["exports:read"], None, None, "operator", 1)
        site.ledger.create_collection("Spare", 1)
        asked = site.http.post("/users/nobody:erase", json={"app": "Shop"})
        source = {"url": "https://account.blob.core.windows.net/imports/tags.csv?sp=w&sig=x"}
        imported = site.http.post("/imports", json={"app": "Shop", "source": source})
        site.known = {
            "exports": {"id": done["id"], "name": done["files"][0]["name"]},
            "apps": {"app": "Shop", "id": "d", "key": "plan"},
            "collections": {"name": "Spare"},
            "erasures": {"id": asked.json()["id"]},
            "imports": {"id": imported.json()["id"]},
            "tokens": {"id": spare.token_id},
            "users": {"id": "leaver"},
            "devices": {"id": "leaver"},
        }
        yield site


def test_the_document_served_is_the_one_tried(site):
    served = httpx2.get(f"{site.server.url}/api/v1/openapi.json").json()
    assert served.pop("servers") == [{"url": f"{site.server.url}/api/v1"}]
    assert served == DOCUMENT


@SCHEMA.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)
def test_answers_are_as_documented(site, case):
    # What is right by its schema can be wrong all the same: an export of events without a period.
    excluded = [checks.positive_data_acceptance]
    if case.operation.path == "/exports:check":
        # What is wrong with a request is this operation's answer, not its error.
        excluded.append(checks.negative_data_rejection)
    if case.meta.generation.mode is schemathesis.GenerationMode.POSITIVE:
        # Every other case is about something that exists.
        known = site.known.get(case.operation.path.split("/")[1], {})
        for name, value in case.path_parameters.items():
            case.path_parameters[name] = known[name] if len(str(value)) % 2 else value
        if isinstance(case.body, dict) and case.body.get("app"):
            case.body["app"] = "Shop"
        if isinstance(case.body, dict) and case.body.get("kind") == "event":
            case.body["period"] = PERIOD
    case.call_and_validate(
        base_url=f"{site.server.url}/api/v1",
        headers={"Authorization": f"Bearer {site.secret}"},
        excluded_checks=excluded,
    )
