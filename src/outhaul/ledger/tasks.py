"""Export tasks: asked for, worked on, stopped, taken up again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa
from msgspec import Struct

from outhaul.errors import Conflict, NotFound
from outhaul.ledger.landing import Landing, read_checkpoint
from outhaul.ledger.store import to_row, to_struct
from outhaul.ledger.tables import tasks
from outhaul.wire import ENDED, Due, Failure, FileEntry, Orders, Pin, Task, TaskState

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from outhaul.schema import Kind


class Cursor(Struct, frozen=True, array_like=True):
    """Where a page of a list ended: the time and id of its last entry."""

    at: int
    id: str


class Chosen(Struct, frozen=True, kw_only=True):
    """Which tasks of a list: None does not choose. Times are ms; `since` is in, `until` is not."""

    app_id: str | None = None
    state: TaskState | None = None
    kind: Kind | None = None
    created_by: str | None = None
    since: int | None = None
    until: int | None = None


class Pinned(Struct, frozen=True, rename="camel"):
    """What an unfinished task reads."""

    id: str
    app_id: str
    pin: Pin


class Tasks(Landing):
    def create_task(self, task: Task) -> Task:
        """Record a task; asked again with the same idempotency key, the one that is there.

        Raises:
            Conflict: the key was used for another request.
        """
        with self._write() as connection:
            if task.idempotency_key is not None:
                same = sa.select(tasks).where(
                    tasks.c.created_by == task.created_by, tasks.c.idempotency_key == task.idempotency_key
                )
                row = connection.execute(same).mappings().first()
                if row is not None and row["idempotency_hash"] != task.idempotency_hash:
                    raise Conflict(
                        f"The idempotency key was used for another export, {row['id']}.",
                        hint="Use a new key for each new request.",
                        code="idempotency_key_used",
                    )
                if row is not None:
                    return to_struct(row, Task)
            connection.execute(sa.insert(tasks).values(to_row(task)))
        return task

    def key_used(self, created_by: str, key: str) -> bool:
        """Whether somebody has asked for a task with this idempotency key."""
        same = sa.select(tasks.c.id).where(tasks.c.created_by == created_by, tasks.c.idempotency_key == key)
        return bool(self._read(same))

    def task(self, task_id: str) -> Task:
        """One task.

        Raises:
            NotFound: there is none of that id.
        """
        rows = self._read(sa.select(tasks).where(tasks.c.id == task_id))
        if not rows:
            raise _missing(task_id)
        return to_struct(rows[0], Task)

    def tasks(
        self,
        app_id: str | None = None,
        *,
        order: str = "id",
        descending: bool = False,
        skip: int = 0,
        top: int | None = None,
        exclude_kinds: Collection[Kind] = (),
    ) -> list[Task]:
        """Tasks, sorted by one of a task's fields and then its id; of all kinds of export but some, if given."""
        column = tasks.c[order]
        statement = sa.select(tasks).order_by(column.desc() if descending else column.asc(), tasks.c.id)
        if app_id is not None:
            statement = statement.where(tasks.c.app_id == app_id)
        if exclude_kinds:
            statement = statement.where(tasks.c.request["kind"].as_string().not_in(exclude_kinds))
        return [to_struct(row, Task) for row in self._read(statement.offset(skip).limit(top))]

    def newest_tasks(self, chosen: Chosen, top: int, after: Cursor | None = None) -> list[Task]:
        """The newest of the chosen tasks, at most `top` of them, that are older than where a page ended."""
        statement = sa.select(tasks).order_by(tasks.c.created_at.desc(), tasks.c.id.desc()).limit(top)
        if after is not None:
            place = sa.tuple_(tasks.c.created_at, tasks.c.id)
            statement = statement.where(place < sa.tuple_(sa.literal(after.at), sa.literal(after.id)))
        return [to_struct(row, Task) for row in self._read(statement.where(*_conditions(chosen)))]

    def count_tasks(self, chosen: Chosen) -> int:
        """How many of the chosen tasks there are."""
        statement = sa.select(sa.func.count().label("count")).select_from(tasks).where(*_conditions(chosen))
        return int(self._read(statement)[0]["count"])

    def task_time(self, chosen: Chosen, number: int) -> int | None:
        """When the chosen task that is so many from the newest (1 is the newest) was asked for; None if there are fewer."""
        statement = sa.select(tasks.c.created_at).where(*_conditions(chosen))
        rows = self._read(statement.order_by(tasks.c.created_at.desc()).offset(number - 1).limit(1))
        return int(rows[0]["created_at"]) if rows else None

    def unfinished_tasks(self) -> list[Due]:
        """Tasks that have not ended, oldest first."""
        # Asked for ten times a second: a whole task may hold thousands of files.
        statement = sa.select(tasks.c.id, tasks.c.app_id, tasks.c.attempt).where(tasks.c.state.not_in(ENDED))
        return [Due(**row) for row in self._read(statement.order_by(tasks.c.created_at))]

    def orders(self, task_id: str) -> Orders:
        """How a task stands for whoever works on it.

        Raises:
            NotFound: there is none of that id.
        """
        rows = self._read(
            sa.select(*(tasks.c[name] for name in Orders.__struct_fields__)).where(tasks.c.id == task_id)
        )
        if not rows:
            raise _missing(task_id)
        return Orders(**rows[0])

    def start_task(
        self, task_id: str, attempt: int, choose: Callable[[dict[str, int]], Pin], now: int
    ) -> None:
        """Say that an attempt is under way, and what it reads unless that was said before; nothing if it is over.

        `choose` makes the pin from the versions that the app's tables have at this moment: nobody can publish others,
        and delete the files of these, before it is known that they are read.
        """
        with self._write() as connection:
            task = _find(connection, task_id)
            if task.attempt != attempt or task.state in ENDED:
                return
            pin = task.pin or choose(read_checkpoint(connection).versions.get(task.app_id, {}))
            values = {
                "state": "started",
                "phase": "counting",
                "pin": msgspec.to_builtins(pin),
                "started_at": task.started_at or now,
            }
            connection.execute(sa.update(tasks).where(tasks.c.id == task_id).values(values))

    def pins(self, app_id: str | None = None) -> list[Pinned]:
        """What unfinished tasks read, of an app or of all: the files of these versions must stay."""
        columns = (tasks.c.id, tasks.c.app_id, tasks.c.pin)
        statement = sa.select(*columns).where(tasks.c.state.not_in(ENDED), tasks.c.pin != sa.JSON.NULL)
        if app_id is not None:
            statement = statement.where(tasks.c.app_id == app_id)
        return [to_struct(row, Pinned) for row in self._read(statement) if row["pin"] is not None]

    def update_task(self, task_id: str, **changes: Any) -> None:
        """Change fields of a task that has not ended; what has ended stays as it is."""
        values = {name: msgspec.to_builtins(value) for name, value in changes.items()}
        with self._write() as connection:
            connection.execute(
                sa.update(tasks).where(tasks.c.id == task_id, tasks.c.state.not_in(ENDED)).values(values)
            )

    def report_delivered(self, task_id: str, shown: str, parts: int, count: int) -> None:
        """Say how many files and bytes are in the container, unless the task is to go elsewhere meanwhile."""
        with self._write() as connection:
            connection.execute(
                sa.update(tasks)
                .where(tasks.c.id == task_id, tasks.c.destination_shown == shown, tasks.c.state.not_in(ENDED))
                .values(parts_delivered=parts, bytes_delivered=count)
            )

    def succeed_task(
        self, task_id: str, shown: str, now: int, expires_at: int | None, manifest: FileEntry
    ) -> None:
        """Say that a task succeeded, unless it is to go elsewhere meanwhile; its destination is forgotten."""
        with self._write() as connection:
            task = _find(connection, task_id)
            if task.destination_shown != shown or task.state in ENDED:
                return
            values = {
                "state": "succeeded",
                "completed_at": now,
                "expires_at": expires_at,
                "destination": None,
                "cancelling": False,
                "files": msgspec.to_builtins([*(task.files or []), manifest]),
            }
            connection.execute(sa.update(tasks).where(tasks.c.id == task_id).values(values))

    def end_task(self, task_id: str, state: TaskState, failure: Failure) -> None:
        """Say that a task ended without success, and how; what has ended, or was taken up again, stays as it is."""
        with self._write() as connection:
            task = _find(connection, task_id)
            if task.state in ENDED or task.attempt != failure.attempt:
                return
            values = {
                "state": state,
                "completed_at": failure.at,
                "error": f"{failure.message} {failure.hint}".rstrip(),
                "failures": msgspec.to_builtins([*task.failures, failure]),
                "cancelling": False,
            }
            connection.execute(sa.update(tasks).where(tasks.c.id == task_id).values(values))

    def cancel_task(self, task_id: str, now: int) -> Task:
        """Have a task stopped: at once while it is queued, else as soon as whoever works on it notices.

        Raises:
            NotFound: there is none of that id.
            Conflict: it has ended otherwise.
        """
        with self._write() as connection:
            task = _find(connection, task_id)
            if task.state in {"succeeded", "failed"}:
                raise Conflict(
                    f"The export has {task.state} already.",
                    hint="There is nothing left to stop.",
                    code="export_ended",
                )
            if task.state == "queued":
                changes = {"state": "cancelled", "completed_at": now, "cancelling": False}
                connection.execute(sa.update(tasks).where(tasks.c.id == task_id).values(changes))
            elif task.state == "started":
                connection.execute(sa.update(tasks).where(tasks.c.id == task_id).values(cancelling=True))
            return _find(connection, task_id)

    def retry_task(self, task_id: str) -> Task:
        """Have a task that failed or was cancelled taken up again, where it stopped.

        Raises:
            NotFound: there is none of that id.
            Conflict: it has not ended, or has succeeded, or has no destination any more.
        """
        with self._write() as connection:
            task = _find(connection, task_id)
            if task.state not in {"failed", "cancelled"}:
                raise Conflict(
                    f"Only an export that failed or was cancelled can be retried; the state of this one is {task.state}.",
                    hint="Ask for a new one, or wait until it has ended.",
                    code="export_not_ended",
                )
            if task.destination is None:
                raise Conflict(
                    "The export's destination is no longer kept.",
                    hint="Set its destination again, which also retries it.",
                    code="destination_forgotten",
                )
            connection.execute(sa.update(tasks).where(tasks.c.id == task_id).values(_again(task)))
            return _find(connection, task_id)

    def move_task(self, task_id: str, destination: str, shown: str) -> Task:
        """Give a task another destination, or new credentials; one that failed or was cancelled is taken up again.

        Raises:
            NotFound: there is none of that id.
            Conflict: it has succeeded.
        """
        with self._write() as connection:
            task = _find(connection, task_id)
            if task.state == "succeeded":
                raise Conflict(
                    "The export has succeeded already.",
                    hint="Ask for a new one to have it elsewhere as well.",
                    code="export_ended",
                )
            values: dict[str, Any] = {"destination": destination, "destination_shown": shown}
            if shown != task.destination_shown:
                values |= {"bytes_delivered": 0, "parts_delivered": 0}
            if task.state in ENDED:
                values |= _again(task)
            connection.execute(sa.update(tasks).where(tasks.c.id == task_id).values(values))
            return _find(connection, task_id)

    def forget_destinations(self, before: int) -> list[str]:
        """Let go of what tasks that ended without success before a time would be taken up with; their ids."""
        old = sa.and_(
            tasks.c.state.in_(("failed", "cancelled")),
            tasks.c.completed_at < before,
            tasks.c.destination.is_not(None),
        )
        with self._write() as connection:
            ids = [row.id for row in connection.execute(sa.select(tasks.c.id).where(old))]
            connection.execute(sa.update(tasks).where(old).values(destination=None))
        return ids


def _again(task: Task) -> dict[str, Any]:
    return {
        "state": "queued",
        "attempt": task.attempt + 1,
        "error": None,
        "completed_at": None,
        "cancelling": False,
    }


def _find(connection: sa.Connection, task_id: str) -> Task:
    row = connection.execute(sa.select(tasks).where(tasks.c.id == task_id)).mappings().first()
    if row is None:
        raise _missing(task_id)
    return to_struct(row, Task)


def _missing(task_id: str) -> NotFound:
    return NotFound(f"There is no export task {task_id[:80]!r}.", hint="List them to see which exist.")


def _conditions(chosen: Chosen) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = []
    if chosen.app_id is not None:
        conditions.append(tasks.c.app_id == chosen.app_id)
    if chosen.state is not None:
        conditions.append(tasks.c.state == chosen.state)
    if chosen.kind is not None:
        conditions.append(tasks.c.request["kind"].as_string() == chosen.kind)
    if chosen.created_by is not None:
        conditions.append(tasks.c.created_by == chosen.created_by)
    if chosen.since is not None:
        conditions.append(tasks.c.created_at >= chosen.since)
    if chosen.until is not None:
        conditions.append(tasks.c.created_at < chosen.until)
    return conditions
