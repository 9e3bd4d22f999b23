"""Landing step that works out changes of tags (`records.Tag.op`), against what each tag is by then.

Changes are worked out in the order in which they arrived. What a tag is, is what an export would say: the value with the
latest time. A change takes effect whatever its own time, so one that is dated before the value it changes is given that
value's time.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from outhaul.protocols.json_text import JSON_ERRORS, plain, read, write
from outhaul.records import NUMBER, TAG_VALUE_LIMIT
from outhaul.sql import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from duckdb import DuckDBPyConnection

    from outhaul.tables import Tables

_TABLE = "tag"
_DIGITS = 18
_PLACES = Decimal(1).scaleb(-15)
# Holds the exact product of any two numbers within the limits.
_exact = Context(prec=2 * (_DIGITS + 15) + 1)

_CREATE = "CREATE TABLE known_tag (app VARCHAR, deviceId VARCHAR, key VARCHAR, value VARCHAR, setAt BIGINT)"
_FILL = """
INSERT INTO known_tag
SELECT ?, deviceId, key, arg_max_null(value, age), epoch_ms(max(lastModified))
FROM (SELECT *, {{'at': lastModified, 'received': receivedAt, 'sequence': sequence}} AS age FROM read_parquet([{files}]))
GROUP BY deviceId, key
"""
# With each change everything else that is said of the same tag, and what was known of it before.
_CHANGES = """
SELECT t.app, t.deviceId, t.key, t.seq, t.timestamp, coalesce(t.op, 'set') AS op, t.value, k.value, k.setAt
FROM in_tag t SEMI JOIN (SELECT app, deviceId, key FROM in_tag WHERE op IS NOT NULL) c
    ON c.app = t.app AND c.deviceId = t.deviceId AND c.key = t.key
LEFT JOIN known_tag k ON k.app = t.app AND k.deviceId = t.deviceId AND k.key = t.key
ORDER BY t.app, t.deviceId, t.key, t.seq
"""
_APPLY = """
UPDATE in_tag SET value = w.value, timestamp = w.timestamp FROM worked_out w WHERE in_tag.seq = w.seq;
INSERT INTO in_reject BY NAME
SELECT 'tag_invalid' AS reason, r.detail, to_json({'kind': 'tag', 'deviceId': deviceId, 'id': id, 'timestamp': timestamp,
        'key': key, 'op': op, 'value': value})::VARCHAR AS raw,
    t.seq, app, receivedAt, protocol, deviceId AS sender, sdkName, sdkVersion
FROM in_tag t JOIN refused r ON r.seq = t.seq;
DELETE FROM in_tag WHERE seq IN (SELECT seq FROM refused) OR seq IN (SELECT seq FROM idle);
"""
_REMEMBER = """
CREATE OR REPLACE TEMP TABLE told_tag AS
SELECT app, deviceId, key, arg_max_null(value, {'at': timestamp, 'seq': seq}) AS value, max(timestamp) AS setAt
FROM in_tag GROUP BY app, deviceId, key;
DELETE FROM told_tag USING known_tag k
WHERE k.app = told_tag.app AND k.deviceId = told_tag.deviceId AND k.key = told_tag.key AND k.setAt > told_tag.setAt;
DELETE FROM known_tag USING told_tag t
WHERE known_tag.app = t.app AND known_tag.deviceId = t.deviceId AND known_tag.key = t.key;
INSERT INTO known_tag BY NAME SELECT * FROM told_tag;
"""


class Unworkable(Exception):  # noqa: N818  the change is, it is no error of ours
    """A change that cannot be worked out, and why."""


def prepare(db: DuckDBPyConnection, tables: Tables) -> None:
    """Make the table of what tags are, if there is none, from what has landed so far."""
    if db.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = 'known_tag'").fetchone():
        return
    db.execute("BEGIN TRANSACTION")
    db.execute(_CREATE)
    for app_id in tables.apps():
        files = ", ".join(quoted(file.path) for file in tables.files(app_id, _TABLE))
        if files:
            db.execute(_FILL.format(files=files), [app_id])
    db.execute("COMMIT")


def work_out(db: DuckDBPyConnection) -> None:
    """Turn changes in `in_tag` into the values they lead to; those without effect or sense leave it."""
    if not db.execute("SELECT 1 FROM in_tag LIMIT 1").fetchone():
        return
    if db.execute("SELECT 1 FROM in_tag WHERE op IS NOT NULL LIMIT 1").fetchone():
        _apply(db, _Outcome(db.execute(_CHANGES).fetchall()))
    db.execute(_REMEMBER)


class _Outcome:
    """What becomes of each change, by its sequence number."""

    def __init__(self, rows: Iterable[tuple[Any, ...]]) -> None:
        self.worked_out: list[tuple[int, str, int]] = []
        self.refused: list[tuple[int, str]] = []
        self.idle: list[int] = []
        for _, of_tag in groupby(rows, key=itemgetter(0, 1, 2)):
            self._fold([row[3:] for row in of_tag])

    def _fold(self, rows: list[tuple[Any, ...]]) -> None:
        value, set_at = rows[0][-2:]
        for seq, timestamp, op, operand, _, _ in rows:
            if op == "set":
                if set_at is None or timestamp >= set_at:
                    value, set_at = operand, timestamp
                continue
            try:
                result = changed(op, value, operand)
            except Unworkable as error:
                self.refused.append((seq, str(error)))
                continue
            if result is None or result == value:
                self.idle.append(seq)
                continue
            value, set_at = result, timestamp if set_at is None else max(timestamp, set_at)
            self.worked_out.append((seq, value, set_at))


def _apply(db: DuckDBPyConnection, outcome: _Outcome) -> None:
    views = {
        "worked_out": _columns(outcome.worked_out, seq=np.int64, value=object, timestamp=np.int64),
        "refused": _columns(outcome.refused, seq=np.int64, detail=object),
        "idle": {"seq": np.array(outcome.idle, np.int64)},
    }
    for name, columns in views.items():
        db.register(name, columns)
    db.execute(_APPLY)
    for name in views:
        db.unregister(name)


def _columns(rows: list[tuple[Any, ...]], **types: Any) -> dict[str, Any]:
    values = zip(*rows, strict=True) if rows else [()] * len(types)
    return {name: np.array(column, of) for (name, of), column in zip(types.items(), values, strict=True)}


def changed(op: str, value: str | None, operand: str) -> str | None:
    """What a tag with this value (none where there is none) becomes by a change other than `set`.

    Raises:
        Unworkable: it cannot be worked out, or would exceed a limit.
    """
    result = _OPS[op](value, operand)
    if result is not None and len(result) > TAG_VALUE_LIMIT:
        raise Unworkable(f"{op} would make {len(result)} characters; the limit is {TAG_VALUE_LIMIT}")
    return result


def _once(value: str | None, operand: str) -> str:
    return operand if value is None else value


def _arithmetic(op: str, compute: Callable[[Decimal, Decimal], Decimal]) -> Callable[[str | None, str], str]:
    def apply(value: str | None, operand: str) -> str:
        change = _number(op, operand)
        if value is not None:
            return _text(op, compute(_number(op, value), change))
        return _text(op, Decimal(0) if op == "mul" else change)

    return apply


def _number(op: str, text: str) -> Decimal:
    if not NUMBER.fullmatch(text):
        raise Unworkable(f"{op} needs a number, and the tag is {text[:80]!r}")
    number = Decimal(text)
    if number.adjusted() >= _DIGITS:
        raise Unworkable(f"{op} takes numbers of up to {_DIGITS} digits before the point")
    return number.quantize(_PLACES, ROUND_HALF_EVEN, _exact)


def _text(op: str, number: Decimal) -> str:
    rounded = number.quantize(_PLACES, ROUND_HALF_EVEN, _exact)
    if rounded.adjusted() >= _DIGITS:
        raise Unworkable(f"{op} would make a number of over {_DIGITS} digits before the point")
    text = format(rounded, "f").rstrip("0").removesuffix(".")
    return "0" if text == "-0" else text


def _listed(
    op: str, change: Callable[[list[Any], str], list[Any]]
) -> Callable[[str | None, str], str | None]:
    def apply(value: str | None, operand: str) -> str | None:
        if value is None and op == "pull":
            return None
        items = [] if value is None else _items(op, value)
        result = change(items, operand)
        return value if len(result) == len(items) else write(result)

    return apply


def _items(op: str, text: str) -> list[Any]:
    try:
        items = read(text.encode())
    except JSON_ERRORS:
        items = None
    if not isinstance(items, list):
        raise Unworkable(f"{op} needs a JSON array, and the tag is {text[:80]!r}")
    return items


_OPS: dict[str, Callable[[str | None, str], str | None]] = {
    "once": _once,
    "inc": _arithmetic("inc", _exact.add),
    "mul": _arithmetic("mul", _exact.multiply),
    "max": _arithmetic("max", max),
    "min": _arithmetic("min", min),
    "push": _listed("push", lambda items, item: [*items, item]),
    "pull": _listed("pull", lambda items, item: [one for one in items if plain(one) != item]),
    "addToSet": _listed(
        "addToSet", lambda items, item: items if item in map(plain, items) else [*items, item]
    ),
}
