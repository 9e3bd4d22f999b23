"""One app of a running server, as those who send to it and export from it see it."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import time
from typing import TYPE_CHECKING, Any

from azme_site import API, Site
from outhaul.client import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import httpx2

    from running import Server

SEGMENTS = {
    "activities": "Activity",
    "events": "Event",
    "jobs": "Job",
    "errors": "Error",
    "crashes": "Crash",
    "sessions": "Session",
    "tags": "Tag",
    "devices": "Device",
    "tokens": "Token",
    "feedbackByDate": "Push",
}
"""The path segment of each export, and what its files are called after."""
FORMS = {"JsonBlob": "json", "CsvBlob": "csv"}
ENDED = ("Succeeded", "Failed")
DAYS = ("2016-01-01", "2100-01-01")


class App:
    """Registers an app and a credential with `server`, which need not be running yet."""

    def __init__(self, server: Server, name: str = "Shop", platform: str = "ios") -> None:
        self.server = server
        registered = server.cli("apps", "create", name, "--platform", platform)
        credential = server.cli("credentials", "create", f"for-{name}", "--role", "contributor")
        self.app_id: str = registered["appId"]
        self.sdk_key: str = registered["sdkKey"]
        self.site = Site(
            url=server.url,
            subscription=registered["subscriptionId"],
            tenant=registered["tenantId"],
            client_id=credential["clientId"],
            secret=credential["clientSecret"],
            group=registered["resourceGroup"],
            collection=registered["appCollection"],
            app=registered["appName"],
        )
        self._http: httpx2.Client | None = None

    @property
    def http(self) -> httpx2.Client:
        """A client that asks for exports; its token outlives restarts of the server."""
        if self._http is None:
            self._http = self.site.raw(self.site.token())
        return self._http

    def send(self, records: Iterable[dict[str, Any]]) -> int:
        with Collector(self.server.url, self.sdk_key) as collector:
            return collector.send(records)

    def ask(
        self, segment: str, container: str, form: str = "JsonBlob", days: tuple[str, str] = DAYS
    ) -> httpx2.Response:
        """Ask for an export of the days, both included; feedback is asked for by the time of its campaign."""
        body = self.site.export(containerUrl=container, exportFormat=form, startDate=days[0], endDate=days[1])
        body |= {"campaignWindowStart": "2016-01-01T00:00:00Z", "campaignWindowEnd": "2100-01-01T00:00:00Z"}
        return self.http.post(f"{self.site.tasks}/{segment}", params=API, json=body)

    def create(self, *args: Any, **kwargs: Any) -> str:
        """The same; the id of the task."""
        answer = self.ask(*args, **kwargs)
        assert answer.status_code == 202, answer.text
        return answer.json()["id"]

    def task(self, task_id: str) -> dict[str, Any]:
        answer = self.http.get(f"{self.site.tasks}/{task_id}", params=API)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def wait(self, task_id: str, timeout_s: float = 60) -> dict[str, Any]:
        """Poll until the task has ended."""
        deadline = time.monotonic() + timeout_s
        while (found := self.task(task_id))["state"] not in ENDED:
            assert time.monotonic() < deadline, f"{found}\n{self.server.log.read_text()[-5000:]}"
            time.sleep(0.05)
        return found

    def export(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Ask, wait, and insist that it succeeded."""
        found = self.wait(self.create(*args, **kwargs))
        assert found["state"] == "Succeeded", found
        return found


def folder_files(folder: Path) -> dict[str, bytes]:
    """What was delivered into a folder, by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.is_dir() else {}


def proven(files: dict[str, bytes], task: dict[str, Any], form: str = "JsonBlob") -> bytes:
    """The one data file of a task, after its manifest was recomputed from it."""
    stem = f"{task['exportType']}_{task['id']}"
    own = {name: data for name, data in files.items() if task["id"] in name}
    data = own[f"{stem}.{FORMS[form]}"]
    manifest = json.loads(own[f"{stem}.manifest.json"])
    assert set(own) == {f"{stem}.{FORMS[form]}", f"{stem}.manifest.json"}
    rows = len(read(data, form)[1])
    [entry] = manifest["files"]
    assert entry["name"] == f"{stem}.{FORMS[form]}"
    assert entry["rows"] == manifest["rows"] == rows
    assert entry["bytes"] == manifest["bytes"] == len(data)
    assert entry["sha256"] == hashlib.sha256(data).hexdigest()
    assert manifest["taskId"] == task["id"]
    return data


def read(data: bytes, form: str = "JsonBlob") -> tuple[list[str], list[Any]]:
    """The header (none in JSON) and the rows of a file, which must be UTF-8 without a byte order mark."""
    text = data.decode("utf-8")
    assert not text.startswith("\ufeff")
    if form == "JsonBlob":
        rows = json.loads(text)
        assert isinstance(rows, list)
        return [], rows
    header, *lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    return header, [dict(zip(header, line, strict=True)) for line in lines]


def as_cell(value: Any) -> str:
    """A value of a JSON export as the CSV of the same export shows it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return (
        json.dumps(value, separators=(",", ":"), ensure_ascii=False)
        if isinstance(value, dict)
        else str(value)
    )
