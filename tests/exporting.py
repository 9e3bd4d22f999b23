"""Exports carried out in the test's own process, on what a landing site holds; their files read by others' readers."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import uuid
from typing import TYPE_CHECKING, Any

import polars as pl

from asking import read
from outhaul.config import Config
from outhaul.container import Destinations, describe
from outhaul.errors import OuthaulError
from outhaul.export.exporter import Exporter
from outhaul.keys import Keyring
from outhaul.wire import Destination, ExportRequest, Task

if TYPE_CHECKING:
    from pathlib import Path

    from landing import Site


class Bench:
    """Asks for exports of a site's app into a folder, and carries them out."""

    def __init__(self, site: Site, out: Path, **settings: str) -> None:
        self.site = site
        self.out = out
        self.keyring = Keyring.open(site.data, "")
        self.destination = Destination(url=f"file://{out}/")
        environment = {"OUTHAUL_DESTINATIONS": f"file://{out}/", "OUTHAUL_THREADS": "2"}
        self.config = Config(
            environment | {f"OUTHAUL_{name.upper()}": value for name, value in settings.items()}
        )
        destinations = Destinations(self.config.destinations, downloads=site.data / "downloads")
        self.exporter = Exporter(
            site.data, site.ledger, self.config, self.keyring, destinations, lambda: site.now
        )

    def ask(self, mark: int | None = None, **request: Any) -> str:
        """A task of its own, queued; its id. It waits until the journal was landed up to `mark`."""
        task = Task(
            id=str(uuid.uuid4()),
            app_id=self.site.app.app_id,
            request=ExportRequest(**request),
            destination=self.keyring.seal(self.destination),
            destination_shown=describe(self.destination),
            state="queued",
            created_at=self.site.now,
            mark=self.site.ledger.checkpoint().position if mark is None else mark,
        )
        self.site.ledger.create_task(task)
        return task.id

    def carry_out(self, task_id: str) -> Task:
        """Every step of the task's attempt; the error that one of them raises is said as the worker says it."""
        attempt = self.site.ledger.task(task_id).attempt
        try:
            for name in self.exporter.steps:
                getattr(self.exporter, name)(task_id, attempt)
        except OuthaulError as error:
            self.exporter.fail(task_id, attempt, error)
        return self.site.ledger.task(task_id)

    def export(self, **request: Any) -> dict[str, bytes]:
        """The files of a new export by name, in the manifest's order, the manifest as `manifest.json` last."""
        task = self.carry_out(self.ask(**request))
        assert task.state == "succeeded", task.failures
        [manifest] = self.out.glob(f"*_{task.id}.manifest.json")
        entries = json.loads(manifest.read_bytes())["files"]
        files = {entry["name"]: (self.out / entry["name"]).read_bytes() for entry in entries}
        return {**files, "manifest.json": manifest.read_bytes()}

    def rows(self, **request: Any) -> list[dict[str, Any]]:
        """The rows of an export, of all its files one after the other."""
        *files, _ = self.export(**request).values()
        return [
            row
            for data in files
            for row in rows_of(data, request["format"], request.get("compression", "none"))
        ]


def inflated(data: bytes, compression: str) -> bytes:
    """What is in a compressed text, as the tool of that name on the command line has it."""
    if compression == "gzip":
        return gzip.decompress(data)
    if compression == "zstd":
        return subprocess.run(["zstd", "-dc"], input=data, stdout=subprocess.PIPE, check=True).stdout
    return data


def rows_of(data: bytes, form: str, compression: str = "none") -> list[dict[str, Any]]:
    """The rows of a file."""
    if form == "parquet":
        return pl.read_parquet(io.BytesIO(data)).to_dicts()
    text = inflated(data, compression)
    if form == "jsonl":
        return [json.loads(line) for line in text.splitlines()]
    return read(text, {"json": "JsonBlob", "csv": "CsvBlob"}[form])[1]
