"""What the export of kind `history` holds: everything about one user or device, record by record, in order of time.

`subjects.rows_of` says which stored rows these are. Activities, jobs, sessions, devices and feedback are folded from
these rows as exports of their kind fold them; tags and push tokens are there each time they were set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, get_args

from outhaul.export.relations import every_tag, every_token, relation, source
from outhaul.export.slices import Slice, Sliced, between, check_files, days, overlaps
from outhaul.formats import json_object
from outhaul.schema import EXPORTS, TABLES, Column, RecordKind
from outhaul.selection import condition, members
from outhaul.sql import named
from outhaul.subjects import Person, rows_of, ways
from outhaul.tables import Tables

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from duckdb import DuckDBPyConnection

    from outhaul.tables import StoredFile
    from outhaul.wire import ExportRequest, Pin

KINDS: tuple[RecordKind, ...] = get_args(RecordKind)
_ENDS = {"activity_end": "activity", "job_end": "job"}


class _Shape(NamedTuple):
    """How records of a kind come about: the tables that are read, the members, which of these is the record's time.

    `ties` tell records of the same instant apart, and put them in order. `sorted` says whether the tables' files are by that
    time, so that a slice reads few of them.
    """

    tables: tuple[str, ...]
    members: tuple[Column, ...]
    time: str
    ties: tuple[str, ...] = ()
    sorted: bool = True


def _told(kind: RecordKind) -> tuple[Column, ...]:
    """The members of a record: every column that an export of its kind can have."""
    export = EXPORTS[kind]
    return (*export.columns, *export.more)


def _of_table(table: str, *names: str) -> tuple[Column, ...]:
    return tuple(column for column in TABLES[table].columns if column.name in names)


_SHAPES: dict[RecordKind, _Shape] = {
    "activity": _Shape(
        ("activity", "activity_end"), _told("activity"), "startTime", ("activityId", "receivedAt")
    ),
    "event": _Shape(("event",), _told("event"), "timestamp", ("eventId", "receivedAt")),
    "job": _Shape(("job", "job_end"), _told("job"), "startTime", ("jobId", "receivedAt")),
    "error": _Shape(("error",), _told("error"), "timestamp", ("errorId", "receivedAt")),
    "crash": _Shape(("crash",), _told("crash"), "timestamp", ("crashId", "receivedAt")),
    "session": _Shape(("session",), _told("session"), "startTime", ("sessionId",)),
    "tag": _Shape(
        ("tag",),
        # A tag that was removed has no value.
        tuple(c._replace(required=c.required and c.name != "value") for c in _told("tag")),
        "lastModified",
        ("key",),
        sorted=False,
    ),
    "device": _Shape(("device", "tag", "token"), _told("device"), "lastSeen", sorted=False),
    "token": _Shape(
        ("token", "tag", "device"),
        (*_told("token"), *_of_table("token", "valid")),
        "registeredAt",
        ("service",),
        sorted=False,
    ),
    "feedback": _Shape(
        ("feedback", "tag"), _told("feedback"), "lastFeedback", ("campaignType", "campaignId"), sorted=False
    ),
    "reject": _Shape(("reject",), _of_table("reject", "reason", "detail", "raw", "receivedAt"), "receivedAt"),
}


def person_of(request: ExportRequest, pin: Pin) -> Person:
    """Whose history is asked for, with the devices that were theirs when that was chosen."""
    of = request.of
    if of is None or (of.user_id is None) == (of.device_id is None):
        raise ValueError("the request does not say whose history it is of")
    return Person(of.user_id, tuple(pin.devices) if of.device_id is None else (of.device_id,))


class Records(Sliced):
    """The history of one user or device, in one pinned state of the tables; only records of some kinds, if given.

    `key` is what masked texts are hashed with.
    """

    def __init__(
        self,
        tables: Path,
        app_id: str,
        request: ExportRequest,
        pin: Pin,
        key: bytes,
        kinds: Iterable[RecordKind] = KINDS,
    ) -> None:
        super().__init__("timestamp", timed=True, by_day=request.day_path)
        self._request = request
        self._pin = pin
        self._key = key
        self._person = person_of(request, pin)
        self._condition = condition(request)
        self._shapes = {kind: _SHAPES[kind] for kind in kinds}
        self._span = (request.period.start, request.period.end) if request.period else None
        store, partitions = Tables(tables), days(*self._span) if self._span else None
        self._files: dict[str, list[StoredFile]] = {}
        for table in {name for shape in self._shapes.values() for name in shape.tables}:
            if table in pin.versions:
                only = partitions if TABLES[table].partitioned else None
                self._files[table] = store.files(app_id, table, pin.versions[table], only)
                check_files(self._files[table])

    def look(self, db: DuckDBPyConnection) -> None:
        """Find out which files hold any of the person's rows; no other is read again."""
        # Ends come last: whose they are depends on what they are ends of.
        for table in sorted(self._files, key=lambda name: name in _ENDS):
            if files := self._files[table]:
                mine = self._mine(table, files, "filename")
                found = {row[0] for row in db.execute(f"SELECT DISTINCT filename FROM {mine}").fetchall()}
                self._files[table] = [file for file in files if str(file.path) in found]

    @property
    def empty(self) -> bool:
        """Whether there is none, as far as `look` can tell: the period and the filter are left out of account."""
        return not any(self._files.get(shape.tables[0]) for shape in self._shapes.values())

    def rows(self, part: Slice | None = None) -> str:
        """The rows of a slice, or of the whole history, as a table expression over the files that can hold them."""
        start, end = (part.start, part.end) if part else (None, None)
        if self._span:
            start = self._span[0] if start is None else start
            end = self._span[1] if end is None else end
        kinds = [kind for kind, shape in self._shapes.items() if self._files.get(shape.tables[0])]
        # One at least, so that there are columns.
        found = " UNION ALL ".join(self._of_kind(kind, start, end) for kind in kinds or [*self._shapes][:1])
        return f"(SELECT * FROM ({found}) WHERE {self._condition or 'true'})"

    def in_order(self, part: Slice) -> str:
        """The rows of a slice in their order, as a table expression."""
        # Last comes what makes the order total; a whole record as a key to sort by would be held twice.
        order = '"timestamp", "deviceId", kind, tie, md5(record)'
        return f"(SELECT * FROM {self.rows(part)} ORDER BY {order})"

    def _countable(self, part: Slice | None) -> tuple[str, bool]:
        return f"FROM {self.rows(part)}", True

    def _of_kind(self, kind: RecordKind, start: int | str | None, end: int | str | None) -> str:
        """Records of one kind, in the columns of a history."""
        shape = self._shapes[kind]
        scans = {
            table: self._scan(table, start, end) if shape.sorted else self._scan(table)
            for table in shape.tables
        }
        when = between(shape.time, start, end)
        if kind == "tag":
            found = every_tag(scans, self._pin)
        elif kind == "token":
            found = every_token(scans)
        elif kind == "reject":
            found = scans["reject"]
        else:
            found = relation(kind, scans, when if shape.sorted else "true", self._pin)
        kept, values = members(self._request, shape.members, self._key)
        user = '"userId"' if any(column.name == "userId" for column in shape.members) else "NULL::VARCHAR"
        tie = ", '/', ".join(named(name) for name in shape.ties) or "''"
        record = json_object(kept, self._pin.time_format)
        return f"""
    SELECT whose_device AS "deviceId", whose AS "userId", '{kind}' AS kind, "when" AS "timestamp", tie, concat({record}) AS record
    FROM (SELECT "deviceId" AS whose_device, {user} AS whose, "{shape.time}" AS "when", concat({tie}) AS tie, {values}
        FROM {found} WHERE {when})"""

    def _scan(self, table: str, start: int | str | None = None, end: int | str | None = None) -> str:
        """The person's rows of a table, of the files that can hold some of a range of time."""
        files = [file for file in self._files.get(table, []) if overlaps(file, start, end)]
        return f"(SELECT * FROM {self._mine(table, files)})"

    def _mine(self, table: str, files: list[StoredFile], *more: str) -> str:
        """The person's rows of some files of a table, one way after the other in which a row can be theirs.

        `more` are columns to have besides those of the table.
        """
        rows = source(table, [file.path for file in files])
        # What was set aside is searched for ids: all at once, for no statistics help there.
        mine = [rows_of(self._person, table)] if table == "reject" else ways(self._person, table)
        if table in _ENDS and self._person.user_id is not None:
            # An end does not say whose it is, but what it ends does.
            begun = _ENDS[table]
            mine.append(f'"deviceId" IN (SELECT "deviceId" FROM {self._scan(begun)})')
        columns = ", ".join(("*", *more)) if files else "*"
        found = [
            f"SELECT {columns} FROM {rows} WHERE "
            + " AND ".join((f"({way})", *(f"NOT coalesce({other}, false)" for other in mine[:index])))
            for index, way in enumerate(mine)
        ]
        return "(" + " UNION ALL ".join(found) + ")"
