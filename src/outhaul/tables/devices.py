"""Devices as they are now: one by one, or page by page in order of their ids, without reading them all.

The tables that say something of devices are sorted by device, file by file. A device's rows are found by the statistics
of the files' row groups, and folded here as exports fold them (`export.relations`), so both say the same.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from msgspec import Struct

from outhaul.errors import TooLarge
from outhaul.schema import AREA, INFO

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime
    from pathlib import Path

    from outhaul.tables.delta import StoredFile, Tables

USER_DEVICES = 10_000
"""Devices that one question about users looks at: a user that all devices share is none."""

_FILES = 512
"""Files whose footers are kept in memory."""
_VERSIONS = 64
_INFO = tuple(column.name for column in INFO)
_AREA = tuple(column.name for column in AREA)

Row = dict[str, Any]


class Tag(Struct, frozen=True, rename="camel"):
    """A tag's value and when it was set, in ms."""

    value: str
    last_modified: int


class Token(Struct, frozen=True, rename="camel"):
    """A push token that is valid, and when it was registered, in ms."""

    service: str
    token: str
    registered_at: int


class Device(Struct, frozen=True, kw_only=True, rename="camel"):
    """A device; times in ms. `info` holds technical fields, `area` the last known place, each with what is known."""

    device_id: str
    first_seen: int
    last_seen: int
    last_info: int | None
    last_location: int | None
    native_push_enabled: bool
    info: dict[str, str | int]
    area: dict[str, str]
    tags: dict[str, Tag]
    tokens: list[Token]

    @property
    def user_id(self) -> str | None:
        """Whose device it is now, as its `userid` tag says."""
        tag = self.tags.get("userid")
        return tag.value if tag else None


class Devices:
    """Devices of all apps, as the tables say at some version of theirs. Blocks; may be used by several threads."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._files: OrderedDict[tuple[str, str, int], list[_File]] = OrderedDict()
        self._footers: OrderedDict[Path, _File] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, app_id: str, versions: dict[str, int], device_ids: Iterable[str]) -> dict[str, Device]:
        """Those of the devices that are known, by id. `versions` are the tables' versions by name."""
        wanted = sorted(set(device_ids))
        rows = {
            table: [row for file in self._of(app_id, versions, table) for row in file.rows_of(wanted)]
            for table in ("device", "tag", "token")
        }
        return _folded(rows)

    def page(
        self,
        app_id: str,
        versions: dict[str, int],
        after: str,
        top: int,
        before: str | None = None,
        *,
        including: bool = False,
    ) -> list[Device]:
        """At most `top` devices with ids after one (or from it on) and before another, in order of their ids."""
        # No text lies between one and the same with a NUL behind it.
        first = after if including else after + "\0"
        files = self._of(app_id, versions, "device")
        ids = sorted({key for file in files for key in file.keys_from(first, top, before)})[:top]
        if not ids:
            return []
        rows = {
            table: [
                row for file in self._of(app_id, versions, table) for row in file.rows_between(first, ids[-1])
            ]
            for table in ("device", "tag", "token")
        }
        found = _folded(rows)
        return [found[key] for key in ids]

    def of_user(self, app_id: str, versions: dict[str, int], user_id: str) -> list[Device]:
        """The devices whose user this is now, the one seen last first.

        Raises:
            TooLarge: as for `of_users`.
        """
        return self.of_users(app_id, versions, [user_id]).get(user_id, [])

    def of_users(
        self, app_id: str, versions: dict[str, int], user_ids: Iterable[str]
    ) -> dict[str, list[Device]]:
        """The devices of those of the users that have one now, the one seen last first.

        Raises:
            TooLarge: over `USER_DEVICES` devices belong to them, or once did.
        """
        wanted = sorted(set(user_ids))
        candidates: set[str] = set()
        for file in self._of(app_id, versions, "user"):
            for row in file.rows_of(wanted):
                candidates.add(row["deviceId"])
                if len(candidates) > USER_DEVICES:
                    raise TooLarge(
                        f"Over {USER_DEVICES} devices belong to what was named as users, or once did.",
                        hint="Name fewer, or the devices themselves.",
                    )
        found: dict[str, list[Device]] = {}
        known = self.get(app_id, versions, candidates)
        for device in sorted(known.values(), key=lambda device: (-device.last_seen, device.device_id)):
            if device.user_id is not None:
                found.setdefault(device.user_id, []).append(device)
        return {user_id: found[user_id] for user_id in wanted if user_id in found}

    def last_seen(
        self, app_id: str, versions: dict[str, int], device_ids: Iterable[str], received_by: int | None = None
    ) -> dict[str, int]:
        """When those of the devices that are known were last seen, in ms; for many at a time.

        By what was received up to `received_by`, in ms, if that is given: 0 for one of which nothing was.
        """
        keys, found = _Keys(device_ids), dict[str, int]()
        for file in self._of(app_id, versions, "device"):
            for rows in file.columns_of(keys, "lastSeen", "receivedAt"):
                if received_by is not None:
                    early = pc.less_equal(
                        rows["receivedAt"], pa.scalar(received_by, pa.timestamp("ms", "UTC"))
                    )
                    seen = pc.if_else(early, rows["lastSeen"], pa.scalar(0, rows["lastSeen"].type))
                    rows = pa.table({"deviceId": rows["deviceId"], "lastSeen": seen})  # noqa: PLW2901
                latest = rows.group_by("deviceId").aggregate([("lastSeen", "max")])
                # As numbers: a million moments as objects take half a minute.
                moments = latest["lastSeen_max"].cast(pa.timestamp("ms", "UTC")).cast(pa.int64())
                for key, moment in zip(latest["deviceId"].to_pylist(), moments.to_pylist(), strict=True):
                    found[key] = max(moment, found.get(key, 0))
        return found

    def owned(
        self, app_id: str, versions: dict[str, int], user_ids: Iterable[str], limit: int
    ) -> dict[str, list[str]]:
        """The ids of the devices whose `userid` tag each of the users is now, in order; for many at a time.

        Users without any are left out. A device need not be known otherwise.

        Raises:
            TooLarge: over `limit` devices belong to them, or once did.
        """
        keys, pairs = _Keys(user_ids), set[tuple[str, str]]()
        for file in self._of(app_id, versions, "user"):
            for rows in file.columns_of(keys, "deviceId"):
                pairs.update(zip(*(rows[name].to_pylist() for name in ("userId", "deviceId")), strict=True))
                if len(pairs) > limit:
                    raise TooLarge(f"Over {limit} devices belong to the users, or once did.")
        users = self._users(app_id, versions, _Keys(device_id for _, device_id in pairs))
        found: dict[str, list[str]] = {}
        for user_id, device_id in sorted(pairs):
            if users.get(device_id) == user_id:
                found.setdefault(user_id, []).append(device_id)
        return found

    def _users(self, app_id: str, versions: dict[str, int], keys: _Keys) -> dict[str, str | None]:
        """Whose each of the devices is now."""
        latest: dict[str, Row] = {}
        for file in self._of(app_id, versions, "tag"):
            for rows in file.columns_of(keys, "key", "value", "lastModified", "receivedAt", "sequence"):
                for row in rows.filter(pc.equal(rows["key"], "userid")).to_pylist():
                    other = latest.get(row["deviceId"])
                    if other is None or _order(row, "lastModified") > _order(other, "lastModified"):
                        latest[row["deviceId"]] = row
        return {device_id: row["value"] for device_id, row in latest.items()}

    def _of(self, app_id: str, versions: dict[str, int], table: str) -> list[_File]:
        version = versions.get(table)
        if version is None:
            return []
        key = (app_id, table, version)
        with self._lock:
            if key in self._files:
                self._files.move_to_end(key)
                return self._files[key]
        found = [self._open(file) for file in self._tables.files(app_id, table, version)]
        with self._lock:
            self._files[key] = found
            while len(self._files) > _VERSIONS:
                self._files.popitem(last=False)
        return found

    def _open(self, stored: StoredFile) -> _File:
        with self._lock:
            file = self._footers.get(stored.path)
            if file is not None:
                self._footers.move_to_end(stored.path)
                return file
        file = _File(stored)
        with self._lock:
            self._footers[stored.path] = file
            while len(self._footers) > _FILES:
                self._footers.popitem(last=False)
        return file


class _Keys:
    """Ids to look for, in order."""

    def __init__(self, keys: Iterable[str]) -> None:
        ordered = sorted(set(keys))
        self.encoded = [key.encode() for key in ordered]
        self.array = pa.array(ordered, pa.string())


class _File:
    """A file of a table, sorted by its first column, which is text; knows where its row groups begin and end."""

    def __init__(self, stored: StoredFile) -> None:
        self._path = stored.path
        self._metadata = pq.read_metadata(stored.path)
        self._key = self._metadata.schema.to_arrow_schema().names[0]
        bounds = [self._bounds(index) for index in range(self._metadata.num_row_groups)]
        self._lows = [low.encode() for low, _ in bounds]
        self._highs = [high.encode() for _, high in bounds]

    def _bounds(self, group: int) -> tuple[str, str]:
        """The first and the last key of a row group."""
        statistics = self._metadata.row_group(group).column(0).statistics
        if statistics is not None and statistics.has_min_max:
            return statistics.min, statistics.max
        # The engine writes none where a key is very long.
        keys = self._file().read_row_group(group, columns=[self._key]).column(0)
        return keys[0].as_py(), keys[-1].as_py()

    def rows_of(self, keys: list[str]) -> Iterator[Row]:
        """The rows with any of these keys, which must be sorted."""
        encoded = [key.encode() for key in keys]
        wanted: dict[int, set[str]] = {}
        for key, raw in zip(keys, encoded, strict=True):
            for group in range(bisect_left(self._highs, raw), bisect_right(self._lows, raw)):
                wanted.setdefault(group, set()).add(key)
        for group, chosen in sorted(wanted.items()):
            file = self._file()
            column = file.read_row_group(group, columns=[self._key]).column(0)
            places = pc.indices_nonzero(pc.is_in(column, value_set=pa.array(sorted(chosen))))
            if len(places):
                yield from file.read_row_group(group).take(places).to_pylist()

    def columns_of(self, keys: _Keys, *columns: str) -> Iterator[pa.Table]:
        """The key and these columns of the rows with any of the keys, row group by row group."""
        file = None
        for group, (low, high) in enumerate(zip(self._lows, self._highs, strict=True)):
            start, end = bisect_left(keys.encoded, low), bisect_right(keys.encoded, high)
            if start < end:
                file = file or self._file()
                rows = file.read_row_group(group, columns=[self._key, *columns])
                yield rows.filter(pc.is_in(rows[self._key], value_set=keys.array.slice(start, end - start)))

    def rows_between(self, first: str, last: str) -> Iterator[Row]:
        """The rows with keys from one to another, both of them included."""
        low, high = first.encode(), last.encode()
        for group in range(bisect_left(self._highs, low), bisect_right(self._lows, high)):
            table = self._file().read_row_group(group)
            # Text compares by code points here and by UTF-8 bytes in the file, which is the same order.
            keys = table.column(0).to_pylist()
            start, end = bisect_left(keys, first), bisect_right(keys, last)
            yield from table.slice(start, end - start).to_pylist()

    def keys_from(self, first: str, count: int, before: str | None) -> list[str]:
        """The first keys from one on (and before another), each once, at most so many."""
        found: list[str] = []
        for group in range(bisect_left(self._highs, first.encode()), len(self._highs)):
            if before is not None and self._lows[group] >= before.encode():
                break
            keys = self._file().read_row_group(group, columns=[self._key]).column(0)
            for key in dict.fromkeys(keys.to_pylist()):
                if key >= first and (before is None or key < before) and key not in found[-1:]:
                    found.append(key)
                    if len(found) == count:
                        return found
        return found

    def _file(self) -> pq.ParquetFile:
        return pq.ParquetFile(self._path, metadata=self._metadata)


# Folding


def _folded(rows: dict[str, list[Row]]) -> dict[str, Device]:
    tags, tokens = (
        _latest(rows["tag"], "key", "lastModified"),
        _latest(rows["token"], "service", "registeredAt"),
    )
    by_device: dict[str, list[Row]] = {}
    for row in rows["device"]:
        by_device.setdefault(row["deviceId"], []).append(row)
    return {
        device_id: _device(device_id, told, tags.get(device_id, {}), tokens.get(device_id, {}))
        for device_id, told in by_device.items()
    }


def _latest(rows: list[Row], key: str, at: str) -> dict[str, dict[str, Row]]:
    """The latest row of each device and key."""
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        mine = found.setdefault(row["deviceId"], {})
        other = mine.get(row[key])
        if other is None or _order(row, at) > _order(other, at):
            mine[row[key]] = row
    return found


def _order(row: Row, at: str) -> tuple[Any, ...]:
    return row[at], row["receivedAt"], row["sequence"]


def _device(device_id: str, told: list[Row], tags: dict[str, Row], tokens: dict[str, Row]) -> Device:
    valid = [
        Token(service, row["token"], _ms(row["registeredAt"]))
        for service, row in sorted(tokens.items())
        if row["valid"]
    ]
    by_info, by_place = _in_order(told, "lastInfo"), _in_order(told, "lastLocation")
    pushed = _last(by_info, "nativePushEnabled")
    return Device(
        device_id=device_id,
        first_seen=min(_ms(row["firstSeen"]) for row in told),
        last_seen=max(_ms(row["lastSeen"]) for row in told),
        last_info=_newest(told, "lastInfo"),
        last_location=_newest(told, "lastLocation"),
        native_push_enabled=bool(valid) if pushed is None else pushed,
        info={name: value for name in _INFO if (value := _last(by_info, name)) is not None},
        area={name: value for name in _AREA if (value := _last(by_place, name)) is not None},
        tags={
            key: Tag(row["value"], _ms(row["lastModified"]))
            for key, row in sorted(tags.items())
            if row["value"] is not None
        },
        tokens=valid,
    )


def _in_order(told: list[Row], at: str) -> list[Row]:
    def order(row: Row) -> tuple[Any, ...]:
        return row[at] is not None, row[at] and _ms(row[at]), row["receivedAt"], row["lastSeen"]

    return sorted(told, key=order)


def _last(rows: list[Row], name: str) -> Any:
    return next((row[name] for row in reversed(rows) if row[name] is not None), None)


def _newest(rows: list[Row], name: str) -> int | None:
    return max((_ms(row[name]) for row in rows if row[name] is not None), default=None)


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
