"""A server as a client of the old API sees it: where it is, who asks, and which app it is about."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2

API = {"api-version": "2014-12-01"}
CONTAINER = "http://127.0.0.1:10000/devstoreaccount1/exports?sv=2021-08-06&sr=c&sp=wl&se=2099-01-01T00:00:00Z&sig=c2VjcmV0"
RESOURCE = "https://management.core.windows.net/"
NODE = Path(__file__).parent / "node"


@dataclass(frozen=True)
class Site:
    """`group`, `collection` and `app` name one app; `ca` is a file with a certificate to trust."""

    url: str
    subscription: str
    tenant: str
    client_id: str
    secret: str
    group: str
    collection: str
    app: str
    ca: Path | None = None
    data: Path | None = None

    def at(self, url: str) -> Site:
        return replace(self, url=url)

    @property
    def provider(self) -> str:
        return f"/subscriptions/{self.subscription}/providers/Microsoft.MobileEngagement"

    @property
    def apps(self) -> str:
        group = f"/subscriptions/{self.subscription}/resourceGroups/{quote(self.group)}"
        return f"{group}/providers/Microsoft.MobileEngagement/appcollections/{quote(self.collection)}/apps"

    @property
    def devices(self) -> str:
        return f"{self.apps}/{quote(self.app)}/devices"

    @property
    def users(self) -> str:
        return f"{self.apps}/{quote(self.app)}/users"

    @property
    def tasks(self) -> str:
        return f"{self.devices}/exportTasks"

    @property
    def imports(self) -> str:
        return f"{self.devices}/importTasks"

    def raw(self, token: str | None = None) -> httpx2.Client:
        """Plain HTTP, with a bearer token if one is given."""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        verify = ssl.create_default_context(cafile=self.ca) if self.ca else True
        return httpx2.Client(base_url=self.url, headers=headers, verify=verify, timeout=30, trust_env=False)

    def ask_token(self, method: str = "POST", **changes: str) -> httpx2.Response:
        """A token request of the form every client sends, with fields changed."""
        fields = {
            "grant_type": "client_credentials",
            "client_id": self.client_id,
            "resource": RESOURCE,
            "client_secret": self.secret,
        }
        tenant = changes.pop("tenant", self.tenant)
        with self.raw() as client:
            return client.request(
                method, f"/{tenant}/oauth2/token?api-version=1.0", data={**fields, **changes}
            )

    def token(self) -> str:
        return self.ask_token().json()["access_token"]

    def npm(self, *calls: tuple[Any, ...], token: str | None = None, retry: bool = False) -> Any:
        """What the npm client makes of calls such as `("apps.list", group, collection)`, one by one."""
        job = {
            "url": self.url,
            "subscription": self.subscription,
            "tenant": self.tenant,
            "clientId": self.client_id,
            "secret": self.secret,
            "retry": retry,
            "calls": [{"call": call, "args": args} for call, *args in calls],
        }
        if token is not None:
            job["token"] = token
        environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
        if self.ca:
            environment["NODE_EXTRA_CA_CERTS"] = str(self.ca)
        done = subprocess.run(
            ["node", "--no-deprecation", "azme_client.cjs"],
            cwd=NODE,
            input=json.dumps(job),
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    @property
    def here(self) -> tuple[str, str, str]:
        """The arguments that name the app, as the npm client takes them."""
        return self.group, self.collection, self.app

    def export(self, **members: Any) -> dict[str, Any]:
        """The body of an export that is fine for all kinds, with members changed; None leaves one out."""
        body = {
            "containerUrl": CONTAINER,
            "exportFormat": "JsonBlob",
            "startDate": "2016-05-01",
            "endDate": "2016-05-02",
            "campaignType": "Announcement",
            "campaignIds": [1, 2],
            "campaignWindowStart": "2016-05-01T00:00:00Z",
            "campaignWindowEnd": "2016-05-02T00:00:00Z",
            **members,
        }
        return {name: value for name, value in body.items() if value is not None}

    def requests(self) -> list[str]:
        """What the test server was asked so far, as `METHOD target`."""
        return (self.data / "requests.log").read_text().splitlines()
