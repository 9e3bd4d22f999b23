"""Sorts what a request said into records that can be taken and those that cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outhaul import records
from outhaul.protocols.json_text import text_of
from outhaul.records import Parsed, Reject

if TYPE_CHECKING:
    from collections.abc import Callable

    from outhaul.records import Frame, Reason, Record


OUTCOME_LIMIT = 100_000
"""What one request may amount to: an honest one is far below, and memory stays bounded."""


class Crowded(Exception):  # noqa: N818  the request is, it is no error of ours
    """One request amounts to more records than are taken at once."""


class Sieve:
    """Collects one request's records in stored form, and sets aside what breaks a rule."""

    def __init__(self, received_at: int) -> None:
        self.parsed = Parsed(records=[], rejects=[])
        self._received_at = received_at

    def keep(self, record: Record, raw: Callable[[], str]) -> None:
        """Take a record built in code; `raw` gives what was sent, and is asked only if it breaks a rule."""
        self._count()
        try:
            stored = records.validated(record)
            records.check(stored, self._received_at)
        except records.Invalid as error:
            self.set_aside(error.reason, error.detail, raw())
        else:
            self.parsed.records.append(stored)

    def set_aside(self, reason: Reason, detail: str, raw: str) -> None:
        """Leave it out of the records, but not out of the count."""
        self._count()
        self.parsed.rejects.append(Reject(reason=reason, detail=detail, raw=raw))

    def _count(self) -> None:
        if len(self.parsed.records) + len(self.parsed.rejects) >= OUTCOME_LIMIT:
            raise Crowded(f"the request amounts to over {OUTCOME_LIMIT} records")


def crowded(frame: Frame, error: Crowded) -> Parsed:
    """The whole request set aside, because it amounts to too much."""
    reject = Reject(reason="not_supported", detail=str(error), raw=text_of(frame.body))
    return Parsed(records=[], rejects=[reject])
