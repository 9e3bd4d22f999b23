"""What is left of a person outside of the tables: kept files of exports, half-made ones, and requests that name them."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import msgspec

from outhaul.errors import NotFound
from outhaul.subjects import without
from outhaul.wire import DOWNLOAD, ENDED

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from outhaul.ledger.forgetting import Asked
    from outhaul.ledger.ledger import Ledger
    from outhaul.subjects import Person
    from outhaul.wire import ExportRequest, Failure, Filter, Import, Scalar, Task


class Traces:
    """Finds and removes what is left of a person in an app's exports and imports; anything may be done again."""

    def __init__(self, data: Path, ledger: Ledger, app_id: str, person: Person) -> None:
        self._spools = data / "exports"
        self._downloads = data / "downloads"
        self._ledger = ledger
        self._app_id = app_id
        self._person = person
        self.reworded = without(person)
        """A text without their ids."""

    def are_named(self, request: ExportRequest) -> bool:
        """Whether a request names them."""
        return self._request(request) != request

    def are_in(self, asked: Asked) -> bool:
        """Whether an export has their ids in anything that stays until it has ended."""
        texts = (asked.destination_shown, asked.idempotency_key or "")
        return self.are_named(asked.request) or any(self.shown(text) != text for text in texts)

    def clear_downloads(self, erasure_id: str, told: Iterable[str], now: int) -> None:
        """Delete what is kept of exports that have ended, of those told and of those whose requests name them."""
        wanted = set(told)
        theirs = [
            asked.id
            for asked in self._ledger.asked_exports(self._app_id)
            if asked.state in ENDED and (asked.id in wanted or self.are_named(asked.request))
        ]
        self._ledger.expire_downloads(erasure_id, theirs, now)
        for task_id in theirs:
            shutil.rmtree(self._downloads / task_id, ignore_errors=True)

    def clear_spools(self) -> None:
        """Delete the half-made files of exports that begin anew if they are taken up, or do not need them any more."""
        for folder in self._spools.iterdir() if self._spools.is_dir() else ():
            task = self._task(folder.name)
            if task is None or task.app_id != self._app_id or task.state not in ENDED:
                continue
            if task.pin is None or task.state == "succeeded":
                shutil.rmtree(folder, ignore_errors=True)
            if task.pin is None:
                shutil.rmtree(self._downloads / folder.name, ignore_errors=True)

    def _task(self, task_id: str) -> Task | None:
        try:
            return self._ledger.task(task_id)
        except NotFound:
            return None

    # Words

    def shown(self, destination: str) -> str:
        """Where an export went, without their ids."""
        # A word of our own, even where somebody is called so.
        return destination if destination == DOWNLOAD else self.reworded(destination)

    def reword(self) -> None:
        """Take their ids out of what exports and imports that have ended were asked for with, and out of descriptions."""
        self._ledger.reword_tasks(self._app_id, self._reworded_task)
        self._ledger.reword_imports(self._app_id, self._reworded_import)

    def _reworded_task(self, task: Task) -> dict[str, Any]:
        changes: dict[str, Any] = {"description": self._text(task.description)}
        if task.state in ENDED:
            changes |= {
                "request": self._request(task.request),
                "destination_shown": self.shown(task.destination_shown),
                **self._ended(task),
            }
            if changes["request"] != task.request:
                # Taken up again it would be another one.
                changes["destination"] = None
            if task.pin is not None and set(task.pin.devices) & set(self._person.devices):
                changes["pin"] = msgspec.structs.replace(task.pin, devices=[])
        return _different(task, changes)

    def _reworded_import(self, task: Import) -> dict[str, Any]:
        changes: dict[str, Any] = {
            "description": self._text(task.description),
            "source_shown": self.reworded(task.source_shown),
        }
        if task.state in ENDED:
            changes |= self._ended(task)
        return _different(task, changes)

    def _ended(self, task: Task | Import) -> dict[str, Any]:
        key = self._text(task.idempotency_key)
        named = key != task.idempotency_key
        return {
            "error": self._text(task.error),
            "failures": [self._failure(failure) for failure in task.failures],
            # Two keys might come to be the same.
            "idempotency_key": None if named else key,
            "idempotency_hash": None if named else task.idempotency_hash,
        }

    def _failure(self, failure: Failure) -> Failure:
        return msgspec.structs.replace(failure, message=self.reworded(failure.message))

    def _text(self, text: str | None) -> str | None:
        return None if text is None else self.reworded(text)

    def _request(self, request: ExportRequest) -> ExportRequest:
        of, where = request.of, request.where
        if of is not None:
            of = msgspec.structs.replace(
                of, user_id=self._text(of.user_id), device_id=self._text(of.device_id)
            )
        if where is not None:
            where = self._filter(where)
        return msgspec.structs.replace(request, of=of, where=where)

    def _filter(self, where: Filter) -> Filter:
        several = {
            name: [self._filter(one) for one in given]
            for name in ("all_of", "any_of")
            if (given := getattr(where, name)) is not None
        }
        values = {
            name: self._scalar(getattr(where, name))
            for name in ("eq", "ne", "lt", "le", "gt", "ge", "prefix")
        }
        return msgspec.structs.replace(
            where,
            **several,
            **values,
            negated=None if where.negated is None else self._filter(where.negated),
            one_of=None if where.one_of is None else [self._scalar(value) for value in where.one_of],
        )

    def _scalar(self, value: Scalar | None) -> Scalar | None:
        return self.reworded(value) if isinstance(value, str) else value


def _different(task: Task | Import, changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in changes.items() if value != getattr(task, name)}
