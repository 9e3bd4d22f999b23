"""Requests of devices for the protocol tests, and the way of every record into the tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import msgspec
from hypothesis import strategies as st

from outhaul import records
from outhaul.protocols import dialects
from outhaul.records import Frame, Parsed

if TYPE_CHECKING:
    from collections.abc import Iterable

NOW = 1_795_458_600_000
"""2026-11-23 18:30 UTC, a few minutes after the stored requests were sent."""

REQUESTS = Path(__file__).parent / "data" / "requests"

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=80),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=70), inner, max_size=4),
    max_leaves=12,
)


def body_of(name: str) -> bytes:
    return json.loads((REQUESTS / f"{name}.json").read_text())["body"].encode()


def read(protocol: str, body: bytes | dict[str, Any] | list[Any], **given: Any) -> Parsed:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    known = {"app_id": "app", "protocol": protocol, "received_at": NOW, "device_id": "dev"} | given
    return dialects.DIALECTS[protocol].parse(Frame(body=content, **known))


def told(parsed: Parsed) -> list[dict[str, Any]]:
    """The records as they are stored."""
    return [msgspec.to_builtins(record) for record in parsed.records]


def reasons(parsed: Parsed) -> list[str]:
    return [reject.reason for reject in parsed.rejects]


@st.composite
def mutated(draw: st.DrawFn, bodies: Iterable[bytes]) -> bytes:
    """A real body with some of it cut out, doubled, or overwritten."""
    body = draw(st.sampled_from(list(bodies)))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(body)))
        end = min(len(body), start + draw(st.integers(0, 40)))
        body = body[:start] + draw(st.binary(max_size=12) | st.just(body[start:end] * 2)) + body[end:]
    return body


def assert_storable(parsed: Parsed, folder: Path) -> None:
    """Every record and reject is in stored form, and reads back from JSON lines as it was written."""
    for record in parsed.records:
        assert record.id
        assert record.frame == 0
        records.check(record, NOW)
        assert records.validated(record) == record
    lines = [msgspec.to_builtins(entry) for entry in (*parsed.records, *parsed.rejects)]
    if not lines:
        return
    path = folder / "records.ndjson"
    path.write_bytes(
        msgspec.json.Encoder().encode_lines([{"n": n, "record": r} for n, r in enumerate(lines)])
    )
    rows = duckdb.sql(
        f"SELECT record->>'id', record->>'raw', record->'extras', record->>'value', record->>'name' "
        f"FROM read_json('{path}', format='newline_delimited', columns={{n: 'BIGINT', record: 'JSON'}}) ORDER BY n"
    ).fetchall()
    assert len(rows) == len(lines)
    for line, (own_id, raw, extras, value, name) in zip(lines, rows, strict=True):
        assert own_id == line.get("id")
        assert raw == line.get("raw")
        assert (extras and json.loads(extras)) == line.get("extras")
        assert value == line.get("value")
        assert name == line.get("name")
