# Made from the module of the same name in `aio` by `python -m outhaul.client.generate`; edit that one.
"""What is known of a person, a user or a device: streamed, or exported."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Unpack
from urllib.parse import urlencode

from outhaul.client.asking import Asked, of_person
from outhaul.client.erasing import path_of
from outhaul.client.lines import Lines, record
from outhaul.client.moments import Moment, moment
from outhaul.client.sync.task import ExportTask
from outhaul.rest import Export

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from outhaul.client.sync.connection import Connection
    from outhaul.rest import PersonRecord
    from outhaul.schema import RecordKind

_SILENCE_S = 600.0
"""Seconds after which a stream is taken for lost: the server looks through every table before the first line."""


class People:
    """Users and devices: each method is of exactly one of a `user_id` and a `device_id`.

    `app`, its name or its id, can be left out with a token that is for one app.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def records(
        self,
        *,
        user_id: str | None = None,
        device_id: str | None = None,
        app: str | None = None,
        kinds: Sequence[RecordKind] | None = None,
        period: tuple[Moment | None, Moment | None] = (None, None),
    ) -> Generator[PersonRecord]:
        """Every record, oldest first, or those of some kinds, or of a half-open period either end of which may be None.

        They come as the server reads them. What breaks off on the way raises `Unreachable`: those that came by then are
        not all. An export can be taken up again.

        Raises:
            NotFound: nothing is known of them.
            Busy: the server streams others.
        """
        start, end = period
        given = {
            "app": app,
            "kinds": None if kinds is None else ",".join(kinds),
            "from": None if start is None else moment("the period's start", start),
            "to": None if end is None else moment("the period's end", end),
        }
        query = urlencode({name: value for name, value in given.items() if value is not None})
        path = f"{path_of(user_id, device_id)}:records?{query}"
        headers = {"Accept": "application/x-ndjson"}
        with self._connection.stream(path, headers, _SILENCE_S) as response:
            lines = Lines()
            for piece in response.iter_raw():
                for line in lines.of(piece):
                    yield record(line)

    def export(
        self,
        *,
        user_id: str | None = None,
        device_id: str | None = None,
        app: str | None = None,
        idempotency_key: str | None = None,
        **asked: Unpack[Asked],
    ) -> ExportTask:
        """Ask for an export of every record; `outhaul.client.Asked` says what can be given, campaigns apart.

        It is safe to repeat, as `exports.create` is.

        Raises:
            Conflict: the key was used for another request.
        """
        export = self._connection.tell(
            "POST",
            f"{path_of(user_id, device_id)}:export",
            Export,
            body=of_person(app, asked),
            headers={"Idempotency-Key": idempotency_key or str(uuid.uuid4())},
            repeat=True,
        )
        return ExportTask(self._connection, export)
