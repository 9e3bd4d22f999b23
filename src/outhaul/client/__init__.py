"""Speak to a server: export what it has, and send it records.

with Client("https://outhaul.example.com", token) as client:
    task = client.exports.create("shop", "event", period=("2026-11-01", "2026-12-01")).wait()
    frame = task.to_polars()
"""

from outhaul.client.aio.client import AsyncClient
from outhaul.client.aio.task import AsyncExportTask
from outhaul.client.asking import Asked
from outhaul.client.collector import BATCH_BYTES, BATCH_RECORDS, Collector
from outhaul.client.requests import Retries
from outhaul.client.sync.client import Client
from outhaul.client.sync.task import ExportTask
from outhaul.client.where import col

__all__ = [
    "BATCH_BYTES",
    "BATCH_RECORDS",
    "Asked",
    "AsyncClient",
    "AsyncExportTask",
    "Client",
    "Collector",
    "ExportTask",
    "Retries",
    "col",
]
