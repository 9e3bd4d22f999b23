"""One landing's input: journal segments decoded into DuckDB tables, one per kind of record.

A record's `frame` becomes its sequence number: the frame's number in the batch in the high bits, its place in
the frame in the low ones. It orders records that carry the same time, and leads back to the frame.
"""

from __future__ import annotations

import logging
import shutil
from collections import defaultdict
from typing import TYPE_CHECKING

import msgspec

from outhaul import journal
from outhaul.errors import Damaged
from outhaul.protocols import dialects
from outhaul.records import RAW_LIMIT, RECORD_CLASSES, Frame, Parsed, Record, Reject
from outhaul.sql import quoted

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

    from duckdb import DuckDBPyConnection

    from outhaul.journal import Segment

log = logging.getLogger(__name__)

FRAME_BITS = 20
_FLUSH_AT = 2_000
_LINE = 16 * 1024 * 1024
"""More bytes than a line of any record has; every thread that reads lines takes twice of it at once."""
_INTEGERS = {
    "frame",
    "timestamp",
    "startTime",
    "endTime",
    "androidAPILevel",
    "applicationVersionCode",
    "timeZoneOffset",
    "activityCount",
    "eventCount",
    "errorCount",
}
_BOOLEANS = {"standalone", "nativePushEnabled", "valid"}
_JSON = {"extras", "answers"}
_REJECT_COLUMNS = {"reason": "VARCHAR", "detail": "VARCHAR", "raw": "VARCHAR", "frame": "BIGINT"}
_FRAME_COLUMNS = {
    "number": "BIGINT",
    "app": "VARCHAR",
    "receivedAt": "BIGINT",
    "protocol": "VARCHAR",
    "sender": "VARCHAR",
    "sdkName": "VARCHAR",
    "sdkVersion": "VARCHAR",
}


def columns_of(cls: type[Record]) -> dict[str, str]:
    """The fields of a record class under their wire names, with their DuckDB types."""
    return {field.encode_name: _sql_type(field.encode_name) for field in msgspec.structs.fields(cls)}


def _sql_type(name: str) -> str:
    if name in _INTEGERS:
        return "BIGINT"
    if name in _BOOLEANS:
        return "BOOLEAN"
    return "JSON" if name in _JSON else "VARCHAR"


KINDS: dict[str, type[Record]] = {str(cls.__struct_config__.tag): cls for cls in RECORD_CLASSES}
"""Record kinds by the tag they carry on the wire."""


class Batch:
    """Decodes segments into newline-delimited files below `folder`, and those into temporary tables.

    After `load`, the connection has a table `in_<kind>` for each of `KINDS`, `in_reject`, and `frames`.
    """

    def __init__(self, folder: Path, inflated_limit: int) -> None:
        self._folder = folder
        self._inflated_limit = inflated_limit
        self._encoder = msgspec.json.Encoder()
        # From 1: a sequence number of 0 would be a default, which encoding leaves out.
        self._frames = 1
        self._pending: dict[str, list[Record | Reject]] = defaultdict(list)
        self._pending_count = 0
        self._files: dict[str, BinaryIO] = {}
        self._headers: list[dict[str, object]] = []
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, segment: Segment) -> None:
        """Decode a segment. What is damaged in it is kept aside by the journal; the rest is taken."""
        try:
            for frame in journal.read(segment, inflated_limit=self._inflated_limit):
                self._add(frame)
        except Damaged as error:
            log.warning("journal segment %d: %s", segment.number, error)
            journal.preserve(segment)

    def _add(self, frame: Frame) -> None:
        parsed: Parsed = dialects.parse(frame)
        number = self._frames
        self._frames += 1
        self._headers.append(
            {
                "number": number,
                "app": frame.app_id,
                "receivedAt": frame.received_at,
                "protocol": frame.protocol,
                "sender": frame.device_id,
                "sdkName": parsed.sdk_name,
                "sdkVersion": parsed.sdk_version,
            }
        )
        sequence = number << FRAME_BITS
        pending = self._pending
        for record in parsed.records:
            record.frame = sequence
            sequence += 1
            pending[record.__class__.__name__].append(record)
        for reject in parsed.rejects:
            _shorten(reject)
            reject.frame = sequence
            sequence += 1
            pending["Reject"].append(reject)
        self._pending_count += len(parsed.records) + len(parsed.rejects)
        if self._pending_count >= _FLUSH_AT:
            self._flush()

    def _flush(self) -> None:
        for name, records in self._pending.items():
            if records:
                if name not in self._files:
                    self._files[name] = self._path(name).open("wb")
                self._files[name].write(self._encoder.encode_lines(records))
                records.clear()
        self._pending_count = 0

    def load(self, db: DuckDBPyConnection) -> None:
        """Make the temporary tables; everything added is in them."""
        self._flush()
        for file in self._files.values():
            file.close()
        with self._path("Frame").open("wb") as file:
            file.write(self._encoder.encode_lines(self._headers))
        db.execute(f"CREATE OR REPLACE TEMP TABLE frames AS {self._read('Frame', _FRAME_COLUMNS)}")
        for kind, cls in KINDS.items():
            self._load(db, f"in_{kind}", cls.__name__, columns_of(cls))
        self._load(db, "in_reject", "Reject", _REJECT_COLUMNS)
        shutil.rmtree(self._folder)

    def _load(self, db: DuckDBPyConnection, table: str, name: str, columns: dict[str, str]) -> None:
        if name in self._files:
            source = self._read(name, columns)
        else:
            nothing = ", ".join(f'NULL::{kind} AS "{column}"' for column, kind in columns.items())
            source = f"SELECT {nothing} WHERE false"
        db.execute(
            f"""
            CREATE OR REPLACE TEMP TABLE {table} AS
            SELECT r.* EXCLUDE (frame), r.frame AS seq, f.app, f.receivedAt, f.protocol, f.sender, f.sdkName, f.sdkVersion
            FROM ({source}) r JOIN frames f ON f.number = r.frame >> {FRAME_BITS}
            """
        )

    def _read(self, name: str, columns: dict[str, str]) -> str:
        spec = ", ".join(f"'{column}': '{kind}'" for column, kind in columns.items())
        path = quoted(self._path(name))
        return (
            f"SELECT * FROM read_json({path}, format = 'newline_delimited', columns = {{{spec}}}, "
            f"maximum_object_size = {_LINE})"
        )

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.ndjson"


def _shorten(reject: Reject) -> None:
    """Keep the beginning of what is long: a few whole bodies of nonsense would take more memory than landing has."""
    size = len(reject.raw)
    if size > RAW_LIMIT:
        reject.raw = reject.raw[:RAW_LIMIT]
        reject.detail = f"{reject.detail} (the first {RAW_LIMIT} of {size} characters are kept)"
