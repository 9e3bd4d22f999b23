"""Outhaul's own protocol: `POST /api/v1/collect`, records as JSON in the very shapes of `outhaul.records`.

The body is `{"records": [...]}`, which may also name the SDK (`sdkName`, `sdkVersion`), or just the array.
"""

from __future__ import annotations

import re

import msgspec
from msgspec import Raw, Struct

from outhaul import records
from outhaul.errors import Invalid
from outhaul.protocols.json_text import JSON_ERRORS, check_count, check_crowd, mend, text_of
from outhaul.records import AnyRecord, Frame, Parsed, Record, Reject, Short


class _Envelope(Struct, rename="camel", forbid_unknown_fields=True):
    """The body with its records unread, which is all that acknowledging it takes."""

    records: list[Raw]
    sdk_name: Short | None = None
    sdk_version: Short | None = None


class _Batch(Struct, rename="camel", forbid_unknown_fields=True):
    """The same body with its records read: the fast path."""

    records: list[AnyRecord]
    sdk_name: Short | None = None
    sdk_version: Short | None = None


_starts_array = re.compile(rb"[ \t\r\n]*\[").match
_read_envelope = msgspec.json.Decoder(_Envelope).decode
_read_items = msgspec.json.Decoder(list[Raw]).decode
_read_batch = msgspec.json.Decoder(_Batch).decode
_read_records = msgspec.json.Decoder(list[AnyRecord]).decode
_read_record = msgspec.json.Decoder(AnyRecord).decode


def skim(body: bytes) -> int:
    """How many records the body holds, valid or not.

    Raises:
        Invalid: the body is not JSON, or not a batch of records.
    """
    return len(_open(body).records)


def parse(frame: Frame) -> Parsed:
    """The records of one request, in stored form, and those that break a rule; never raises."""
    try:
        batch = _whole(frame.body)
    except (Invalid, *JSON_ERRORS):
        return _one_by_one(frame)
    parsed = Parsed(records=[], rejects=[], sdk_name=batch.sdk_name, sdk_version=batch.sdk_version)
    check, keep, received_at = records.check, parsed.records.append, frame.received_at
    broken: list[tuple[int, records.Invalid]] = []
    for position, record in enumerate(batch.records):
        try:
            check(record, received_at)
        except records.Invalid as error:
            broken.append((position, error))
        else:
            keep(record)
    if broken:
        items = _open(frame.body).records
        parsed.rejects.extend(_reject(error, items[position]) for position, error in broken)
    return parsed


def _whole(body: bytes) -> _Batch:
    batch = _Batch(_read_records(body)) if _starts_array(body) else _read_batch(body)
    check_count(len(batch.records))
    return batch


def _open(body: bytes) -> _Envelope:
    check_crowd(body)
    try:
        envelope = _split(body)
    except JSON_ERRORS:
        try:
            envelope = _split(mend(body))
        except JSON_ERRORS as error:
            raise Invalid(
                f"The body is not a batch of records: {error}.",
                hint='Send JSON: {"records": [...]}, or just the array.',
            ) from None
    check_count(len(envelope.records))
    return envelope


def _split(body: bytes) -> _Envelope:
    return _Envelope(_read_items(body)) if _starts_array(body) else _read_envelope(body)


def _one_by_one(frame: Frame) -> Parsed:
    """Read each record by itself, so that a broken one costs only itself."""
    parsed = Parsed(records=[], rejects=[])
    try:
        envelope = _open(frame.body)
    except Invalid as error:
        parsed.rejects.append(Reject(reason="malformed", detail=error.message, raw=text_of(frame.body)))
        return parsed
    parsed.sdk_name, parsed.sdk_version = envelope.sdk_name, envelope.sdk_version
    for item in envelope.records:
        try:
            record: Record = _read(item)
            records.check(record, frame.received_at)
        except records.Invalid as error:
            parsed.rejects.append(_reject(error, item))
        else:
            parsed.records.append(record)
    return parsed


def _read(item: Raw) -> Record:
    if bytes(item)[:1] != b"{":
        raise records.Invalid("malformed", "a record is a JSON object")
    try:
        record: Record = _read_record(item)
    except msgspec.ValidationError as error:
        raise records.Invalid(records.reason_of(str(error)), str(error)) from error
    except JSON_ERRORS as error:
        raise records.Invalid("malformed", f"not JSON: {error}") from error
    return record


def _reject(error: records.Invalid, item: Raw) -> Reject:
    return Reject(reason=error.reason, detail=error.detail, raw=text_of(item))
